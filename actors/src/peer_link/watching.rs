//! The link's watch: one request that stays open, on which the owner says how the grant stands.
//!
//! ```text
//!            start, spread                      the grant's standing               acted on
//! nothing ──────────────────▶ opening ─────────────────────────────▶ up ──news──▶ marked, purged ──▶ acknowledged
//!    ▲                           │                                    │
//!    └── 1 s, 2 s, … 2 min, spread; 2 min for a peer without watch ◀──┴── ended, silent for 2 min, or stopping
//! ```
//!
//! It runs in a task of its own that reports by `try_send`: a link too busy to listen loses the watch, never its mailbox. Whoever opens
//! one anew hears first how things stand, so nothing that was missed stays unknown. Its failures never count for the breaker, and no
//! call waits for it. Revoked and expired links, and those without a valid certificate, have none.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WeakAddr, WrapFuture};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::actor::PeerLink;
use super::messages::Heard;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::link::LinkState;
use crate::ports::peer_transport::{PeerNews, PeerTransport, Standing, WatchEar};

/// News on their way from the peer to the link. More only wait where they are.
const NEWS_WAITING_MAX: usize = 8;
/// Acknowledgements on their way to the peer. One that does not fit is left out: it only tells the owner how quick we are.
const ACKNOWLEDGEMENTS_WAITING_MAX: usize = 8;
/// Changes of the standing of a grant in a minute; a peer that tells more is a bad one.
const CHANGES_MAX: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// A watch that was up for so many first waits ends the back-off; whatever a shorter one said does not.
const STEADY: u32 = 10;
/// By how much a wait is spread, so that the links of many sites do not come back together to a node that was started anew.
const SPREAD: f64 = 0.9;

/// Bounds of watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// Wait before the first try, and after a watch that ended; it doubles …
    pub retry: Duration,
    /// … to this, which is also the wait for a peer that has no watch.
    pub retry_max: Duration,
    /// A peer that says nothing for so long is not there.
    pub silence: Duration,
    /// Age at which capabilities are fetched again while the peer would tell that they changed.
    pub capabilities_refresh: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            retry: Duration::from_secs(1),
            retry_max: Duration::from_secs(120),
            silence: Duration::from_secs(120),
            capabilities_refresh: Duration::from_secs(600),
        }
    }
}

/// How the watch stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchStatus {
    /// None is wanted, or none was tried yet.
    Off,
    /// The peer tells changes.
    Up { since: OffsetDateTime },
    /// It should, and does not.
    Down { since: OffsetDateTime, fault: Fault },
    /// The peer knows no watch: an older node. The link is as good without, only slower to learn.
    Unsupported { since: OffsetDateTime },
}

/// Where the watch of a link stands.
#[derive(Debug)]
pub(super) struct Watching {
    /// Of the watch that runs, or ran last: what an earlier one still reports is nobody's.
    number: u64,
    /// At most one.
    task: JoinSet<()>,
    acknowledge: Option<mpsc::Sender<u64>>,
    status: WatchStatus,
    /// When this watch said its first word.
    up: Option<Instant>,
    changes: Changes,
    failures: u32,
    next: Option<SpawnHandle>,
}

/// How many changes were told within the minute, by one watch or by several.
#[derive(Debug, Default)]
struct Changes {
    since: Option<Instant>,
    count: u32,
}

impl Changes {
    /// Counts one more; false when it is too much.
    fn count(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + MINUTE) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= CHANGES_MAX
    }
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            number: 0,
            task: JoinSet::new(),
            acknowledge: None,
            status: WatchStatus::Off,
            up: None,
            changes: Changes::default(),
            failures: 0,
            next: None,
        }
    }
}

impl Watching {
    pub(super) fn status(&self) -> WatchStatus {
        self.status.clone()
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.status, WatchStatus::Up { .. })
    }

    fn end(&mut self) {
        self.task.abort_all();
        self.task.detach_all();
        self.acknowledge = None;
    }
}

impl PeerLink {
    /// The way to the peer is another one: so is the watch, at once.
    pub(super) fn watch_anew(&mut self, ctx: &mut Context<Self>) {
        if self.watching.next.is_none() && self.watching.acknowledge.is_none() {
            return self.keep_watch(ctx);
        }
        self.cancel_next(ctx);
        self.watching.failures = 0;
        self.open_watch(ctx);
    }

    /// Watches if there is something to watch, and not otherwise.
    pub(super) fn keep_watch(&mut self, ctx: &mut Context<Self>) {
        let wanted = self.core.can_watch(self.parts.clock.now());
        let runs = self.watching.acknowledge.is_some();
        if !wanted && !runs {
            self.cancel_next(ctx);
            self.watching.status = WatchStatus::Off;
        } else if wanted && !runs && self.watching.next.is_none() {
            self.watch_later(None, ctx);
        }
    }

    /// No watch from now on: the link ends, or has nothing to learn.
    pub(super) fn stop_watching(&mut self) {
        self.watching.end();
        let steady = self.parts.limits.watch.retry.saturating_mul(STEADY).min(self.parts.limits.watch.retry_max);
        if self.watching.up.take().is_some_and(|up| up.elapsed() >= steady) {
            self.watching.failures = 0;
        }
        self.watching.status = WatchStatus::Off;
        self.core.unwatched();
    }

    /// `after`: a known wait, or `None` for the next step of the back-off.
    pub(super) fn watch_later(&mut self, after: Option<Duration>, ctx: &mut Context<Self>) {
        let limits = &self.parts.limits.watch;
        let wait = after.unwrap_or_else(|| {
            let doubled = limits.retry.saturating_mul(2u32.saturating_pow(self.watching.failures));
            doubled.min(limits.retry_max)
        });
        let spread = wait.mul_f64(SPREAD.mul_add((self.parts.jitter)().clamp(-1.0, 1.0), 1.0));
        self.cancel_next(ctx);
        self.watching.next = Some(ctx.run_later(spread, |link, ctx| {
            link.watching.next = None;
            link.open_watch(ctx);
        }));
    }

    fn cancel_next(&mut self, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.watching.next.take() {
            ctx.cancel_future(earlier);
        }
    }

    fn open_watch(&mut self, ctx: &mut Context<Self>) {
        self.stop_watching();
        if !self.core.can_watch(self.parts.clock.now()) {
            return self.publish();
        }
        let transport = match self.dialled() {
            Ok(transport) => transport,
            Err(fault) => return self.watch_failed(fault, ctx),
        };
        self.watching.number += 1;
        let number = self.watching.number;
        let (acknowledge, acknowledged) = mpsc::channel(ACKNOWLEDGEMENTS_WAITING_MAX);
        self.watching.acknowledge = Some(acknowledge);
        let (silence, link) = (self.parts.limits.watch.silence, ctx.address().downgrade());
        let (ended, end) = tokio::sync::oneshot::channel();
        let (places, own_call) = (Arc::clone(&self.parts.own_calls), self.parts.limits.own_call);
        self.watching.task.spawn(async move {
            let Ok(place) = places.acquire_owned().await else { return };
            let opening = (place, Instant::now() + own_call);
            let fault = follow(opening, &*transport, acknowledged, silence, number, &link).await;
            let _nobody_waits = ended.send(fault);
        });
        ctx.spawn(end.into_actor(self).map(move |fault, link, ctx| {
            // Nothing was sent: the task was aborted, or panicked.
            let fault = fault.unwrap_or_else(|_| Fault::new(FaultKind::Internal, Stage::Send));
            link.watch_ended(number, fault, ctx);
        }));
        self.publish();
    }

    fn watch_ended(&mut self, number: u64, fault: Fault, ctx: &mut Context<Self>) {
        if number == self.watching.number && self.watching.acknowledge.is_some() {
            self.stop_watching();
            self.watch_failed(fault, ctx);
        }
    }

    fn watch_failed(&mut self, fault: Fault, ctx: &mut Context<Self>) {
        let since = self.parts.clock.now();
        let (id, peer) = (self.core.link().id, &self.core.link().peer);
        tracing::debug!(link = %id, %peer, %fault, "the watch of a link ended");
        self.look_for_key(&fault, ctx);
        let told = match fault.kind {
            FaultKind::GrantRevoked => Some(LinkState::Revoked),
            FaultKind::GrantExpired => Some(LinkState::Expired),
            _ => None,
        };
        if let Some(told) = told {
            self.take_state(told, ctx);
            self.core.unwatched();
        }
        if !self.core.can_watch(since) {
            self.watching.status = WatchStatus::Off;
            return self.publish();
        }
        let limits = self.parts.limits.watch;
        if fault.kind == FaultKind::Incompatible {
            self.watching.status = WatchStatus::Unsupported { since };
            self.watch_later(Some(limits.retry_max), ctx);
        } else {
            let wait = fault.retry_after.map(|wait| wait.clamp(limits.retry, limits.retry_max));
            self.watching.status = WatchStatus::Down { since, fault };
            self.watch_later(wait, ctx);
            self.watching.failures = self.watching.failures.saturating_add(1);
        }
        self.publish();
    }

    /// Acts on what the peer said.
    pub(super) fn heard(&mut self, watch: u64, news: PeerNews, ctx: &mut Context<Self>) {
        if watch != self.watching.number || self.watching.acknowledge.is_none() {
            return;
        }
        match news {
            PeerNews::Heartbeat => {
                self.core.heard(self.parts.clock.now());
                self.publish();
            }
            // The first line of a watch is no change, and watches that end after it have their back-off.
            PeerNews::Grant { .. } if self.watching.is_up() && !self.watching.changes.count(Instant::now()) => {
                self.stop_watching();
                let fault = Fault::new(FaultKind::BadAnswer, Stage::Parse);
                self.watch_failed(fault.with_message("the peer's grant changes all the time"), ctx);
            }
            PeerNews::Grant { number, standing } => {
                self.stands(standing, ctx);
                if let Some(acknowledge) = &self.watching.acknowledge {
                    let _left_out = acknowledge.try_send(number);
                }
            }
            // It is tried again like any that ended.
            PeerNews::Closing => {}
            // Others of this site watch; should they end, this one is wanted again.
            PeerNews::Superseded => {
                self.stop_watching();
                self.watch_later(Some(self.parts.limits.watch.retry_max), ctx);
                self.publish();
            }
        }
    }

    fn stands(&mut self, standing: Standing, ctx: &mut Context<Self>) {
        let opened = !self.watching.is_up();
        if opened {
            self.watching.status = WatchStatus::Up { since: self.parts.clock.now() };
            self.watching.up = Some(Instant::now());
        }
        let (told, changed) = match standing {
            Standing::Active { changed } => (LinkState::Active, changed),
            Standing::Suspended => (LinkState::Suspended, false),
            Standing::Revoked => (LinkState::Revoked, false),
            Standing::Expired => (LinkState::Expired, false),
        };
        let is_new = self.take_state(told, ctx);
        if changed || (is_new && told == LinkState::Active) {
            self.grant_changed(ctx);
        } else if opened {
            // It may have changed while nobody watched; and who is heard from is asked.
            self.recheck(ctx);
        }
        self.contact(ctx);
        self.publish();
    }

    /// Takes what the owner says about the grant. True when it is news.
    fn take_state(&mut self, told: LinkState, ctx: &mut Context<Self>) -> bool {
        let Some(state) = self.core.told(told, self.parts.clock.now()) else { return false };
        let link = self.core.link();
        tracing::warn!(link = %link.id, peer = %link.peer, state = state.as_str(), "the peer told a new state of the link");
        if state != LinkState::Active {
            self.board.set_capabilities(None);
        }
        // In force for every question from here on, before anybody writes it down.
        self.publish();
        self.record(state, ctx);
        true
    }
}

/// Listens until the watch ends, the peer falls silent, or the link does not keep up.
async fn follow(
    (opening, opened_by): (OwnedSemaphorePermit, Instant),
    transport: &dyn PeerTransport,
    acknowledged: mpsc::Receiver<u64>,
    silence: Duration,
    number: u64,
    link: &WeakAddr<PeerLink>,
) -> Fault {
    let (sender, mut news) = mpsc::channel(NEWS_WAITING_MAX);
    let mut watch = transport.watch(WatchEar { news: sender, acknowledged });
    let mut until = Instant::now() + silence;
    // Held until the first news, when the handshake is behind it; not for longer than a call, whatever the peer does.
    let mut opening = Some(opening);
    let mut ended = None;
    loop {
        tokio::select! {
            biased;
            heard = timeout_at(until, news.recv()) => match heard {
                Err(_) => return Fault::new(FaultKind::TimedOut, Stage::Body),
                Ok(Some(heard)) => {
                    drop(opening.take());
                    until = Instant::now() + silence;
                    let link = link.upgrade();
                    let told = link.is_some_and(|link| link.try_send(Heard { watch: number, news: heard }).is_ok());
                    if !told {
                        return Fault::new(FaultKind::RateLimited, Stage::Admission);
                    }
                }
                // Everything that was said before the end has been passed on.
                Ok(None) => match ended {
                    Some(fault) => return fault,
                    None => return watch.await,
                },
            },
            () = sleep_until(opened_by), if opening.is_some() => drop(opening.take()),
            fault = &mut watch, if ended.is_none() => ended = Some(fault),
        }
    }
}

#[cfg(test)]
mod tests;
