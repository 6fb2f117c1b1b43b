use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::handle::start_with;
use super::*;
use crate::domain::fault::FaultKind;
use crate::domain::identity::LinkId;
use crate::domain::link::Link;
use crate::fakes::{FakeDialer, FakeLinks, FakePeer, VirtualClock, link, list_ask, site, team, until, user};
use crate::peer_link::{LinkParts, PeerLinkLimits};

fn registry(store: &Arc<FakeLinks>, dialer: Arc<FakeDialer>) -> PeerRegistryHandle {
    tokio::time::pause();
    let parts = LinkParts {
        store: Arc::clone(store) as _,
        dialer,
        clock: VirtualClock::new(),
        limits: PeerLinkLimits::default(),
        jitter: || 0.0,
        own_calls: Arc::new(tokio::sync::Semaphore::new(16)),
    };
    start_with(parts, PeerRegistryLimits::default(), Vec::new())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn dialer() -> Arc<FakeDialer> {
    FakeDialer::of(["work", "home"].map(|name| (name, FakePeer::with_rows(&[]))))
}

fn peers(links: &[LinkView]) -> Vec<(LinkId, String)> {
    links.iter().map(|view| (view.link, view.peer.to_string())).collect()
}

#[actix::test]
async fn a_user_sees_own_links_and_those_of_own_teams_and_no_others() {
    let own = link("work");
    let of_another = Link { owner: user(2), ..link("home") };
    let shared = Link { owner: user(2), shared_with: vec![team(5)], ..link("other") };
    let store = FakeLinks::of([own.clone(), of_another.clone(), shared.clone()]);
    let registry = registry(&store, dialer());
    assert!(registry.wait_for(own.id, soon()).await);
    assert_eq!(peers(&registry.links_of(user(1), &[])), [(own.id, "work".to_owned())]);
    let both = [(shared.id, "other".to_owned()), (own.id, "work".to_owned())];
    assert_eq!(peers(&registry.links_of(user(1), &[team(5)])), both);
    assert_eq!(peers(&registry.links_of(user(3), &[team(6)])), []);
    assert_eq!(registry.statuses().len(), 3);
}

#[actix::test]
async fn of_two_links_to_one_peer_the_own_one_wins_and_then_the_oldest() {
    let older = time::Duration::minutes(1);
    let shared = Link { owner: user(2), shared_with: vec![team(5)], ..link("work") };
    let older_shared = Link { created_at: shared.created_at - older, owner: user(3), ..shared.clone() };
    let older_shared = Link { id: LinkId::new(), ..older_shared };
    let own = Link { created_at: shared.created_at + older, ..link("work") };
    let store = FakeLinks::of([shared, older_shared.clone(), own.clone()]);
    let registry = registry(&store, dialer());
    assert!(registry.wait_for(own.id, soon()).await);
    assert_eq!(peers(&registry.links_of(user(1), &[team(5)])), [(own.id, "work".to_owned())]);
    assert_eq!(peers(&registry.links_of(user(4), &[team(5)])), [(older_shared.id, "work".to_owned())]);
}

#[actix::test]
async fn all_links_are_known_once_they_were_read_and_not_before() {
    let store = FakeLinks::of([link("work")]);
    *store.fails.lock().unwrap() = true;
    let registry = registry(&store, dialer());
    assert!(!registry.loaded(soon()).await);
    *store.fails.lock().unwrap() = false;
    assert!(registry.loaded(Instant::now() + Duration::from_secs(60)).await);
    assert_eq!(registry.links_of(user(1), &[]).len(), 1);
}

#[actix::test]
async fn links_start_change_and_stop_with_their_rows() {
    let store = FakeLinks::of([]);
    let registry = registry(&store, dialer());
    let mut added = link("work");
    assert!(!registry.wait_for(added.id, Instant::now() + Duration::from_millis(100)).await);
    store.links.lock().unwrap().push(added.clone());
    registry.link_changed(added.id);
    assert!(registry.wait_for(added.id, soon()).await);
    let handle = registry.links_of(user(1), &[]).remove(0).handle;

    added.shared_with = vec![team(5)];
    store.links.lock().unwrap()[0] = added.clone();
    registry.link_changed(added.id);
    until("the team sees it", || registry.links_of(user(9), &[team(5)]).len() == 1).await;

    store.links.lock().unwrap().clear();
    registry.link_changed(added.id);
    until("it is gone", || registry.links_of(user(1), &[]).is_empty()).await;
    until("its actor ended", || !handle.is_alive()).await;
    assert!(!registry.reset_breaker(added.id).await);
}

#[actix::test]
async fn who_has_links_read_anew_waits_until_each_runs_with_what_the_store_has() {
    let mut work = link("work");
    work.credentials.sealed_key = vec![1];
    let store = FakeLinks::of([work.clone()]);
    let dialer = dialer();
    let registry = registry(&store, Arc::clone(&dialer));
    assert!(registry.wait_for(work.id, soon()).await);
    let handle = registry.links_of(user(1), &[]).remove(0).handle;
    assert!(handle.ask(list_ask(1)).await.is_ok());
    *store.fails.lock().unwrap() = true;
    store.links.lock().unwrap()[0].credentials.sealed_key = vec![2];
    let reader = registry.clone();
    let reading = tokio::spawn(async move { reader.read_anew().await });
    sleep(Duration::from_secs(3)).await;
    assert!(!reading.is_finished(), "nothing could be read");
    *store.fails.lock().unwrap() = false;
    reading.await.unwrap();
    // Whatever else it has opens no longer; there is no reading again behind a change of the way that the link takes.
    *dialer.opens.lock().unwrap() = Some(vec![2]);
    let loads = store.loads.load(Ordering::SeqCst);
    assert!(handle.ask(list_ask(1)).await.is_ok());
    assert_eq!(store.loads.load(Ordering::SeqCst), loads);
}

#[actix::test]
async fn a_store_that_fails_at_first_is_asked_again() {
    let work = link("work");
    let store = FakeLinks::of([work.clone()]);
    *store.fails.lock().unwrap() = true;
    let registry = registry(&store, dialer());
    sleep(Duration::from_secs(3)).await;
    assert!(registry.statuses().is_empty());
    assert!(store.loads.load(Ordering::SeqCst) > 1);
    *store.fails.lock().unwrap() = false;
    assert!(registry.wait_for(work.id, Instant::now() + Duration::from_secs(11)).await);
}

#[actix::test]
async fn a_link_that_panics_is_started_anew_and_counted_and_others_do_not_notice() {
    let (work, home) = (link("work"), link("home"));
    let panicking = FakePeer::new(|_| async { panic!("the transport panics on purpose") });
    let dialer = FakeDialer::of([("work", Arc::clone(&panicking)), ("home", FakePeer::with_rows(&[(1, "a")]))]);
    let store = FakeLinks::of([work.clone(), home]);
    let registry = registry(&store, dialer);
    assert!(registry.wait_for(work.id, soon()).await);
    let of = |peer: &str| {
        let links = registry.links_of(user(1), &[]);
        links.into_iter().find(|view| view.peer == site(peer)).unwrap().handle
    };
    for restarts in 1..=3 {
        assert_eq!(of("work").ask(list_ask(1)).await.unwrap_err().kind, FaultKind::Internal);
        assert!(of("home").ask(list_ask(1)).await.is_ok());
        until("it is started anew", || of("work").status().restarts == restarts && of("work").is_alive()).await;
    }
    panicking.becomes(|_| async { Err(crate::fakes::fault(FaultKind::NotFound)) });
    assert_eq!(of("work").ask(list_ask(1)).await.unwrap_err().kind, FaultKind::NotFound);
}

#[actix::test]
async fn resetting_the_breaker_probes_the_peer() {
    let work = link("work");
    let peer = FakePeer::failing(FaultKind::Unreachable);
    let store = FakeLinks::of([work.clone()]);
    let registry = registry(&store, FakeDialer::of([("work", Arc::clone(&peer))]));
    assert!(registry.wait_for(work.id, soon()).await);
    let calls = || peer.capability_calls.load(Ordering::SeqCst);
    until("the first fetch failed", || calls() == 1).await;
    assert!(registry.reset_breaker(work.id).await);
    until("the peer was asked", || calls() == 2).await;
}

#[actix::test]
async fn links_run_on_the_arbiters_they_are_given() {
    let store = FakeLinks::of([link("work"), link("home")]);
    let arbiters = [actix::Arbiter::new(), actix::Arbiter::new()];
    let handles = arbiters.iter().map(actix::Arbiter::handle).collect();
    let registry = start(store.clone(), dialer(), VirtualClock::new(), PeerRegistryLimits::default(), handles);
    let known = store.links.lock().unwrap().clone();
    for known in known {
        assert!(registry.wait_for(known.id, Instant::now() + Duration::from_secs(20)).await);
    }
    for view in registry.links_of(user(1), &[]) {
        assert!(view.handle.ask(list_ask(1)).await.is_ok());
    }
    registry.drain().await;
    for view in registry.links_of(user(1), &[]) {
        assert_eq!(view.handle.ask(list_ask(1)).await.unwrap_err().kind, FaultKind::Unavailable);
    }
    arbiters.iter().for_each(|arbiter| _ = arbiter.stop());
}
