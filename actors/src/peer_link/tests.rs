use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;
use crate::domain::answer::BreakerState;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::link::{Link, LinkState};
use crate::fakes::{
    EPOCH, FakeDialer, FakeLinks, FakePeer, VirtualClock, capabilities, fault, link, list_ask, page, rounded, until,
};
use crate::ports::peer_transport::PeerAnswer;

struct Bench {
    link: PeerLinkHandle,
    store: Arc<FakeLinks>,
}

fn parts(store: &Arc<FakeLinks>, peer: &Arc<FakePeer>) -> LinkParts {
    LinkParts {
        store: Arc::clone(store) as _,
        dialer: FakeDialer::of([("work", Arc::clone(peer))]),
        clock: VirtualClock::new(),
        limits: PeerLinkLimits::default(),
        jitter: || 0.0,
        own_calls: Arc::new(tokio::sync::Semaphore::new(16)),
    }
}

/// A started link to `peer` whose capabilities were fetched, or failed to be.
async fn bench(link: Link, peer: &Arc<FakePeer>) -> Bench {
    let store = FakeLinks::of([link.clone()]);
    let link = start(link, parts(&store, peer), None, None, &Placement::Here);
    sleep(Duration::from_millis(1)).await;
    Bench { link, store }
}

async fn kind_of(link: &PeerLinkHandle) -> Option<FaultKind> {
    link.ask(list_ask(10)).await.err().map(|fault| fault.kind)
}

#[actix::test]
async fn an_open_breaker_refuses_without_a_call_and_a_probe_closes_it() {
    tokio::time::pause();
    let peer = FakePeer::failing(FaultKind::Unreachable);
    let Bench { link, .. } = bench(link("work"), &peer).await;
    assert_eq!(peer.capability_calls.load(Ordering::SeqCst), 1, "the first failure is the fetch of capabilities");
    assert_eq!(kind_of(&link).await, Some(FaultKind::Unreachable));
    assert_eq!(kind_of(&link).await, Some(FaultKind::Unreachable));
    let refused = link.ask(list_ask(10)).await.unwrap_err();
    assert_eq!((refused.kind, refused.stage), (FaultKind::BreakerOpen, Stage::Admission));
    assert_eq!(refused.retry_after, Some(Duration::from_secs(15)));
    assert_eq!(peer.calls(), 2);
    assert_eq!(link.status().breaker, BreakerState::Open);
    assert_eq!(link.status().breaker_retry_in, Some(Duration::from_secs(15)));
    assert_eq!(link.status().refused, 1);

    peer.becomes(|_| async { Ok(PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None }) });
    sleep(Duration::from_secs(15)).await;
    assert_eq!(kind_of(&link).await, None);
    assert_eq!(link.status().breaker, BreakerState::Closed);
    let last_ok = link.status().last_ok_at.unwrap() - EPOCH;
    assert_eq!(rounded(last_ok.unsigned_abs()), Duration::from_secs(15));
}

#[actix::test]
async fn a_link_that_nobody_uses_finds_out_by_itself_that_its_peer_is_back() {
    tokio::time::pause();
    let peer = FakePeer::failing(FaultKind::Unreachable);
    let Bench { link, .. } = bench(link("work"), &peer).await;
    let _ = (kind_of(&link).await, kind_of(&link).await);
    assert_eq!(link.status().breaker, BreakerState::Open);
    *peer.capabilities.lock().unwrap() = Ok(capabilities(&["tasks"]));
    sleep(Duration::from_secs(40)).await;
    assert_eq!(link.status().breaker, BreakerState::Closed);
    assert_eq!(link.capabilities().as_deref(), Some(&capabilities(&["tasks"])));
}

#[actix::test]
async fn an_admin_lets_an_open_breaker_probe_at_once() {
    tokio::time::pause();
    let peer = FakePeer::failing(FaultKind::Unreachable);
    let Bench { link, .. } = bench(link("work"), &peer).await;
    let _ = (kind_of(&link).await, kind_of(&link).await);
    *peer.capabilities.lock().unwrap() = Ok(capabilities(&["tasks"]));
    link.probe_now().await;
    until("the probe closed the breaker", || link.status().breaker == BreakerState::Closed).await;
}

#[actix::test]
async fn a_silent_peer_is_given_up_at_the_deadline_and_counts() {
    tokio::time::pause();
    let peer = FakePeer::silent();
    let Bench { link, .. } = bench(link("work"), &peer).await;
    let began = Instant::now();
    let given_up = link.ask(list_ask(10)).await.unwrap_err();
    assert_eq!((given_up.kind, given_up.stage), (FaultKind::TimedOut, Stage::FirstByte));
    assert_eq!(rounded(began.elapsed()), Duration::from_secs(2));
    assert_eq!(peer.dropped.load(Ordering::SeqCst), 1, "the call itself was ended");
    let _ = (kind_of(&link).await, kind_of(&link).await);
    assert_eq!(link.status().breaker, BreakerState::Open);
}

#[actix::test]
async fn an_impatient_caller_does_not_open_the_breaker() {
    tokio::time::pause();
    let peer = FakePeer::silent();
    let Bench { link, .. } = bench(link("work"), &peer).await;
    for _ in 0..6 {
        let mut ask = list_ask(10);
        ask.deadline = Instant::now() + Duration::from_millis(100);
        assert_eq!(link.ask(ask).await.unwrap_err().kind, FaultKind::TimedOut);
    }
    assert_eq!(link.status().breaker, BreakerState::Closed);
}

#[actix::test]
async fn a_caller_that_leaves_ends_the_call_and_one_that_leaves_at_its_deadline_counts_as_silence() {
    tokio::time::pause();
    let peer = FakePeer::silent();
    let Bench { link, .. } = bench(link("work"), &peer).await;
    for (waits, counted) in [(1_000, false), (1_995, true)] {
        let asking = tokio::time::timeout(Duration::from_millis(waits), link.ask(list_ask(10)));
        assert!(asking.await.is_err());
        until("the call ended", || link.status().in_flight == 0).await;
        assert_eq!(link.status().last_fault.is_some(), counted);
    }
    assert_eq!(peer.dropped.load(Ordering::SeqCst), 2);
}

#[actix::test]
async fn calls_in_flight_are_capped_and_one_more_is_refused_at_once() {
    tokio::time::pause();
    let peer = FakePeer::silent();
    let Bench { link, .. } = bench(link("work"), &peer).await;
    let calls: Vec<_> = (0..32)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move { link.ask(list_ask(10)).await })
        })
        .collect();
    until("all are under way", || link.status().in_flight == 32).await;
    let began = Instant::now();
    let refused = link.ask(list_ask(10)).await.unwrap_err();
    assert_eq!((refused.kind, refused.stage), (FaultKind::RateLimited, Stage::Admission));
    assert_eq!(began.elapsed(), Duration::ZERO);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    until("all ended with their callers", || link.status().in_flight == 0).await;
}

#[actix::test]
async fn what_the_peer_says_about_its_grant_becomes_the_links_state_and_is_recorded() {
    tokio::time::pause();
    let table = [
        (FaultKind::GrantRevoked, LinkState::Revoked),
        (FaultKind::GrantExpired, LinkState::Expired),
        (FaultKind::GrantSuspended, LinkState::Suspended),
    ];
    for (kind, state) in table {
        let peer = FakePeer::new(move |_| async move { Err(fault(kind)) });
        let Bench { link, store } = bench(link("work"), &peer).await;
        assert_eq!(kind_of(&link).await, Some(kind));
        assert_eq!(link.status().state, state);
        assert_eq!(kind_of(&link).await, Some(kind));
        assert_eq!(peer.calls(), 1, "the second one cost no call");
        assert_eq!(link.status().breaker, BreakerState::Closed, "a refusal is an answer");
        until("it is recorded", || *store.recorded.lock().unwrap() == [(link.link(), state)]).await;
    }
}

#[actix::test]
async fn rows_that_were_under_way_when_the_peer_revoked_do_not_make_the_link_active_again() {
    tokio::time::pause();
    let peer = FakePeer::new(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None })
    });
    let Bench { link, store } = bench(link("work"), &peer).await;
    let under_way = actix::spawn({
        let link = link.clone();
        async move { link.ask(list_ask(10)).await.is_ok() }
    });
    until("the call is under way", || link.status().in_flight == 1).await;
    peer.becomes(|_| async { Err(fault(FaultKind::GrantRevoked)) });
    assert_eq!(kind_of(&link).await, Some(FaultKind::GrantRevoked));
    assert!(under_way.await.unwrap());
    assert_eq!(link.status().state, LinkState::Revoked);
    assert_eq!(*store.recorded.lock().unwrap(), [(link.link(), LinkState::Revoked)]);
}

#[actix::test]
async fn a_state_that_could_not_be_recorded_is_recorded_later() {
    tokio::time::pause();
    let peer = FakePeer::new(|_| async { Err(fault(FaultKind::GrantRevoked)) });
    let Bench { link, store } = bench(link("work"), &peer).await;
    *store.fails.lock().unwrap() = true;
    assert_eq!(kind_of(&link).await, Some(FaultKind::GrantRevoked));
    sleep(Duration::from_secs(1)).await;
    *store.fails.lock().unwrap() = false;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(*store.recorded.lock().unwrap(), [(link.link(), LinkState::Revoked)]);
}

#[actix::test]
async fn a_suspended_link_asks_again_from_time_to_time_and_a_revoked_one_only_when_an_admin_wants_to_know() {
    tokio::time::pause();
    let rows = || async { Ok(PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None }) };
    let peer = FakePeer::new(|_| async { Err(fault(FaultKind::GrantSuspended)) });
    let Bench { link: suspended, store } = bench(link("work"), &peer).await;
    *peer.capabilities.lock().unwrap() = Err(fault(FaultKind::GrantSuspended));
    assert_eq!(kind_of(&suspended).await, Some(FaultKind::GrantSuspended));
    peer.becomes(move |_| rows());
    assert_eq!(kind_of(&suspended).await, Some(FaultKind::GrantSuspended), "too early");
    sleep(Duration::from_secs(15)).await;
    assert_eq!(kind_of(&suspended).await, None);
    assert_eq!(suspended.status().state, LinkState::Active);
    assert_eq!(store.recorded.lock().unwrap().last(), Some(&(suspended.link(), LinkState::Active)));

    let revoked = Link { state: LinkState::Revoked, ..link("work") };
    let peer = FakePeer::new(move |_| rows());
    let Bench { link: revoked, .. } = bench(revoked, &peer).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(kind_of(&revoked).await, Some(FaultKind::GrantRevoked));
    assert_eq!(peer.capability_calls.load(Ordering::SeqCst), 0);
    revoked.probe_now().await;
    until("it is active again", || revoked.status().state == LinkState::Active).await;
    assert_eq!(kind_of(&revoked).await, None);
}

#[actix::test]
async fn an_expired_certificate_is_told_without_dialling() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[]);
    let mut expired = link("work");
    expired.credentials.not_after = EPOCH;
    let Bench { link, .. } = bench(expired, &peer).await;
    let refused = link.ask(list_ask(10)).await.unwrap_err();
    assert_eq!((refused.kind, refused.stage), (FaultKind::CertificateExpired, Stage::Admission));
    assert_eq!((peer.calls(), peer.capability_calls.load(Ordering::SeqCst)), (0, 0));
}

#[actix::test]
async fn a_429_is_waited_out_as_told() {
    tokio::time::pause();
    let peer = FakePeer::new(|_| async { Err(fault(FaultKind::RateLimited).after(Duration::from_secs(4))) });
    let Bench { link, .. } = bench(link("work"), &peer).await;
    assert_eq!(kind_of(&link).await, Some(FaultKind::RateLimited));
    sleep(Duration::from_secs(1)).await;
    let refused = link.ask(list_ask(10)).await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.retry_after.map(rounded)),
        (FaultKind::RateLimited, Some(Duration::from_secs(3)))
    );
    assert_eq!(peer.calls(), 1);
}

#[actix::test]
async fn an_answer_that_does_not_fit_the_question_is_bad_and_counts() {
    tokio::time::pause();
    let rows = |rows: &'static [(i64, &str)], cursor: Option<&str>| {
        let cursor = cursor.map(Into::into);
        PeerAnswer::Rows { page: page(rows, cursor.is_some(), None), next_cursor: cursor }
    };
    let lies: [PeerAnswer; 5] = [
        rows(&[(1, "a"), (2, "b")], None),
        rows(&[(3, "a"), (2, "b"), (1, "c")], None),
        rows(&[(1, "a")], Some(&"x".repeat(2_000))),
        PeerAnswer::Capabilities(capabilities(&[])),
        PeerAnswer::Item(page(&[(1, "a")], false, None)),
    ];
    for lie in lies {
        let peer = FakePeer::new(move |_| {
            let lie = lie.clone();
            async { Ok(lie) }
        });
        let Bench { link, .. } = bench(link("work"), &peer).await;
        for _ in 0..3 {
            let refused = link.ask(list_ask(2)).await.unwrap_err();
            assert_eq!((refused.kind, refused.stage), (FaultKind::BadAnswer, Stage::Parse));
        }
        assert_eq!(link.status().breaker, BreakerState::Open);
    }
}

#[actix::test]
async fn new_credentials_start_over_and_a_mere_change_of_state_does_not() {
    tokio::time::pause();
    let peer = FakePeer::failing(FaultKind::Unreachable);
    let original = link("work");
    let Bench { link, .. } = bench(original.clone(), &peer).await;
    let _ = (kind_of(&link).await, kind_of(&link).await);
    assert_eq!(link.status().breaker, BreakerState::Open);
    link.update(Link { shared_with: vec![crate::fakes::team(3)], ..original.clone() }).await;
    assert_eq!(link.status().breaker, BreakerState::Open);
    assert_eq!(link.status().shared_with, [crate::fakes::team(3)]);
    let mut renewed = original;
    renewed.credentials.serial = crate::domain::identity::Serial::from_bytes(&[2]).unwrap();
    *peer.capabilities.lock().unwrap() = Ok(capabilities(&["tasks"]));
    link.update(renewed).await;
    until("capabilities came over the new way", || link.capabilities().is_some()).await;
    assert_eq!(link.status().breaker, BreakerState::Closed);
}

#[actix::test]
async fn a_call_whose_key_opens_no_longer_is_made_with_the_one_that_was_sealed_anew() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[(1, "a")]);
    let before = link("work");
    let mut sealed_anew = before.clone();
    let store = FakeLinks::of([before.clone()]);
    let dialer = FakeDialer::of([("work", Arc::clone(&peer))]);
    let link = start(
        before.clone(),
        LinkParts { dialer: Arc::clone(&dialer) as _, ..parts(&store, &peer) },
        None,
        None,
        &Placement::Here,
    );
    assert_eq!(kind_of(&link).await, None);

    // On its way already when the key went: what it would have dialled with is of no use any more.
    sealed_anew.credentials.sealed_key = vec![2];
    store.links.lock().unwrap()[0] = sealed_anew.clone();
    let late = std::sync::atomic::AtomicBool::new(true);
    peer.becomes(move |_| {
        let late = late.swap(false, Ordering::SeqCst);
        async move {
            let answer = PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None };
            if late { Err(Fault::new(FaultKind::Internal, Stage::Tls)) } else { Ok(answer) }
        }
    });
    assert_eq!(kind_of(&link).await, None);

    // News that came late: the link has what was read before, and has to dial.
    *dialer.opens.lock().unwrap() = Some(vec![2]);
    link.update(Link { federation_url: "https://other.example".into(), ..before }).await;
    assert_eq!(kind_of(&link).await, None);
    *dialer.opens.lock().unwrap() = Some(vec![3]);
    link.update(Link { federation_url: "https://other.example".into(), ..sealed_anew }).await;
    assert_eq!(kind_of(&link).await, Some(FaultKind::Internal), "nothing that opens is anywhere");
}

#[actix::test]
async fn a_key_that_nothing_opens_is_not_the_peers_failure_and_costs_no_read_for_every_question() {
    tokio::time::pause();
    let peer = FakePeer::new(|_| async { Err(Fault::new(FaultKind::Internal, Stage::Tls)) });
    let Bench { link, store } = bench(link("work"), &peer).await;
    let loads = || store.loads.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(kind_of(&link).await, Some(FaultKind::Internal));
    }
    assert_eq!((link.status().breaker, loads()), (BreakerState::Closed, 1));
    sleep(super::actor::REREAD_PAUSE).await;
    assert_eq!((kind_of(&link).await, loads()), (Some(FaultKind::Internal), 2));
}

#[actix::test]
async fn a_link_that_could_not_dial_takes_the_key_that_comes_without_waiting_out_its_pause() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[(1, "a")]);
    let before = link("work");
    let store = FakeLinks::of([before.clone()]);
    let dialer = FakeDialer::of([("work", Arc::clone(&peer))]);
    *dialer.opens.lock().unwrap() = Some(vec![2]);
    let parts = LinkParts { dialer: Arc::clone(&dialer) as _, ..parts(&store, &peer) };
    let link = start(before.clone(), parts, None, None, &Placement::Here);
    sleep(Duration::from_millis(1)).await;
    let own = store.loads.load(Ordering::SeqCst);
    assert_eq!(own, 1, "its own first call looked too");
    for _ in 0..3 {
        assert_eq!(kind_of(&link).await, Some(FaultKind::Internal));
    }
    assert_eq!(store.loads.load(Ordering::SeqCst), own + 1);
    let mut sealed_anew = before;
    sealed_anew.credentials.sealed_key = vec![2];
    link.update(sealed_anew).await;
    assert_eq!(kind_of(&link).await, None);
}

#[actix::test]
async fn what_a_link_does_by_itself_takes_the_key_that_was_sealed_anew() {
    tokio::time::pause();
    let peer = FakePeer::with_rows(&[(1, "a")]);
    *peer.capabilities.lock().unwrap() = Ok(capabilities(&["tasks"]));
    let before = link("work");
    let mut sealed_anew = before.clone();
    sealed_anew.credentials.sealed_key = vec![2];
    let store = FakeLinks::of([sealed_anew]);
    let dialer = FakeDialer::of([("work", Arc::clone(&peer))]);
    *dialer.opens.lock().unwrap() = Some(vec![2]);
    let parts = LinkParts { dialer: Arc::clone(&dialer) as _, ..parts(&store, &peer) };
    let link = start(before, parts, None, None, &Placement::Here);
    until("nobody asked, and its capabilities are known", || link.capabilities().is_some()).await;
}

#[actix::test]
async fn latency_is_a_moving_average_of_successful_calls() {
    tokio::time::pause();
    let peer = FakePeer::new(|_| async {
        sleep(Duration::from_millis(100)).await;
        Ok(PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None })
    });
    let Bench { link, .. } = bench(link("work"), &peer).await;
    assert_eq!(link.status().latency, Some(Duration::ZERO), "capabilities came at once");
    assert_eq!(kind_of(&link).await, None);
    assert_eq!(link.status().latency.map(rounded), Some(Duration::from_millis(20)));
    assert_eq!(kind_of(&link).await, None);
    assert_eq!(link.status().latency.map(rounded), Some(Duration::from_millis(40)));
}

#[actix::test]
async fn draining_lets_calls_end_and_refuses_new_ones() {
    tokio::time::pause();
    let peer = FakePeer::new(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None })
    });
    let Bench { link, .. } = bench(link("work"), &peer).await;
    let asking = actix::spawn({
        let link = link.clone();
        async move { link.ask(list_ask(10)).await.is_ok() }
    });
    until("the call is under way", || link.status().in_flight == 1).await;
    let draining = actix::spawn({
        let link = link.clone();
        async move { link.drain().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(link.ask(list_ask(10)).await.unwrap_err(), Fault::new(FaultKind::Unavailable, Stage::Admission));
    assert!(!draining.is_finished());
    draining.await.unwrap();
    assert!(asking.await.unwrap());
}

#[actix::test]
async fn handles_work_from_threads_without_an_actor_system() {
    let peer = FakePeer::with_rows(&[(1, "a")]);
    let store = FakeLinks::of([]);
    let link = start(link("work"), parts(&store, &peer), None, None, &Placement::Here);
    let (told, answer) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { told.send(link.ask(list_ask(10)).await.is_ok()) })
    });
    assert!(answer.await.unwrap());
    thread.join().unwrap().unwrap();
}
