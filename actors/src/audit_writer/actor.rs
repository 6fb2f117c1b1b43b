use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::handle::{AuditLimits, Caller, Counters, Waiting, not_written};
use crate::ports::audit_log::AuditLog;

/// The queue in front of the log.
pub(crate) struct AuditWriter {
    log: Arc<dyn AuditLog>,
    limits: AuditLimits,
    counters: Arc<Counters>,
    queue: VecDeque<Waiting>,
    appends: usize,
    draining: bool,
    drained: Vec<oneshot::Sender<()>>,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Record(pub(super) Waiting);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

impl AuditWriter {
    pub(super) fn new(log: Arc<dyn AuditLog>, limits: AuditLimits, counters: Arc<Counters>) -> Self {
        Self { log, limits, counters, queue: VecDeque::new(), appends: 0, draining: false, drained: Vec::new() }
    }

    fn accept(&mut self, waiting: Waiting) {
        if self.draining {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            drop(waiting.caller.answer.send(Err(not_written())));
        } else {
            self.queue.push_back(waiting);
        }
    }

    /// Starts as many appends as may run, each with all that waits, up to the batch size.
    fn append_waiting(&mut self, ctx: &mut Context<Self>) {
        while self.appends < self.limits.appends_in_flight && !self.queue.is_empty() {
            let size = self.queue.len().min(self.limits.batch);
            let (events, callers): (Vec<_>, Vec<_>) =
                self.queue.drain(..size).map(|waiting| (waiting.event, waiting.caller)).unzip();
            let log = Arc::clone(&self.log);
            // In a task of its own: a log that panics fails its batch, not the writer.
            let append = tokio::spawn(timeout(self.limits.append_timeout, async move { log.append(events).await }));
            self.appends += 1;
            ctx.spawn(append.into_actor(self).map(move |outcome, writer, ctx| {
                let written = matches!(&outcome, Ok(Ok(Ok(()))));
                if !written {
                    tracing::error!(events = callers.len(), ?outcome, "audit events could not be written");
                }
                writer.settle(callers, written);
                writer.append_waiting(ctx);
            }));
        }
    }

    fn settle(&mut self, callers: Vec<Caller>, written: bool) {
        self.appends -= 1;
        self.counters.appends.fetch_add(1, Ordering::Relaxed);
        let counter = if written { &self.counters.committed } else { &self.counters.failed };
        counter.fetch_add(callers.len() as u64, Ordering::Relaxed);
        for caller in callers {
            // A caller that left does not need the answer; its event is written all the same.
            drop(caller.answer.send(if written { Ok(()) } else { Err(not_written()) }));
        }
        self.tell_drained();
    }

    fn tell_drained(&mut self) {
        if self.queue.is_empty() && self.appends == 0 {
            self.drained.drain(..).for_each(|waiter| _ = waiter.send(()));
        }
    }
}

impl Actor for AuditWriter {
    type Context = Context<Self>;
}

impl Handler<Record> for AuditWriter {
    type Result = ();

    fn handle(&mut self, Record(waiting): Record, ctx: &mut Self::Context) {
        self.accept(waiting);
        self.append_waiting(ctx);
    }
}

impl Handler<Drain> for AuditWriter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let (waiter, drained) = oneshot::channel();
        self.drained.push(waiter);
        self.tell_drained();
        Box::pin(async move { drop(drained.await) })
    }
}
