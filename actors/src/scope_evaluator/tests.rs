use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::egress::{self, EgressViolation};
use super::*;
use crate::domain::answer::Page;
use crate::domain::catalog::{Catalog, ColumnKind, Resource};
use crate::domain::grant::{CertificateOnRecord, Grant, GrantStatus, InboundLimits};
use crate::domain::identity::{GrantId, PeerIdentity, Serial, Session, SessionTokenId};
use crate::domain::query::{ReadRight, Verb};
use crate::domain::scope::Scope;
use crate::fakes::{EPOCH, VirtualClock, page, resource, site, team, user};
use crate::grant_cache::{self, GrantCacheHandle};
use crate::ports::grant_store::LoadedGrants;

const TASKS: AccessRequest<'static> = AccessRequest { verb: Verb::List, resource: Some("tasks") };

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::new([Resource {
        name: resource("tasks"),
        id_kind: ColumnKind::Uuid,
        columns: Vec::new(),
        searchable: Vec::new(),
        sensitive: false,
        writable: true,
    }]))
}

fn grant(status: GrantStatus) -> Grant {
    Grant {
        id: GrantId(uuid::Uuid::from_u128(9)),
        version: 1,
        peer: site("work"),
        subject: user(1),
        subject_active: true,
        subject_teams: vec![team(1)],
        scope: Scope {
            resources: BTreeSet::from([resource("tasks")]),
            excluded_resources: BTreeSet::new(),
            filters: BTreeMap::new(),
            max_rows_per_query: 100,
            cache_max_age_seconds: 30,
        },
        status,
        expires_at: EPOCH + time::Duration::hours(1),
        limits: InboundLimits { requests_per_second: 10, burst: 50, concurrent: 8 },
        certificates: vec![CertificateOnRecord {
            serial: Serial::from_bytes(&[5]).unwrap(),
            not_after: EPOCH + time::Duration::days(1),
            accepted_until: None,
        }],
    }
}

fn holder() -> PeerIdentity {
    PeerIdentity { grant: grant(GrantStatus::Active).id, subject: user(1), serial: Serial::from_bytes(&[5]).unwrap() }
}

fn loaded(grants: Vec<Grant>, version: i64) -> LoadedGrants {
    LoadedGrants { grants, version, database_now: EPOCH }
}

fn started() -> (GrantCacheHandle, ScopeEvaluatorHandle) {
    let clock = VirtualClock::new();
    let cache = grant_cache::start(clock.clone());
    (cache.clone(), start(cache, catalog(), clock))
}

fn reason(evaluator: &ScopeEvaluatorHandle) -> Option<DenyReason> {
    evaluator.authorize(&holder(), TASKS).err().map(|denial| denial.reason)
}

#[actix::test]
async fn nothing_is_allowed_before_the_grants_are_loaded_and_after_the_news_stopped() {
    let (cache, evaluator) = started();
    assert_eq!(reason(&evaluator), Some(DenyReason::StateUnknown));
    assert!(!evaluator.is_fresh());
    cache.replace_all(loaded(vec![grant(GrantStatus::Active)], 1));
    assert_eq!(reason(&evaluator), None);
    assert!(evaluator.is_fresh());
    cache.lost();
    assert_eq!(reason(&evaluator), Some(DenyReason::StateUnknown));
    cache.replace_all(loaded(vec![grant(GrantStatus::Active)], 1));
    drop(cache.feed_guard());
    assert_eq!(reason(&evaluator), Some(DenyReason::StateUnknown), "the feed ended");
}

#[actix::test]
async fn a_revocation_is_in_force_when_the_call_that_brought_it_returns() {
    let (cache, evaluator) = started();
    cache.replace_all(loaded(vec![grant(GrantStatus::Active)], 1));
    assert_eq!(reason(&evaluator), None);
    cache.put(grant(GrantStatus::Active).id, Some(grant(GrantStatus::Revoked)), 2);
    assert_eq!(reason(&evaluator), Some(DenyReason::GrantRevoked));
    cache.put(grant(GrantStatus::Active).id, None, 3);
    assert_eq!(reason(&evaluator), Some(DenyReason::NoSuchGrant));
}

#[actix::test]
async fn a_narrowed_scope_is_in_force_at_once_also_before_the_actor_compiled_it() {
    let (cache, evaluator) = started();
    cache.replace_all(loaded(vec![grant(GrantStatus::Active)], 1));
    tokio::task::yield_now().await;
    assert_eq!(reason(&evaluator), None);
    let mut narrowed = grant(GrantStatus::Active);
    narrowed.scope.resources = BTreeSet::from([resource("notes")]);
    cache.put(narrowed.id, Some(narrowed), 2);
    assert_eq!(reason(&evaluator), Some(DenyReason::NotInScope));
}

#[actix::test]
async fn expiry_is_decided_by_the_databases_clock() {
    let (cache, evaluator) = started();
    let loaded =
        LoadedGrants { database_now: EPOCH + time::Duration::hours(1), ..loaded(vec![grant(GrantStatus::Active)], 1) };
    cache.replace_all(loaded);
    assert_eq!(reason(&evaluator), Some(DenyReason::GrantExpired));
}

#[actix::test]
async fn who_is_not_the_holder_does_not_learn_that_the_grant_is_revoked() {
    let (cache, evaluator) = started();
    cache.replace_all(loaded(vec![grant(GrantStatus::Revoked)], 1));
    let other_subject = PeerIdentity { subject: user(2), ..holder() };
    let other_serial = PeerIdentity { serial: Serial::from_bytes(&[6]).unwrap(), ..holder() };
    let reason = |identity| evaluator.authorize(&identity, TASKS).unwrap_err().reason;
    assert_eq!(reason(other_subject), DenyReason::SubjectMismatch);
    assert_eq!(reason(other_serial), DenyReason::SerialNotCurrent);
    assert_eq!(reason(holder()), DenyReason::GrantRevoked);
}

#[actix::test]
async fn capabilities_need_no_resource_and_open_no_rows() {
    let (cache, evaluator) = started();
    cache.replace_all(loaded(vec![grant(GrantStatus::Active)], 1));
    let permit = evaluator.authorize(&holder(), AccessRequest { verb: Verb::Capabilities, resource: None }).unwrap();
    assert_eq!(permit.right, None);
    let permit = evaluator.authorize(&holder(), TASKS).unwrap();
    assert_eq!(permit.right.map(|right| right.subject()), Some(user(1)));
}

fn right(max_rows: u32) -> ReadRight {
    let session = Session { user: user(1), teams: vec![team(1)], token: SessionTokenId::new() };
    ReadRight::of_session(&session, resource("tasks"), NonZeroU32::new(max_rows).unwrap())
}

#[test]
fn the_second_wall_stops_a_page_with_one_foreign_row() {
    let mut two = page(&[(2, "b"), (1, "a")], false, Some(user(1)));
    assert!(egress::check(&right(10), two.clone()).is_ok());
    two.rows[1].owner = Some(user(2));
    assert_eq!(egress::check(&right(10), two.clone()).unwrap_err(), EgressViolation::ForeignRow);
    two.rows[1].team = Some(team(1));
    assert!(egress::check(&right(10), two).is_ok(), "a row of an own team");
}

#[test]
fn the_second_wall_stops_more_rows_than_allowed_and_bytes_that_belong_to_no_row() {
    let two = page(&[(2, "b"), (1, "a")], false, Some(user(1)));
    assert_eq!(egress::check(&right(1), two.clone()).unwrap_err(), EgressViolation::TooManyRows);
    let hidden = Page { rows: two.rows[..1].to_vec(), ..two.clone() };
    assert_eq!(egress::check(&right(10), hidden).unwrap_err(), EgressViolation::BrokenPage);
    for row in [0, 1] {
        let mut before = two.clone();
        before.rows[row].range.start += 1;
        assert_eq!(
            egress::check(&right(10), before).unwrap_err(),
            EgressViolation::BrokenPage,
            "bytes before row {row}"
        );
    }
    let mut beyond = two;
    beyond.rows[1].range.end += 1;
    assert_eq!(egress::check(&right(10), beyond).unwrap_err(), EgressViolation::BrokenPage);
    assert!(egress::check(&right(1), Page::default()).is_ok());
}
