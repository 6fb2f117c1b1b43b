use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use mosaic_actors::audit_writer::AuditStats;
use mosaic_actors::domain::answer::BreakerState;
use mosaic_actors::domain::link::LinkState;
use mosaic_actors::peer_link::{LinkStatus, WatchStatus};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, SdkMeterProvider, Stream};
use prometheus::{GaugeVec, IntGaugeVec, Opts, TextEncoder};
use time::OffsetDateTime;
use tokio::time::Instant;

/// Upper bounds of the latency histogram, in seconds: from a cached snapshot (sub-millisecond) to the longest deadline (30 s).
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

const REQUESTS: &str = "mosaic_request_duration_seconds";
const SOURCES: &str = "mosaic_source_answers";

/// The node's instruments. Labels come from fixed sets (listener, route pattern, method, status) and from the names of peers;
/// never from a request's values.
pub struct Metrics {
    registry: prometheus::Registry,
    provider: SdkMeterProvider,
    requests: Histogram<f64>,
    in_flight: Arc<AtomicUsize>,
    source_answers: Counter<u64>,
    egress_violations: Counter<u64>,
    limit_fallbacks: Counter<u64>,
    shared_limits: Gauge<u64>,
    revocations_waiting: Gauge<u64>,
    authority_reachable: Gauge<u64>,
    handshakes_refused: Counter<u64>,
    audit_waiting: Gauge<u64>,
    audit_dropped: Gauge<u64>,
    audit_failed: Gauge<u64>,
    audit_refused: Gauge<u64>,
    audit_sealed: Counter<u64>,
    audit_broken: Counter<u64>,
    audit_disowned: Counter<u64>,
    audit_held_up: Counter<u64>,
    authority_fresh: Gauge<u64>,
    links: Mutex<LinkGauges>,
    crl_seconds: Gauge<i64>,
}

/// Why the exporter could not be set up: a defect, not a matter of configuration.
#[derive(Debug, thiserror::Error)]
#[error("the metrics exporter does not start: {0}")]
pub struct MetricsError(String);

/// Series of an instrument that has labels from a small fixed set, or none. The SDK keeps room for all of them from the start.
const SERIES: usize = 32;
/// Series of requests: listeners, routes, methods and statuses that go together.
const SERIES_OF_REQUESTS: usize = 500;
/// Series of sources: a few hundred sites with a handful of statuses each. What comes beyond is counted together.
const SERIES_OF_SOURCES: usize = 2_000;

fn room_for_series(instrument: &Instrument) -> Option<Stream> {
    let series = match instrument.name() {
        REQUESTS => SERIES_OF_REQUESTS,
        SOURCES => SERIES_OF_SOURCES,
        _ => SERIES,
    };
    let stream = Stream::builder().with_cardinality_limit(series);
    let stream = if instrument.name() == REQUESTS { stream.with_aggregation(latencies()) } else { stream };
    stream.build().ok()
}

/// A view replaces what the instrument itself asked for, its buckets too.
fn latencies() -> Aggregation {
    Aggregation::ExplicitBucketHistogram { boundaries: LATENCY_BUCKETS.to_vec(), record_min_max: false }
}

impl Metrics {
    /// A registry of its own, so that several nodes can live in one process.
    pub fn new() -> Result<Arc<Self>, MetricsError> {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).with_view(room_for_series).build();
        let meter = provider.meter("mosaic");
        let links = LinkGauges::register(&registry).map_err(|error| MetricsError(error.to_string()))?;
        Ok(Arc::new(Self::with_meter(registry, provider, &meter, links)))
    }

    fn with_meter(
        registry: prometheus::Registry,
        provider: SdkMeterProvider,
        meter: &Meter,
        links: LinkGauges,
    ) -> Self {
        let gauge = |name: &'static str, what: &'static str| meter.u64_gauge(name).with_description(what).build();
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        Self {
            in_flight: Arc::default(),
            requests: meter
                .f64_histogram(REQUESTS)
                .with_description("Time from a request's head to its answer, by listener, route, method and status")
                .with_boundaries(LATENCY_BUCKETS.to_vec())
                .build(),
            source_answers: meter
                .u64_counter(SOURCES)
                .with_description("Answers of sources to session queries, by source and status")
                .build(),
            egress_violations: meter
                .u64_counter("mosaic_egress_violations")
                .with_description("Rows that the second wall stopped; anything but zero is a defect")
                .build(),
            limit_fallbacks: meter
                .u64_counter("mosaic_limit_fallbacks")
                .with_description("Requests that this replica counted alone because Redis did not answer in time")
                .build(),
            shared_limits: gauge(
                "mosaic_shared_limits_up",
                "1 while replicas count the grants' requests together, 0 while each counts alone; absent without Redis",
            ),
            revocations_waiting: gauge(
                "mosaic_revocations_waiting",
                "Revocations that the certificate authority was not told yet; the grants themselves are refused already",
            ),
            authority_reachable: gauge(
                "mosaic_certificate_authority_up",
                "1 while the certificate authority answers, else 0",
            ),
            handshakes_refused: counter(
                "mosaic_handshakes_refused",
                "Handshakes that the federation listener refused, by reason; the audit holds the first ones of each address",
            ),
            audit_waiting: gauge("mosaic_audit_waiting", "Audit events that wait for their commit"),
            audit_dropped: gauge(
                "mosaic_audit_dropped",
                "Audit events since the start that nobody waited for (audit = \"relaxed\") and that found no place in the queue",
            ),
            audit_failed: gauge(
                "mosaic_audit_failed",
                "Audit events since the start whose commit failed; with \"strict\" no row left",
            ),
            audit_refused: gauge(
                "mosaic_audit_refused",
                "Audit events since the start that were refused because too many waited; their requests got 503",
            ),
            audit_sealed: counter("mosaic_audit_sealed", "Audit events that this replica has put under a seal"),
            audit_broken: counter(
                "mosaic_audit_broken",
                "Audit events that were altered or removed before they were sealed; anything but zero is tampering",
            ),
            audit_held_up: counter(
                "mosaic_audit_held_up",
                "Lanes of the audit log, per round, whose sealing waits for a master secret that this replica does not have",
            ),
            audit_disowned: counter(
                "mosaic_audit_disowned",
                "Rounds of sealing that met seals which are not this site's, or do not go through the checkpoint that this node has kept",
            ),
            authority_fresh: gauge(
                "mosaic_authority_fresh",
                "1 while grants are known to be current, else 0 and peers get 503",
            ),
            links: Mutex::new(links),
            crl_seconds: meter
                .i64_gauge("mosaic_crl_next_update_seconds")
                .with_description("Seconds until the loaded revocation list is stale")
                .build(),
            registry,
            provider,
        }
    }

    /// One answered request.
    pub fn request(&self, listener: &'static str, route: String, method: &'static str, status: u16, took: Duration) {
        self.requests.record(
            took.as_secs_f64(),
            &[
                KeyValue::new("listener", listener),
                KeyValue::new("route", route),
                KeyValue::new("method", method),
                KeyValue::new("status", i64::from(status)),
            ],
        );
    }

    /// One source's part in a session query.
    pub fn source_answer(&self, source: &str, status: &'static str) {
        self.source_answers.add(1, &[KeyValue::new("source", source.to_owned()), KeyValue::new("status", status)]);
    }

    /// Requests of all listeners whose handler has not answered yet, and streamed answers; what a stopping node waits for.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Counts among [`Self::in_flight`] as long as it lives: for an answer that goes on when its handler has returned.
    #[must_use]
    pub fn under_way(&self) -> InFlight {
        self.enter()
    }

    fn enter(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(&self.in_flight))
    }

    /// The second wall held something back.
    pub fn egress_violation(&self) {
        self.egress_violations.add(1, &[]);
    }

    /// This replica counted a request alone that all should have counted together.
    pub fn limit_fallback(&self) {
        self.limit_fallbacks.add(1, &[]);
    }

    /// Whether replicas count together now.
    pub fn shared_limits(&self, up: bool) {
        self.shared_limits.record(u64::from(up), &[]);
    }

    /// Whether the certificate authority answers, and how many revocations it was not told yet.
    pub fn certificate_authority(&self, health: &crate::pki::authority::CaHealth) {
        self.authority_reachable.record(u64::from(health.reachable), &[]);
        self.revocations_waiting.record(health.revocations_waiting, &[]);
    }

    /// A handshake that the federation listener refused.
    pub fn handshake_refused(&self, reason: &'static str) {
        self.handshakes_refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// The audit writer as it stands.
    pub fn audit(&self, stats: &AuditStats) {
        self.audit_waiting.record(stats.waiting as u64, &[]);
        self.audit_dropped.record(stats.dropped, &[]);
        self.audit_failed.record(stats.failed, &[]);
        self.audit_refused.record(stats.refused, &[]);
    }

    /// A round of sealing the audit log.
    pub fn sealed(&self, events: u64, broken: u64) {
        self.audit_sealed.add(events, &[]);
        self.audit_broken.add(broken, &[]);
    }

    /// Lanes that a round of sealing could not go on with.
    pub fn lanes_held_up(&self, lanes: u64) {
        self.audit_held_up.add(lanes, &[]);
    }

    /// A round of sealing met seals that this node cannot own.
    pub fn seals_disowned(&self) {
        self.audit_disowned.add(1, &[]);
    }

    /// Whether grants are known to be current, and until when the revocation list is.
    pub fn authority(&self, fresh: bool, crl_next_update: Option<OffsetDateTime>, now: OffsetDateTime) {
        self.authority_fresh.record(u64::from(fresh), &[]);
        if let Some(next_update) = crl_next_update {
            self.crl_seconds.record((next_update - now).whole_seconds(), &[]);
        }
    }

    /// Everything in Prometheus' text format, with the links as they stand now.
    pub fn render(&self, links: &[LinkStatus], now: OffsetDateTime) -> Result<String, MetricsError> {
        // One scrape at a time: the links' series are made anew for each.
        let gauges = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.set(links, now);
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(|error| MetricsError(error.to_string()))
    }
}

/// Gauges of the links. They are set anew for each scrape, so that a link that was removed leaves no series behind: OpenTelemetry's
/// instruments keep every series for ever.
struct LinkGauges {
    state: IntGaugeVec,
    breaker: IntGaugeVec,
    in_flight: IntGaugeVec,
    restarts: IntGaugeVec,
    latency: GaugeVec,
    certificate: IntGaugeVec,
    renewal_failures: IntGaugeVec,
    watch: IntGaugeVec,
}

impl LinkGauges {
    fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let link = ["peer", "link"];
        let integer = |name: &str, what: &str, labels: &[&str]| -> prometheus::Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, what), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let latency = Opts::new("mosaic_link_latency_seconds", "Moving average of the peer's answer time");
        let latency = GaugeVec::new(latency, &link)?;
        registry.register(Box::new(latency.clone()))?;
        Ok(Self {
            state: integer("mosaic_link_state", "1 for the link's current state, else 0", &["peer", "link", "state"])?,
            breaker: integer("mosaic_link_breaker", "Breaker of the link: 0 closed, 1 half open, 2 open", &link)?,
            in_flight: integer("mosaic_link_in_flight", "Requests of the link that wait for the peer", &link)?,
            restarts: integer("mosaic_link_restarts", "Restarts of the link after a panic", &link)?,
            latency,
            certificate: integer(
                "mosaic_link_certificate_expiry_seconds",
                "Seconds until the link's client certificate ends",
                &link,
            )?,
            renewal_failures: integer(
                "mosaic_link_renewal_failures",
                "Failed renewals of the certificate that the link has now",
                &link,
            )?,
            watch: integer(
                "mosaic_link_watch",
                "1 while the peer tells changes of the grant by itself, else 0",
                &link,
            )?,
        })
    }

    fn set(&self, links: &[LinkStatus], now: OffsetDateTime) {
        let Self { state, breaker, in_flight, restarts, latency: _, certificate, renewal_failures, watch } = self;
        for gauge in [state, breaker, in_flight, restarts, certificate, renewal_failures, watch] {
            gauge.reset();
        }
        self.latency.reset();
        for status in links {
            self.set_one(status, now);
        }
    }

    fn set_one(&self, status: &LinkStatus, now: OffsetDateTime) {
        let (peer, link) = (status.peer.as_str(), status.link.to_string());
        let labels = [peer, link.as_str()];
        let breaker = match status.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        self.breaker.with_label_values(&labels).set(breaker);
        self.in_flight.with_label_values(&labels).set(i64::try_from(status.in_flight).unwrap_or(i64::MAX));
        self.restarts.with_label_values(&labels).set(i64::from(status.restarts));
        self.certificate.with_label_values(&labels).set((status.certificate_not_after - now).whole_seconds());
        self.renewal_failures.with_label_values(&labels).set(i64::from(status.renewal_failures));
        let watches = matches!(status.watch, WatchStatus::Up { .. });
        self.watch.with_label_values(&labels).set(i64::from(watches));
        if let Some(latency) = status.latency {
            self.latency.with_label_values(&labels).set(latency.as_secs_f64());
        }
        for state in LinkState::ALL {
            let labels = [peer, link.as_str(), state.as_str()];
            self.state.with_label_values(&labels).set(i64::from(state == status.state));
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the metrics provider was already shut down");
        }
    }
}

/// A request under way, counted as long as this lives.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Measures every request of a listener. Requests that no route matches share one label, so that a scan makes no new series.
pub async fn measure<B: MessageBody>(
    metrics: Arc<Metrics>,
    listener: &'static str,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let _under_way = metrics.enter();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let outcome = next.call(request).await;
    let (route, status) = match &outcome {
        Ok(response) => {
            (response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned()), response.status().as_u16())
        }
        Err(error) => ("unmatched".to_owned(), error.as_response_error().status_code().as_u16()),
    };
    metrics.request(listener, route, method, status, started.elapsed());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_in_one_process_have_metrics_of_their_own() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.request("api", "/api/v1/query".to_owned(), "POST", 200, Duration::from_millis(3));
        one.egress_violation();
        let text = one.render(&[], OffsetDateTime::UNIX_EPOCH).unwrap();
        assert!(
            text.contains(
                r#"mosaic_request_duration_seconds_count{listener="api",method="POST",route="/api/v1/query",status="200"} 1"#
            ),
            "{text}"
        );
        assert!(
            text.contains(r#"status="200",le="0.0025"} 0"#) && text.contains(r#"status="200",le="0.005"} 1"#),
            "{text}"
        );
        assert!(text.contains("mosaic_egress_violations_total 1"), "{text}");
        assert!(!other.render(&[], OffsetDateTime::UNIX_EPOCH).unwrap().contains("/api/v1/query"));
    }
}
