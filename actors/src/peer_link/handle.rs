use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle, Recipient};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::actor::PeerLink;
use super::messages::{
    Ask, Drain, Inject, LinkDied, PeerSpoke, ProbeNow, RefreshCapabilities, RenewNow, Stop, UpdateLink,
};
use super::status::{Board, LinkHealth, LinkStatus, PeerLinkLimits};
use crate::domain::answer::{BreakerState, Capabilities};
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::LinkId;
use crate::domain::link::Link;
use crate::ports::clock::Clock;
use crate::ports::link_store::LinkStore;
use crate::ports::peer_transport::{InjectedFault, PeerAnswer, PeerAsk, PeerDialer};

/// The link's own report arrives a little after the deadline; only a link that is stuck reports nothing by then.
const GRACE: Duration = Duration::from_millis(50);

/// What every link of a node shares.
#[derive(Clone)]
pub struct LinkParts {
    pub store: Arc<dyn LinkStore>,
    pub dialer: Arc<dyn PeerDialer>,
    pub clock: Arc<dyn Clock>,
    pub limits: PeerLinkLimits,
    /// A number between -1 and 1, drawn anew for every wait that is spread.
    pub jitter: fn() -> f64,
    /// Places for calls that links make by themselves: a node with a thousand links must not shake a thousand hands at once.
    pub own_calls: Arc<Semaphore>,
}

/// Where a link's actor runs.
#[derive(Clone)]
pub(crate) enum Placement {
    Here,
    On(ArbiterHandle),
}

/// One link. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct PeerLinkHandle {
    link: LinkId,
    actor: Addr<PeerLink>,
    board: Arc<Board>,
    /// Who is told when the actor is found gone.
    owner: Option<Recipient<LinkDied>>,
    recheck: Duration,
}

/// Starts a link. `before` is the last status of an earlier incarnation that panicked.
pub(crate) fn start(
    link: Link,
    parts: LinkParts,
    before: Option<Arc<LinkStatus>>,
    owner: Option<Recipient<LinkDied>>,
    placement: &Placement,
) -> PeerLinkHandle {
    let id = link.id;
    let recheck = parts.limits.capabilities_recheck;
    let mailbox = parts.limits.admission.in_flight * 2 + 16;
    let actor = PeerLink::new(link, parts, before.as_deref());
    let board = actor.board();
    let actor = match placement {
        Placement::Here => PeerLink::create(|ctx| {
            ctx.set_mailbox_capacity(mailbox);
            actor
        }),
        Placement::On(arbiter) => PeerLink::start_in_arbiter(arbiter, move |ctx| {
            ctx.set_mailbox_capacity(mailbox);
            actor
        }),
    };
    PeerLinkHandle { link: id, actor, board, owner, recheck }
}

impl PeerLinkHandle {
    /// Asks the peer once, before the ask's deadline. Dropping the future ends the call.
    pub async fn ask(&self, ask: PeerAsk) -> Result<PeerAnswer, Fault> {
        let deadline = ask.deadline + GRACE;
        let (_here, caller_left) = oneshot::channel();
        match timeout_at(deadline, self.actor.send(Ask { ask, caller_left })).await {
            Ok(Ok(answer)) => {
                // A link that panicked answers its callers and ends.
                if answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Internal) && !self.is_alive() {
                    self.report_death();
                }
                answer
            }
            Ok(Err(_)) => {
                self.report_death();
                Err(Fault::new(FaultKind::Internal, Stage::Admission))
            }
            Err(_) => Err(Fault::new(FaultKind::TimedOut, Stage::Admission)),
        }
    }

    #[must_use]
    pub fn link(&self) -> LinkId {
        self.link
    }

    #[must_use]
    pub fn status(&self) -> Arc<LinkStatus> {
        self.board.status()
    }

    /// What every question needs of the status, without its cost.
    #[must_use]
    pub fn health(&self) -> LinkHealth {
        self.board.health()
    }

    /// What the peer last said that the grant allows; `None` before it said so.
    #[must_use]
    pub fn capabilities(&self) -> Option<Arc<Capabilities>> {
        self.board.capabilities().map(|known| Arc::clone(&known.capabilities))
    }

    /// Tells the link that its capabilities made somebody go without a call: if they may be outdated, it fetches them anew.
    pub fn recheck_capabilities(&self) {
        let outdated = self.board.capabilities().is_none_or(|known| known.since + self.recheck <= Instant::now());
        if outdated {
            // A full mailbox means that the link is busy; the next one who is pruned tries again.
            drop(self.actor.try_send(RefreshCapabilities));
        }
    }

    /// The peer was heard from: if the breaker is open, the link probes.
    pub(crate) fn peer_spoke(&self) {
        if self.board.health().breaker == BreakerState::Open {
            // A full mailbox means that the link is busy; the peer will be heard from again.
            drop(self.actor.try_send(PeerSpoke));
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.actor.connected()
    }

    pub(crate) async fn update(&self, link: Link) {
        self.tell(UpdateLink(Box::new(link))).await;
    }

    pub(crate) async fn probe_now(&self) {
        self.tell(ProbeNow).await;
    }

    /// Renews the certificate now. `Ok` when the new one is in use.
    pub(crate) async fn renew(&self) -> Result<(), Fault> {
        self.actor.send(RenewNow).await.unwrap_or_else(|_| {
            self.report_death();
            Err(Fault::new(FaultKind::Internal, Stage::Admission))
        })
    }

    /// Makes calls go wrong for so long; `None` ends it.
    pub(crate) async fn inject(&self, injected: Option<(InjectedFault, Duration)>) {
        self.tell(Inject(injected)).await;
    }

    pub(crate) async fn drain(&self) {
        self.tell(Drain).await;
    }

    pub(crate) async fn stop(&self) {
        self.tell(Stop).await;
    }

    async fn tell<M>(&self, message: M)
    where
        M: actix::Message<Result = ()> + Send + 'static,
        PeerLink: actix::Handler<M>,
    {
        if self.actor.send(message).await.is_err() {
            self.report_death();
        }
    }

    fn report_death(&self) {
        if let Some(owner) = &self.owner {
            // The owner looks by itself too, only later.
            drop(owner.try_send(LinkDied(self.link)));
        }
    }
}
