//! Refused handshakes on their way into the audit log.
//!
//! ```text
//! acceptor ─▶ window: the first few of an address, and of all ─▶ channel ─▶ one at a time into the audit
//!                 └▶ counted ─────────── the window ends ─▶ one event per address with its count
//! ```
//!
//! A handshake never waits for any of it, and however many are refused, what is written per window is bounded.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mosaic_actors::audit_writer::AuditHandle;
use mosaic_actors::domain::audit::{AuditAction, AuditEvent, AuditOutcome};
use mosaic_actors::domain::identity::RequestId;
use mosaic_actors::domain::suppression::{Suppression, SuppressionLimits};
use mosaic_actors::ports::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::telemetry::metrics::Metrics;
use crate::tls::{HandshakeRefusal, OnRefused, RefusedHandshake};

/// Events that wait for the log. More are counted instead.
const WAITING: usize = 64;

/// How long writing the last counts may take: a log that is frozen does not hold up the end of the node.
const LAST_WINDOW: Duration = Duration::from_secs(3);

/// What stands where the events of an address were counted only.
const SUPPRESSED: &str = "suppressed";

/// The node's refused handshakes.
#[derive(Clone)]
pub(super) struct Refusals {
    windows: Arc<Windows>,
    audit: AuditHandle,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What showed a certificate of this site's has bounds of its own: strangers cannot use them up.
struct Windows {
    strangers: Mutex<Suppression<Source>>,
    ours: Mutex<Suppression<Source>>,
}

/// An address; of IPv6 the network of 64 bits, which one household has as a whole. `None`: a socket without one.
type Source = Option<IpAddr>;

impl Refusals {
    /// Starts writing; what to tell every refusal to.
    pub(super) fn start(
        limits: &Limits,
        audit: AuditHandle,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> (Self, OnRefused) {
        let bounds = SuppressionLimits {
            per_source: limits.handshake_events_address,
            in_all: limits.handshake_events,
            sources: limits.handshake_addresses,
        };
        let windows =
            Windows { strangers: Mutex::new(Suppression::new(bounds)), ours: Mutex::new(Suppression::new(bounds)) };
        let refusals = Self { windows: Arc::new(windows), audit, clock, metrics };
        let (queue, queued) = mpsc::channel(WAITING);
        actix_rt::spawn(refusals.clone().write(queued, limits.handshake_window, stop));
        let told = refusals.clone();
        (refusals, Arc::new(move |refused| told.refused(refused, &queue)))
    }

    fn refused(&self, refused: RefusedHandshake, queue: &mpsc::Sender<RefusedHandshake>) {
        self.metrics.handshake_refused(refused.reason.as_str());
        tracing::debug!(reason = refused.reason.as_str(), remote = ?refused.remote, "a handshake was refused");
        let source = refused.remote.map(household);
        let window = self.window_of(refused.reason);
        if !lock(window).admits(&source) {
            return;
        }
        if queue.try_send(refused).is_err() {
            lock(window).could_not(&source);
        }
    }

    async fn write(self, mut queued: mpsc::Receiver<RefusedHandshake>, window: Duration, stop: CancellationToken) {
        let mut windows = tokio::time::interval_at(tokio::time::Instant::now() + window, window);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = windows.tick() => self.close_window().await,
                Some(refused) = queued.recv() => self.record(refused).await,
            }
        }
    }

    async fn record(&self, refused: RefusedHandshake) {
        let source = refused.remote.map(household);
        let event = AuditEvent {
            serial: refused.serial,
            latency: refused.took,
            ..self.event(refused.reason.as_str(), refused.remote, 0)
        };
        if let Err(fault) = self.audit.record(event).await {
            tracing::warn!(%fault, "a refused handshake could not be written down; it is counted");
            lock(self.window_of(refused.reason)).could_not(&source);
        }
    }

    /// The end of the node: what was counted is written down, if the log takes it.
    pub(super) async fn last_window(&self) {
        if tokio::time::timeout(LAST_WINDOW, self.close_window()).await.is_err() {
            tracing::warn!("writing down the counts of refused handshakes took too long; they are lost");
        }
    }

    /// Writes down what was counted. What the log does not take is told with the next window, and nothing else is tried meanwhile.
    async fn close_window(&self) {
        for window in [&self.windows.strangers, &self.windows.ours] {
            let mut counted = lock(window).close().into_iter();
            while let Some(suppressed) = counted.next() {
                let event = self.event(SUPPRESSED, suppressed.source.flatten(), suppressed.events);
                if let Err(fault) = self.audit.record(event).await {
                    tracing::warn!(%fault, "counts of refused handshakes could not be written down; they are counted on");
                    let mut window = lock(window);
                    window.put_back(suppressed);
                    counted.for_each(|suppressed| window.put_back(suppressed));
                    return;
                }
            }
        }
    }

    fn event(&self, reason: &'static str, remote: Option<IpAddr>, suppressed: u64) -> AuditEvent {
        let bare = AuditEvent::bare(self.clock.now(), RequestId::new(), AuditAction::Handshake, AuditOutcome::Denied);
        AuditEvent { reason: Some(reason), remote, suppressed, ..bare }
    }

    fn window_of(&self, reason: HandshakeRefusal) -> &Mutex<Suppression<Source>> {
        if reason.of_our_certificate() { &self.windows.ours } else { &self.windows.strangers }
    }
}

fn lock(window: &Mutex<Suppression<Source>>) -> MutexGuard<'_, Suppression<Source>> {
    // Held for a look into a small map.
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}
