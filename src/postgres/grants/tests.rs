use std::time::Duration;

use time::macros::datetime;

use super::*;
use crate::postgres::audit::{AuditKeys, AuditQuery, AuditStore};
use crate::postgres::enrollment::{Enrollments, IssuedForClaim};
use crate::postgres::people::{People, UserRecord};
use crate::postgres::testing::TestDatabase;
use mosaic_actors::domain::catalog::ResourceName;

/// What most tests of grants begin with: a database, a user `ada`, and the stores.
pub(crate) struct Site {
    pub(crate) database: TestDatabase,
    pub(crate) grants: Grants,
    pub(crate) people: People,
    pub(crate) enrollments: Enrollments,
    pub(crate) audit: AuditStore,
    pub(crate) ada: UserRecord,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        let pool = database.pool();
        let people = People::new(pool.clone(), AuditKeys::testing());
        let ada = people.create_user("ada", "Ada").await.unwrap();
        Self {
            grants: Grants::new(pool.clone(), AuditKeys::testing()),
            enrollments: Enrollments::new(pool.clone(), AuditKeys::testing()),
            audit: AuditStore::new(pool, AuditKeys::testing()),
            people,
            ada,
            database,
        }
    }

    pub(crate) async fn grant(&self) -> GrantRecord {
        self.grants.create(&new_grant(self.ada.id), &by()).await.unwrap().grant
    }

    /// A pending grant with an invite that was redeemed for a certificate of `serial`.
    pub(crate) async fn active_grant(&self, serial: u8) -> GrantId {
        let grant = self.grant().await.id;
        self.enrollments.create(grant, &[serial; 32], Duration::from_secs(900), &by()).await.unwrap().unwrap();
        let claim = self.enrollments.claim(&[serial; 32]).await.unwrap();
        self.enrollments.complete(&claim, &issued(serial), enroll_event(grant)).await.unwrap();
        grant
    }

    pub(crate) async fn actions(&self) -> Vec<String> {
        let events = self.audit.query(&AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap();
        let mut actions: Vec<_> = events.into_iter().map(|event| (event.seq, event.action)).collect();
        actions.sort();
        actions.into_iter().map(|(_, action)| action).collect()
    }

    async fn sql(&self, statement: &str) {
        self.database.connect().await.batch_execute(statement).await.unwrap();
    }
}

pub(crate) fn by() -> ChangedBy {
    ChangedBy { request: RequestId::new(), at: datetime!(2026-11-23 12:00 UTC), remote: None }
}

pub(crate) fn new_grant(subject: UserId) -> NewGrant {
    NewGrant {
        peer: SiteName::parse("home").unwrap(),
        subject,
        scope: Scope {
            resources: [ResourceName::parse("tasks").unwrap()].into(),
            excluded_resources: Default::default(),
            filters: Default::default(),
            max_rows_per_query: 100,
            cache_max_age_seconds: 30,
        },
        limits: InboundLimits { requests_per_second: 10, burst: 50, concurrent: 8 },
        expires_at: datetime!(2099-01-01 0:00 UTC),
    }
}

pub(crate) fn issued(serial: u8) -> IssuedForClaim {
    IssuedForClaim {
        serial: Serial::from_bytes(&[serial]).unwrap(),
        public_key_sha256: [serial; 32],
        not_before: datetime!(2026-01-01 0:00 UTC),
        not_after: datetime!(2098-01-01 0:00 UTC),
    }
}

pub(crate) fn enroll_event(grant: GrantId) -> AuditEvent {
    AuditEvent {
        action: AuditAction::Enroll,
        grant_version: None,
        ..change_event(&by(), "", grant, 0, "home", UserId::new())
    }
}

async fn ids_loaded(site: &Site) -> Vec<GrantId> {
    site.grants.load_all().await.unwrap().grants.into_iter().map(|grant| grant.id).collect()
}

#[actix_rt::test]
async fn a_new_grant_is_pending_with_its_peer_and_what_the_decision_needs() {
    let site = Site::new().await;
    let team = site.people.create_team("platform").await.unwrap().id;
    site.people.add_member(team, site.ada.id).await.unwrap();
    let record = site.grant().await;
    assert_eq!((record.status, record.version, record.peer.as_str()), (GrantStatus::Pending, 1, "home"));
    assert_eq!(record.subject_name, "ada");
    let new = new_grant(site.ada.id);
    let loaded = site.grants.load(record.id).await.unwrap().unwrap();
    let expected = Grant {
        id: record.id,
        version: 1,
        peer: new.peer,
        subject: site.ada.id,
        subject_active: true,
        subject_teams: vec![team],
        scope: new.scope,
        status: GrantStatus::Pending,
        expires_at: new.expires_at,
        limits: new.limits,
        certificates: Vec::new(),
    };
    assert_eq!(loaded, expected);
    assert_eq!(site.grants.load(GrantId::new()).await.unwrap(), None);
    assert_eq!(site.grants.load_all().await.unwrap().grants, [expected]);
}

#[actix_rt::test]
async fn a_subject_that_is_unknown_or_disabled_is_refused_and_leaves_nothing() {
    let site = Site::new().await;
    let fault = site.grants.create(&new_grant(UserId::new()), &by()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::InvalidRequest);
    assert!(!site.grants.peer_exists(&SiteName::parse("home").unwrap()).await.unwrap());
    assert_eq!(site.actions().await, Vec::<String>::new());
}

#[actix_rt::test]
async fn every_transition_is_the_domains_and_a_refused_one_changes_nothing() {
    let site = Site::new().await;
    for change in [GrantChange::Suspend, GrantChange::Resume, GrantChange::Revoke] {
        for from in ["pending", "active", "suspended", "revoked", "expired"] {
            let grant = site.grant().await;
            if from != "pending" {
                site.sql(&format!("UPDATE grants SET status = '{from}' WHERE id = '{}'", grant.id)).await;
            }
            let expected = GrantStatus::parse(from).unwrap().after(change);
            let got = site.grants.change(grant.id, change, &by()).await;
            match expected {
                Ok(status) => assert_eq!(got.unwrap().unwrap().grant.status, status, "{change:?} from {from}"),
                Err(illegal) => {
                    let fault = got.unwrap_err();
                    assert_eq!(fault.kind, FaultKind::Conflict);
                    assert_eq!(fault.message.as_deref(), Some(&*illegal.to_string()));
                    let status = site.grants.get(grant.id).await.unwrap().unwrap().status;
                    assert_eq!(status.as_str(), from);
                }
            }
        }
    }
    assert!(site.grants.change(GrantId::new(), GrantChange::Revoke, &by()).await.unwrap().is_none());
}

#[actix_rt::test]
async fn a_change_raises_both_versions_and_is_audited() {
    let site = Site::new().await;
    let grant = site.active_grant(1).await;
    let before = site.grants.load_all().await.unwrap().version;
    let limits = InboundLimits { requests_per_second: 1, burst: 2, concurrent: 3 };
    let update = GrantUpdate { limits: Some(limits), ..GrantUpdate::default() };
    let updated = site.grants.update(grant, &update, &by()).await.unwrap().unwrap();
    assert_eq!((updated.grant.version, updated.grant.limits), (3, limits));
    assert_eq!(updated.grant.scope, new_grant(site.ada.id).scope, "what is absent stays");
    assert_eq!(updated.authority_version, before + 1);
    let suspended = site.grants.change(grant, GrantChange::Suspend, &by()).await.unwrap().unwrap();
    assert_eq!((suspended.grant.version, suspended.authority_version), (4, before + 2));
    assert_eq!(site.grants.load_all().await.unwrap().version, before + 2);
    assert_eq!(site.actions().await, ["create", "invite", "enroll", "update", "suspend"]);
}

#[actix_rt::test]
async fn revoking_ends_the_certificates_and_the_invite_and_its_holder_can_still_ask_why() {
    let site = Site::new().await;
    let (grant, pending) = (site.active_grant(7).await, site.grant().await.id);
    site.enrollments.create(pending, &[9; 32], Duration::from_secs(60), &by()).await.unwrap();
    let revoked = site.grants.change(grant, GrantChange::Revoke, &by()).await.unwrap().unwrap();
    let issued = issued(7);
    assert_eq!(revoked.revoked, [RevokedCertificate { serial: issued.serial.clone(), not_after: issued.not_after }]);
    let loaded = site.grants.load_all().await.unwrap().grants.into_iter().find(|g| g.id == grant).unwrap();
    assert_eq!((loaded.status, loaded.certificates.len()), (GrantStatus::Revoked, 1));
    let listed = site.database.connect().await.query_one("SELECT serial FROM revoked_certificates", &[]).await.unwrap();
    assert_eq!(listed.get::<_, Vec<u8>>(0), issued.serial.as_bytes());

    site.grants.change(pending, GrantChange::Revoke, &by()).await.unwrap();
    let refusal = site.enrollments.claim(&[9; 32]).await.unwrap_err();
    assert_eq!(refusal.reason(), "token_voided");
    assert_eq!(ids_loaded(&site).await, [grant], "nobody holds a certificate of the other one");
}

#[actix_rt::test]
async fn a_certificate_that_was_revoked_alone_does_not_come_back_with_its_grants_revocation() {
    let site = Site::new().await;
    let grant = site.active_grant(7).await;
    site.sql("UPDATE grant_certificates SET revoked_at = now()").await;
    assert_eq!(site.grants.load(grant).await.unwrap().unwrap().certificates, []);
    site.grants.change(grant, GrantChange::Revoke, &by()).await.unwrap();
    assert_eq!(site.grants.load(grant).await.unwrap().unwrap().certificates, []);
}

#[actix_rt::test]
async fn a_grant_past_its_end_is_marked_expired_once_and_cannot_be_changed() {
    let site = Site::new().await;
    let grant = site.active_grant(7).await;
    site.sql("UPDATE grants SET expires_at = now() - interval '1 second'").await;
    assert_eq!(site.grants.get(grant).await.unwrap().unwrap().status, GrantStatus::Expired);
    let fault = site.grants.change(grant, GrantChange::Suspend, &by()).await.unwrap_err();
    assert_eq!(fault.message.as_deref(), Some("a grant that is expired cannot be suspended"));
    let update = GrantUpdate { expires_at: Some(datetime!(2099-01-01 0:00 UTC)), ..GrantUpdate::default() };
    let fault = site.grants.update(grant, &update, &by()).await.unwrap_err();
    assert_eq!(fault.message.as_deref(), Some("a grant that is expired cannot be changed"));
    assert_eq!(site.actions().await, ["create", "invite", "enroll", "expire"]);
    assert_eq!(ids_loaded(&site).await, [grant], "its holder learns grant_expired while his certificate lasts");
}

#[actix_rt::test]
async fn a_scope_that_cannot_be_read_opens_nothing() {
    let site = Site::new().await;
    let grant = site.grant().await.id;
    site.sql(r#"UPDATE grants SET scope = '{"resources":"all"}'"#).await;
    assert_eq!(site.grants.load(grant).await.unwrap().unwrap().scope.resources, Default::default());
}

#[actix_rt::test]
async fn grants_are_paged_newest_first_and_filtered() {
    let site = Site::new().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(site.grant().await.id);
    }
    made.reverse();
    let page = |after| GrantPage { after, limit: 2, ..GrantPage::default() };
    let first = site.grants.list(&page(None)).await.unwrap();
    let last = first.last().unwrap();
    let second = site.grants.list(&page(Some((last.created_at, last.id.0)))).await.unwrap();
    let ids: Vec<_> = first.iter().chain(&second).map(|record| record.id).collect();
    assert_eq!(ids, made);
    let active = GrantPage { status: Some(GrantStatus::Active), limit: 10, ..GrantPage::default() };
    assert_eq!(site.grants.list(&active).await.unwrap(), []);
    let other = GrantPage { peer: SiteName::parse("work").ok(), limit: 10, ..GrantPage::default() };
    assert_eq!(site.grants.list(&other).await.unwrap(), []);
    let peers = site.grants.list_peers(None, 10).await.unwrap();
    assert_eq!(peers.iter().map(|peer| (peer.name.as_str(), peer.open_grants)).collect::<Vec<_>>(), [("home", 3)]);
}

#[actix_rt::test]
async fn changes_that_race_do_not_block_each_other() {
    let site = Site::new().await;
    let mut grants = Vec::new();
    for serial in 1..9 {
        grants.push(site.active_grant(serial).await);
    }
    let (delete_by, ada) = (by(), site.ada.id);
    let changes = futures_util::future::join_all(
        grants.iter().map(|grant| async { site.grants.change(*grant, GrantChange::Suspend, &by()).await }),
    );
    let (changes, deleted) = futures_util::join!(changes, site.people.delete_user(ada, &delete_by));
    assert!(deleted.unwrap().is_some());
    for change in changes {
        let refused = change.err().map(|fault| fault.kind);
        assert!(matches!(refused, None | Some(FaultKind::Conflict)), "{refused:?}");
    }
    for grant in grants {
        assert_eq!(site.grants.get(grant).await.unwrap().unwrap().status, GrantStatus::Revoked);
    }
}
