//! `GET capabilities`: what the grant covers. An active grant suffices.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::Grant;
use mosaic_actors::domain::query::Verb;
use tracing::Instrument;

use super::inbound::Inbound;
use super::{SUPPORTED_VERBS, Services};
use crate::http::{ApiError, json_bytes};
use crate::wire::federation_v1::{CapabilitiesAnswer, PROTOCOL};

/// What the grant of the presented certificate covers. An active grant suffices.
#[utoipa::path(get, path = "/api/federation/v1/capabilities", tag = "federation",
    responses((status = 200, body = crate::wire::federation_v1::CapabilitiesAnswer),
        (status = 401, description = "The certificate is not one of a grant"),
        (status = 403, description = "The grant does not count (any more); `reason` where the holder may know"),
        (status = 429, description = "Over the grant's limits")),
    security(("client_certificate" = [])))]
pub(crate) async fn capabilities(
    services: web::Data<Services>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let mut inbound = Inbound::begin(services, &request, AuditAction::Capabilities, None);
    let span = inbound.span();
    async move {
        let permit = inbound.admit(&request, Verb::Capabilities, None).await?;
        let answer = describe(&inbound.services, &permit.grant);
        let body = serde_json::to_vec(&answer).map_err(|_| Fault::new(FaultKind::Internal, Stage::Egress))?;
        inbound.allow(0, body.len()).await?;
        Ok(json_bytes(StatusCode::OK, Bytes::from(body)))
    }
    .instrument(span)
    .await
}

/// The scope as it counts now: what it lists, does not exclude, and the catalog still lets out.
fn describe(services: &Services, grant: &Grant) -> CapabilitiesAnswer {
    let scope = &grant.scope;
    let open = scope.resources.iter().filter(|name| scope.covers(name) && services.catalog.is_grantable(name));
    CapabilitiesAnswer {
        protocol: PROTOCOL,
        site: services.site.to_string(),
        resources: open.map(ToString::to_string).collect(),
        excluded_resources: scope.excluded_resources.iter().map(ToString::to_string).collect(),
        max_rows_per_query: scope.max_rows_per_query,
        supported_verbs: SUPPORTED_VERBS.map(str::to_owned).to_vec(),
        grant_expires_at: grant.expires_at,
        cache_max_age: scope.cache_max_age_seconds,
    }
}
