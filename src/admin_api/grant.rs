//! `grants/{grant}`: one grant.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::Fault;

use super::grants::checked_limits;
use super::lookup::{grant_in_path, no_such_grant};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json};
use crate::postgres::grants::GrantUpdate;
use crate::wire::admin_v1::{GrantChangedV1, GrantV1, UpdateGrantV1};

/// One grant with its certificates.
#[utoipa::path(get, path = "/api/admin/v1/grants/{grant}", tag = "admin: grants",
    params(("grant" = uuid::Uuid, Path)), responses((status = 200, body = GrantV1), (status = 404)),
    security(("admin_token" = [])))]
pub async fn get(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let grant = services.grants.get(grant_in_path(&request)?).await?.ok_or_else(no_such_grant)?;
    Ok(json(StatusCode::OK, &views::grant(grant))?)
}

/// Changes scope, limits or expiry; effective with the peer's next request.
#[utoipa::path(patch, path = "/api/admin/v1/grants/{grant}", tag = "admin: grants", request_body = UpdateGrantV1,
    params(("grant" = uuid::Uuid, Path)),
    responses((status = 200, body = GrantChangedV1), (status = 404), (status = 409, description = "The grant has ended")),
    security(("admin_token" = [])))]
pub async fn update(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let grant = grant_in_path(&request)?;
    let body: UpdateGrantV1 = parse_json(&services.body(&request, payload).await?)?;
    if body == UpdateGrantV1::default() {
        return Err(Fault::invalid("nothing to change; give 'scope', 'limits' or 'expires_at'").into());
    }
    let update = GrantUpdate {
        scope: match &body.scope {
            Some(document) => Some(services.checked_scope(document).await?),
            None => None,
        },
        limits: body.limits.map(checked_limits).transpose()?,
        expires_at: body.expires_at.map(|at| services.checked_expiry(Some(at))).transpose()?,
    };
    let changed =
        services.grants.update(grant, &update, &services.changed_by(&request)).await?.ok_or_else(no_such_grant)?;
    Ok(services.answer_change(&request, changed, "update").await?)
}
