use std::sync::Arc;

use actix_web::{HttpRequest, web};
use bytes::Bytes;
use mosaic_actors::domain::catalog::Catalog;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::grant_cache::GrantCacheHandle;
use mosaic_actors::peer_registry::PeerRegistryHandle;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::ports::local_rows::LocalRows;
use tokio::time::Instant;
use url::Url;

use super::KeptCheckpoint;
use crate::config::Limits;
use crate::http::{CurrentRequest, read_body, remote_ip};
use crate::peer_http::EnrollmentClient;
use crate::pki::authority::CertificateAuthority;
use crate::postgres::audit::AuditStore;
use crate::postgres::enrollment::Enrollments;
use crate::postgres::grants::{ChangedBy, Grants};
use crate::postgres::links::Links;
use crate::postgres::master_secrets::MasterSecrets;
use crate::postgres::people::People;
use crate::postgres::sessions::Sessions;
use crate::secrets::Sealer;

/// What the admin API works with.
pub struct Services {
    pub site: SiteName,
    /// What invites name: where the two listeners for other sites are reached.
    pub enroll_url: Url,
    pub federation_url: Url,
    pub sessions: Sessions,
    pub people: People,
    pub grants: Grants,
    pub enrollments: Enrollments,
    pub links: Links,
    pub audit: AuditStore,
    /// Where this replica keeps its newest checkpoint.
    pub kept_checkpoint: KeptCheckpoint,
    /// This replica's view of rights.
    pub grant_cache: GrantCacheHandle,
    /// This replica's links.
    pub registry: PeerRegistryHandle,
    pub catalog: Arc<Catalog>,
    /// For previews.
    pub rows: Arc<dyn LocalRows>,
    pub authority: Arc<dyn CertificateAuthority>,
    pub enrollment_client: EnrollmentClient,
    pub sealer: Sealer,
    pub master_secrets: MasterSecrets,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    /// The configuration lets admins make links go wrong.
    pub fault_injection: bool,
}

impl Services {
    /// The whole body of an admin's request, within its cap and time.
    pub(super) async fn body(&self, request: &HttpRequest, payload: web::Payload) -> Result<Bytes, Fault> {
        let deadline = CurrentRequest::of(request).started + self.limits.request_body;
        read_body(request, payload, self.limits.admin_body, deadline).await
    }

    /// Who changes something now, for the audit event.
    pub(super) fn changed_by(&self, request: &HttpRequest) -> ChangedBy {
        ChangedBy { request: CurrentRequest::of(request).id, at: self.clock.now(), remote: remote_ip(request) }
    }

    /// Until when an answer waits for this replica to decide by a change.
    pub(super) fn reach_deadline(&self) -> Instant {
        Instant::now() + self.limits.change_reach
    }
}
