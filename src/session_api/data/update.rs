//! `PATCH /api/v1/data/{resource}/{id}`: some fields of an own row.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::{refused, resource, row_id};
use crate::http::{ApiError, CurrentRequest, json_bytes, read_body};
use crate::session_api::Services;
use crate::session_api::authenticate::authenticate;

/// Changes the named fields of a row that the session's user owns; the others stay.
#[utoipa::path(
    patch,
    path = "/api/v1/data/{resource}/{id}",
    tag = "session",
    params(
        ("resource" = String, Path, description = "tasks, notes, memory, …"),
        ("id" = String, Path, description = "The row's id"),
    ),
    request_body(content = Object, description = "The fields to change"),
    security(("session_token" = [])),
    responses(
        (status = 200, description = "The row as reads give it"),
        (status = 400, description = "A field is unknown or wrong", body = crate::http::error::ErrorBody),
        (status = 401, description = "No valid session token", body = crate::http::error::ErrorBody),
        (status = 404, description = "No such row of this user", body = crate::http::error::ErrorBody),
    )
)]
pub async fn update(
    request: HttpRequest,
    payload: Payload,
    current: CurrentRequest,
    services: Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let session = authenticate(&services, &request).await?;
    let (resource, id) = (resource(&request)?, row_id(&request)?);
    let limits = &services.limits;
    let body = read_body(&request, payload, limits.row_body, current.started + limits.request_body).await?;
    let row =
        services.rows.update(&session, &resource, &id, &body, services.write_deadline()).await.map_err(refused)?;
    Ok(json_bytes(StatusCode::OK, row.json))
}
