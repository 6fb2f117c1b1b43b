//! `GET crl`: the revocation list that this replica enforces, as DER (RFC 5280; media type of RFC 2585).

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};

use super::Services;
use crate::http::ApiError;

/// Seconds that somebody may keep the list: revocation itself never waits for it.
const MAX_AGE: &str = "max-age=60";

/// This site's certificate revocation list, DER.
#[utoipa::path(get, path = "/api/federation/v1/crl", tag = "enrollment",
    responses((status = 200, description = "DER", content_type = "application/pkix-crl"),
        (status = 503, description = "No list is loaded now")))]
pub(crate) async fn crl(services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let crl = services.gate.crl().ok_or_else(|| Fault::new(FaultKind::Unavailable, Stage::Authorize))?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/pkix-crl"))
        .insert_header((header::CACHE_CONTROL, MAX_AGE))
        .body(crl.der))
}
