//! `POST get/{resource}/{id}`: one row, or a 404 that does not tell absent from invisible.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{BufMut, Bytes, BytesMut};
use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::query::{ReadRight, RowId, Verb};
use mosaic_actors::scope_evaluator::egress;
use tokio::time::Instant;
use tracing::Instrument;

use super::Services;
use super::inbound::{Inbound, right_of};
use crate::http::{ApiError, json_bytes, parse_json, path_text};
use crate::wire::federation_v1::GetRequest;

/// One row, within the grant's scope and its subject's rights.
#[utoipa::path(post, path = "/api/federation/v1/get/{resource}/{id}", tag = "federation",
    request_body = GetRequest, params(("resource" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "`{\"item\":{…}}`", body = Object),
        (status = 401, description = "The certificate is not one of a grant"),
        (status = 403, description = "The grant does not count, or does not cover the resource"),
        (status = 404, description = "No such row, or none that may be seen: the same bytes"),
        (status = 429, description = "Over the grant's limits")),
    security(("client_certificate" = [])))]
pub(crate) async fn get(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    // What cannot be decoded names no resource and no row: refused as such, after the caller is known.
    let resource = path_text(&request, "resource").unwrap_or_default();
    let id = path_text(&request, "id").unwrap_or_default();
    let mut inbound = Inbound::begin(services, &request, AuditAction::Get, Some(&resource));
    let span = inbound.span();
    async move {
        let permit = inbound.admit(&request, Verb::Get, Some(&resource)).await?;
        let right = right_of(&permit)?;
        let deadline = inbound.deadline(&request).await?;
        let body = inbound.body(&request, payload).await?;
        if let Err(fault) = parse_json::<GetRequest>(&body) {
            return Err(inbound.reject(fault).await);
        }
        inbound.asks(&[b"get", right.resource().as_str().as_bytes(), id.as_bytes()]);
        answer(&inbound, right, &id, deadline).await
    }
    .instrument(span)
    .await
}

async fn answer(inbound: &Inbound, right: &ReadRight, id: &str, deadline: Instant) -> Result<HttpResponse, ApiError> {
    let Ok(id) = RowId::parse(id) else { return Err(missing(inbound, "row_id_malformed").await) };
    let page = match inbound.services.rows.get(right.clone(), id.clone(), deadline).await {
        Ok(page) => page,
        Err(fault) => return Err(inbound.fail(fault, "rows")),
    };
    let page = match egress::check(right, page) {
        Ok(page) => page.into_page(),
        Err(violation) => return Err(inbound.breach(violation.as_str()).await),
    };
    let Some(row) = page.rows.first() else {
        let reason = true_reason(inbound, right, id, deadline).await;
        return Err(missing(inbound, reason).await);
    };
    let json = assemble(&page.row_json(row));
    inbound.allow(1, json.len()).await?;
    Ok(json_bytes(StatusCode::OK, json))
}

/// Asked in both cases, so that neither answer comes later than the other.
async fn true_reason(inbound: &Inbound, right: &ReadRight, id: RowId, deadline: Instant) -> &'static str {
    match inbound.services.rows.exists(right.clone(), id, deadline).await {
        Ok(true) => "row_not_visible",
        Ok(false) => "row_absent",
        Err(_) => "row_absent_or_not_visible",
    }
}

async fn missing(inbound: &Inbound, reason: &'static str) -> ApiError {
    inbound.refuse(Fault::new(FaultKind::NotFound, Stage::Database), reason).await
}

fn assemble(row: &Bytes) -> Bytes {
    const HEAD: &[u8] = br#"{"item":"#;
    let mut json = BytesMut::with_capacity(HEAD.len() + row.len() + 1);
    json.put_slice(HEAD);
    json.put_slice(row);
    json.put_u8(b'}');
    json.freeze()
}
