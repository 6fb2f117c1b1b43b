use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::directory::Directory;
use super::handle::{LinkView, PeerRegistryLimits, Shared};
use super::loads::{Load, Loads};
use crate::domain::fault::Fault;
use crate::domain::identity::LinkId;
use crate::domain::link::Link;
use crate::peer_link::{self, LinkDied, LinkParts, LinkStatus, PeerLinkHandle, Placement};

/// A link that ran this long before it panicked is restarted at once.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// The wait before a second restart in a row, doubling to the last.
const RESTART_FIRST: Duration = Duration::from_millis(500);
const RESTART_LAST: Duration = Duration::from_secs(30);

/// The owner of all links.
pub(crate) struct PeerRegistry {
    parts: LinkParts,
    limits: PeerRegistryLimits,
    arbiters: Vec<ArbiterHandle>,
    /// How many links were placed: the next arbiter in turn.
    placed: usize,
    shared: Arc<Shared>,
    links: HashMap<LinkId, Owned>,
    loads: Loads,
    /// Who waits until every link runs with what the store has: for a load that is still to begin, and for the one under way.
    waiting: Waiting,
    draining: bool,
}

#[derive(Default)]
struct Waiting {
    next: Vec<oneshot::Sender<()>>,
    current: Vec<oneshot::Sender<()>>,
}

/// A link as the registry keeps it.
struct Owned {
    link: Link,
    handle: PeerLinkHandle,
    started_at: Instant,
    /// Restarts since the link last ran for a while.
    restarts_in_a_row: u32,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LinkChanged(pub(super) LinkId);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Reload;

/// Answered when every link runs with what was read behind it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReadAnew;

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

impl PeerRegistry {
    pub(super) fn new(
        parts: LinkParts,
        limits: PeerRegistryLimits,
        arbiters: Vec<ArbiterHandle>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            parts,
            limits,
            arbiters,
            placed: 0,
            shared,
            links: HashMap::new(),
            loads: Loads::default(),
            waiting: Waiting::default(),
            draining: false,
        }
    }

    /// Starts the next load, if one is wanted and none is under way.
    fn load_next(&mut self, ctx: &mut Context<Self>) {
        let Some(load) = self.loads.next() else { return };
        if load == Load::All {
            self.waiting.current.append(&mut self.waiting.next);
        }
        let store = Arc::clone(&self.parts.store);
        let read = async move {
            match load {
                Load::All => store.load_all().await,
                Load::One(link) => store.load(link).await.map(|link| link.into_iter().collect()),
            }
        };
        // In a task of its own: a store that panics costs one load, not all links.
        let read = tokio::spawn(read);
        ctx.spawn(read.into_actor(self).map(move |links, registry, ctx| match links {
            Ok(links) => registry.loaded(load, links, ctx),
            Err(panic) => {
                tracing::error!(%panic, "the link store panicked");
                registry.load_later(ctx);
            }
        }));
    }

    fn load_later(&mut self, ctx: &mut Context<Self>) {
        let wait = self.loads.failed();
        ctx.run_later(wait, |registry, ctx| registry.load_next(ctx));
    }

    fn loaded(&mut self, load: Load, links: Result<Vec<Link>, Fault>, ctx: &mut Context<Self>) {
        let links = match links {
            Ok(links) => links,
            Err(fault) => {
                tracing::warn!(%fault, "links could not be loaded");
                return self.load_later(ctx);
            }
        };
        self.loads.succeeded();
        let present: HashSet<LinkId> = links.iter().map(|link| link.id).collect();
        let gone: Vec<LinkId> = match load {
            Load::All => self.links.keys().filter(|link| !present.contains(link)).copied().collect(),
            Load::One(link) => Some(link).filter(|link| !present.contains(link)).into_iter().collect(),
        };
        gone.into_iter().for_each(|link| self.remove(link, ctx));
        let told: Vec<_> = links.into_iter().filter_map(|link| self.put(link, ctx)).collect();
        let waiting = if load == Load::All { std::mem::take(&mut self.waiting.current) } else { Vec::new() };
        let taken = async move {
            join_all(told).await;
            waiting.into_iter().for_each(|waiter| _ = waiter.send(()));
        };
        ctx.spawn(taken.into_actor(self));
        self.publish();
        self.load_next(ctx);
    }

    /// Starts the link, or returns what tells it how it is now.
    fn put(&mut self, link: Link, ctx: &Context<Self>) -> Option<impl Future<Output = ()> + use<>> {
        if let Some(owned) = self.links.get_mut(&link.id) {
            owned.link = link.clone();
            let handle = owned.handle.clone();
            return Some(async move { handle.update(link).await });
        }
        let handle = self.start_link(link.clone(), None, ctx);
        self.links.insert(link.id, Owned { link, handle, started_at: Instant::now(), restarts_in_a_row: 0 });
        None
    }

    fn remove(&mut self, link: LinkId, ctx: &mut Context<Self>) {
        if let Some(owned) = self.links.remove(&link) {
            ctx.spawn(async move { owned.handle.stop().await }.into_actor(self));
        }
    }

    fn start_link(&mut self, link: Link, before: Option<Arc<LinkStatus>>, ctx: &Context<Self>) -> PeerLinkHandle {
        let placement = if self.arbiters.is_empty() {
            Placement::Here
        } else {
            Placement::On(self.arbiters[self.placed % self.arbiters.len()].clone())
        };
        self.placed += 1;
        peer_link::start(link, self.parts.clone(), before, Some(ctx.address().recipient()), &placement)
    }

    /// Starts a link anew whose actor is gone, unless it was only just started.
    fn revive(&mut self, id: LinkId, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let Some(owned) = self.links.get(&id).filter(|owned| !owned.handle.is_alive()) else { return };
        let ran = now.saturating_duration_since(owned.started_at);
        let in_a_row = if ran >= STABLE_AFTER { 0 } else { owned.restarts_in_a_row };
        if ran < restart_wait(in_a_row) || self.draining {
            return;
        }
        let (link, before) = (owned.link.clone(), owned.handle.status());
        tracing::error!(link = %id, peer = %link.peer, restarts = before.restarts + 1, "a link panicked; it is started anew");
        let handle = self.start_link(link.clone(), Some(before), ctx);
        self.links.insert(id, Owned { link, handle, started_at: now, restarts_in_a_row: in_a_row + 1 });
        self.publish();
    }

    /// The regular look at everything: the second path behind each kind of news.
    fn check(&mut self, ctx: &mut Context<Self>) {
        if self.shared.overflowed.swap(false, Ordering::AcqRel) {
            self.loads.want_all();
            self.load_next(ctx);
        }
        let gone: Vec<LinkId> =
            self.links.iter().filter(|(_, owned)| !owned.handle.is_alive()).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.revive(id, ctx));
    }

    fn publish(&self) {
        let views = self.links.values().map(|owned| {
            let view = LinkView {
                link: owned.link.id,
                peer: owned.link.peer.clone(),
                owner: owned.link.owner,
                created_at: owned.link.created_at,
                handle: owned.handle.clone(),
            };
            (view, owned.link.shared_with.clone())
        });
        self.shared.directory.store(Arc::new(Directory::new(views)));
        self.shared.editions.send_modify(|edition| *edition += 1);
    }
}

fn restart_wait(in_a_row: u32) -> Duration {
    match in_a_row.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => RESTART_FIRST.saturating_mul(2u32.saturating_pow(doublings)).min(RESTART_LAST),
    }
}

impl Actor for PeerRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.loads.want_all();
        self.load_next(ctx);
        ctx.run_interval(self.limits.check_every, |registry, ctx| registry.check(ctx));
    }
}

impl Handler<LinkChanged> for PeerRegistry {
    type Result = ();

    fn handle(&mut self, LinkChanged(link): LinkChanged, ctx: &mut Self::Context) {
        self.loads.want(link);
        self.load_next(ctx);
    }
}

impl Handler<Reload> for PeerRegistry {
    type Result = ();

    fn handle(&mut self, _: Reload, ctx: &mut Self::Context) {
        self.loads.want_all();
        self.load_next(ctx);
    }
}

impl Handler<ReadAnew> for PeerRegistry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: ReadAnew, ctx: &mut Self::Context) -> Self::Result {
        let (waiter, read) = oneshot::channel();
        self.waiting.next.push(waiter);
        self.loads.want_all();
        self.load_next(ctx);
        Box::pin(async move { drop(read.await) })
    }
}

impl Handler<LinkDied> for PeerRegistry {
    type Result = ();

    fn handle(&mut self, LinkDied(link): LinkDied, ctx: &mut Self::Context) {
        self.revive(link, ctx);
    }
}

impl Handler<Drain> for PeerRegistry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let handles: Vec<_> = self.links.values().map(|owned| owned.handle.clone()).collect();
        let drained = async move { join_all(handles.iter().map(PeerLinkHandle::drain)).await };
        let limit = self.limits.drain;
        Box::pin(async move {
            if timeout(limit, drained).await.is_err() {
                tracing::warn!("calls to peers were still under way when the time to drain was over");
            }
        })
    }
}
