use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::handle::{AuditLimits, Caller, Counters, Waiting, not_written};
use crate::domain::audit::AuditEvent;
use crate::ports::audit_log::AuditLog;

/// Turns of the thread's loop that may go by before an append begins, however many events come. What such a turn takes is what the
/// thread has to do: some microseconds at rest, up to a millisecond where handshakes wait.
const TURNS: u32 = 8;

/// The queue in front of the log.
pub(crate) struct AuditWriter {
    log: Arc<dyn AuditLog>,
    limits: AuditLimits,
    counters: Arc<Counters>,
    queue: VecDeque<Waiting>,
    /// What nobody waits for: behind the others, so that it never stands in their way, however often it has to be tried.
    later: VecDeque<Waiting>,
    appends: usize,
    /// An append begins within a few turns of the loop.
    gathering: bool,
    /// A batch of what nobody waits for failed a moment ago.
    resting: bool,
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
        Self {
            log,
            limits,
            counters,
            queue: VecDeque::new(),
            later: VecDeque::new(),
            appends: 0,
            gathering: false,
            resting: false,
            draining: false,
            drained: Vec::new(),
        }
    }

    fn accept(&mut self, waiting: Waiting) {
        if !self.draining {
            let queue = if waiting.caller.answer.is_some() { &mut self.queue } else { &mut self.later };
            queue.push_back(waiting);
        } else if let Some(answer) = waiting.caller.answer {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            drop(answer.send(Err(not_written())));
        } else {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Starts an append when a turn of the thread's loop brings no more events: those that arrive together share a commit, and one
    /// that is alone waits for a turn, not for a clock.
    fn append_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.gathering && self.waiting() > 0 && self.appends < self.limits.appends_in_flight {
            self.gathering = true;
            self.gather(ctx, TURNS);
        }
    }

    fn gather(&mut self, ctx: &mut Context<Self>, turns: u32) {
        let heard = self.waiting();
        ctx.spawn(tokio::task::yield_now().into_actor(self).map(move |(), writer, ctx| {
            let waiting = writer.waiting();
            if waiting > heard && waiting < writer.limits.batch && turns > 1 {
                writer.gather(ctx, turns - 1);
            } else {
                writer.gathering = false;
                writer.append_waiting(ctx);
            }
        }));
    }

    fn waiting(&self) -> usize {
        self.queue.len() + self.later.len()
    }

    /// Starts as many appends as may run, each with all that waits, up to the batch size.
    fn append_waiting(&mut self, ctx: &mut Context<Self>) {
        while self.appends < self.limits.appends_in_flight {
            let next = self.next_batch();
            if next.is_empty() {
                return;
            }
            let (mut events, mut batch) = (Vec::with_capacity(next.len()), Vec::with_capacity(next.len()));
            for Waiting { event, caller } in next {
                // What nobody waits for is kept, to be tried again.
                let kept = caller.answer.is_none().then(|| event.clone());
                events.push(event);
                batch.push((kept, caller));
            }
            let log = Arc::clone(&self.log);
            // In a task of its own: a log that panics fails its batch, not the writer.
            let append = tokio::spawn(timeout(self.limits.append_timeout, async move { log.append(events).await }));
            self.appends += 1;
            ctx.spawn(append.into_actor(self).map(move |outcome, writer, ctx| {
                let written = matches!(&outcome, Ok(Ok(Ok(()))));
                if !written {
                    tracing::error!(events = batch.len(), ?outcome, "audit events could not be written");
                }
                if writer.settle(batch, written) {
                    writer.resting = true;
                    ctx.run_later(writer.limits.retry, |writer, ctx| {
                        writer.resting = false;
                        writer.append_waiting(ctx);
                    });
                }
                writer.append_soon(ctx);
            }));
        }
    }

    /// First what somebody waits for, then of the rest what has room, unless it failed a moment ago.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let waited_for = self.queue.len().min(self.limits.batch);
        let room = if self.resting && !self.draining { 0 } else { self.limits.batch - waited_for };
        let later = self.later.len().min(room);
        self.queue.drain(..waited_for).chain(self.later.drain(..later)).collect()
    }

    /// Tells everybody the fate of an append; whether something of it is to be tried again.
    fn settle(&mut self, batch: Vec<(Option<AuditEvent>, Caller)>, written: bool) -> bool {
        self.appends -= 1;
        self.counters.appends.fetch_add(1, Ordering::Relaxed);
        let counter = if written { &self.counters.committed } else { &self.counters.failed };
        counter.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let mut again = false;
        for (kept, caller) in batch.into_iter().rev() {
            match (kept, caller.answer) {
                // A caller that left does not need the answer; its event is written all the same.
                (_, Some(answer)) => drop(answer.send(if written { Ok(()) } else { Err(not_written()) })),
                (Some(event), None) if !written && !self.draining => {
                    self.later.push_front(Waiting { event, caller: Caller { answer: None, ..caller } });
                    again = true;
                }
                (_, None) if !written => _ = self.counters.dropped.fetch_add(1, Ordering::Relaxed),
                (_, None) => {}
            }
        }
        self.tell_drained();
        again
    }

    fn tell_drained(&mut self) {
        if self.queue.is_empty() && self.later.is_empty() && self.appends == 0 {
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
        self.append_soon(ctx);
    }
}

impl Handler<Drain> for AuditWriter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let (waiter, drained) = oneshot::channel();
        self.drained.push(waiter);
        self.append_waiting(ctx);
        self.tell_drained();
        Box::pin(async move { drop(drained.await) })
    }
}
