use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::*;
use crate::domain::answer::{SourceName, SourceReport, SourceStatus};
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::{RequestId, Session, SessionTokenId};
use crate::domain::link::{Link, LinkState};
use crate::domain::query::{Filter, RowId, SourceSelector};
use crate::fakes::{
    EPOCH, FakeDialer, FakeLinks, FakePeer, FakeRows, Shelf, VirtualClock, capabilities, fault, link, on_virtual_time,
    page, resource, rounded, rows, site, until, user,
};
use crate::peer_link::{LinkParts, PeerLinkLimits};
use crate::peer_registry::{PeerRegistryHandle, PeerRegistryLimits};
use crate::ports::peer_transport::{PeerAnswer, PeerAsk, PeerQuestion};

struct Bench {
    fan_out: FanOutHandle,
    registry: PeerRegistryHandle,
    local: Arc<FakeRows>,
}

/// A site with two own rows, at seconds 100 and 90, and a started link of `user(1)` to each peer.
async fn bench<'a>(peers: impl IntoIterator<Item = (&'a str, Arc<FakePeer>)>) -> Bench {
    bench_with(peers, FanOutLimits::default()).await
}

async fn bench_with<'a>(peers: impl IntoIterator<Item = (&'a str, Arc<FakePeer>)>, limits: FanOutLimits) -> Bench {
    let peers: Vec<_> = peers.into_iter().collect();
    let links: Vec<Link> = peers.iter().map(|(name, _)| link(name)).collect();
    let ids: Vec<_> = links.iter().map(|link| link.id).collect();
    let parts = LinkParts {
        store: FakeLinks::of(links),
        dialer: FakeDialer::of(peers),
        clock: VirtualClock::new(),
        limits: PeerLinkLimits::default(),
        jitter: || 0.0,
        own_calls: Arc::new(tokio::sync::Semaphore::new(16)),
    };
    let registry = crate::peer_registry::start_with(parts, PeerRegistryLimits::default(), Vec::new());
    for id in ids {
        assert!(registry.wait_for(id, Instant::now() + Duration::from_secs(5)).await);
    }
    let local = Arc::new(FakeRows::default());
    for (second, id) in [(100, "l-100"), (90, "l-90")] {
        local.shelf.lock().unwrap().insert(second, id.to_owned());
    }
    let fan_out = start(local.clone(), registry.clone(), limits);
    sleep(Duration::from_millis(1)).await;
    Bench { fan_out, registry, local }
}

fn session() -> Session {
    Session { user: user(1), teams: Vec::new(), token: SessionTokenId(uuid::Uuid::from_u128(77)) }
}

fn list(limit: u32, resume: Option<CompositePosition>) -> Question {
    let local = LocalPart::Read(Filter::default());
    Question::List { resource: resource("tasks"), limit: rows(limit), local, filter_json: None, resume }
}

/// All sources, five seconds.
fn all(question: Question) -> RunQuery {
    RunQuery {
        session: session(),
        question,
        sources: SourceSelector::All,
        require: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(5),
        request: RequestId::new(),
        traceparent: None,
    }
}

fn peer_named(name: &str) -> SourceName {
    SourceName::Peer(site(name))
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.items.iter().map(|row| row.position.id.as_str()).collect()
}

fn report<'a>(answer: &'a Answer, source: &str) -> &'a SourceReport {
    answer.sources.iter().find(|report| report.source.as_str() == source).unwrap()
}

fn statuses(answer: &Answer) -> Vec<(&str, &str)> {
    answer.sources.iter().map(|report| (report.source.as_str(), report.status.as_str())).collect()
}

#[actix::test]
async fn rows_of_all_sources_are_blended_in_order_and_each_source_is_accounted_for() {
    tokio::time::pause();
    let work = FakePeer::with_rows(&[(110, "w-110"), (95, "w-95")]);
    let Bench { fan_out, .. } = bench([("work", work), ("home", FakePeer::with_rows(&[]))]).await;
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!(ids(&answer), ["w-110", "l-100", "w-95", "l-90"]);
    assert_eq!(statuses(&answer), [("local", "ok"), ("home", "empty"), ("work", "ok")]);
    assert_eq!(answer.items[0].json, r#"{"id":"w-110"}"#);
    assert_eq!((answer.partial, answer.truncated, answer.next.is_some()), (false, false, false));
    assert_eq!(answer.verdict, Verdict::Answered);
    assert_eq!(report(&answer, "work").rows, 2);
    assert!(report(&answer, "work").last_ok_at.is_some());
    assert!(report(&answer, "local").breaker.is_none());
}

#[actix::test]
async fn a_silent_peer_costs_its_budget_once_and_nothing_when_its_breaker_is_open() {
    tokio::time::pause();
    let silent = FakePeer::silent();
    let peers = [("silent", Arc::clone(&silent)), ("work", FakePeer::with_rows(&[(110, "w-110")]))];
    let Bench { fan_out, .. } = bench(peers).await;
    for _ in 0..3 {
        let began = Instant::now();
        let answer = fan_out.run(all(list(10, None))).await.unwrap();
        assert_eq!(rounded(began.elapsed()), Duration::from_secs(3), "the peer's budget, not the deadline");
        assert_eq!(ids(&answer), ["w-110", "l-100", "l-90"]);
        assert_eq!(statuses(&answer), [("local", "ok"), ("silent", "timed_out"), ("work", "ok")]);
        assert_eq!(rounded(report(&answer, "work").took), Duration::ZERO, "the others did not wait");
        assert_eq!(rounded(report(&answer, "local").took), Duration::ZERO);
        let fault = report(&answer, "silent").fault.clone().unwrap();
        assert_eq!((fault.kind, fault.stage), (FaultKind::TimedOut, Stage::FirstByte));
        assert!(answer.partial);
        assert!(answer.next.is_some(), "the missing source may come back");
    }
    let began = Instant::now();
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!(rounded(began.elapsed()), Duration::ZERO);
    assert_eq!(report(&answer, "silent").status, SourceStatus::BreakerOpen);
    assert_eq!(silent.calls(), 3);
}

#[actix::test]
async fn the_answer_leaves_at_the_deadline_and_a_silent_peer_still_counts_as_silent() {
    tokio::time::pause();
    let silent = FakePeer::silent();
    let Bench { fan_out, .. } = bench([("silent", Arc::clone(&silent))]).await;
    for _ in 0..3 {
        let began = Instant::now();
        let deadline = began + Duration::from_millis(500);
        let answer = fan_out.run(RunQuery { deadline, ..all(list(10, None)) }).await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(501), "{:?}", began.elapsed());
        assert_eq!(statuses(&answer), [("local", "ok"), ("silent", "timed_out")]);
    }
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!(report(&answer, "silent").status, SourceStatus::BreakerOpen);
}

#[actix::test]
async fn a_source_that_ends_at_the_deadline_still_says_what_it_was_waiting_for() {
    tokio::time::pause();
    // It notices its deadline itself, as a transport does between two bytes of a body.
    let dripping = FakePeer::new(|ask: PeerAsk| async move {
        tokio::time::sleep_until(ask.deadline).await;
        Err(Fault::new(FaultKind::TimedOut, Stage::Body))
    });
    let Bench { fan_out, .. } = bench([("drip", dripping)]).await;
    let query = RunQuery { deadline: Instant::now() + Duration::from_millis(400), ..all(list(10, None)) };
    let answer = fan_out.run(query).await.unwrap();
    assert_eq!(report(&answer, "drip").fault, Some(Fault::new(FaultKind::TimedOut, Stage::Body)));
}

#[actix::test]
async fn a_database_that_hangs_fails_or_panics_costs_only_the_local_rows() {
    tokio::time::pause();
    let Bench { fan_out, local, .. } = bench([("work", FakePeer::with_rows(&[(1, "w-1")]))]).await;
    *local.hangs.lock().unwrap() = true;
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!((ids(&answer), report(&answer, "local").status), (vec!["w-1"], SourceStatus::TimedOut));
    assert_eq!(report(&answer, "local").fault.as_ref().unwrap().stage, Stage::Database);
    *local.hangs.lock().unwrap() = false;
    *local.fails.lock().unwrap() = Some(FaultKind::Unavailable);
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!((ids(&answer), report(&answer, "local").status), (vec!["w-1"], SourceStatus::Error));
    // A poisoned lock makes the fake panic.
    let poisoned = Arc::clone(&local);
    let _ = std::thread::spawn(move || {
        let _guard = poisoned.hangs.lock().unwrap();
        panic!("poisons the lock on purpose");
    })
    .join();
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!((ids(&answer), report(&answer, "local").status), (vec!["w-1"], SourceStatus::Error));
    assert_eq!(report(&answer, "local").fault.as_ref().unwrap().kind, FaultKind::Internal);
}

#[actix::test]
async fn own_rows_pass_the_second_wall_or_nothing_of_them_does() {
    tokio::time::pause();
    struct Leaky;
    impl crate::ports::local_rows::LocalRows for Leaky {
        fn list(
            &self,
            _: crate::domain::query::ReadRight,
            _: crate::ports::local_rows::ListRows,
            _: Instant,
        ) -> crate::ports::PortFuture<Result<crate::domain::answer::Page, Fault>> {
            Box::pin(async { Ok(page(&[(1, "somebody-elses")], false, Some(user(2)))) })
        }

        fn get(
            &self,
            _: crate::domain::query::ReadRight,
            _: RowId,
            _: Instant,
        ) -> crate::ports::PortFuture<Result<crate::domain::answer::Page, Fault>> {
            Box::pin(async { Ok(page(&[(1, "somebody-elses")], false, Some(user(2)))) })
        }

        fn exists(
            &self,
            _: crate::domain::query::ReadRight,
            _: RowId,
            _: Instant,
        ) -> crate::ports::PortFuture<Result<bool, Fault>> {
            Box::pin(async { Ok(true) })
        }
    }
    let Bench { registry, .. } = bench([]).await;
    let fan_out = start(Arc::new(Leaky), registry, FanOutLimits::default());
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert!(answer.items.is_empty());
    assert_eq!(report(&answer, "local").fault, Some(Fault::new(FaultKind::Internal, Stage::Egress)));
    assert_eq!(answer.verdict, Verdict::AllFailed);
}

#[actix::test]
async fn a_resource_that_the_peer_does_not_offer_is_denied_without_a_call_until_it_does() {
    tokio::time::pause();
    let work = FakePeer::with_rows(&[(1, "w-1")]);
    *work.capabilities.lock().unwrap() = Ok(capabilities(&["notes"]));
    let Bench { fan_out, .. } = bench([("work", Arc::clone(&work))]).await;
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!(report(&answer, "work").status, SourceStatus::Denied);
    assert_eq!(report(&answer, "work").fault, Some(Fault::new(FaultKind::ScopeViolation, Stage::Plan)));
    assert_eq!(work.calls(), 0);
    assert!(answer.next.is_none(), "paging on does not help");

    *work.capabilities.lock().unwrap() = Ok(capabilities(&["notes", "tasks"]));
    sleep(Duration::from_secs(1)).await;
    let denied = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!(report(&denied, "work").status, SourceStatus::Denied);
    sleep(Duration::from_millis(10)).await;
    let answer = fan_out.run(all(list(10, None))).await.unwrap();
    assert_eq!(report(&answer, "work").status, SourceStatus::Ok, "being denied made the link look again");
}

#[actix::test]
async fn a_barred_link_tells_its_reason() {
    let table = [
        (LinkState::Revoked, SourceStatus::GrantRevoked),
        (LinkState::Expired, SourceStatus::GrantExpired),
        (LinkState::Pending, SourceStatus::Denied),
    ];
    tokio::time::pause();
    for (state, status) in table {
        let store = FakeLinks::of([Link { state, ..link("work") }]);
        let dialer = FakeDialer::of([("work", FakePeer::with_rows(&[]))]);
        let parts = LinkParts {
            store: store.clone(),
            dialer,
            clock: VirtualClock::new(),
            limits: PeerLinkLimits::default(),
            jitter: || 0.0,
            own_calls: Arc::new(tokio::sync::Semaphore::new(16)),
        };
        let registry = crate::peer_registry::start_with(parts, PeerRegistryLimits::default(), Vec::new());
        until("the link is started", || !registry.statuses().is_empty()).await;
        let fan_out = start(Arc::new(FakeRows::default()), registry, FanOutLimits::default());
        let answer = fan_out.run(all(list(10, None))).await.unwrap();
        assert_eq!(report(&answer, "work").status, status);
    }
}

#[actix::test]
async fn what_cannot_be_asked_is_refused_before_anybody_is_asked() {
    tokio::time::pause();
    let work = FakePeer::with_rows(&[]);
    let Bench { fan_out, .. } = bench([("work", Arc::clone(&work))]).await;
    let unknown = RunQuery { sources: SourceSelector::Peer(site("nowhere")), ..all(list(10, None)) };
    assert_eq!(fan_out.run(unknown).await.err().unwrap().kind, FaultKind::UnknownSource);
    let unknown = RunQuery { require: vec![peer_named("nowhere")], ..all(list(10, None)) };
    assert_eq!(fan_out.run(unknown).await.err().unwrap().kind, FaultKind::UnknownSource);
    let of_another = RunQuery { session: Session { user: user(2), ..session() }, ..all(list(10, None)) };
    let of_another = RunQuery { sources: SourceSelector::Peer(site("work")), ..of_another };
    assert_eq!(fan_out.run(of_another).await.err().unwrap().kind, FaultKind::UnknownSource, "another user's link");
    let unselected =
        RunQuery { sources: SourceSelector::Local, require: vec![peer_named("work")], ..all(list(10, None)) };
    assert_eq!(fan_out.run(unselected).await.err().unwrap().kind, FaultKind::InvalidRequest);
    let foreign = CompositePosition { sources: vec![(peer_named("work"), SourcePosition::Local { after: None })] };
    assert_eq!(fan_out.run(all(list(10, Some(foreign)))).await.err().unwrap().kind, FaultKind::InvalidRequest);
    assert_eq!(work.calls(), 0);
}

#[actix::test]
async fn the_selector_selects() {
    tokio::time::pause();
    let work = FakePeer::with_rows(&[(1, "w-1")]);
    let Bench { fan_out, .. } = bench([("work", Arc::clone(&work)), ("home", FakePeer::with_rows(&[]))]).await;
    let one = RunQuery { sources: SourceSelector::Peer(site("work")), ..all(list(10, None)) };
    assert_eq!(statuses(&fan_out.run(one).await.unwrap()), [("work", "ok")]);
    let local = RunQuery { sources: SourceSelector::Local, ..all(list(10, None)) };
    assert_eq!(statuses(&fan_out.run(local).await.unwrap()), [("local", "ok")]);
    assert_eq!(work.calls(), 1);
}

#[actix::test]
async fn an_answer_without_a_required_source_counts_as_failed() {
    tokio::time::pause();
    let peers = [("gone", FakePeer::failing(FaultKind::Unreachable)), ("silent", FakePeer::silent())];
    let Bench { fan_out, .. } = bench(peers).await;
    let requiring = |names: &[&str]| RunQuery {
        require: names.iter().map(|name| peer_named(name)).collect(),
        ..all(list(10, None))
    };
    let verdict = |query| async { fan_out.run(query).await.unwrap().verdict };
    assert_eq!(verdict(requiring(&[])).await, Verdict::Answered);
    assert_eq!(verdict(requiring(&["silent"])).await, Verdict::RequiredTimedOut);
    assert_eq!(verdict(requiring(&["gone", "silent"])).await, Verdict::RequiredFailed);
    let alone = RunQuery { sources: SourceSelector::Peer(site("gone")), ..all(list(10, None)) };
    assert_eq!(verdict(alone).await, Verdict::AllFailed);
    let silent = FakePeer::silent();
    let Bench { fan_out, .. } = bench([("silent", silent)]).await;
    let alone = RunQuery { sources: SourceSelector::Peer(site("silent")), ..all(list(10, None)) };
    assert_eq!(fan_out.run(alone).await.unwrap().verdict, Verdict::AllTimedOut);
}

#[actix::test]
async fn a_row_is_asked_of_every_source_and_not_having_it_is_an_answer() {
    tokio::time::pause();
    let with = FakePeer::new(|ask: PeerAsk| async move {
        match ask.question {
            PeerQuestion::Get { id, .. } => Ok(PeerAnswer::Item(page(&[(1, id.as_str())], false, None))),
            _ => Err(fault(FaultKind::Internal)),
        }
    });
    let without = FakePeer::new(|_| async { Err(fault(FaultKind::NotFound)) });
    let Bench { fan_out, .. } = bench([("with", with), ("without", without)]).await;
    let get = |id: &str| {
        let local = LocalPart::Read(Filter::default());
        all(Question::Get { resource: resource("tasks"), id: RowId::parse(id).unwrap(), local })
    };
    let answer = fan_out.run(get("l-90")).await.unwrap();
    let found: Vec<_> = answer.items.iter().map(|row| (row.source.as_str(), row.position.id.as_str())).collect();
    assert_eq!(found, [("local", "l-90"), ("with", "l-90")]);
    assert_eq!(statuses(&answer), [("local", "ok"), ("with", "ok"), ("without", "empty")]);
    assert!(!answer.partial && answer.next.is_none());
    let answer = fan_out.run(get("nowhere-here")).await.unwrap();
    assert_eq!(statuses(&answer), [("local", "empty"), ("with", "ok"), ("without", "empty")]);
}

#[actix::test]
async fn a_resource_unknown_here_is_still_asked_of_peers() {
    tokio::time::pause();
    let Bench { fan_out, .. } = bench([("work", FakePeer::with_rows(&[(1, "w-1")]))]).await;
    let resource = resource("tasks");
    let question =
        Question::List { resource, limit: rows(10), local: LocalPart::UnknownHere, filter_json: None, resume: None };
    let answer = fan_out.run(all(question)).await.unwrap();
    assert_eq!(statuses(&answer), [("local", "denied"), ("work", "ok")]);
    assert_eq!(ids(&answer), ["w-1"]);
}

#[actix::test]
async fn a_session_is_told_once_that_a_peer_is_offline_until_that_peer_has_answered_again() {
    tokio::time::pause();
    let down = |_| async { Err(fault(FaultKind::Unreachable)) };
    let work = FakePeer::failing(FaultKind::Unreachable);
    let Bench { fan_out, registry, .. } = bench([("work", Arc::clone(&work))]).await;
    let told = |token: u128| {
        let session = Session { token: SessionTokenId(uuid::Uuid::from_u128(token)), ..session() };
        let query = RunQuery { session, ..all(list(10, None)) };
        async {
            let notices = fan_out.run(query).await.unwrap().notices;
            notices.iter().map(|notice| (notice.code, notice.peer.to_string())).collect::<Vec<_>>()
        }
    };
    let offline = [("federation_offline", "work".to_owned())];
    assert_eq!(told(1).await, offline);
    assert_eq!(told(1).await, []);
    assert_eq!(told(2).await, offline, "another token was not told");
    work.becomes(|_| async { Ok(PeerAnswer::Rows { page: page(&[], false, None), next_cursor: None }) });
    *work.capabilities.lock().unwrap() = Ok(capabilities(&["tasks"]));
    registry.reset_breaker(registry.statuses()[0].link).await;
    until("the peer answered", || registry.statuses()[0].last_ok_at.is_some()).await;
    assert_eq!(told(1).await, []);
    work.becomes(down);
    assert_eq!(told(1).await, offline, "offline once more");
    assert_eq!(told(1).await, []);
}

#[test]
fn the_memory_of_notices_is_bounded_and_forgets_the_oldest() {
    let mut notices = super::notices::Notices::new(2);
    let token = |n: u128| SessionTokenId(uuid::Uuid::from_u128(n));
    let link = crate::domain::identity::LinkId::new();
    for n in 1..=3 {
        assert!(notices.must_tell(token(n), link, None));
    }
    assert!(!notices.must_tell(token(3), link, None));
    assert!(!notices.must_tell(token(2), link, None));
    assert!(notices.must_tell(token(1), link, None), "forgotten, so told again");
    assert!(notices.must_tell(token(3), link, Some(EPOCH)), "heard from in between");
}

#[actix::test]
async fn over_capacity_a_question_is_refused_at_once() {
    tokio::time::pause();
    let limits = FanOutLimits { max_in_flight: 2, ..FanOutLimits::default() };
    let Bench { fan_out, .. } = bench_with([("silent", FakePeer::silent())], limits).await;
    let running: Vec<_> = (0..2)
        .map(|_| {
            let fan_out = fan_out.clone();
            tokio::spawn(async move { fan_out.run(all(list(10, None))).await.is_ok() })
        })
        .collect();
    until("two are under way", || fan_out.stats().in_flight == 2).await;
    let refused = fan_out.run(all(list(10, None))).await.err().unwrap();
    assert_eq!((refused.kind, refused.stage), (FaultKind::RateLimited, Stage::Admission));
    for one in running {
        assert!(one.await.unwrap());
    }
    assert_eq!(fan_out.stats(), FanOutStats { in_flight: 0, answered: 2, refused: 1 });
    assert!(fan_out.run(all(list(10, None))).await.is_ok());
}

#[actix::test]
async fn a_session_that_leaves_ends_the_calls_to_the_peers() {
    tokio::time::pause();
    let silent = FakePeer::silent();
    let Bench { fan_out, .. } = bench([("silent", Arc::clone(&silent))]).await;
    let leaving = tokio::time::timeout(Duration::from_millis(300), fan_out.run(all(list(10, None))));
    assert!(leaving.await.is_err());
    until("the call ended", || silent.dropped.load(Ordering::SeqCst) == 1).await;
    until("the question ended", || fan_out.stats().in_flight == 0).await;
}

// ------------------------------------------------------------------------------------------------------------- paging

/// A peer that pages over a shelf as an owner does: keyset cursors, and a cap of its own.
struct PagingPeer {
    shelf: Arc<Mutex<Shelf>>,
    down: Arc<AtomicBool>,
    peer: Arc<FakePeer>,
}

fn paging_peer(rows: &[(i64, String)], cap: usize) -> PagingPeer {
    let mut shelf = Shelf::default();
    rows.iter().for_each(|(second, id)| shelf.insert(*second, id.clone()));
    let (shelf, down) = (Arc::new(Mutex::new(shelf)), Arc::new(AtomicBool::new(false)));
    let peer = FakePeer::new({
        let (shelf, down) = (Arc::clone(&shelf), Arc::clone(&down));
        move |ask: PeerAsk| {
            let answer = if down.load(Ordering::SeqCst) {
                Err(fault(FaultKind::Unreachable))
            } else {
                Ok(owner_page(&shelf.lock().unwrap(), &ask, cap))
            };
            async { answer }
        }
    });
    PagingPeer { shelf, down, peer }
}

fn owner_page(shelf: &Shelf, ask: &PeerAsk, cap: usize) -> PeerAnswer {
    let PeerQuestion::List { limit, cursor, .. } = &ask.question else { panic!("only lists here") };
    let after = cursor.as_deref().map(|cursor| {
        let (second, id) = cursor.split_once(':').unwrap();
        (second.parse().unwrap(), id)
    });
    let page = shelf.page(after, (limit.get() as usize).min(cap), None);
    let next_cursor = page.rows.last().filter(|_| page.more).map(|row| {
        let second = (row.position.created_at - EPOCH).whole_seconds();
        format!("{second}:{}", row.position.id).into()
    });
    PeerAnswer::Rows { page, next_cursor }
}

#[actix::test]
async fn a_page_is_full_also_when_the_one_before_took_a_part_of_the_peers_page() {
    tokio::time::pause();
    let rows: Vec<_> = (0..6).map(|second| (second, format!("w-{second}"))).collect();
    let work = paging_peer(&rows, 100);
    let Bench { fan_out, local, .. } = bench([("work", Arc::clone(&work.peer))]).await;
    *local.shelf.lock().unwrap() = Shelf::default();
    local.shelf.lock().unwrap().insert(5, "l-5".to_owned());
    let first = fan_out.run(all(list(3, None))).await.unwrap();
    assert_eq!(ids(&first), ["l-5", "w-5", "w-4"]);
    assert_eq!((statuses(&first), first.truncated), (vec![("local", "ok"), ("work", "truncated")], true));
    let second = fan_out.run(all(list(3, first.next.clone()))).await.unwrap();
    assert_eq!(ids(&second), ["w-3", "w-2", "w-1"]);
    let third = fan_out.run(all(list(3, second.next.clone()))).await.unwrap();
    assert_eq!((ids(&third), third.next.clone(), third.truncated), (vec!["w-0"], None, false));
    assert_eq!(statuses(&third), [("local", "empty"), ("work", "ok")], "a source that is done is not asked");
}

#[derive(Debug, Clone)]
struct Case {
    limit: u32,
    page_cap: u32,
    /// Seconds of the rows of each source, `local` first, and each peer's own cap.
    sources: Vec<(Vec<i64>, usize)>,
    turns: Vec<Turn>,
}

/// What happens before a page.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// Source and second of a new row.
    inserts: Vec<(usize, i64)>,
    /// Source and index of a row that goes.
    deletes: Vec<(usize, usize)>,
    /// Sources that fail.
    down: Vec<usize>,
}

fn cases() -> impl Strategy<Value = Case> {
    let source = (prop::collection::vec(0..20i64, 0..14), 1..7usize);
    let turn = (
        prop::collection::vec((0..4usize, 0..25i64), 0..4),
        prop::collection::vec((0..4usize, 0..14usize), 0..2),
        prop::collection::vec(0..4usize, 0..2),
    )
        .prop_map(|(inserts, deletes, down)| Turn { inserts, deletes, down });
    (1..7u32, 7..12u32, prop::collection::vec(source, 1..4), prop::collection::vec(turn, 0..6))
        .prop_map(|(limit, page_cap, sources, turns)| Case { limit, page_cap, sources, turns })
}

/// Pages to the end. Returns the ids in the order in which they were given out, one list per page, and the ids that every reader
/// must have seen.
async fn page_to_the_end(case: &Case) -> (Vec<Vec<(i64, String)>>, BTreeSet<String>) {
    let rows_of = |index: usize| -> Vec<(i64, String)> {
        let seconds = case.sources[index].0.iter().enumerate();
        seconds.map(|(n, second)| (*second, format!("s{index}-{n:02}"))).collect()
    };
    let names: Vec<String> = (1..case.sources.len()).map(|n| format!("p{n}")).collect();
    let peers: Vec<_> = (1..case.sources.len()).map(|n| paging_peer(&rows_of(n), case.sources[n].1)).collect();
    let limits = FanOutLimits { page_cap: rows(case.page_cap), ..FanOutLimits::default() };
    let linked = names.iter().zip(&peers).map(|(name, peer)| (name.as_str(), Arc::clone(&peer.peer)));
    let Bench { fan_out, local, .. } = bench_with(linked, limits).await;
    *local.shelf.lock().unwrap() = Shelf::default();
    rows_of(0).into_iter().for_each(|(second, id)| local.shelf.lock().unwrap().insert(second, id));
    let with_shelf = |index: usize, change: &mut dyn FnMut(&mut Shelf)| match index % case.sources.len() {
        0 => change(&mut local.shelf.lock().unwrap()),
        n => change(&mut peers[n - 1].shelf.lock().unwrap()),
    };
    let mut must_see: BTreeSet<String> = (0..case.sources.len()).flat_map(rows_of).map(|(_, id)| id).collect();
    let (mut pages, mut resume, mut inserted) = (Vec::new(), None, 0);
    for turn in 0.. {
        assert!(turn < 400, "paging does not end");
        let Turn { inserts, deletes, down } = &case.turns.get(turn).cloned().unwrap_or_default();
        for (source, second) in inserts {
            inserted += 1;
            with_shelf(*source, &mut |shelf| shelf.insert(*second, format!("n-{source}-{inserted:02}")));
        }
        for (source, index) in deletes {
            with_shelf(*source, &mut |shelf| {
                shelf.remove(*index).map(|id| must_see.remove(&id));
            });
        }
        let is_down = |index: usize| down.iter().any(|source| source % case.sources.len() == index);
        *local.fails.lock().unwrap() = is_down(0).then_some(FaultKind::Unavailable);
        peers.iter().enumerate().for_each(|(n, peer)| peer.down.store(is_down(n + 1), Ordering::SeqCst));
        let answer = fan_out.run(all(list(case.limit, resume))).await.unwrap();
        let given = answer
            .items
            .iter()
            .map(|row| ((row.position.created_at - EPOCH).whole_seconds(), row.position.id.to_string()));
        pages.push(given.collect());
        if answer.partial {
            // A breaker that opened meanwhile lets the next page probe.
            sleep(Duration::from_secs(400)).await;
        }
        resume = answer.next;
        if resume.is_none() {
            break;
        }
    }
    (pages, must_see)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn paging_over_changing_and_failing_sources_gives_no_row_twice_and_loses_none(case in cases()) {
        let (pages, must_see) = on_virtual_time(page_to_the_end(&case));
        let mut seen = HashSet::new();
        for (_, id) in pages.iter().flatten() {
            prop_assert!(seen.insert(id.clone()), "{id} came twice in {pages:?}");
        }
        for id in must_see {
            prop_assert!(seen.contains(&id), "{id} never came in {pages:?}");
        }
        for page in &pages {
            prop_assert!(page.len() <= case.limit as usize);
            prop_assert!(page.is_sorted_by(|a, b| a.0 >= b.0), "out of order: {page:?}");
        }
    }

    #[test]
    fn paging_over_quiet_sources_is_one_list_in_order(case in cases()) {
        let case = Case { turns: Vec::new(), ..case };
        let (pages, must_see) = on_virtual_time(page_to_the_end(&case));
        let all: Vec<_> = pages.into_iter().flatten().collect();
        prop_assert_eq!(all.len(), must_see.len());
        // Within one second: by source name ("local" before "p…"), then as the source keeps them.
        let in_order = all.is_sorted_by(|a, b| {
            let source = |id: &str| id[..2].to_owned();
            (b.0, source(&a.1), &b.1) <= (a.0, source(&b.1), &a.1)
                || a.0 > b.0
                || (a.0 == b.0 && source(&a.1) < source(&b.1))
        });
        prop_assert!(in_order, "{:?}", all);
    }
}
