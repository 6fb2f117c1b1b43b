//! What others see of a link, and the limits that it keeps.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::admission::AdmissionLimits;
use super::renewal::RenewalLimits;
use super::watching::{WatchLimits, WatchStatus};
use crate::domain::answer::{BreakerState, Capabilities};
use crate::domain::fault::Fault;
use crate::domain::identity::{LinkId, SiteName, TeamId, UserId};
use crate::domain::link::LinkState;
use crate::ports::peer_transport::InjectedFault;

/// Bounds of one link.
#[derive(Debug, Clone, Copy)]
pub struct PeerLinkLimits {
    pub admission: AdmissionLimits,
    /// How long a call of the link's own (capabilities) may take.
    pub own_call: Duration,
    /// How many calls all links of a node together make by themselves at once: fetches of capabilities, and watches being opened.
    pub own_calls_at_once: usize,
    /// Age at which capabilities are fetched again. An asker that prunes by them fetches earlier, see `recheck`.
    pub capabilities_refresh: Duration,
    /// After a failed fetch of capabilities: the first wait, doubling up to `capabilities_refresh`.
    pub capabilities_retry: Duration,
    /// Capabilities that made somebody go without a call are fetched again when older than this.
    pub capabilities_recheck: Duration,
    /// While the peer says "suspended", one call in this time finds out whether it still does.
    pub suspended_probe: Duration,
    /// Contact from the peer lets an open breaker probe at once, but only once in this time.
    pub contact_probe: Duration,
    pub renewal: RenewalLimits,
    pub watch: WatchLimits,
    /// Longest cursor that is taken from a peer, in bytes: it comes back inside ours.
    pub cursor_bytes: usize,
}

impl Default for PeerLinkLimits {
    fn default() -> Self {
        Self {
            admission: AdmissionLimits::default(),
            own_call: Duration::from_secs(3),
            own_calls_at_once: 16,
            capabilities_refresh: Duration::from_secs(60),
            capabilities_retry: Duration::from_secs(5),
            capabilities_recheck: Duration::from_secs(1),
            suspended_probe: Duration::from_secs(15),
            contact_probe: Duration::from_secs(5),
            renewal: RenewalLimits::default(),
            watch: WatchLimits::default(),
            cursor_bytes: 1024,
        }
    }
}

/// A link at one moment. Reading it costs no message and no call.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    pub link: LinkId,
    pub peer: SiteName,
    pub owner: UserId,
    pub shared_with: Vec<TeamId>,
    pub state: LinkState,
    pub breaker: BreakerState,
    /// While the breaker is open: when the next call may probe.
    pub breaker_retry_in: Option<Duration>,
    /// Calls under way, the link's own included.
    pub in_flight: usize,
    /// Moving average over successful calls.
    pub latency: Option<Duration>,
    /// When the peer last answered with what was asked.
    pub last_ok_at: Option<OffsetDateTime>,
    /// When the peer last answered at all, be it with a refusal.
    pub last_contact_at: Option<OffsetDateTime>,
    pub last_fault: Option<(OffsetDateTime, Fault)>,
    pub certificate_not_after: OffsetDateTime,
    /// How often the link had to be started anew after a panic.
    pub restarts: u32,
    /// Asks refused without a call since the last start.
    pub refused: u64,
    /// Failed renewals of the certificate that the link has now.
    pub renewal_failures: u32,
    pub watch: WatchStatus,
    /// What an admin makes go wrong, and until when.
    pub injected: Option<Injection>,
}

/// A fault in a link that goes away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Injection {
    pub fault: InjectedFault,
    pub until: OffsetDateTime,
}

/// The part of a status that every question reads: no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkHealth {
    pub state: LinkState,
    pub breaker: BreakerState,
    pub last_ok_at: Option<OffsetDateTime>,
    pub last_contact_at: Option<OffsetDateTime>,
}

/// Where the actor writes and everybody reads.
pub(super) struct Board {
    published: ArcSwap<Published>,
    capabilities: ArcSwapOption<KnownCapabilities>,
}

/// A status with its moving part still absolute.
pub(super) struct Published {
    pub(super) status: LinkStatus,
    pub(super) retry_at: Option<Instant>,
}

pub(super) struct KnownCapabilities {
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) since: Instant,
}

impl Board {
    pub(super) fn new(first: Published) -> Self {
        Self { published: ArcSwap::from_pointee(first), capabilities: ArcSwapOption::empty() }
    }

    pub(super) fn publish(&self, next: Published) {
        self.published.store(Arc::new(next));
    }

    pub(super) fn status(&self) -> Arc<LinkStatus> {
        let published = self.published.load();
        let mut status = published.status.clone();
        status.breaker_retry_in = published.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        Arc::new(status)
    }

    pub(super) fn health(&self) -> LinkHealth {
        let status = &self.published.load().status;
        LinkHealth {
            state: status.state,
            breaker: status.breaker,
            last_ok_at: status.last_ok_at,
            last_contact_at: status.last_contact_at,
        }
    }

    pub(super) fn set_capabilities(&self, known: Option<KnownCapabilities>) {
        self.capabilities.store(known.map(Arc::new));
    }

    pub(super) fn capabilities(&self) -> Option<Arc<KnownCapabilities>> {
        self.capabilities.load_full()
    }
}
