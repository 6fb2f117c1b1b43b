use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, Addr};
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
    /// Appends under way at once. Two keep the database busy while one commits.
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
            appends_in_flight: 2,
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
    actor: Addr<AuditWriter>,
    places: Arc<Semaphore>,
    /// Of events that nobody waits for: they never take a place from the others.
    later: Arc<Semaphore>,
    queue: usize,
    counters: Arc<Counters>,
}

/// Starts the writer on the current arbiter.
#[must_use]
pub fn start(log: Arc<dyn AuditLog>, limits: AuditLimits) -> AuditHandle {
    let counters = Arc::new(Counters::default());
    let writer = AuditWriter::new(log, limits, Arc::clone(&counters));
    let actor = AuditWriter::create(|ctx| {
        // The places below are the bound; the mailbox must never be the narrower one.
        ctx.set_mailbox_capacity(2 * limits.queue + 16);
        writer
    });
    let places = || Arc::new(Semaphore::new(limits.queue));
    AuditHandle { actor, places: places(), later: places(), queue: limits.queue, counters }
}

/// What every caller is told whose event was not written.
pub(super) fn not_written() -> Fault {
    Fault::new(FaultKind::Unavailable, Stage::Audit)
}

impl AuditHandle {
    /// Writes one event; `Ok` means that it survives a crash. Fails at once when the queue is full.
    pub async fn record(&self, event: AuditEvent) -> Result<(), Fault> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(not_written().after(Duration::from_secs(1)));
        };
        let (answer, told) = oneshot::channel();
        if self
            .actor
            .try_send(Record(Waiting { event, caller: Caller { answer: Some(answer), _place: place } }))
            .is_err()
        {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(not_written());
        }
        told.await.unwrap_or_else(|_| Err(not_written()))
    }

    /// Writes one event some time: it is tried again until it is written, and whoever has it need not wait. `false` when there
    /// is no place for it: it is dropped and counted.
    pub fn record_later(&self, event: AuditEvent) -> bool {
        let queued = Arc::clone(&self.later).try_acquire_owned().is_ok_and(|place| {
            self.actor.try_send(Record(Waiting { event, caller: Caller { answer: None, _place: place } })).is_ok()
        });
        if !queued {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        queued
    }

    /// Refuses new events from now on and returns when the fate of every earlier one is known.
    pub async fn drain(&self) {
        // An actor that is gone has nothing left to flush: its callers were told.
        let _ = self.actor.send(Drain).await;
    }

    #[must_use]
    pub fn stats(&self) -> AuditStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let later = self.queue - self.later.available_permits();
        AuditStats {
            waiting: self.queue - self.places.available_permits() + later,
            later,
            dropped: read(&self.counters.dropped),
            committed: read(&self.counters.committed),
            failed: read(&self.counters.failed),
            refused: read(&self.counters.refused),
            appends: read(&self.counters.appends),
        }
    }
}
