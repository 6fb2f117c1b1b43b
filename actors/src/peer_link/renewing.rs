//! The life of a link's certificate, as the actor lives it: when to renew is decided in [`super::renewal`].

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::actor::PeerLink;
use super::renewal::{Schedule, Step};
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::link::{LinkCredentials, LinkState};
use crate::ports::link_store::Renewed;

/// What the store may take beyond the renewal itself.
const STORE_TIME: Duration = Duration::from_secs(10);

/// Where the renewal of a link stands.
pub(super) struct Renewing {
    schedule: Schedule,
    under_way: bool,
    /// Who asked for it and waits.
    waiters: Vec<oneshot::Sender<Result<(), Fault>>>,
    next_look: Option<SpawnHandle>,
}

impl Renewing {
    pub(super) fn new(credentials: &LinkCredentials, jitter: f64) -> Self {
        Self { schedule: Schedule::new(credentials, jitter), under_way: false, waiters: Vec::new(), next_look: None }
    }
}

impl PeerLink {
    /// The link has another certificate. `fresh`: it was made just now.
    pub(super) fn schedule_renewal(&mut self, fresh: bool, ctx: &mut Context<Self>) {
        let (wall, jitter) = (self.parts.clock.now(), (self.parts.jitter)());
        let credentials = &self.core.link().credentials;
        self.renewing.schedule =
            if fresh { Schedule::renewed(credentials, wall, jitter) } else { Schedule::new(credentials, jitter) };
        self.look_at_renewal(ctx);
    }

    /// Renews if it is time to, else sleeps until it may be.
    pub(super) fn look_at_renewal(&mut self, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.renewing.next_look.take() {
            ctx.cancel_future(earlier);
        }
        if self.renewing.under_way {
            return;
        }
        let wall = self.parts.clock.now();
        let wait = match self.renewing.schedule.step(wall) {
            Step::Over => return self.publish(),
            Step::Wait(wait) => wait,
            Step::Renew if self.core.can_renew(false, wall).is_ok() => return self.start_renewal(ctx),
            // The grant rests or ended: should that change, it is noticed then.
            Step::Renew => self.parts.limits.renewal.retry_max,
        };
        self.renewing.next_look = Some(ctx.run_later(wait, |link, ctx| link.look_at_renewal(ctx)));
    }

    /// Renews whether it is due or not; joins one that is under way.
    pub(super) fn renew_now(&mut self, ctx: &mut Context<Self>) -> oneshot::Receiver<Result<(), Fault>> {
        let (waiter, renewed) = oneshot::channel();
        if self.renewing.under_way {
            self.renewing.waiters.push(waiter);
            return renewed;
        }
        match self.core.can_renew(true, self.parts.clock.now()) {
            Ok(()) => {
                self.renewing.waiters.push(waiter);
                self.start_renewal(ctx);
            }
            Err(fault) => drop(waiter.send(Err(fault))),
        }
        renewed
    }

    fn start_renewal(&mut self, ctx: &mut Context<Self>) {
        self.renewing.under_way = true;
        let deadline = Instant::now() + self.parts.limits.renewal.deadline;
        let link = self.core.link().clone();
        let (dialer, store) = (Arc::clone(&self.parts.dialer), Arc::clone(&self.parts.store));
        let (id, current) = (link.id, link.credentials.serial.clone());
        // Nothing is asked before the store says that this replica is the one that asks.
        let asked = Box::pin(async move { dialer.renew(&link, deadline).await });
        // In a task of its own: it goes on to the store even if the link is stopped meanwhile, and a panic costs one try.
        let renewal = tokio::spawn(timeout_at(deadline + STORE_TIME, store.renew(id, current, asked)));
        ctx.spawn(renewal.into_actor(self).map(|ended, link, ctx| {
            let ended = match ended {
                Ok(Ok(ended)) => ended,
                Ok(Err(_)) => Err(Fault::new(FaultKind::TimedOut, Stage::Database)),
                Err(_) => Err(Fault::new(FaultKind::Internal, Stage::Send)),
            };
            link.renewal_ended(ended, ctx);
        }));
    }

    fn renewal_ended(&mut self, ended: Result<Renewed, Fault>, ctx: &mut Context<Self>) {
        self.renewing.under_way = false;
        let now = Instant::now();
        let told = match ended {
            Ok(Renewed::Here(credentials)) => {
                let (id, peer) = (self.core.link().id, &self.core.link().peer);
                tracing::info!(link = %id, %peer, serial = %credentials.serial, until = %credentials.not_after, "the link's certificate was renewed");
                let update = self.core.renewed(*credentials, now);
                self.updated(update, ctx);
                Ok(())
            }
            Ok(Renewed::Elsewhere(link)) => {
                let update = self.core.update(*link, now);
                self.updated(update, ctx);
                Ok(())
            }
            Ok(Renewed::UnderWay) => {
                self.try_later(None);
                Err(Fault::new(FaultKind::Conflict, Stage::Database)
                    .with_message("another replica of this node renews the certificate at this moment"))
            }
            Err(fault) => {
                self.look_for_key(&fault, ctx);
                self.renewal_failed(&fault, ctx);
                Err(fault)
            }
        };
        self.renewing.waiters.drain(..).for_each(|waiter| drop(waiter.send(told.clone())));
        self.look_at_renewal(ctx);
    }

    fn renewal_failed(&mut self, fault: &Fault, ctx: &mut Context<Self>) {
        self.try_later(fault.retry_after);
        let wall = self.parts.clock.now();
        let (failures, alarming) = (self.renewing.schedule.failures(), self.renewing.schedule.is_alarming(wall));
        let (id, peer) = (self.core.link().id, self.core.link().peer.clone());
        let ends = self.core.link().credentials.not_after;
        tracing::warn!(link = %id, %peer, %fault, failures, %ends, "the link's certificate could not be renewed");
        if let Some(state) = self.core.renewal_failed(fault, failures, alarming, wall) {
            if state == LinkState::Degraded {
                tracing::warn!(link = %id, %peer, %ends, "the link is degraded: without a renewal it ends soon, and must be enrolled again");
            }
            self.record(state, ctx);
        }
        self.publish();
    }

    fn try_later(&mut self, told: Option<Duration>) {
        let (wall, jitter) = (self.parts.clock.now(), (self.parts.jitter)());
        self.renewing.schedule.failed(wall, told, &self.parts.limits.renewal, jitter);
    }
}

#[cfg(test)]
mod tests;
