use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle};
use arc_swap::ArcSwap;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::actor::{Drain, LinkChanged, PeerRegistry, ReadAnew, Reload};
use super::directory::Directory;
use crate::domain::fault::Fault;
use crate::domain::identity::{LinkId, SiteName, TeamId, UserId};
use crate::peer_link::{self, LinkParts, LinkStatus, PeerLinkHandle, PeerLinkLimits};
use crate::ports::clock::Clock;
use crate::ports::link_store::LinkStore;
use crate::ports::peer_transport::{InjectedFault, PeerDialer};

/// Bounds of the registry and of each of its links.
#[derive(Debug, Clone, Copy)]
pub struct PeerRegistryLimits {
    pub link: PeerLinkLimits,
    /// How often the registry looks whether its links live.
    pub check_every: Duration,
    /// How long draining waits for calls under way.
    pub drain: Duration,
}

impl Default for PeerRegistryLimits {
    fn default() -> Self {
        Self { link: PeerLinkLimits::default(), check_every: Duration::from_secs(1), drain: Duration::from_secs(10) }
    }
}

/// A link that a user may ask over.
#[derive(Clone)]
pub struct LinkView {
    pub link: LinkId,
    pub peer: SiteName,
    pub owner: UserId,
    pub created_at: OffsetDateTime,
    pub handle: PeerLinkHandle,
}

/// What the actor publishes.
pub(super) struct Shared {
    pub(super) directory: ArcSwap<Directory>,
    /// Counts published directories.
    pub(super) editions: watch::Sender<u64>,
    /// News that found the mailbox full: everything is read again.
    pub(super) overflowed: AtomicBool,
}

/// All links of this node. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct PeerRegistryHandle {
    actor: Addr<PeerRegistry>,
    shared: Arc<Shared>,
}

/// Starts the registry on the current arbiter; its links run on `arbiters` in turn, or beside it when there are none. It loads
/// the links at once and keeps trying until it can.
#[must_use]
pub fn start(
    store: Arc<dyn LinkStore>,
    dialer: Arc<dyn PeerDialer>,
    clock: Arc<dyn Clock>,
    limits: PeerRegistryLimits,
    arbiters: Vec<ArbiterHandle>,
) -> PeerRegistryHandle {
    let own_calls = Arc::new(Semaphore::new(limits.link.own_calls_at_once));
    let parts = LinkParts { store, dialer, clock, limits: limits.link, jitter: peer_link::jitter, own_calls };
    start_with(parts, limits, arbiters)
}

pub(crate) fn start_with(
    parts: LinkParts,
    limits: PeerRegistryLimits,
    arbiters: Vec<ArbiterHandle>,
) -> PeerRegistryHandle {
    let shared = Arc::new(Shared {
        directory: ArcSwap::default(),
        editions: watch::Sender::new(0),
        overflowed: AtomicBool::new(false),
    });
    let registry = PeerRegistry::new(parts, limits, arbiters, Arc::clone(&shared));
    PeerRegistryHandle { actor: registry.start(), shared }
}

impl PeerRegistryHandle {
    /// The links over which `user`, member of `teams`, may ask: one per peer name, sorted by it.
    #[must_use]
    pub fn links_of(&self, user: UserId, teams: &[TeamId]) -> Vec<LinkView> {
        self.shared.directory.load().links_of(user, teams)
    }

    /// A link was added, changed or removed in the store.
    pub fn link_changed(&self, link: LinkId) {
        self.notify(self.actor.try_send(LinkChanged(link)).is_ok());
    }

    /// Any link may have changed.
    pub fn reload(&self) {
        self.notify(self.actor.try_send(Reload).is_ok());
    }

    /// Reads every link anew, as often as it takes; returns when each of them runs with what was read after this was called.
    pub async fn read_anew(&self) {
        // A registry that is gone runs no link with anything older.
        let _ = self.actor.send(ReadAnew).await;
    }

    fn notify(&self, delivered: bool) {
        if !delivered {
            self.shared.overflowed.store(true, Ordering::Release);
        }
    }

    /// A site that is called so here was heard from, by a request that proved who sent it: links to it whose breaker is open probe
    /// now. Costs a look into the directory.
    pub fn peer_spoke(&self, peer: &SiteName) {
        self.shared.directory.load().links_to(peer).for_each(|view| view.handle.peer_spoke());
    }

    /// Every link of the node, for admins and metrics; sorted by peer, owner and id.
    #[must_use]
    pub fn statuses(&self) -> Vec<LinkStatus> {
        let directory = self.shared.directory.load();
        let mut statuses: Vec<_> = directory.iter().map(|view| Arc::unwrap_or_clone(view.handle.status())).collect();
        statuses.sort_by(|a, b| (&a.peer, a.owner, a.link).cmp(&(&b.peer, b.owner, b.link)));
        statuses
    }

    #[must_use]
    pub fn status(&self, link: LinkId) -> Option<Arc<LinkStatus>> {
        self.shared.directory.load().get(link).map(|view| view.handle.status())
    }

    /// Lets the link probe its peer now, whatever its breaker or the peer's last refusal say. False when there is no such link.
    pub async fn reset_breaker(&self, link: LinkId) -> bool {
        let handle = self.shared.directory.load().get(link).map(|view| view.handle.clone());
        match handle {
            None => false,
            Some(handle) => {
                handle.probe_now().await;
                true
            }
        }
    }

    /// Makes calls over the link go wrong for so long; `None` ends it. False when there is no such link.
    pub async fn inject(&self, link: LinkId, injected: Option<(InjectedFault, Duration)>) -> bool {
        let handle = self.shared.directory.load().get(link).map(|view| view.handle.clone());
        match handle {
            None => false,
            Some(handle) => {
                handle.inject(injected).await;
                true
            }
        }
    }

    /// Renews the link's certificate now, due or not; `None` when there is no such link.
    pub async fn renew(&self, link: LinkId) -> Option<Result<(), Fault>> {
        let handle = self.shared.directory.load().get(link).map(|view| view.handle.clone())?;
        Some(handle.renew().await)
    }

    /// Refuses new asks on every link and waits, at most as long as the limit says, until those under way ended.
    pub async fn drain(&self) {
        // A registry that is gone has no links left.
        let _ = self.actor.send(Drain).await;
    }

    /// Waits until all links were read for the first time: before, nobody can say which there are. False when `deadline` comes first.
    pub async fn loaded(&self, deadline: Instant) -> bool {
        // The first load is of all, and is tried until it succeeds.
        let mut editions = self.shared.editions.subscribe();
        matches!(timeout_at(deadline, editions.wait_for(|edition| *edition > 0)).await, Ok(Ok(_)))
    }

    /// Waits until the link is started; false when `deadline` comes first.
    pub async fn wait_for(&self, link: LinkId, deadline: Instant) -> bool {
        let mut editions = self.shared.editions.subscribe();
        let started = editions.wait_for(|_| self.shared.directory.load().get(link).is_some());
        matches!(timeout_at(deadline, started).await, Ok(Ok(_)))
    }

    /// Waits until the link is stopped and nobody is offered it any more; false when `deadline` comes first.
    pub async fn wait_gone(&self, link: LinkId, deadline: Instant) -> bool {
        let mut editions = self.shared.editions.subscribe();
        let gone = editions.wait_for(|_| self.shared.directory.load().get(link).is_none());
        matches!(timeout_at(deadline, gone).await, Ok(Ok(_)))
    }
}
