use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::domain::audit::{AuditAction, AuditEvent, AuditOutcome};
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::RequestId;
use crate::fakes::{EPOCH, until};
use crate::ports::PortFuture;
use crate::ports::audit_log::AuditLog;

/// A log whose appends wait for permission.
struct FakeLog {
    go: Arc<Semaphore>,
    batches: Arc<Mutex<Vec<usize>>>,
    begun: AtomicUsize,
    /// What happens to the append of this number, counted from 0.
    fate: fn(usize) -> Fate,
}

enum Fate {
    Commit,
    Fail,
    Panic,
}

impl FakeLog {
    fn new(permits: usize, fate: fn(usize) -> Fate) -> Arc<Self> {
        Arc::new(Self {
            go: Arc::new(Semaphore::new(permits)),
            batches: Arc::default(),
            begun: AtomicUsize::new(0),
            fate,
        })
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

impl AuditLog for FakeLog {
    fn append(&self, events: Vec<AuditEvent>) -> PortFuture<Result<(), Fault>> {
        let fate = (self.fate)(self.begun.fetch_add(1, Ordering::SeqCst));
        let (go, batches) = (Arc::clone(&self.go), Arc::clone(&self.batches));
        Box::pin(async move {
            go.acquire().await.unwrap().forget();
            match fate {
                Fate::Commit => batches.lock().unwrap().push(events.len()),
                Fate::Fail => return Err(Fault::new(FaultKind::Unavailable, Stage::Database)),
                Fate::Panic => panic!("the log panics on purpose"),
            }
            Ok(())
        })
    }
}

fn event() -> AuditEvent {
    AuditEvent::bare(EPOCH, RequestId::new(), AuditAction::List, AuditOutcome::Allowed)
}

fn limits() -> AuditLimits {
    AuditLimits { appends_in_flight: 1, ..AuditLimits::default() }
}

fn record(writer: &AuditHandle) -> tokio::task::JoinHandle<Result<(), Fault>> {
    let writer = writer.clone();
    tokio::spawn(async move { writer.record(event()).await })
}

#[actix::test]
async fn events_that_wait_for_one_commit_share_the_next() {
    tokio::time::pause();
    let log = FakeLog::new(0, |_| Fate::Commit);
    let writer = start(log.clone(), limits());
    let first = record(&writer);
    until("the first append began", || log.begun() == 1).await;
    let others: Vec<_> = (0..40).map(|_| record(&writer)).collect();
    until("all wait", || writer.stats().waiting == 41).await;
    log.go.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(()));
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(()));
    }
    assert_eq!(*log.batches.lock().unwrap(), [1, 40]);
    assert_eq!(writer.stats(), AuditStats { committed: 41, appends: 2, ..AuditStats::default() });
}

#[actix::test]
async fn a_batch_is_bounded() {
    tokio::time::pause();
    let log = FakeLog::new(0, |_| Fate::Commit);
    let writer = start(log.clone(), AuditLimits { batch: 16, ..limits() });
    let all: Vec<_> = (0..41).map(|_| record(&writer)).collect();
    until("all wait", || writer.stats().waiting == 41).await;
    log.go.add_permits(10);
    for one in all {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
    assert_eq!(*log.batches.lock().unwrap(), [16, 16, 9]);
}

/// A turn of the loop that brings one more event puts the append off, but not for ever.
#[actix::test]
async fn an_append_begins_however_many_events_come() {
    tokio::time::pause();
    let log = FakeLog::new(usize::MAX >> 4, |_| Fate::Commit);
    let writer = start(log.clone(), limits());
    let mut all = Vec::new();
    while log.begun() == 0 && all.len() < 1_000 {
        all.push(record(&writer));
        tokio::task::yield_now().await;
    }
    assert!((2..100).contains(&all.len()), "after {} events", all.len());
    for one in all {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
}

#[actix::test]
async fn a_failed_or_panicking_append_fails_exactly_its_own_callers() {
    tokio::time::pause();
    let log = FakeLog::new(0, |n| match n {
        1 => Fate::Fail,
        2 => Fate::Panic,
        _ => Fate::Commit,
    });
    let writer = start(log.clone(), AuditLimits { batch: 2, ..limits() });
    let first = record(&writer);
    until("the first append began", || log.begun() == 1).await;
    let mut others = Vec::new();
    for n in 0..6 {
        others.push(record(&writer));
        until("the event is queued", || writer.stats().waiting == n + 2).await;
    }
    log.go.add_permits(10);
    assert_eq!(first.await.unwrap(), Ok(()));
    let mut results = Vec::new();
    for other in others {
        results.push(other.await.unwrap());
    }
    let not_written = Err(Fault::new(FaultKind::Unavailable, Stage::Audit));
    let expected = [&not_written, &not_written, &not_written, &not_written, &Ok(()), &Ok(())];
    assert_eq!(results.iter().collect::<Vec<_>>(), expected);
    assert_eq!(writer.stats().failed, 4);
}

#[actix::test]
async fn a_full_queue_refuses_at_once_and_a_hanging_log_is_given_up() {
    tokio::time::pause();
    let log = FakeLog::new(0, |_| Fate::Commit);
    let writer = start(log.clone(), AuditLimits { queue: 3, ..limits() });
    let waiting: Vec<_> = (0..3).map(|_| record(&writer)).collect();
    until("the queue is full", || writer.stats().waiting == 3).await;
    let refused = writer.record(event()).await.unwrap_err();
    assert_eq!((refused.kind, refused.stage), (FaultKind::Unavailable, Stage::Audit));
    assert_eq!(writer.stats().refused, 1);
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap_err().kind, FaultKind::Unavailable, "after the append's time-out");
    }
    log.go.add_permits(1);
    assert_eq!(writer.record(event()).await, Ok(()), "it heals by itself");
}

#[actix::test]
async fn a_caller_that_leaves_does_not_take_its_event_with_it_and_draining_waits_for_it() {
    tokio::time::pause();
    let log = FakeLog::new(0, |_| Fate::Commit);
    let writer = start(log.clone(), limits());
    let left = record(&writer);
    until("the append began", || log.begun() == 1).await;
    left.abort();
    let draining = actix::spawn({
        let writer = writer.clone();
        async move { writer.drain().await }
    });
    tokio::task::yield_now().await;
    assert!(!draining.is_finished());
    log.go.add_permits(1);
    draining.await.unwrap();
    log.go.add_permits(1);
    assert_eq!(*log.batches.lock().unwrap(), [1]);
    assert_eq!(writer.record(event()).await.unwrap_err().stage, Stage::Audit, "a drained writer takes nothing");
}

#[actix::test]
async fn what_nobody_waits_for_is_tried_again_until_it_is_written() {
    tokio::time::pause();
    let log = FakeLog::new(100, |n| if n < 3 { Fate::Fail } else { Fate::Commit });
    let writer = start(log.clone(), limits());
    assert!(writer.record_later(event()));
    let strict = record(&writer);
    assert_eq!(strict.await.unwrap().unwrap_err().stage, Stage::Audit, "who waits is told at once");
    until("it is written", || writer.stats().waiting == 0).await;
    assert_eq!(log.batches.lock().unwrap().iter().sum::<usize>(), 1);
    assert_eq!(writer.stats().dropped, 0);
}

#[actix::test]
async fn what_nobody_waits_for_stands_in_nobodys_way_however_often_it_fails() {
    tokio::time::pause();
    let log = FakeLog::new(0, |_| Fate::Fail);
    let writer = start(log.clone(), AuditLimits { batch: 2, ..limits() });
    assert!((0..5).all(|_| writer.record_later(event())));
    until("the first append began", || log.begun() == 1).await;
    let strict = record(&writer);
    until("it is queued", || writer.stats().waiting == 6).await;
    log.go.add_permits(2);
    assert_eq!(strict.await.unwrap().unwrap_err().stage, Stage::Audit);
    assert_eq!(log.begun(), 2, "it was in the very next append");
    assert_eq!(writer.stats().later, 5, "the others are kept");
}

#[actix::test]
async fn a_full_queue_of_what_nobody_waits_for_drops_and_counts_and_takes_no_place_from_the_others() {
    tokio::time::pause();
    let log = FakeLog::new(0, |_| Fate::Commit);
    let writer = start(log.clone(), AuditLimits { queue: 3, ..limits() });
    let queued = (0..5).filter(|_| writer.record_later(event())).count();
    assert_eq!((queued, writer.stats().later, writer.stats().dropped), (3, 3, 2));
    let strict = record(&writer);
    until("it is queued", || writer.stats().waiting == 4).await;
    log.go.add_permits(10);
    assert_eq!(strict.await.unwrap(), Ok(()));
    until("all are written", || writer.stats().waiting == 0).await;
    assert!(writer.record_later(event()), "there is room again");
}

#[actix::test]
async fn a_writer_that_drains_into_a_dead_log_counts_what_it_could_not_write() {
    tokio::time::pause();
    let log = FakeLog::new(100, |_| Fate::Fail);
    let writer = start(log.clone(), limits());
    assert!(writer.record_later(event()) && writer.record_later(event()));
    until("it was tried", || writer.stats().failed > 0).await;
    writer.drain().await;
    assert_eq!((writer.stats().waiting, writer.stats().dropped), (0, 2));
    writer.record_later(event());
    until("a drained writer takes nothing, and counts it", || writer.stats().dropped == 3).await;
    assert_eq!((writer.stats().waiting, log.batches.lock().unwrap().len()), (0, 0));
}

#[actix::test]
async fn a_thread_with_a_writer_of_its_own_shares_bounds_and_loses_nothing_when_it_ends() {
    let log = FakeLog::new(0, |_| Fate::Commit);
    let writer = start(log.clone(), AuditLimits { queue: 3, ..limits() });
    let thread = actix::Arbiter::new();
    let (there, told) = (writer.clone(), tokio::sync::oneshot::channel::<usize>());
    thread.spawn(async move {
        there.serve_this_thread();
        there.serve_this_thread();
        let queued = (0..5).filter(|_| there.record_later(event())).count();
        let _ = told.0.send(queued);
    });
    assert_eq!(told.1.await.unwrap(), 3, "the bound is one for all");
    assert!(!writer.record_later(event()));
    until("the thread's writer began an append", || log.begun() > 0).await;
    let leaving = actix::spawn({
        let writer = writer.clone();
        async move { writer.leave_threads().await }
    });
    assert!(!leaving.is_finished());
    log.go.add_permits(100);
    leaving.await.unwrap();
    assert_eq!(log.batches.lock().unwrap().iter().sum::<usize>(), 3, "all of it is written when the thread may end");
    let (there, told) = (writer.clone(), tokio::sync::oneshot::channel());
    thread.spawn(async move {
        let _ = told.0.send(there.record(event()).await);
    });
    assert_eq!(told.1.await.unwrap(), Ok(()), "what comes later goes to the writer for everybody");
    thread.stop();
    thread.join().unwrap();
    assert_eq!(writer.record(event()).await, Ok(()));
    writer.drain().await;
    assert_eq!(writer.record(event()).await.unwrap_err().stage, Stage::Audit);
}
