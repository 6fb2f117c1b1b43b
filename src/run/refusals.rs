//! Refused handshakes on their way into the audit log.
//!
//! ```text
//! acceptor ─▶ window: the first few of an address, and of all ─▶ channel ─▶ one at a time into the audit
//!                 └▶ counted ─────────── the window ends ─▶ one event per address with its count
//! ```
//!
//! A handshake never waits for any of it, and however many are refused, what is written per window is bounded.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
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
use crate::tls::{OnRefused, RefusedHandshake};

/// Events that wait for the log. More are counted instead.
const WAITING: usize = 64;

/// What stands where the events of an address were counted only.
const SUPPRESSED: &str = "suppressed";

/// The node's refused handshakes.
#[derive(Clone)]
pub(super) struct Refusals {
    window: Arc<Mutex<Suppression<Source>>>,
    audit: AuditHandle,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
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
        let refusals = Self { window: Arc::new(Mutex::new(Suppression::new(bounds))), audit, clock, metrics };
        let (queue, queued) = mpsc::channel(WAITING);
        actix_rt::spawn(refusals.clone().write(queued, limits.handshake_window, stop));
        let told = refusals.clone();
        (refusals, Arc::new(move |refused| told.refused(refused, &queue)))
    }

    fn refused(&self, refused: RefusedHandshake, queue: &mpsc::Sender<RefusedHandshake>) {
        self.metrics.handshake_refused(refused.reason.as_str());
        tracing::debug!(reason = refused.reason.as_str(), remote = ?refused.remote, "a handshake was refused");
        let source = refused.remote.map(household);
        if !self.window().admits(&source) {
            return;
        }
        if queue.try_send(refused).is_err() {
            self.window().could_not(&source);
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
            self.window().could_not(&source);
        }
    }

    /// Writes down what was counted: at the end of a window, and of the node.
    pub(super) async fn close_window(&self) {
        let counted = self.window().close();
        for suppressed in counted {
            let event = self.event(SUPPRESSED, suppressed.source.flatten(), suppressed.events);
            if let Err(fault) = self.audit.record(event).await {
                tracing::warn!(%fault, events = suppressed.events, "a count of refused handshakes was lost");
            }
        }
    }

    fn event(&self, reason: &'static str, remote: Option<IpAddr>, suppressed: u64) -> AuditEvent {
        AuditEvent {
            at: self.clock.now(),
            request: RequestId::new(),
            peer: None,
            grant: None,
            grant_version: None,
            subject: None,
            action: AuditAction::Handshake,
            resource: None,
            query_hash: None,
            outcome: AuditOutcome::Denied,
            reason: Some(reason),
            rows: 0,
            bytes_out: 0,
            latency: Duration::ZERO,
            serial: None,
            remote,
            suppressed,
        }
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Suppression<Source>> {
        // Held for a look into a small map.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
