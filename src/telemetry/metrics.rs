use std::sync::Arc;
use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use mosaic_actors::domain::answer::BreakerState;
use mosaic_actors::domain::link::LinkState;
use mosaic_actors::peer_link::LinkStatus;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::TextEncoder;
use time::OffsetDateTime;
use tokio::time::Instant;

/// Upper bounds of the latency histogram, in seconds: from a cached snapshot (sub-millisecond) to the longest deadline (30 s).
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

/// The node's instruments. Labels come from fixed sets (listener, route pattern, method, status) and from the names of peers;
/// never from a request's values.
pub struct Metrics {
    registry: prometheus::Registry,
    provider: SdkMeterProvider,
    requests: Histogram<f64>,
    source_answers: Counter<u64>,
    egress_violations: Counter<u64>,
    authority_fresh: Gauge<u64>,
    link_state: Gauge<u64>,
    link_breaker: Gauge<u64>,
    link_in_flight: Gauge<u64>,
    link_latency: Gauge<f64>,
    link_restarts: Gauge<u64>,
    link_certificate_seconds: Gauge<i64>,
    crl_seconds: Gauge<i64>,
}

/// Why the exporter could not be set up: a defect, not a matter of configuration.
#[derive(Debug, thiserror::Error)]
#[error("the metrics exporter does not start: {0}")]
pub struct MetricsError(String);

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
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("mosaic");
        Ok(Arc::new(Self::with_meter(registry, provider, &meter)))
    }

    fn with_meter(registry: prometheus::Registry, provider: SdkMeterProvider, meter: &Meter) -> Self {
        let gauge = |name: &'static str, what: &'static str| meter.u64_gauge(name).with_description(what).build();
        Self {
            requests: meter
                .f64_histogram("mosaic_request_duration_seconds")
                .with_description("Time from a request's head to its answer, by listener, route, method and status")
                .with_boundaries(LATENCY_BUCKETS.to_vec())
                .build(),
            source_answers: meter
                .u64_counter("mosaic_source_answers")
                .with_description("Answers of sources to session queries, by source and status")
                .build(),
            egress_violations: meter
                .u64_counter("mosaic_egress_violations")
                .with_description("Rows that the second wall stopped; anything but zero is a defect")
                .build(),
            authority_fresh: gauge(
                "mosaic_authority_fresh",
                "1 while grants are known to be current, else 0 and peers get 503",
            ),
            link_state: gauge("mosaic_link_state", "1 for the link's current state, by peer, link and state"),
            link_breaker: gauge("mosaic_link_breaker", "Breaker of the link: 0 closed, 1 half open, 2 open"),
            link_in_flight: gauge("mosaic_link_in_flight", "Requests of the link that wait for the peer"),
            link_restarts: gauge("mosaic_link_restarts", "Restarts of the link after a panic"),
            link_latency: meter
                .f64_gauge("mosaic_link_latency_seconds")
                .with_description("Moving average of the peer's answer time")
                .build(),
            link_certificate_seconds: meter
                .i64_gauge("mosaic_link_certificate_expiry_seconds")
                .with_description("Seconds until the link's client certificate ends")
                .build(),
            crl_seconds: meter
                .i64_gauge("mosaic_crl_next_update_seconds")
                .with_description("Seconds until the loaded revocation list is stale")
                .build(),
            registry,
            provider,
        }
    }

    /// One answered request.
    pub fn request(&self, listener: &'static str, route: &str, method: &str, status: u16, took: Duration) {
        self.requests.record(
            took.as_secs_f64(),
            &[
                KeyValue::new("listener", listener),
                KeyValue::new("route", route.to_owned()),
                KeyValue::new("method", method.to_owned()),
                KeyValue::new("status", i64::from(status)),
            ],
        );
    }

    /// One source's part in a session query.
    pub fn source_answer(&self, source: &str, status: &'static str) {
        self.source_answers.add(1, &[KeyValue::new("source", source.to_owned()), KeyValue::new("status", status)]);
    }

    /// The second wall held something back.
    pub fn egress_violation(&self) {
        self.egress_violations.add(1, &[]);
    }

    /// Whether grants are known to be current, and until when the revocation list is.
    pub fn authority(&self, fresh: bool, crl_next_update: Option<OffsetDateTime>, now: OffsetDateTime) {
        self.authority_fresh.record(u64::from(fresh), &[]);
        if let Some(next_update) = crl_next_update {
            self.crl_seconds.record((next_update - now).whole_seconds(), &[]);
        }
    }

    /// The links as they stand at a scrape.
    pub fn links(&self, statuses: &[LinkStatus], now: OffsetDateTime) {
        for status in statuses {
            let labels =
                [KeyValue::new("peer", status.peer.to_string()), KeyValue::new("link", status.link.to_string())];
            let breaker = match status.breaker {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            self.link_breaker.record(breaker, &labels);
            self.link_in_flight.record(status.in_flight as u64, &labels);
            self.link_restarts.record(u64::from(status.restarts), &labels);
            if let Some(latency) = status.latency {
                self.link_latency.record(latency.as_secs_f64(), &labels);
            }
            self.link_certificate_seconds.record((status.certificate_not_after - now).whole_seconds(), &labels);
            for state in LinkState::ALL {
                let [peer, link] = labels.clone();
                self.link_state
                    .record(u64::from(state == status.state), &[peer, link, KeyValue::new("state", state.as_str())]);
            }
        }
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(|error| MetricsError(error.to_string()))
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the metrics provider was already shut down");
        }
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
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PATCH" | "PUT" | "DELETE" | "HEAD") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let outcome = next.call(request).await;
    let (route, status) = match &outcome {
        Ok(response) => {
            (response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned()), response.status().as_u16())
        }
        Err(error) => ("unmatched".to_owned(), error.as_response_error().status_code().as_u16()),
    };
    metrics.request(listener, &route, &method, status, started.elapsed());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_in_one_process_have_metrics_of_their_own() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.request("api", "/api/v1/query", "POST", 200, Duration::from_millis(3));
        one.egress_violation();
        let text = one.render().unwrap();
        assert!(
            text.contains(
                r#"mosaic_request_duration_seconds_count{listener="api",method="POST",route="/api/v1/query",status="200"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("mosaic_egress_violations_total 1"), "{text}");
        assert!(!other.render().unwrap().contains("/api/v1/query"));
    }
}
