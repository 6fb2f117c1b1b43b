//! `links/{link}/reset-breaker`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::lookup::{link_in_path, no_such_link};
use super::{Services, views};
use crate::http::{ApiError, json};
use crate::wire::admin_v1::LinkStatusV1;

/// Lets the link probe its peer now, whatever its breaker says; answers the link's status on this replica.
#[utoipa::path(post, path = "/api/admin/v1/links/{link}/reset-breaker", tag = "admin: links",
    params(("link" = uuid::Uuid, Path)), responses((status = 200, body = LinkStatusV1), (status = 404)),
    security(("admin_token" = [])))]
pub async fn reset(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = link_in_path(&request)?;
    if !services.registry.reset_breaker(id).await {
        return Err(no_such_link().into());
    }
    let status = services.registry.status(id).ok_or_else(no_such_link)?;
    Ok(json(StatusCode::OK, &views::link_status(&status))?)
}
