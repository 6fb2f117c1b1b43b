use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::catalog::{ColumnKind, Resource};
use crate::domain::grant::{CertificateOnRecord, InboundLimits};
use crate::domain::identity::{GrantId, Serial, TeamId, UserId};
use crate::domain::scope::{Scope, TenantFilter};
use crate::fakes::{EPOCH, resource, site, team, user};

fn catalog() -> Catalog {
    let entry = |name: &str, sensitive| Resource {
        name: resource(name),
        id_kind: ColumnKind::Uuid,
        columns: Vec::new(),
        searchable: Vec::new(),
        sensitive,
        writable: false,
    };
    Catalog::new([entry("tasks", false), entry("notes", false), entry("memory", false), entry("credentials", true)])
}

fn serial(byte: u8) -> Serial {
    Serial::from_bytes(&[byte]).unwrap()
}

/// One of everything that a grant can be.
fn grants() -> impl Strategy<Value = Grant> {
    let names = || prop::sample::subsequence(vec!["tasks", "notes", "memory", "credentials"], 0..=4);
    let teams = || prop::sample::subsequence((1..=5).map(team).collect::<Vec<TeamId>>(), 0..=5);
    let filter = (prop::option::of(teams()), any::<bool>()).prop_map(|(teams, include_personal)| TenantFilter {
        include_teams: teams.map(BTreeSet::from_iter),
        include_personal,
    });
    let filters = prop::collection::btree_map(prop::sample::select(vec!["tasks", "notes"]), filter, 0..=2);
    let certificate =
        (1..=3u8, -1..=2i64, prop::option::of(-1..=1i64)).prop_map(|(byte, ends, until)| CertificateOnRecord {
            serial: serial(byte),
            not_after: EPOCH + time::Duration::hours(ends),
            accepted_until: until.map(|hours| EPOCH + time::Duration::hours(hours)),
        });
    (
        (names(), names(), filters, 0..3u32),
        (teams(), any::<bool>(), prop::sample::select(GrantStatus::ALL.to_vec()), -1..=1i64),
        prop::collection::vec(certificate, 0..=3),
        1..=2u128,
    )
        .prop_map(|(scope, (subject_teams, subject_active, status, expires), certificates, subject)| Grant {
            id: GrantId(uuid::Uuid::from_u128(9)),
            version: 1,
            peer: site("work"),
            subject: user(subject),
            subject_active,
            subject_teams,
            scope: Scope {
                resources: scope.0.into_iter().map(resource).collect(),
                excluded_resources: scope.1.into_iter().map(resource).collect(),
                filters: scope.2.into_iter().map(|(name, filter)| (resource(name), filter)).collect::<BTreeMap<_, _>>(),
                max_rows_per_query: scope.3,
                cache_max_age_seconds: 30,
            },
            status,
            expires_at: EPOCH + time::Duration::hours(expires),
            limits: InboundLimits { requests_per_second: 10, burst: 50, concurrent: 8 },
            certificates,
        })
}

fn identity(subject: u128, byte: u8) -> PeerIdentity {
    PeerIdentity { grant: GrantId(uuid::Uuid::from_u128(9)), subject: user(subject), serial: serial(byte) }
}

/// protocol.md's table of refusals and trust.md's pipeline, read from top to bottom.
fn by_the_spec(grant: &Grant, identity: &PeerIdentity, verb: Verb, name: &str) -> Result<bool, &'static str> {
    let now = EPOCH;
    let mut current = false;
    for certificate in &grant.certificates {
        let superseded = match certificate.accepted_until {
            Some(until) => until <= now,
            None => false,
        };
        current |= certificate.serial == identity.serial && certificate.not_after > now && !superseded;
    }
    if grant.subject != identity.subject {
        return Err("subject_mismatch");
    }
    if !current {
        return Err("serial_not_current");
    }
    if grant.status == GrantStatus::Revoked {
        return Err("grant_revoked");
    }
    if grant.status == GrantStatus::Expired || grant.expires_at <= now {
        return Err("grant_expired");
    }
    if grant.status == GrantStatus::Suspended {
        return Err("grant_suspended");
    }
    if grant.status == GrantStatus::Pending {
        return Err("grant_pending");
    }
    if !grant.subject_active {
        return Err("subject_inactive");
    }
    if verb == Verb::Capabilities {
        return Ok(false);
    }
    match name {
        "credentials" => return Err("sensitive"),
        "tasks" | "notes" | "memory" => {}
        _ => return Err("resource_unknown"),
    }
    if grant.scope.excluded_resources.iter().any(|excluded| excluded.as_str() == name) {
        return Err("excluded");
    }
    let listed = grant.scope.resources.iter().any(|listed| listed.as_str() == name);
    // A cap of nothing opens nothing.
    if !listed || grant.scope.max_rows_per_query == 0 {
        return Err("not_in_scope");
    }
    Ok(true)
}

/// Whether a peer may see a row, as trust.md and protocol.md say it: native rights first, then the filter narrows.
fn may_see(grant: &Grant, name: &str, owner: UserId, row_team: Option<TeamId>) -> bool {
    let is_member = |team: TeamId| grant.subject_teams.contains(&team);
    let native = owner == grant.subject || row_team.is_some_and(is_member);
    let passes_filter = match grant.scope.filters.get(&resource(name)) {
        None => true,
        Some(filter) => match row_team {
            None => filter.include_personal,
            Some(team) => match &filter.include_teams {
                None => is_member(team),
                Some(included) => included.contains(&team),
            },
        },
    };
    native && passes_filter
}

fn decide(grant: &Grant, identity: &PeerIdentity, verb: Verb, name: &str) -> Result<Option<ReadRight>, DenyReason> {
    let catalog = catalog();
    decide_grant(grant, identity, EPOCH)?;
    let request = AccessRequest { verb, resource: Some(name) };
    decide_access(grant, &CompiledGrant::new(grant, &catalog), &catalog, request)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_request_is_decided_as_the_specification_reads(
        grant in grants(),
        subject in 1..=2u128,
        byte in 1..=3u8,
        verb in prop::sample::select(vec![Verb::Capabilities, Verb::List, Verb::Get, Verb::Search]),
        name in prop::sample::select(vec!["tasks", "notes", "memory", "credentials", "unheard_of", "Not A Name"]),
    ) {
        let identity = identity(subject, byte);
        let decided = decide(&grant, &identity, verb, name);
        let expected = by_the_spec(&grant, &identity, verb, name);
        prop_assert_eq!(decided.as_ref().map(Option::is_some).map_err(|reason| reason.as_str()), expected);
        if let Ok(Some(right)) = decided {
            prop_assert_eq!(right.subject(), grant.subject);
            prop_assert_eq!(right.resource().as_str(), name);
            prop_assert_eq!(right.max_rows().get(), grant.scope.max_rows_per_query);
        }
    }

    #[test]
    fn a_right_shows_exactly_the_rows_that_the_specification_shows(
        grant in grants(),
        owner in 1..=3u128,
        row_team in prop::option::of(1..=6u128),
        name in prop::sample::select(vec!["tasks", "notes", "memory"]),
    ) {
        let right = ReadRight {
            subject: grant.subject,
            resource: resource(name),
            visibility: compile_visibility(&grant, &resource(name)),
            max_rows: std::num::NonZeroU32::MIN,
        };
        let (owner, row_team) = (user(owner), row_team.map(team));
        prop_assert_eq!(right.allows(Some(owner), row_team), may_see(&grant, name, owner, row_team));
        prop_assert!(!right.allows(None, None), "a row without an owner and a team is nobody's");
    }

    #[test]
    fn a_filter_never_shows_more_than_no_filter(
        grant in grants(),
        owner in 1..=3u128,
        row_team in prop::option::of(1..=6u128),
    ) {
        let unfiltered = Grant { scope: Scope { filters: BTreeMap::new(), ..grant.scope.clone() }, ..grant.clone() };
        let right = |grant: &Grant| ReadRight {
            subject: grant.subject,
            resource: resource("tasks"),
            visibility: compile_visibility(grant, &resource("tasks")),
            max_rows: std::num::NonZeroU32::MIN,
        };
        let (owner, row_team) = (Some(user(owner)), row_team.map(team));
        prop_assert!(!right(&grant).allows(owner, row_team) || right(&unfiltered).allows(owner, row_team));
    }
}

#[test]
fn the_four_reasons_of_scope_and_the_four_of_identity_look_alike_to_the_peer() {
    use DenyReason as R;
    for reason in [R::ResourceUnknown, R::Sensitive, R::NotInScope, R::Excluded] {
        assert_eq!(reason.kind(), FaultKind::ScopeViolation, "{}", reason.as_str());
    }
    for reason in [R::NoSuchGrant, R::SubjectMismatch, R::SerialNotCurrent, R::SubjectInactive] {
        assert_eq!(reason.kind(), FaultKind::Forbidden, "{}", reason.as_str());
    }
}
