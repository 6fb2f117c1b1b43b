use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;
use crate::domain::answer::BreakerState;
use crate::domain::link::{Link, LinkState};
use crate::fakes::{
    FakeDialer, FakeLinks, FakePeer, FakeWatch, VirtualClock, capabilities, fault, link, list_ask, rounded, until,
};
use crate::peer_link::{LinkParts, PeerLinkHandle, PeerLinkLimits, Placement, start};

const ACTIVE: Standing = Standing::Active { changed: false };
const CHANGED: Standing = Standing::Active { changed: true };

struct Bench {
    link: PeerLinkHandle,
    store: Arc<FakeLinks>,
    peer: Arc<FakePeer>,
}

impl Bench {
    fn start(link: Link, peer: &Arc<FakePeer>) -> Self {
        let store = FakeLinks::of([link.clone()]);
        let parts = LinkParts {
            store: Arc::clone(&store) as _,
            dialer: FakeDialer::of([("work", Arc::clone(peer))]),
            clock: VirtualClock::new(),
            limits: PeerLinkLimits::default(),
            jitter: || 0.0,
            own_calls: Arc::new(tokio::sync::Semaphore::new(16)),
        };
        Self { link: start(link, parts, None, None, &Placement::Here), store, peer: Arc::clone(peer) }
    }

    /// A link whose watch is up, and the peer's end of it.
    async fn watching(peer: &Arc<FakePeer>) -> (Self, FakeWatch) {
        let bench = Self::start(link("work"), peer);
        let watch = bench.next_watch().await;
        watch.says(1, ACTIVE);
        until("the watch is up", || bench.is_up()).await;
        (bench, watch)
    }

    /// The watch that the link opens next, however long it waits before it does.
    async fn next_watch(&self) -> FakeWatch {
        let deadline = Instant::now() + Duration::from_secs(3_600);
        loop {
            if let Some(watch) = self.peer.watches.lock().unwrap().pop() {
                return watch;
            }
            assert!(Instant::now() < deadline, "no watch was opened");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.link.status().watch, WatchStatus::Up { .. })
    }

    fn state(&self) -> LinkState {
        self.link.status().state
    }

    async fn kind(&self) -> Option<FaultKind> {
        self.link.ask(list_ask(10)).await.err().map(|fault| fault.kind)
    }
}

#[actix::test]
async fn what_the_owner_says_counts_for_the_next_question_and_is_acknowledged_and_recorded() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let (bench, mut watch) = Bench::watching(&peer).await;
    assert_eq!(watch.acknowledged.recv().await, Some(1));
    for (number, standing, state, kind) in [
        (2, Standing::Suspended, LinkState::Suspended, Some(FaultKind::GrantSuspended)),
        (3, ACTIVE, LinkState::Active, None),
        (4, Standing::Revoked, LinkState::Revoked, Some(FaultKind::GrantRevoked)),
    ] {
        let calls = peer.calls();
        watch.says(number, standing);
        assert_eq!(watch.acknowledged.recv().await, Some(number));
        assert_eq!(bench.state(), state);
        assert_eq!(bench.kind().await, kind);
        assert_eq!(peer.calls() - calls, usize::from(kind.is_none()), "a refusal costs no call");
    }
    let states: Vec<LinkState> = bench.store.recorded.lock().unwrap().iter().map(|(_, state)| *state).collect();
    assert_eq!(states, [LinkState::Suspended, LinkState::Active, LinkState::Revoked]);
    assert!(bench.link.capabilities().is_none());
}

#[actix::test]
async fn a_suspended_link_that_watches_asks_nobody_until_it_is_told_that_the_grant_is_back() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let (bench, watch) = Bench::watching(&peer).await;
    watch.says(2, Standing::Suspended);
    until("the link knows", || bench.state() == LinkState::Suspended).await;
    let calls = peer.capability_calls.load(Ordering::SeqCst);
    for _ in 0..10 {
        sleep(Duration::from_secs(11)).await;
        assert_eq!(bench.kind().await, Some(FaultKind::GrantSuspended));
        watch.news.try_send(PeerNews::Heartbeat).unwrap();
    }
    assert_eq!((peer.calls(), peer.capability_calls.load(Ordering::SeqCst)), (0, calls));
    watch.says(3, ACTIVE);
    until("the grant is back", || bench.state() == LinkState::Active).await;
    assert_eq!(bench.kind().await, None);
}

#[actix::test]
async fn a_refusal_that_was_on_its_way_when_the_grant_came_back_counts_no_more() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let (bench, watch) = Bench::watching(&peer).await;
    peer.becomes(|_| async {
        sleep(Duration::from_millis(500)).await;
        Err(fault(FaultKind::GrantSuspended))
    });
    let asking = tokio::spawn({
        let link = bench.link.clone();
        async move { link.ask(list_ask(10)).await.map(|_| ()).unwrap_err().kind }
    });
    until("the call is under way", || peer.calls() == 1).await;
    watch.says(2, Standing::Suspended);
    watch.says(3, ACTIVE);
    assert_eq!(asking.await.unwrap(), FaultKind::GrantSuspended);
    assert_eq!(bench.state(), LinkState::Active);
}

#[actix::test]
async fn a_changed_grant_has_its_capabilities_fetched_anew_and_nothing_pruned_meanwhile() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let (bench, watch) = Bench::watching(&peer).await;
    until("the capabilities are known", || bench.link.capabilities().is_some()).await;
    *peer.capabilities.lock().unwrap() = Ok(capabilities(&["notes"]));
    watch.says(2, CHANGED);
    until("the new capabilities are known", || {
        bench.link.capabilities().is_some_and(|known| known.resources == ["notes"])
    })
    .await;
}

#[actix::test]
async fn a_peer_without_watch_is_asked_again_every_two_minutes_and_loses_nothing_by_it() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]);
    let bench = Bench::start(link("work"), &peer);
    let tries = || peer.watch_calls.load(Ordering::SeqCst);
    until("the first try", || tries() == 1).await;
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(bench.link.status().watch, WatchStatus::Unsupported { .. }));
    assert_eq!(bench.kind().await, None);
    assert_eq!(bench.link.status().breaker, BreakerState::Closed);
    sleep(Duration::from_secs(110)).await;
    assert_eq!(tries(), 1);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(tries(), 2);
}

#[actix::test]
async fn watches_that_fail_back_off_and_never_count_for_the_breaker() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]);
    *peer.refuses_watch.lock().unwrap() = Some(fault(FaultKind::Unreachable));
    let bench = Bench::start(link("work"), &peer);
    let mut tries = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(600) {
        sleep(Duration::from_millis(500)).await;
        if peer.watch_calls.load(Ordering::SeqCst) > tries.len() {
            tries.push(began.elapsed().as_secs());
        }
    }
    // 1, 1, 2, 4, … 64, 120, 120 seconds apart.
    assert_eq!(tries.len(), 11, "{tries:?}");
    assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 121), "{tries:?}");
    let status = bench.link.status();
    assert_eq!((status.breaker, status.state), (BreakerState::Closed, LinkState::Active));
    assert!(matches!(&status.watch, WatchStatus::Down { fault, .. } if fault.kind == FaultKind::Unreachable));
    assert_eq!(bench.kind().await, None);
}

#[actix::test]
async fn a_watch_on_which_nothing_is_said_for_two_minutes_is_down_and_opened_anew() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let (bench, watch) = Bench::watching(&peer).await;
    for _ in 0..20 {
        sleep(Duration::from_secs(15)).await;
        watch.news.try_send(PeerNews::Heartbeat).unwrap();
    }
    assert!(bench.is_up());
    let silent_since = Instant::now();
    while bench.is_up() {
        assert!(silent_since.elapsed() < Duration::from_secs(200), "the link waits for ever");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(silent_since.elapsed().as_secs(), 120);
    let again = bench.next_watch().await;
    again.says(1, ACTIVE);
    until("the watch is up again", || bench.is_up()).await;
}

#[actix::test]
async fn a_watch_that_is_opened_lets_an_open_breaker_probe_at_once() {
    tokio::time::pause();
    let peer = FakePeer::failing(FaultKind::Unreachable);
    *peer.refuses_watch.lock().unwrap() = Some(fault(FaultKind::Unreachable));
    let bench = Bench::start(link("work"), &peer);
    sleep(Duration::from_millis(1)).await;
    let _ = (bench.kind().await, bench.kind().await);
    assert_eq!(bench.link.status().breaker, BreakerState::Open);
    *peer.capabilities.lock().unwrap() = Ok(capabilities(&["tasks"]));
    *peer.refuses_watch.lock().unwrap() = None;
    let watch = bench.next_watch().await;
    let opened = Instant::now();
    assert_eq!(bench.link.status().breaker, BreakerState::Open);
    watch.says(1, ACTIVE);
    until("the probe closed the breaker", || bench.link.status().breaker == BreakerState::Closed).await;
    assert!(rounded(opened.elapsed()) < Duration::from_millis(100), "{:?}", opened.elapsed());
}

#[actix::test]
async fn contact_from_the_peer_probes_once_and_not_again_before_a_pause() {
    tokio::time::pause();
    let peer = FakePeer::failing(FaultKind::Unreachable);
    let bench = Bench::start(link("work"), &peer);
    sleep(Duration::from_millis(1)).await;
    let _ = (bench.kind().await, bench.kind().await);
    let probes = || peer.capability_calls.load(Ordering::SeqCst);
    let before = probes();
    for _ in 0..20 {
        bench.link.peer_spoke();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(probes() - before, 1);
    *peer.capabilities.lock().unwrap() = Ok(capabilities(&["tasks"]));
    sleep(Duration::from_secs(5)).await;
    bench.link.peer_spoke();
    until("the probe closed the breaker", || bench.link.status().breaker == BreakerState::Closed).await;
}

#[actix::test]
async fn a_link_that_ends_or_drains_closes_its_watch() {
    tokio::time::pause();
    for drains in [true, false] {
        let peer = FakePeer::with_rows(&[]).watchable();
        let (bench, watch) = Bench::watching(&peer).await;
        if drains {
            bench.link.drain().await
        } else {
            bench.link.stop().await
        }
        until("the connection is closed", || watch.news.is_closed()).await;
    }
}

#[actix::test]
async fn a_renewed_certificate_gets_a_watch_of_its_own_at_once() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let (bench, old) = Bench::watching(&peer).await;
    bench.link.renew().await.unwrap();
    let renewed = Instant::now();
    let new = bench.next_watch().await;
    assert!(renewed.elapsed() < Duration::from_millis(100), "{:?}", renewed.elapsed());
    until("the old watch is closed", || old.news.is_closed()).await;
    new.says(1, ACTIVE);
    until("the new watch is up", || bench.is_up()).await;
}

#[actix::test]
async fn a_node_that_stops_or_has_newer_watches_is_come_back_to_later() {
    tokio::time::pause();
    for (news, least, most) in [(PeerNews::Closing, 0, 3), (PeerNews::Superseded, 100, 140)] {
        let peer = FakePeer::with_rows(&[]).watchable();
        let (bench, watch) = Bench::watching(&peer).await;
        watch.news.try_send(news).unwrap();
        sleep(Duration::from_millis(1)).await;
        drop(watch);
        let ended = Instant::now();
        bench.next_watch().await;
        let waited = ended.elapsed().as_secs();
        assert!((least..=most).contains(&waited), "{news:?}: {waited} s");
        assert_eq!(bench.link.status().breaker, BreakerState::Closed);
    }
}

#[actix::test]
async fn a_watch_that_says_nothing_keeps_its_place_among_the_nodes_own_calls_no_longer_than_a_call() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let first = link("work");
    let store = FakeLinks::of([first.clone()]);
    let parts = LinkParts {
        store,
        dialer: FakeDialer::of([("work", Arc::clone(&peer))]),
        clock: VirtualClock::new(),
        limits: PeerLinkLimits::default(),
        jitter: || 0.0,
        own_calls: Arc::new(tokio::sync::Semaphore::new(1)),
    };
    let links: Vec<_> = (0..2).map(|_| start(link("work"), parts.clone(), None, None, &Placement::Here)).collect();
    let opened = || peer.watches.lock().unwrap().len();
    until("both know what the peer can do", || links.iter().all(|link| link.capabilities().is_some())).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(opened(), 1, "the second waits its turn");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(opened(), 2, "the first had its time");
    // Nobody's question waited for that.
    for link in &links {
        assert!(link.ask(list_ask(10)).await.is_ok());
    }
}

#[actix::test]
async fn a_watch_that_ends_after_its_first_words_does_not_end_the_back_off_and_one_that_lasted_does() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let bench = Bench::start(link("work"), &peer);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let ended = Instant::now();
        let watch = bench.next_watch().await;
        waits.push(ended.elapsed().as_secs());
        watch.says(1, ACTIVE);
        until("the watch is up", || bench.is_up()).await;
        for news in [PeerNews::Heartbeat, PeerNews::Closing] {
            watch.news.try_send(news).unwrap();
        }
        drop(watch);
        until("the watch is down", || !bench.is_up()).await;
    }
    assert!(waits.windows(2).skip(1).all(|pair| pair[1] > pair[0]), "{waits:?}");
    assert!(waits[5] >= 15, "{waits:?}");
    let watch = bench.next_watch().await;
    watch.says(1, ACTIVE);
    until("the watch is up", || bench.is_up()).await;
    sleep(Duration::from_secs(60)).await;
    drop(watch);
    until("the watch is down", || !bench.is_up()).await;
    let ended = Instant::now();
    bench.next_watch().await;
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
}

#[actix::test]
async fn a_grant_that_changes_all_the_time_costs_its_watch_and_few_fetches() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]).watchable();
    let (bench, watch) = Bench::watching(&peer).await;
    for number in 2..12 {
        watch.says(number, CHANGED);
        sleep(Duration::from_millis(16)).await;
    }
    assert!(bench.is_up(), "ten changes are possible");
    watch.says(12, CHANGED);
    until("the watch is down", || !bench.is_up()).await;
    let status = bench.link.status().watch.clone();
    assert!(matches!(&status, WatchStatus::Down { fault, .. } if fault.kind == FaultKind::BadAnswer), "{status:?}");
    // It is opened anew, hears how things stand, and bears no more until the minute is over.
    let again = bench.next_watch().await;
    again.says(1, ACTIVE);
    until("the watch is up again", || bench.is_up()).await;
    again.says(2, CHANGED);
    until("the watch is down again", || !bench.is_up()).await;
    sleep(MINUTE).await;
    let later = bench.next_watch().await;
    later.says(1, ACTIVE);
    later.says(2, CHANGED);
    sleep(Duration::from_secs(1)).await;
    assert!(bench.is_up(), "a change now and then is none too many");
    assert!(peer.capability_calls.load(Ordering::SeqCst) < 20);
    assert_eq!(bench.kind().await, None, "questions are answered all the while");
}
