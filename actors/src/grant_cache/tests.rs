use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::domain::grant::{GrantStatus, InboundLimits};
use crate::domain::scope::Scope;
use crate::fakes::{EPOCH, VirtualClock, resource, site, user};

fn grant(n: u128, status: GrantStatus) -> Grant {
    Grant {
        id: GrantId(uuid::Uuid::from_u128(n)),
        version: 1,
        peer: site("work"),
        subject: user(1),
        subject_active: true,
        subject_teams: Vec::new(),
        scope: Scope {
            resources: BTreeSet::from([resource("tasks")]),
            excluded_resources: BTreeSet::new(),
            filters: BTreeMap::new(),
            max_rows_per_query: 100,
            cache_max_age_seconds: 30,
        },
        status,
        expires_at: EPOCH + time::Duration::days(1),
        limits: InboundLimits { requests_per_second: 10, burst: 50, concurrent: 8 },
        certificates: Vec::new(),
    }
}

fn loaded(grants: Vec<Grant>, version: i64) -> LoadedGrants {
    LoadedGrants { grants, version, database_now: EPOCH }
}

fn status(cache: &GrantCacheHandle, n: u128) -> Option<GrantStatus> {
    cache.snapshot().grants.get(&GrantId(uuid::Uuid::from_u128(n))).map(|grant| grant.status)
}

#[actix::test]
async fn an_older_reading_never_replaces_a_newer_one() {
    let cache = start(VirtualClock::new());
    cache.replace_all(loaded(vec![grant(1, GrantStatus::Active)], 5));
    let id = grant(1, GrantStatus::Active).id;
    cache.put(id, Some(grant(1, GrantStatus::Revoked)), 7);
    cache.put(id, Some(grant(1, GrantStatus::Active)), 6);
    assert_eq!(status(&cache, 1), Some(GrantStatus::Revoked));
    assert_eq!(cache.snapshot().version, 7);
    cache.put(grant(2, GrantStatus::Active).id, Some(grant(2, GrantStatus::Active)), 6);
    assert_eq!(status(&cache, 2), Some(GrantStatus::Active), "another grant's reading is not older");
    assert_eq!(cache.snapshot().version, 7);
}

#[actix::test]
async fn changes_that_come_while_the_news_are_interrupted_wait_for_the_complete_reading() {
    let cache = start(VirtualClock::new());
    cache.put(grant(1, GrantStatus::Active).id, Some(grant(1, GrantStatus::Active)), 3);
    assert!(!cache.snapshot().fresh);
    assert_eq!(cache.snapshot().version, 0);
    cache.replace_all(loaded(vec![grant(1, GrantStatus::Suspended)], 4));
    assert!(cache.snapshot().fresh);
    assert_eq!(status(&cache, 1), Some(GrantStatus::Suspended));
}

#[actix::test]
async fn reached_waits_for_the_version_and_gives_up_at_the_deadline() {
    tokio::time::pause();
    let cache = start(VirtualClock::new());
    cache.replace_all(loaded(vec![], 1));
    let waiting = actix::spawn({
        let cache = cache.clone();
        async move { cache.reached(2, Instant::now() + Duration::from_secs(1)).await }
    });
    tokio::task::yield_now().await;
    cache.put_all(vec![(grant(1, GrantStatus::Active).id, None)], 2);
    assert!(waiting.await.unwrap());
    assert!(!cache.reached(3, Instant::now() + Duration::from_secs(1)).await);
    cache.lost();
    assert!(!cache.reached(2, Instant::now() + Duration::from_secs(1)).await, "a lost snapshot has reached nothing");
}

#[actix::test]
async fn the_databases_clock_is_followed_when_this_machines_was_set() {
    tokio::time::pause();
    let clock = VirtualClock::new();
    let cache = start(clock.clone());
    cache.database_clock(EPOCH + time::Duration::HOUR);
    assert!(!cache.snapshot().fresh, "a clock is no reading of grants");
    cache.replace_all(loaded(vec![grant(1, GrantStatus::Active)], 5));
    assert_eq!(cache.snapshot().now(&*clock), EPOCH);
    cache.database_clock(EPOCH + time::Duration::milliseconds(50));
    assert_eq!(cache.snapshot().now(&*clock), EPOCH, "a jitter is no news");
    // The database says that it is an hour later: this machine was set back.
    cache.database_clock(EPOCH + time::Duration::HOUR);
    assert_eq!(cache.snapshot().now(&*clock), EPOCH + time::Duration::HOUR);
    assert_eq!((cache.snapshot().version, status(&cache, 1)), (5, Some(GrantStatus::Active)));
}
