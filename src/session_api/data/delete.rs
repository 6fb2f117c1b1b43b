//! `DELETE /api/v1/data/{resource}/{id}`: an own row goes.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::{refused, resource, row_id};
use crate::http::ApiError;
use crate::session_api::Services;
use crate::session_api::authenticate::authenticate;

/// Deletes a row that the session's user owns.
#[utoipa::path(
    delete,
    path = "/api/v1/data/{resource}/{id}",
    tag = "session",
    params(
        ("resource" = String, Path, description = "tasks, notes, memory, …"),
        ("id" = String, Path, description = "The row's id"),
    ),
    security(("session_token" = [])),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "No valid session token", body = crate::http::error::ErrorBody),
        (status = 404, description = "No such row of this user", body = crate::http::error::ErrorBody),
    )
)]
pub async fn delete(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, ApiError> {
    let session = authenticate(&services, &request).await?;
    let (resource, id) = (resource(&request)?, row_id(&request)?);
    services.rows.delete(&session, &resource, &id, services.write_deadline()).await.map_err(refused)?;
    Ok(HttpResponse::NoContent().finish())
}
