//! What peers may ask of this site, behind mutual TLS: `/api/federation/v1/*`.
//!
//! Every request takes the same way ([`inbound`]): who is it → what does the grant say → rate → scope → body → rows → egress guard →
//! audit commit → answer. A refusal is written down before it is told, and no row leaves before its event is committed.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use mosaic_actors::audit_writer::AuditHandle;
use mosaic_actors::domain::catalog::Catalog;
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::ports::local_rows::LocalRows;
use mosaic_actors::scope_evaluator::ScopeEvaluatorHandle;

use crate::config::{AuditMode, Limits};
use crate::secrets::MacKey;
use crate::telemetry::metrics::Metrics;
use crate::wire::federation_v1::BASE_PATH;
use crate::wire::where_v1::WhereLimits;

pub mod admission;
pub mod capabilities;
pub mod contacts;
pub mod get;
pub mod inbound;
pub mod list;
pub mod renew;
pub mod renewal;
pub mod unknown;
pub mod watch;
pub mod watches;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use contacts::Contacts;
pub use renewal::Renewal;
pub use watches::{WatchBounds, Watches};

/// The verbs that `capabilities` promises: those below and no others.
pub const SUPPORTED_VERBS: [&str; 3] = ["capabilities", "list", "get"];

/// What the handlers ask. One per node, shared by all workers.
pub struct Services {
    pub site: SiteName,
    pub evaluator: ScopeEvaluatorHandle,
    pub catalog: Arc<Catalog>,
    /// Reads by the pool of peers, so that they cannot starve local users.
    pub rows: Arc<dyn LocalRows>,
    pub audit: AuditHandle,
    pub audit_mode: AuditMode,
    pub admission: Admission,
    /// Issues the holders' next certificates, and ends the earlier ones.
    pub renewal: Renewal,
    pub watches: Arc<Watches>,
    /// Told of every holder that was heard from: a link in the other direction may wait for it.
    pub contacts: Contacts,
    /// Authenticates the cursors handed to peers.
    pub cursor_key: MacKey,
    /// Keys the query hashes of the audit log.
    pub query_hash_key: MacKey,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub limits: FederationLimits,
}

/// Bounds of one inbound request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FederationLimits {
    pub body_bytes: usize,
    /// From the head on.
    pub body_time: Duration,
    /// Rows of a list whose `limit` is not given.
    pub page_default: std::num::NonZeroU32,
    /// For the database, when the asker names no deadline, and the longest that it may name.
    pub deadline_default: Duration,
    pub deadline_max: Duration,
    pub filter: WhereLimits,
    /// Life of a client certificate, unless its grant ends earlier.
    pub client_certificate: time::Duration,
    /// How long an answer waits for this replica to learn of a new certificate.
    pub certificate_visible: Duration,
}

impl From<&Limits> for FederationLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            body_bytes: limits.federation_body,
            body_time: limits.request_body,
            page_default: limits.page_default,
            deadline_default: limits.request_deadline,
            deadline_max: limits.request_deadline_max,
            filter: limits.into(),
            client_certificate: time::Duration::seconds(
                i64::try_from(limits.client_certificate.as_secs()).unwrap_or(i64::MAX),
            ),
            certificate_visible: limits.authority_heartbeat * 2,
        }
    }
}

/// Routes of the federation listener. Wrap the app in [`crate::http::identify`], and build the server with
/// [`crate::tls::peer_connection::on_connect`]: without a connection's identity every request is refused.
pub fn configure(services: web::Data<Services>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config
            .app_data(services)
            .service(
                web::resource(format!("{BASE_PATH}/capabilities"))
                    .route(web::get().to(capabilities::capabilities))
                    .default_service(web::to(unknown::only_get)),
            )
            .service(
                web::resource(format!("{BASE_PATH}/list/{{resource}}"))
                    .route(web::post().to(list::list))
                    .default_service(web::to(unknown::only_post)),
            )
            .service(
                web::resource(format!("{BASE_PATH}/get/{{resource}}/{{id}}"))
                    .route(web::post().to(get::get))
                    .default_service(web::to(unknown::only_post)),
            )
            .service(
                web::resource(format!("{BASE_PATH}/renew"))
                    .route(web::post().to(renew::renew))
                    .default_service(web::to(unknown::only_post)),
            )
            .service(
                web::resource(format!("{BASE_PATH}/watch"))
                    .route(web::post().to(watch::watch))
                    .default_service(web::to(unknown::only_post)),
            )
            .default_service(web::to(unknown::no_such_path));
    }
}
