//! `/healthz`, `/readyz` and `/metrics`: for supervisors, load balancers and Prometheus. They need no token and tell no names.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, get, web};
use mosaic_actors::audit_writer::AuditHandle;
use mosaic_actors::peer_registry::PeerRegistryHandle;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::scope_evaluator::ScopeEvaluatorHandle;
use serde::Serialize;
use utoipa::ToSchema;

use crate::pki::authority::CertificateAuthority;
use crate::postgres::master_secrets::MasterSecrets;
use crate::secrets::MasterSecret;
use crate::shared_limits::SharedLimits;
use crate::telemetry::metrics::Metrics;
use crate::tls::ClientGate;

/// How long the database may take to answer the readiness probe: longer is not ready.
const DATABASE_PROBE: Duration = Duration::from_secs(1);

/// What the probes look at.
pub struct Services {
    pub metrics: Arc<Metrics>,
    /// Asked for what stands in the database, and so whether it answers.
    pub secrets: MasterSecrets,
    pub secret: Arc<MasterSecret>,
    pub evaluator: ScopeEvaluatorHandle,
    pub audit: AuditHandle,
    pub gate: ClientGate,
    pub registry: PeerRegistryHandle,
    pub authority: Arc<dyn CertificateAuthority>,
    /// `None` without a Redis in the configuration.
    pub shared_limits: Option<SharedLimits>,
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// The dependencies that are missing, by name: without them the node cannot do its work.
    pub missing: Vec<Missing>,
    /// Dependencies that are missing while the node goes on without them.
    pub degraded: Vec<Missing>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Missing {
    /// `database`, `master_secret`, `grants` or `revocation_list`; `redis` or `certificate_authority`.
    pub dependency: &'static str,
    pub effect: &'static str,
}

/// Adds the three routes.
pub fn configure(services: web::Data<Services>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config.app_data(services).service(healthz).service(readyz).service(metrics);
    }
}

/// The process lives.
#[utoipa::path(tag = "node", responses((status = 200, description = "The process lives")))]
#[get("/healthz")]
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// Whether the node can do its work, and which dependency is missing if not.
#[utoipa::path(tag = "node", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
#[get("/readyz")]
pub(crate) async fn readyz(services: web::Data<Services>) -> HttpResponse {
    let mut missing = Vec::new();
    match is_retired(&services).await {
        None => missing.push(Missing { dependency: "database", effect: "sessions and peers get 503" }),
        Some(true) => missing.push(Missing {
            dependency: "master_secret",
            effect: "peers get 503 and nothing can be sealed here: this replica's secret is retired",
        }),
        Some(false) => {}
    }
    if !services.evaluator.is_fresh() {
        missing
            .push(Missing { dependency: "grants", effect: "peers get 503 until the grants are known to be current" });
    }
    if services.gate.crl().is_none_or(|crl| crl.next_update <= services.clock.now()) {
        missing.push(Missing { dependency: "revocation_list", effect: "no peer can connect" });
    }
    let readiness = Readiness { ready: missing.is_empty(), missing, degraded: degraded(&services) };
    if readiness.ready {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// Prometheus metrics.
#[utoipa::path(tag = "node", responses((status = 200, description = "Prometheus text format", content_type = "text/plain")))]
#[get("/metrics")]
pub(crate) async fn metrics(services: web::Data<Services>) -> HttpResponse {
    let now = services.clock.now();
    services.metrics.certificate_authority(&services.authority.health());
    services.metrics.authority(services.evaluator.is_fresh(), services.gate.crl().map(|crl| crl.next_update), now);
    services.metrics.audit(&services.audit.stats());
    match services.metrics.render(&services.registry.statuses(), now) {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn degraded(services: &Services) -> Vec<Missing> {
    let mut degraded = Vec::new();
    if services.shared_limits.as_ref().is_some_and(|shared| !shared.is_up()) {
        let effect = "every replica counts the grants' requests alone";
        degraded.push(Missing { dependency: "redis", effect });
    }
    let authority = services.authority.health();
    if !authority.reachable || authority.revocations_waiting > 0 {
        let effect =
            "no certificate is issued or renewed, and the revocation list waits for it; revoked grants are refused";
        degraded.push(Missing { dependency: "certificate_authority", effect });
    }
    degraded
}

/// Whether the secret that this process seals with is retired; `None` when the database does not answer.
async fn is_retired(services: &Services) -> Option<bool> {
    let asked = services.secrets.is_retired(services.secret.sealing());
    tokio::time::timeout(DATABASE_PROBE, asked).await.ok()?.ok()
}
