//! How a site without a certificate gets its first one, and where the revocation list is: server TLS only, two paths, nothing else.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use mosaic_actors::audit_writer::AuditHandle;
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::grant_cache::GrantCacheHandle;
use mosaic_actors::ports::clock::Clock;

use crate::config::Limits;
use crate::http::no_such_path;
use crate::pki::authority::CertificateAuthority;
use crate::pki::extension_arc::ExtensionArc;
use crate::postgres::enrollment::Enrollments;
use crate::tls::ClientGate;
use crate::wire::federation_v1::BASE_PATH;

pub mod crl;
pub mod enroll;
pub mod failures;

#[cfg(test)]
mod tests;

pub use failures::Failures;

/// What the handlers ask. One per node, shared by all workers.
pub struct Services {
    pub site: SiteName,
    pub enrollments: Enrollments,
    pub ca: Arc<dyn CertificateAuthority>,
    pub arc: ExtensionArc,
    /// Holds the revocation list that is served.
    pub gate: ClientGate,
    /// Asked whether the new grant has arrived, so that the asker's first request finds it.
    pub grants: GrantCacheHandle,
    pub audit: AuditHandle,
    pub clock: Arc<dyn Clock>,
    pub failures: Failures,
    pub limits: EnrollmentLimits,
}

/// Bounds of one enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrollmentLimits {
    pub body_bytes: usize,
    /// From the head on.
    pub body_time: Duration,
    /// Life of a client certificate, unless its grant ends earlier.
    pub client_certificate: time::Duration,
    /// How long an answer waits for this replica to learn of the new grant.
    pub grant_visible: Duration,
}

impl From<&Limits> for EnrollmentLimits {
    fn from(limits: &Limits) -> Self {
        let seconds = i64::try_from(limits.client_certificate.as_secs()).unwrap_or(i64::MAX);
        Self {
            body_bytes: limits.enroll_body,
            body_time: limits.request_body,
            client_certificate: time::Duration::seconds(seconds),
            grant_visible: limits.authority_heartbeat + limits.authority_answer,
        }
    }
}

/// Routes of the enrolment listener. Wrap the app in [`crate::http::identify`].
pub fn configure(services: web::Data<Services>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config
            .app_data(services)
            .service(web::resource(format!("{BASE_PATH}/enroll")).route(web::post().to(enroll::enroll)))
            .service(web::resource(format!("{BASE_PATH}/crl")).route(web::get().to(crl::crl)))
            .default_service(web::to(no_such_path));
    }
}
