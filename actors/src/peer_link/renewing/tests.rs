use std::sync::atomic::Ordering;

use tokio::time::sleep;

use crate::domain::identity::Serial;
use crate::domain::link::Link;
use crate::fakes::{EPOCH, FakeDialer, FakeLinks, FakePeer, VirtualClock, fault, link, list_ask, page, until};
use crate::peer_link::{LinkParts, PeerLinkHandle, PeerLinkLimits, Placement, start};
use crate::ports::peer_transport::PeerAnswer;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    link: PeerLinkHandle,
    store: Arc<FakeLinks>,
    dialer: Arc<FakeDialer>,
    peer: Arc<FakePeer>,
}

/// A started link with a day's certificate of serial 1.
async fn bench(link: Link) -> Bench {
    let peer = FakePeer::with_rows(&[]);
    let (store, dialer) = (FakeLinks::of([link.clone()]), FakeDialer::of([("work", Arc::clone(&peer))]));
    let parts = LinkParts {
        store: Arc::clone(&store) as _,
        dialer: Arc::clone(&dialer) as _,
        clock: VirtualClock::new(),
        limits: PeerLinkLimits::default(),
        jitter: || 0.0,
        own_calls: Arc::new(tokio::sync::Semaphore::new(16)),
    };
    let link = start(link, parts, None, None, &Placement::Here);
    sleep(Duration::from_millis(1)).await;
    Bench { link, store, dialer, peer }
}

impl Bench {
    fn renewals(&self) -> usize {
        self.dialer.renewals.lock().unwrap().len()
    }

    fn refuse(&self, kind: Option<FaultKind>) {
        *self.dialer.refuses.lock().unwrap() = kind.map(fault);
    }

    fn stored(&self) -> Serial {
        self.store.links.lock().unwrap()[0].credentials.serial.clone()
    }
}

fn serial(n: u8) -> Serial {
    Serial::from_bytes(&[n]).unwrap()
}

fn no_rows() -> PeerAnswer {
    PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None }
}

#[actix::test]
async fn a_link_renews_at_two_thirds_of_its_certificate_s_life_and_again_at_those_of_the_next() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    sleep(16 * HOUR - Duration::from_secs(5)).await;
    assert_eq!(bench.renewals(), 0);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((bench.renewals(), bench.stored()), (1, serial(2)));
    assert_eq!(bench.link.status().certificate_not_after, EPOCH + 16 * HOUR + 24 * HOUR);
    assert_eq!(bench.link.ask(list_ask(1)).await.map(|_| ()), Ok(()));
    sleep(16 * HOUR).await;
    assert_eq!((bench.renewals(), bench.stored()), (2, serial(3)));
    assert_eq!(bench.link.status().state, LinkState::Active);
}

#[actix::test]
async fn a_failed_renewal_is_tried_again_degrades_the_link_near_the_end_and_heals() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    bench.refuse(Some(FaultKind::Unreachable));
    sleep(16 * HOUR + Duration::from_secs(60)).await;
    assert_eq!(bench.renewals(), 4, "at once, and 5, 15 and 35 s later");
    assert_eq!(bench.link.status().state, LinkState::Active);
    sleep(3 * HOUR).await;
    assert!(bench.link.status().renewal_failures > 80);
    assert_eq!(bench.link.status().state, LinkState::Active, "more than a sixth is left");
    sleep(HOUR).await;
    assert_eq!(bench.link.status().state, LinkState::Degraded);
    assert_eq!(bench.link.ask(list_ask(1)).await.map(|_| ()), Ok(()), "a degraded link still asks");
    assert_eq!(*bench.store.recorded.lock().unwrap(), [(bench.link.link(), LinkState::Degraded)]);

    bench.refuse(None);
    sleep(Duration::from_secs(150)).await;
    assert_eq!((bench.stored(), bench.link.status().state), (serial(2), LinkState::Active));
    assert_eq!(bench.link.status().renewal_failures, 0);
}

#[actix::test]
async fn a_certificate_that_could_not_be_renewed_ends_and_only_enrolling_again_is_told_to_help() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    bench.refuse(Some(FaultKind::Unreachable));
    sleep(24 * HOUR).await;
    let tried = bench.renewals();
    sleep(24 * HOUR).await;
    assert_eq!(bench.renewals(), tried, "nothing is tried after the end");
    for refused in [bench.link.ask(list_ask(1)).await.unwrap_err(), bench.link.renew().await.unwrap_err()] {
        assert_eq!((refused.kind, refused.stage), (FaultKind::CertificateExpired, Stage::Admission));
        assert!(refused.message.unwrap().contains("enrol again"));
    }
}

#[actix::test]
async fn calls_in_flight_end_on_the_old_certificate_and_later_ones_use_the_new() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    bench.peer.becomes(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(no_rows())
    });
    let handle = bench.link.clone();
    let under_way = actix::spawn(async move { handle.ask(list_ask(1)).await.is_ok() });
    until("the call is under way", || bench.link.status().in_flight == 1).await;
    let dialled = bench.dialer.dialled.load(Ordering::SeqCst);
    assert_eq!(bench.link.renew().await, Ok(()));
    assert!(!under_way.is_finished());
    bench.peer.becomes(|_| async { Ok(no_rows()) });
    assert_eq!(bench.link.ask(list_ask(1)).await.map(|_| ()), Ok(()));
    assert_eq!(bench.dialer.dialled.load(Ordering::SeqCst), dialled + 1, "a transport of its own");
    assert!(under_way.await.unwrap(), "the swap ended no call");
    assert_eq!(bench.peer.dropped.load(Ordering::SeqCst), 0);
}

#[actix::test]
async fn a_call_that_arrived_after_its_certificate_was_taken_over_is_made_once_more_with_the_new_one() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    bench.peer.becomes(|_| async {
        sleep(Duration::from_secs(1)).await;
        Err(fault(FaultKind::Forbidden))
    });
    let handle = bench.link.clone();
    let late = actix::spawn(async move { handle.ask(list_ask(1)).await.map(|_| ()) });
    until("the call is under way", || bench.link.status().in_flight == 1).await;
    assert_eq!(bench.link.renew().await, Ok(()));
    bench.peer.becomes(|_| async { Ok(no_rows()) });
    assert_eq!(late.await.unwrap(), Ok(()));
    assert_eq!(bench.peer.calls(), 2);

    bench.peer.becomes(|_| async { Err(fault(FaultKind::Forbidden)) });
    assert_eq!(bench.link.ask(list_ask(1)).await.unwrap_err().kind, FaultKind::Forbidden);
    assert_eq!(bench.peer.calls(), 3, "refused with the newest: there is nothing to try again with");
}

#[actix::test]
async fn a_certificate_that_another_replica_renewed_is_found_in_the_store() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    let renewed = |store: &FakeLinks| {
        let mut links = store.links.lock().unwrap();
        links[0].credentials.serial = serial(9);
        links[0].credentials.key_version = 9;
    };
    renewed(&bench.store);
    let refusals = std::sync::atomic::AtomicUsize::new(0);
    bench.peer.becomes(move |_| {
        let first = refusals.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { Err(fault(FaultKind::Forbidden)) } else { Ok(no_rows()) } }
    });
    assert_eq!(bench.link.ask(list_ask(1)).await.map(|_| ()), Ok(()));
    assert_eq!(bench.link.renew().await, Ok(()));
    assert_eq!(*bench.dialer.renewals.lock().unwrap(), [serial(9)], "renewed is what the store has");
}

#[actix::test]
async fn only_one_of_two_replicas_asks_for_the_next_certificate() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    bench.store.links.lock().unwrap()[0].credentials.serial = serial(9);
    assert_eq!(bench.link.renew().await, Ok(()), "the other's is taken");
    assert_eq!(bench.renewals(), 0);
}

#[actix::test]
async fn a_grant_that_the_owner_ended_is_not_renewed_again_and_again() {
    tokio::time::pause();
    let bench = bench(link("work")).await;
    bench.refuse(Some(FaultKind::GrantRevoked));
    assert_eq!(bench.link.renew().await.unwrap_err().kind, FaultKind::GrantRevoked);
    assert_eq!(bench.link.status().state, LinkState::Revoked);
    sleep(24 * HOUR).await;
    assert_eq!(bench.renewals(), 1);
}
