use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use actix::{Actor, Addr};
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::actor::{AuditWriter, Drain, Record};
use crate::domain::audit::AuditEvent;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::ports::audit_log::AuditLog;

/// Bounds of the writer.
#[derive(Debug, Clone, Copy)]
pub struct AuditLimits {
    /// Most events in one append.
    pub batch: usize,
    /// Most events that wait for their commit, those in appends included: so many that somebody waits for, and so many that
    /// nobody waits for.
    pub queue: usize,
    /// Appends of one thread under way at once. One: what comes meanwhile shares the next commit, which costs as much as a dozen
    /// events.
    pub appends_in_flight: usize,
    /// An append that takes longer has failed.
    pub append_timeout: Duration,
    /// After a failed append, before what nobody waits for is tried again.
    pub retry: Duration,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self {
            batch: 512,
            queue: 4096,
            appends_in_flight: 1,
            append_timeout: Duration::from_secs(3),
            retry: Duration::from_secs(1),
        }
    }
}

/// Counters since the start, and what waits now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditStats {
    /// Events that wait for their commit.
    pub waiting: usize,
    /// Of these, the ones that nobody waits for.
    pub later: usize,
    /// Events that nobody waited for and that found no place, or that a stopping node could not write.
    pub dropped: u64,
    pub committed: u64,
    pub failed: u64,
    pub refused: u64,
    /// Successful and failed appends.
    pub appends: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) committed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) appends: AtomicU64,
}

/// An event and who waits for its commit.
pub(super) struct Waiting {
    pub(super) event: AuditEvent,
    pub(super) caller: Caller,
}

/// Who waits, if somebody does, and the place in the queue that is held until the event's fate is known.
pub(super) struct Caller {
    pub(super) answer: Option<oneshot::Sender<Result<(), Fault>>>,
    pub(super) _place: OwnedSemaphorePermit,
}

/// Writes audit events. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct AuditHandle {
    shared: Arc<Shared>,
}

struct Shared {
    log: Arc<dyn AuditLog>,
    limits: AuditLimits,
    counters: Arc<Counters>,
    /// Of every thread that has no writer of its own.
    home: Addr<AuditWriter>,
    /// Of threads that serve requests: an event that changes its thread costs two wake-ups.
    own: RwLock<Vec<(ThreadId, Addr<AuditWriter>)>>,
    /// For all writers together.
    places: Arc<Semaphore>,
    /// Of events that nobody waits for: they never take a place from the others.
    later: Arc<Semaphore>,
}

impl Shared {
    fn writer(&self) -> Addr<AuditWriter> {
        let me = thread::current().id();
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.iter().find(|(thread, _)| *thread == me).map_or(&self.home, |(_, writer)| writer).clone()
    }

    fn queue(&self, event: AuditEvent, caller: Caller) -> bool {
        self.writer().try_send(Record(Waiting { event, caller })).is_ok()
    }
}

/// Starts the log's writer on the current arbiter.
#[must_use]
pub fn start(log: Arc<dyn AuditLog>, limits: AuditLimits) -> AuditHandle {
    let counters = Arc::new(Counters::default());
    let home = start_writer(&log, limits, &counters);
    let places = || Arc::new(Semaphore::new(limits.queue));
    let (places, later) = (places(), places());
    AuditHandle { shared: Arc::new(Shared { log, limits, counters, home, own: RwLock::default(), places, later }) }
}

fn start_writer(log: &Arc<dyn AuditLog>, limits: AuditLimits, counters: &Arc<Counters>) -> Addr<AuditWriter> {
    let writer = AuditWriter::new(Arc::clone(log), limits, Arc::clone(counters));
    AuditWriter::create(|ctx| {
        // The places are the bound; the mailbox must never be the narrower one.
        ctx.set_mailbox_capacity(2 * limits.queue + 16);
        writer
    })
}

/// What every caller is told whose event was not written.
pub(super) fn not_written() -> Fault {
    Fault::new(FaultKind::Unavailable, Stage::Audit)
}

impl AuditHandle {
    /// Gives the current thread, which must be an arbiter's, a writer of its own, until [`Self::leave_threads`].
    pub fn serve_this_thread(&self) {
        let me = thread::current().id();
        let mut own = self.shared.own.write().unwrap_or_else(PoisonError::into_inner);
        // Of threads that ended.
        own.retain(|(_, writer)| writer.connected());
        if own.iter().all(|(thread, _)| *thread != me) {
            own.push((me, start_writer(&self.shared.log, self.shared.limits, &self.shared.counters)));
        }
    }

    /// Before threads that were served end: returns when the fate of every event of their writers is known. Later events of
    /// theirs go to the writer of [`start`].
    pub async fn leave_threads(&self) {
        let own = std::mem::take(&mut *self.shared.own.write().unwrap_or_else(PoisonError::into_inner));
        // A writer that is gone has nothing left to flush: its callers were told.
        join_all(own.into_iter().map(|(_, writer)| writer.send(Drain))).await;
    }

    /// Writes one event; `Ok` means that it survives a crash. Fails at once when the queue is full.
    pub async fn record(&self, event: AuditEvent) -> Result<(), Fault> {
        let Ok(place) = Arc::clone(&self.shared.places).try_acquire_owned() else {
            self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(not_written().after(Duration::from_secs(1)));
        };
        let (answer, told) = oneshot::channel();
        if !self.shared.queue(event, Caller { answer: Some(answer), _place: place }) {
            self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(not_written());
        }
        told.await.unwrap_or_else(|_| Err(not_written()))
    }

    /// Writes one event some time: it is tried again until it is written, and whoever has it need not wait. `false` when there
    /// is no place for it: it is dropped and counted.
    pub fn record_later(&self, event: AuditEvent) -> bool {
        let queued = Arc::clone(&self.shared.later)
            .try_acquire_owned()
            .is_ok_and(|place| self.shared.queue(event, Caller { answer: None, _place: place }));
        if !queued {
            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        queued
    }

    /// Refuses new events from now on and returns when the fate of every earlier one is known.
    pub async fn drain(&self) {
        self.leave_threads().await;
        let _ = self.shared.home.send(Drain).await;
    }

    #[must_use]
    pub fn stats(&self) -> AuditStats {
        let Shared { counters, places, later, limits, .. } = &*self.shared;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let later = limits.queue - later.available_permits();
        AuditStats {
            waiting: limits.queue - places.available_permits() + later,
            later,
            dropped: read(&counters.dropped),
            committed: read(&counters.committed),
            failed: read(&counters.failed),
            refused: read(&counters.refused),
            appends: read(&counters.appends),
        }
    }
}
