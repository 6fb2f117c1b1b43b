//! `tokens/{token}`: the end of one.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Services;
use super::lookup::not_found;
use crate::http::{ApiError, path_value};

/// Revokes a token of either kind, by the id of its record; effective with the next request. Again is no error.
#[utoipa::path(delete, path = "/api/admin/v1/tokens/{token}", tag = "admin: people",
    params(("token" = uuid::Uuid, Path, description = "Id of the token's record")),
    responses((status = 204), (status = 404)), security(("admin_token" = [])))]
pub async fn revoke(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let found = services.sessions.revoke(path_value(&request, "token")?).await?;
    if !found {
        return Err(not_found("no such token; 'mosaic token list' shows those there are").into());
    }
    Ok(HttpResponse::NoContent().finish())
}
