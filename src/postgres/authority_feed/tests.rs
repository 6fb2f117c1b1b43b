use std::sync::Arc;

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::{GrantChange, GrantStatus};
use mosaic_actors::domain::link::{Link, LinkCredentials};
use mosaic_actors::grant_cache;
use mosaic_actors::peer_registry::{self, PeerRegistryLimits};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::peer_transport::{PeerDialer, PeerTransport};
use tokio::time::Instant;

use super::*;
use crate::clock::SystemClock;
use crate::postgres::grants::tests::{Site, by};
use crate::postgres::links::Links;
use crate::postgres::links::tests::new_link;
use crate::postgres::people::UserUpdate;

/// Links start without dialling anybody.
struct NobodyToDial;

impl PeerDialer for NobodyToDial {
    fn transport(&self, _: &Link) -> Result<Arc<dyn PeerTransport>, Fault> {
        Err(Fault::new(FaultKind::Internal, Stage::Connect))
    }

    fn renew(&self, _: &Link, _: Instant) -> PortFuture<Result<LinkCredentials, Fault>> {
        Box::pin(async { Err(Fault::new(FaultKind::Unreachable, Stage::Connect)) })
    }
}

struct Fed {
    site: Site,
    grants: GrantCacheHandle,
    links: PeerRegistryHandle,
    crl: watch::Receiver<u64>,
    feed: AuthorityFeed,
}

const SOON: Duration = Duration::from_secs(20);

fn limits() -> FeedLimits {
    FeedLimits {
        heartbeat: Duration::from_millis(50),
        answer: Duration::from_secs(5),
        reconnect: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(50),
        load: Duration::from_secs(5),
    }
}

async fn fed(limits: FeedLimits) -> Fed {
    let site = Site::new().await;
    let grants = grant_cache::start(Arc::new(SystemClock));
    let store = Arc::new(Links::new(site.database.pool()));
    let registry_limits = PeerRegistryLimits::default();
    let links = peer_registry::start(store, Arc::new(NobodyToDial), Arc::new(SystemClock), registry_limits, Vec::new());
    let (crl, crl_news) = watch::channel(0);
    let sinks = FeedSinks { grants: grants.clone(), links: links.clone(), crl };
    let feed = start(site.database.database_url(), PoolOptions::default(), sinks, limits);
    let fed = Fed { site, grants, links, crl: crl_news, feed };
    fed.until(|fed| fed.grants.snapshot().fresh).await;
    fed
}

impl Fed {
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !condition(self) {
            assert!(Instant::now() < deadline, "the condition did not come true");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn status(&self, grant: GrantId) -> Option<GrantStatus> {
        self.grants.snapshot().grants.get(&grant).map(|grant| grant.status)
    }
}

fn never(limits: FeedLimits) -> FeedLimits {
    FeedLimits { heartbeat: Duration::from_secs(3_600), ..limits }
}

#[actix_rt::test]
async fn every_change_of_rights_reaches_the_snapshot_by_its_announcement() {
    let fed = fed(never(limits())).await;
    let grant = fed.site.active_grant(1).await;
    fed.until(|fed| fed.status(grant) == Some(GrantStatus::Active)).await;
    let team = fed.site.people.create_team("platform").await.unwrap().id;
    fed.site.people.add_member(team, fed.site.ada.id).await.unwrap();
    fed.until(|fed| fed.grants.snapshot().grants[&grant].subject_teams == [team]).await;
    let changed = fed.site.grants.change(grant, GrantChange::Suspend, &by()).await.unwrap().unwrap();
    assert!(fed.grants.reached(changed.authority_version, Instant::now() + SOON).await);
    assert_eq!(fed.status(grant), Some(GrantStatus::Suspended));
    let disable = UserUpdate { active: Some(false), ..UserUpdate::default() };
    let changed = fed.site.people.update_user(fed.site.ada.id, &disable, &by()).await.unwrap().unwrap();
    assert!(fed.grants.reached(changed.authority_version, Instant::now() + SOON).await);
    assert_eq!(fed.status(grant), Some(GrantStatus::Revoked));
    assert!(!fed.grants.snapshot().grants[&grant].subject_active);
    assert_eq!(fed.grants.snapshot().version, changed.authority_version);
}

#[actix_rt::test]
async fn a_reached_version_means_that_every_change_before_it_is_in_the_snapshot() {
    let fed = fed(limits()).await;
    let mut grants = Vec::new();
    for serial in 1..9 {
        grants.push(fed.site.active_grant(serial).await);
    }
    let revoked = futures_util::future::join_all(grants.iter().map(|grant| async {
        let changed = fed.site.grants.change(*grant, GrantChange::Revoke, &by()).await.unwrap().unwrap();
        assert!(fed.grants.reached(changed.authority_version, Instant::now() + SOON).await);
        fed.status(*grant)
    }));
    assert_eq!(revoked.await, vec![Some(GrantStatus::Revoked); 8]);
}

#[actix_rt::test]
async fn a_change_without_an_announcement_is_found_by_the_heartbeat() {
    let fed = fed(limits()).await;
    let grant = fed.site.grant().await.id;
    fed.until(|fed| fed.status(grant) == Some(GrantStatus::Pending)).await;
    // As a restored backup or a hand-written statement might leave it.
    fed.site
        .database
        .connect()
        .await
        .batch_execute(
            "BEGIN; SET LOCAL session_replication_role = replica;
             UPDATE grants SET status = 'revoked', ended_at = now();
             UPDATE authority_version SET version = version + 1; COMMIT",
        )
        .await
        .unwrap();
    fed.until(|fed| fed.status(grant).is_none()).await;
}

#[actix_rt::test]
async fn a_lost_connection_closes_the_door_at_once_and_heals_with_what_changed_meanwhile() {
    let fed =
        fed(FeedLimits { reconnect: Duration::from_secs(1), reconnect_max: Duration::from_secs(1), ..limits() }).await;
    let grant = fed.site.active_grant(1).await;
    fed.until(|fed| fed.status(grant) == Some(GrantStatus::Active)).await;
    fed.site.database.cut_connections().await;
    fed.until(|fed| !fed.grants.snapshot().fresh).await;
    // The pool's connections were cut too; until it has noticed, a change fails and is tried again.
    let give_up = Instant::now() + SOON;
    let changed = loop {
        match fed.site.grants.change(grant, GrantChange::Revoke, &by()).await {
            Ok(changed) => break changed.unwrap(),
            Err(fault) => assert!(Instant::now() < give_up, "{fault}"),
        }
        tokio::task::yield_now().await;
    };
    assert!(fed.grants.reached(changed.authority_version, Instant::now() + SOON).await);
    assert_eq!(fed.status(grant), Some(GrantStatus::Revoked));
}

#[actix_rt::test]
async fn a_database_that_does_not_answer_closes_the_door_and_heals() {
    let fed = fed(FeedLimits { answer: Duration::from_millis(200), ..limits() }).await;
    let blocker = fed.site.database.connect().await;
    blocker.batch_execute("BEGIN; LOCK TABLE authority_version IN ACCESS EXCLUSIVE MODE").await.unwrap();
    fed.until(|fed| !fed.grants.snapshot().fresh).await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    fed.until(|fed| fed.grants.snapshot().fresh).await;
}

#[actix_rt::test]
async fn a_feed_that_ended_leaves_a_cache_that_refuses() {
    let fed = fed(limits()).await;
    fed.feed.stop().await;
    assert!(!fed.grants.snapshot().fresh);
}

#[actix_rt::test]
async fn links_and_the_revocation_list_are_followed_too() {
    let mut fed = fed(never(limits())).await;
    let links = Links::new(fed.site.database.pool());
    let new = new_link(fed.site.ada.id, vec![]);
    links.insert(&new).await.unwrap();
    assert!(fed.links.wait_for(new.link.id, Instant::now() + SOON).await);
    let disable = UserUpdate { active: Some(false), ..UserUpdate::default() };
    fed.site.people.update_user(fed.site.ada.id, &disable, &by()).await.unwrap();
    fed.until(|fed| fed.links.status(new.link.id).is_none()).await;
    let enable = UserUpdate { active: Some(true), ..UserUpdate::default() };
    fed.site.people.update_user(fed.site.ada.id, &enable, &by()).await.unwrap();
    assert!(fed.links.wait_for(new.link.id, Instant::now() + SOON).await);
    links.delete(new.link.id).await.unwrap();
    fed.until(|fed| fed.links.status(new.link.id).is_none()).await;

    fed.crl.mark_unchanged();
    let client = fed.site.database.connect().await;
    client.batch_execute("SELECT pg_notify('mosaic_crl', '2')").await.unwrap();
    tokio::time::timeout(SOON, fed.crl.changed()).await.unwrap().unwrap();
}
