use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, ResponseFuture,
    SpawnHandle, WrapFuture, fut,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::answer;
use super::core::{LinkCore, Permission};
use super::handle::LinkParts;
use super::messages::{Ask, Drain, ProbeNow, RefreshCapabilities, Stop, UpdateLink};
use super::status::{Board, KnownCapabilities, LinkStatus};
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::RequestId;
use crate::domain::link::{Link, LinkState};
use crate::ports::peer_transport::{PeerAnswer, PeerAsk, PeerQuestion, PeerTransport};

/// A caller that leaves this short before its deadline gave up because of it: the peer was silent.
const SILENCE_SLACK: Duration = Duration::from_millis(10);
/// Shortest pause between two fetches of capabilities.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// One link.
pub(crate) struct PeerLink {
    core: LinkCore,
    parts: LinkParts,
    board: Arc<Board>,
    /// Made when first needed; dropped when the way to the peer changes.
    transport: Option<Arc<dyn PeerTransport>>,
    refresh: Refresh,
    drained: Vec<oneshot::Sender<()>>,
}

/// The fetching of capabilities.
#[derive(Default)]
struct Refresh {
    under_way: bool,
    failures: u32,
    next: Option<SpawnHandle>,
}

type Call = (Permission, Arc<dyn PeerTransport>);

impl PeerLink {
    pub(super) fn new(link: Link, parts: LinkParts, before: Option<&LinkStatus>) -> Self {
        let core = LinkCore::new(link, parts.limits, before, Instant::now());
        let board = Arc::new(Board::new(core.published()));
        Self { core, parts, board, transport: None, refresh: Refresh::default(), drained: Vec::new() }
    }

    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Permission and transport for one call.
    fn begin(&mut self, deadline: Instant) -> Result<Call, Fault> {
        let (now, wall) = (Instant::now(), self.parts.clock.now());
        let begun = self.core.admit(deadline, now, wall).and_then(|permission| match self.dialled() {
            Ok(transport) => Ok((permission, transport)),
            Err(fault) => {
                self.core.take_back(permission, now);
                self.core.note_fault(fault.clone(), wall);
                Err(fault)
            }
        });
        self.publish();
        begun
    }

    fn dialled(&mut self) -> Result<Arc<dyn PeerTransport>, Fault> {
        if let Some(transport) = &self.transport {
            return Ok(Arc::clone(transport));
        }
        let transport = self.parts.dialer.transport(self.core.link())?;
        self.transport = Some(Arc::clone(&transport));
        Ok(transport)
    }

    /// Takes the end of a call, does what follows from it, and makes its answer.
    fn end(&mut self, permission: Permission, end: CallEnd, ctx: &mut Context<Self>) -> Result<PeerAnswer, Fault> {
        let result = match end {
            CallEnd::Answered(result) => Some(result),
            CallEnd::CallerLeft => None,
            CallEnd::Panicked => {
                // What the call left behind may be wrong: the registry starts the link anew.
                ctx.terminate();
                Some(Err(Fault::new(FaultKind::Internal, Stage::Send)))
            }
        };
        self.settle(permission, result.as_ref(), ctx);
        result.unwrap_or_else(|| Err(Fault::new(FaultKind::TimedOut, Stage::Admission)))
    }

    fn settle(&mut self, permission: Permission, result: Option<&Result<PeerAnswer, Fault>>, ctx: &mut Context<Self>) {
        let (now, wall) = (Instant::now(), self.parts.clock.now());
        let learned = self.core.settle(permission, result, now, wall, (self.parts.jitter)());
        if let Some(state) = learned.state {
            tracing::warn!(link = %self.core.link().id, peer = %self.core.link().peer, state = state.as_str(), "the peer told a new state of the link");
            if matches!(state, LinkState::Revoked | LinkState::Expired) {
                self.board.set_capabilities(None);
            }
            self.record(state, ctx);
        }
        self.publish();
        if learned.capabilities_outdated {
            self.recheck(ctx);
        }
        if self.core.is_idle() {
            self.drained.drain(..).for_each(|waiter| _ = waiter.send(()));
        }
    }

    /// Fetches the capabilities anew if they may be outdated.
    fn recheck(&mut self, ctx: &mut Context<Self>) {
        let recheck = self.parts.limits.capabilities_recheck;
        if self.board.capabilities().is_some_and(|known| known.since + recheck <= Instant::now()) {
            self.refresh(ctx);
        }
    }

    /// Writes the state down; what cannot be written now is tried again with the next refresh.
    fn record(&self, state: LinkState, ctx: &mut Context<Self>) {
        let recorded = self.parts.store.record_state(self.core.link().id, state);
        ctx.spawn(recorded.into_actor(self).map(move |recorded, link, _| match recorded {
            Ok(()) => link.core.recorded(state),
            Err(fault) => tracing::warn!(link = %link.core.link().id, %fault, "the link's state could not be recorded"),
        }));
    }

    fn publish(&self) {
        self.board.publish(self.core.published());
    }

    /// Fetches the capabilities now, unless that is under way.
    fn refresh(&mut self, ctx: &mut Context<Self>) {
        if self.refresh.under_way {
            return;
        }
        if let Some(state) = self.core.unrecorded() {
            self.record(state, ctx);
        }
        let deadline = Instant::now() + self.parts.limits.own_call;
        match self.begin(deadline) {
            Err(fault) => self.refresh_later(fault.retry_after, ctx),
            Ok((permission, transport)) => {
                self.refresh.under_way = true;
                let question = PeerQuestion::Capabilities;
                let ask = PeerAsk { question, deadline, request: RequestId::new(), traceparent: None };
                let (here, caller_left) = oneshot::channel();
                let cursor_bytes = self.parts.limits.cursor_bytes;
                let asked = async move {
                    let end = call(transport, ask, caller_left, cursor_bytes).await;
                    drop(here);
                    end
                };
                ctx.spawn(asked.into_actor(self).map(move |end, link, ctx| link.refreshed(permission, end, ctx)));
            }
        }
    }

    fn refreshed(&mut self, permission: Permission, end: CallEnd, ctx: &mut Context<Self>) {
        self.refresh.under_way = false;
        if let Ok(PeerAnswer::Capabilities(capabilities)) = self.end(permission, end, ctx) {
            let known = KnownCapabilities { capabilities: Arc::new(capabilities), since: Instant::now() };
            self.board.set_capabilities(Some(known));
            self.refresh.failures = 0;
            self.refresh_later(Some(self.parts.limits.capabilities_refresh), ctx);
        } else {
            self.refresh_later(None, ctx);
        }
    }

    /// `after`: a known time, or `None` for the next step of the back-off.
    fn refresh_later(&mut self, after: Option<Duration>, ctx: &mut Context<Self>) {
        let limits = &self.parts.limits;
        let wait = after.unwrap_or_else(|| {
            let doubled = limits.capabilities_retry.saturating_mul(2u32.saturating_pow(self.refresh.failures));
            self.refresh.failures = self.refresh.failures.saturating_add(1);
            doubled.min(limits.capabilities_refresh)
        });
        // Only ever later: a breaker that is asked too early refuses.
        let spread = wait.mul_f64(0.05 * (1.0 + (self.parts.jitter)().clamp(-1.0, 1.0)));
        if let Some(earlier) = self.refresh.next.take() {
            ctx.cancel_future(earlier);
        }
        self.refresh.next = Some(ctx.run_later(wait.max(REFRESH_MIN) + spread, |link, ctx| link.refresh(ctx)));
    }
}

/// How a call ended.
enum CallEnd {
    Answered(Result<PeerAnswer, Fault>),
    /// Nobody waits for it any more.
    CallerLeft,
    Panicked,
}

/// One call, to its end or its caller's. It runs in a task of its own, because an actor polls all that it runs itself whenever one
/// part of it wakes; dropping the future ends the task.
async fn call(
    transport: Arc<dyn PeerTransport>,
    ask: PeerAsk,
    caller_left: oneshot::Receiver<()>,
    cursor_bytes: usize,
) -> CallEnd {
    let (question, deadline) = (ask.question.clone(), ask.deadline);
    let silent = || Err(Fault::new(FaultKind::TimedOut, Stage::FirstByte));
    let mut task = JoinSet::new();
    task.spawn(async move {
        tokio::select! {
            biased;
            answered = timeout_at(deadline, transport.ask(ask)) => CallEnd::Answered(
                answered.unwrap_or_else(|_| silent()).and_then(|answer| answer::check(&question, answer, cursor_bytes)),
            ),
            _ = caller_left => {
                let gave_up = Instant::now() + SILENCE_SLACK >= deadline;
                if gave_up { CallEnd::Answered(silent()) } else { CallEnd::CallerLeft }
            }
        }
    });
    match task.join_next().await {
        Some(Ok(end)) => end,
        Some(Err(_)) | None => CallEnd::Panicked,
    }
}

impl Actor for PeerLink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.refresh(ctx);
    }
}

impl Handler<Ask> for PeerLink {
    type Result = ResponseActFuture<Self, Result<PeerAnswer, Fault>>;

    fn handle(&mut self, Ask { ask, mut caller_left }: Ask, _: &mut Self::Context) -> Self::Result {
        let left = !matches!(caller_left.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        if left {
            return Box::pin(fut::ready(Err(Fault::new(FaultKind::TimedOut, Stage::Admission))));
        }
        match self.begin(ask.deadline) {
            Err(fault) => Box::pin(fut::ready(Err(fault))),
            Ok((permission, transport)) => {
                let called = call(transport, ask, caller_left, self.parts.limits.cursor_bytes);
                Box::pin(called.into_actor(self).map(move |end, link, ctx| link.end(permission, end, ctx)))
            }
        }
    }
}

impl Handler<UpdateLink> for PeerLink {
    type Result = ();

    fn handle(&mut self, UpdateLink(link): UpdateLink, ctx: &mut Self::Context) {
        if self.core.update(*link, Instant::now()) {
            self.transport = None;
            self.board.set_capabilities(None);
            self.refresh.failures = 0;
            self.refresh(ctx);
        }
        self.publish();
    }
}

impl Handler<RefreshCapabilities> for PeerLink {
    type Result = ();

    fn handle(&mut self, _: RefreshCapabilities, ctx: &mut Self::Context) {
        self.recheck(ctx);
    }
}

impl Handler<ProbeNow> for PeerLink {
    type Result = ();

    fn handle(&mut self, _: ProbeNow, ctx: &mut Self::Context) {
        self.core.probe_at_once(Instant::now());
        self.refresh.failures = 0;
        self.refresh(ctx);
        self.publish();
    }
}

impl Handler<Drain> for PeerLink {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.core.drain();
        let (waiter, drained) = oneshot::channel();
        if !self.core.is_idle() {
            self.drained.push(waiter);
        }
        Box::pin(async move { drop(drained.await) })
    }
}

impl Handler<Stop> for PeerLink {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
