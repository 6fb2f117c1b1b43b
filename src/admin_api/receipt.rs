//! The answer to a change of rights: it leaves when this replica decides by the change, and says how far the change got.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::grant::GrantChange;
use tokio::time::timeout;

use super::lookup::{grant_in_path, no_such_grant};
use super::{Services, views};
use crate::http::{CurrentRequest, json};
use crate::pki::authority::CaError;
use crate::pki::crl::revoked_serials;
use crate::postgres::grants::{Changed, RevokedCertificate};
use crate::wire::admin_v1::{GrantChangedV1, ReceiptV1};

/// How often, and how far apart, it is looked whether the authority's list names what was revoked.
const LOOKS_FOR_LIST: usize = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Services {
    /// Suspends, resumes or revokes the grant in the path.
    pub(super) async fn change_grant(
        &self,
        request: &HttpRequest,
        change: GrantChange,
        name: &'static str,
    ) -> Result<HttpResponse, Fault> {
        let grant = grant_in_path(request)?;
        let changed = self.grants.change(grant, change, &self.changed_by(request)).await?.ok_or_else(no_such_grant)?;
        self.answer_change(request, changed, name).await
    }

    /// Waits for the change to reach this replica and the certificate authority, and writes the receipt.
    pub(super) async fn answer_change(
        &self,
        request: &HttpRequest,
        changed: Changed,
        name: &'static str,
    ) -> Result<HttpResponse, Fault> {
        let current = CurrentRequest::of(request);
        let effective = self.grant_cache.reached(changed.authority_version, self.reach_deadline()).await;
        let took = current.started.elapsed();
        let crl_published =
            if changed.revoked.is_empty() { None } else { Some(self.publish_crl(&changed.revoked).await) };
        let receipt = ReceiptV1 {
            change: name.to_owned(),
            grant_version: changed.grant.version,
            authority_version: changed.authority_version,
            effective,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            certificates_revoked: u32::try_from(changed.revoked.len()).unwrap_or(u32::MAX),
            crl_published,
            request_id: current.id.0,
        };
        json(StatusCode::OK, &GrantChangedV1 { grant: views::grant(changed.grant), receipt })
    }

    /// Has the authority sign a list with the revocations that the change put on record. A failure loses nothing: they stay on
    /// record and go into a later list; the grant itself is refused already.
    pub(super) async fn publish_crl(&self, revoked: &[RevokedCertificate]) -> bool {
        let named = timeout(self.limits.crl_publish, async {
            for look in 0..LOOKS_FOR_LIST {
                // Another replica, or this one's upkeep, may be telling the authority at this moment.
                if look > 0 {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                let crl = self.authority.crl().await?;
                let named = revoked_serials(&crl.der).unwrap_or_default();
                if revoked.iter().all(|certificate| named.contains(&certificate.serial)) {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        match named.await {
            Ok(Ok(true)) => true,
            Ok(Ok(false)) => {
                tracing::warn!("revocations are on record, but the authority's list does not name them yet");
                false
            }
            Ok(Err(error)) => {
                let error: CaError = error;
                tracing::warn!(%error, "revocations are on record, but the new list could not be signed yet");
                false
            }
            Err(_) => {
                tracing::warn!("revocations are on record, but the new list was not signed in time");
                false
            }
        }
    }
}
