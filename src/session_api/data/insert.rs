//! `POST /api/v1/data/{resource}`: a new row.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::{refused, resource};
use crate::http::{ApiError, CurrentRequest, json_bytes, read_body};
use crate::session_api::Services;
use crate::session_api::authenticate::authenticate;

/// Inserts a row that the session's user owns. `team_id` must be one of the user's teams.
#[utoipa::path(
    post,
    path = "/api/v1/data/{resource}",
    tag = "session",
    params(("resource" = String, Path, description = "tasks, notes, memory, …")),
    request_body(content = Object, description = "The row's fields; an absent `id` is made"),
    security(("session_token" = [])),
    responses(
        (status = 201, description = "The row as reads give it"),
        (status = 400, description = "A field is unknown or wrong", body = crate::http::error::ErrorBody),
        (status = 401, description = "No valid session token", body = crate::http::error::ErrorBody),
        (status = 404, description = "No such resource", body = crate::http::error::ErrorBody),
        (status = 409, description = "The id is taken", body = crate::http::error::ErrorBody),
    )
)]
pub async fn insert(
    request: HttpRequest,
    payload: Payload,
    current: CurrentRequest,
    services: Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let session = authenticate(&services, &request).await?;
    let resource = resource(&request)?;
    let limits = &services.limits;
    let body = read_body(&request, payload, limits.row_body, current.started + limits.request_body).await?;
    let row = services.rows.insert(&session, &resource, &body, services.write_deadline()).await.map_err(refused)?;
    Ok(json_bytes(StatusCode::CREATED, row.json))
}
