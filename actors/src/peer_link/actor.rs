use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, ResponseFuture,
    SpawnHandle, WrapFuture, fut,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::answer;
use super::core::{LinkCore, Permission, Update, is_unusable};
use super::handle::LinkParts;
use super::messages::{
    Ask, Drain, Heard, Inject, PeerSpoke, ProbeNow, RefreshCapabilities, RenewNow, Stop, UpdateLink,
};
use super::renewing::Renewing;
use super::status::{Board, Injection, KnownCapabilities, LinkStatus};
use super::watching::Watching;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::RequestId;
use crate::domain::link::{Link, LinkState};
use crate::ports::peer_transport::{InjectedFault, PeerAnswer, PeerAsk, PeerQuestion, PeerTransport};

/// A caller that leaves this short before its deadline gave up because of it: the peer was silent.
const SILENCE_SLACK: Duration = Duration::from_millis(10);
/// Shortest pause between two fetches of capabilities.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// Between two looks into the store for a key that opens, when the last one was in vain: a link that is of no use for long must not
/// cost the database a read with every question.
pub(super) const REREAD_PAUSE: Duration = Duration::from_secs(5);

/// One link.
pub(crate) struct PeerLink {
    pub(super) core: LinkCore,
    pub(super) parts: LinkParts,
    pub(super) board: Arc<Board>,
    /// Made when first needed; dropped when the way to the peer, or the certificate, changes.
    transport: Option<Arc<dyn PeerTransport>>,
    refresh: Refresh,
    pub(super) renewing: Renewing,
    pub(super) watching: Watching,
    /// A state is being written down.
    recording: bool,
    reread: Reread,
    injected: Option<Injection>,
    injection_ends: Option<SpawnHandle>,
    drained: Vec<oneshot::Sender<()>>,
}

/// The fetching of capabilities.
#[derive(Default)]
struct Refresh {
    under_way: bool,
    /// What is under way was asked before the grant changed.
    outdated: bool,
    failures: u32,
    next: Option<SpawnHandle>,
}

/// When the store was looked into for a key that opens.
#[derive(Default)]
struct Reread {
    /// For a question, and there was none.
    in_vain: Option<Instant>,
    /// For what the link does by itself.
    own: Option<Instant>,
}

fn is_recent(look: Option<Instant>) -> bool {
    look.is_some_and(|at| at.elapsed() < REREAD_PAUSE)
}

type Call = (Permission, Arc<dyn PeerTransport>);

impl PeerLink {
    pub(super) fn new(link: Link, parts: LinkParts, before: Option<&LinkStatus>) -> Self {
        let renewing = Renewing::new(&link.credentials, (parts.jitter)());
        let core = LinkCore::new(link, parts.limits, before, Instant::now());
        let board = Arc::new(Board::new(core.published()));
        Self {
            core,
            parts,
            board,
            transport: None,
            refresh: Refresh::default(),
            renewing,
            watching: Watching::default(),
            recording: false,
            reread: Reread::default(),
            injected: None,
            injection_ends: None,
            drained: Vec::new(),
        }
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

    pub(super) fn dialled(&mut self) -> Result<Arc<dyn PeerTransport>, Fault> {
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
            self.keep_watch(ctx);
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
    pub(super) fn recheck(&mut self, ctx: &mut Context<Self>) {
        let recheck = self.parts.limits.capabilities_recheck;
        if self.board.capabilities().is_some_and(|known| known.since + recheck <= Instant::now()) {
            self.refresh(ctx);
        }
    }

    /// Writes the state down, one after the other, so that the last one stays; what cannot be written now is tried again with the
    /// next refresh.
    pub(super) fn record(&mut self, state: LinkState, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.recording, true) {
            return;
        }
        let recorded = self.parts.store.record_state(self.core.link().id, state);
        ctx.spawn(recorded.into_actor(self).map(move |recorded, link, ctx| {
            link.recording = false;
            match recorded {
                Ok(()) => {
                    link.core.recorded(state);
                    if let Some(newer) = link.core.unrecorded() {
                        link.record(newer, ctx);
                    }
                }
                Err(fault) => {
                    tracing::warn!(link = %link.core.link().id, %fault, "the link's state could not be recorded");
                }
            }
        }));
    }

    pub(super) fn publish(&self) {
        let mut next = self.core.published();
        next.status.watch = self.watching.status();
        next.status.injected = self.injected;
        self.board.publish(next);
    }

    /// What was known of the grant counts no more: the capabilities are fetched anew, also if that is under way.
    pub(super) fn grant_changed(&mut self, ctx: &mut Context<Self>) {
        self.board.set_capabilities(None);
        self.refresh.failures = 0;
        self.refresh.outdated = self.refresh.under_way;
        self.refresh(ctx);
    }

    /// The peer was heard from by another way than an answer.
    pub(super) fn contact(&mut self, ctx: &mut Context<Self>) {
        if self.core.contact(Instant::now()) {
            self.refresh.failures = 0;
            self.refresh(ctx);
            self.publish();
        }
    }

    /// Fetches the capabilities now, unless that is under way.
    fn refresh(&mut self, ctx: &mut Context<Self>) {
        if self.refresh.under_way {
            return;
        }
        if let Some(state) = self.core.unrecorded() {
            self.record(state, ctx);
        }
        match Arc::clone(&self.parts.own_calls).try_acquire_owned() {
            Ok(place) => self.refresh_now(place, ctx),
            Err(_) => {
                self.refresh.under_way = true;
                let waiting = Arc::clone(&self.parts.own_calls).acquire_owned();
                ctx.spawn(waiting.into_actor(self).map(|place, link, ctx| {
                    link.refresh.under_way = false;
                    // Whatever changed while it waited is in what is fetched now.
                    link.refresh.outdated = false;
                    if let Ok(place) = place {
                        link.refresh_now(place, ctx);
                    }
                }));
            }
        }
    }

    fn refresh_now(&mut self, place: OwnedSemaphorePermit, ctx: &mut Context<Self>) {
        let deadline = Instant::now() + self.parts.limits.own_call;
        match self.begin(deadline) {
            Err(fault) => {
                self.look_for_key(&fault, ctx);
                self.refresh_later(fault.retry_after, ctx);
            }
            Ok((permission, transport)) => {
                self.refresh.under_way = true;
                let question = PeerQuestion::Capabilities;
                let (request, injected) = (RequestId::new(), self.injected.map(|injection| injection.fault));
                let ask = PeerAsk { question, deadline, request, traceparent: None, injected };
                let (here, mut caller_left) = oneshot::channel();
                let cursor_bytes = self.parts.limits.cursor_bytes;
                let asked = async move {
                    let end = call(transport, ask, &mut caller_left, cursor_bytes).await;
                    drop((here, place));
                    end
                };
                ctx.spawn(asked.into_actor(self).map(move |end, link, ctx| link.refreshed(permission, end, ctx)));
            }
        }
    }

    /// Acts on a newer version of the link, or of its certificate. Calls in flight keep the transport that they have.
    pub(super) fn updated(&mut self, update: Update, ctx: &mut Context<Self>) {
        match update {
            Update::Same => self.keep_watch(ctx),
            Update::Renewed => {
                self.transport = None;
                self.reread.in_vain = None;
                self.watch_anew(ctx);
                self.schedule_renewal(true, ctx);
                // Proves the certificate, and so ends the one before it.
                self.refresh(ctx);
            }
            Update::Moved => {
                self.transport = None;
                self.reread.in_vain = None;
                self.watch_anew(ctx);
                self.board.set_capabilities(None);
                self.refresh.failures = 0;
                self.schedule_renewal(false, ctx);
                self.refresh(ctx);
            }
        }
        self.publish();
    }

    fn refreshed(&mut self, permission: Permission, end: CallEnd, ctx: &mut Context<Self>) {
        self.refresh.under_way = false;
        let outdated = std::mem::take(&mut self.refresh.outdated);
        let answer = self.end(permission, end, ctx);
        if let Err(fault) = &answer {
            self.look_for_key(fault, ctx);
        }
        if outdated {
            self.refresh_later(Some(REFRESH_MIN), ctx);
        } else if let Ok(PeerAnswer::Capabilities(capabilities)) = answer {
            let known = KnownCapabilities { capabilities: Arc::new(capabilities), since: Instant::now() };
            self.board.set_capabilities(Some(known));
            self.refresh.failures = 0;
            let (limits, watched) = (&self.parts.limits, self.watching.is_up());
            let next = if watched { limits.watch.capabilities_refresh } else { limits.capabilities_refresh };
            self.refresh_later(Some(next), ctx);
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
    caller_left: &mut oneshot::Receiver<()>,
    cursor_bytes: usize,
) -> CallEnd {
    let (question, deadline) = (ask.question.clone(), ask.deadline);
    let silent = || Err(Fault::new(FaultKind::TimedOut, Stage::FirstByte));
    let mut task = JoinSet::new();
    task.spawn(timeout_at(deadline, transport.ask(ask)));
    tokio::select! {
        biased;
        answered = task.join_next() => match answered {
            Some(Ok(answered)) => CallEnd::Answered(
                answered.unwrap_or_else(|_| silent()).and_then(|answer| answer::check(&question, answer, cursor_bytes)),
            ),
            Some(Err(_)) | None => CallEnd::Panicked,
        },
        _ = caller_left => {
            let gave_up = Instant::now() + SILENCE_SLACK >= deadline;
            if gave_up { CallEnd::Answered(silent()) } else { CallEnd::CallerLeft }
        }
    }
}

impl Actor for PeerLink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.refresh(ctx);
        self.look_at_renewal(ctx);
        self.watch_later(None, ctx);
    }
}

impl Handler<Ask> for PeerLink {
    type Result = ResponseActFuture<Self, Result<PeerAnswer, Fault>>;

    fn handle(&mut self, Ask { ask, mut caller_left }: Ask, _: &mut Self::Context) -> Self::Result {
        let left = !matches!(caller_left.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        if left {
            return Box::pin(fut::ready(Err(Fault::new(FaultKind::TimedOut, Stage::Admission))));
        }
        let used = match self.begin(ask.deadline) {
            Err(fault) if self.may_reread(&fault) => return self.once_more(fault, None, ask, caller_left),
            Err(fault) => return Box::pin(fut::ready(Err(fault))),
            Ok(call) => call,
        };
        let (transport, again) = (Arc::clone(&used.1), ask.clone());
        let first = self.carry_out(used, ask, caller_left);
        Box::pin(first.then(move |(answer, caller_left), link, _| match answer {
            Err(fault) if fault.kind == FaultKind::Forbidden || link.may_reread(&fault) => {
                link.once_more(fault, Some(transport), again, caller_left)
            }
            answer => Box::pin(fut::ready(answer)),
        }))
    }
}

type Answered = ResponseActFuture<PeerLink, Result<PeerAnswer, Fault>>;

impl PeerLink {
    /// One call with its permission and transport; gives the caller's end of the line back.
    fn carry_out(
        &self,
        (permission, transport): Call,
        mut ask: PeerAsk,
        mut caller_left: oneshot::Receiver<()>,
    ) -> ResponseActFuture<Self, (Result<PeerAnswer, Fault>, oneshot::Receiver<()>)> {
        let cursor_bytes = self.parts.limits.cursor_bytes;
        ask.injected = self.injected.map(|injection| injection.fault);
        let called = async move {
            let end = call(transport, ask, &mut caller_left, cursor_bytes).await;
            (end, caller_left)
        };
        let ended = called
            .into_actor(self)
            .map(move |(end, caller_left), link: &mut Self, ctx| (link.end(permission, end, ctx), caller_left));
        Box::pin(ended)
    }

    /// Whether a question found the key unusable, and the store may have one that opens.
    fn may_reread(&self, fault: &Fault) -> bool {
        is_unusable(fault) && !is_recent(self.reread.in_vain)
    }

    /// What the link does by itself found the key unusable: takes what the store has now, and goes on with that. A question does not
    /// wait for it, and looks by itself.
    pub(super) fn look_for_key(&mut self, fault: &Fault, ctx: &mut Context<Self>) {
        if !is_unusable(fault) || is_recent(self.reread.own) {
            return;
        }
        self.reread.own = Some(Instant::now());
        let loaded = self.parts.store.load(self.core.link().id);
        ctx.spawn(loaded.into_actor(self).map(|loaded, link, ctx| {
            if let Ok(Some(newer)) = loaded {
                let update = link.core.update(newer, Instant::now());
                link.updated(update, ctx);
            }
        }));
    }

    /// The peer does not take the certificate that a call went out with, or its key was sealed with a secret that is gone. If a newer
    /// one took over meanwhile, here or on another replica, or the key was sealed anew, the call is made once more with it: that
    /// it was late is nobody's fault. `used`: what it went out with, if it came that far.
    fn once_more(
        &self,
        refused: Fault,
        used: Option<Arc<dyn PeerTransport>>,
        ask: PeerAsk,
        caller_left: oneshot::Receiver<()>,
    ) -> Answered {
        let is_current = move |link: &Self| match (&link.transport, &used) {
            (Some(current), Some(used)) => Arc::ptr_eq(current, used),
            (None, None) => true,
            _ => false,
        };
        let (store, id, deadline) = (Arc::clone(&self.parts.store), self.core.link().id, ask.deadline);
        let stale = !is_current(self);
        let unusable = is_unusable(&refused);
        let looked = async move { if stale { None } else { timeout_at(deadline, store.load(id)).await.ok()?.ok()? } };
        Box::pin(looked.into_actor(self).then(move |newer, link: &mut Self, ctx| -> Answered {
            let reread = newer.is_some();
            if let Some(newer) = newer {
                let update = link.core.update(newer, Instant::now());
                link.updated(update, ctx);
            }
            if link.transport.is_some() && is_current(link) {
                link.reread.in_vain = (reread && unusable).then(Instant::now);
                return Box::pin(fut::ready(Err(refused)));
            }
            match link.begin(ask.deadline) {
                Err(fault) => {
                    link.reread.in_vain = (reread && is_unusable(&fault)).then(Instant::now);
                    Box::pin(fut::ready(Err(fault)))
                }
                Ok(call) => Box::pin(link.carry_out(call, ask, caller_left).map(|(answer, _), _, _| answer)),
            }
        }))
    }
}

impl Handler<UpdateLink> for PeerLink {
    type Result = ();

    fn handle(&mut self, UpdateLink(link): UpdateLink, ctx: &mut Self::Context) {
        let update = self.core.update(*link, Instant::now());
        self.updated(update, ctx);
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

impl Handler<Inject> for PeerLink {
    type Result = ();

    fn handle(&mut self, Inject(injected): Inject, ctx: &mut Self::Context) {
        self.inject(injected, ctx);
    }
}

impl PeerLink {
    fn inject(&mut self, injected: Option<(InjectedFault, Duration)>, ctx: &mut Context<Self>) {
        if let Some(end) = self.injection_ends.take() {
            ctx.cancel_future(end);
        }
        let (link, peer) = (self.core.link().id, &self.core.link().peer);
        match injected {
            Some((fault, lasts)) => tracing::warn!(%link, %peer, ?fault, ?lasts, "a fault is injected into the link"),
            None if self.injected.is_some() => {
                tracing::warn!(%link, %peer, "no fault is injected into the link any more")
            }
            None => {}
        }
        self.injected = injected.map(|(fault, lasts)| Injection { fault, until: self.parts.clock.now() + lasts });
        self.injection_ends = injected.map(|(_, lasts)| ctx.run_later(lasts, |link, ctx| link.inject(None, ctx)));
        self.publish();
    }
}

impl Handler<PeerSpoke> for PeerLink {
    type Result = ();

    fn handle(&mut self, _: PeerSpoke, ctx: &mut Self::Context) {
        self.contact(ctx);
    }
}

impl Handler<Heard> for PeerLink {
    type Result = ();

    fn handle(&mut self, Heard { watch, news }: Heard, ctx: &mut Self::Context) {
        self.heard(watch, news, ctx);
    }
}

impl Handler<RenewNow> for PeerLink {
    type Result = ResponseFuture<Result<(), Fault>>;

    fn handle(&mut self, _: RenewNow, ctx: &mut Self::Context) -> Self::Result {
        let renewed = self.renew_now(ctx);
        Box::pin(
            async move { renewed.await.unwrap_or_else(|_| Err(Fault::new(FaultKind::Unavailable, Stage::Admission))) },
        )
    }
}

impl Handler<Drain> for PeerLink {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.core.drain();
        self.stop_watching();
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
