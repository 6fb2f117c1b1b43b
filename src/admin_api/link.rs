//! `links/{link}`: one link.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::lookup::{link_in_path, no_such_link};
use super::{Services, views};
use crate::http::{ApiError, json};
use crate::wire::admin_v1::LinkV1;

/// One link with its status on this replica.
#[utoipa::path(get, path = "/api/admin/v1/links/{link}", tag = "admin: links",
    params(("link" = uuid::Uuid, Path)), responses((status = 200, body = LinkV1), (status = 404)),
    security(("admin_token" = [])))]
pub async fn get(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = link_in_path(&request)?;
    let record = services.links.get(id).await?.ok_or_else(no_such_link)?;
    let status = services.registry.status(id);
    Ok(json(StatusCode::OK, &views::link(record, status.as_deref()))?)
}

/// Removes a link and its key. The grant stays at the other site until it is revoked there.
#[utoipa::path(delete, path = "/api/admin/v1/links/{link}", tag = "admin: links",
    params(("link" = uuid::Uuid, Path)), responses((status = 204), (status = 404)),
    security(("admin_token" = [])))]
pub async fn remove(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = link_in_path(&request)?;
    if !services.links.delete(id).await? {
        return Err(no_such_link().into());
    }
    services.registry.link_changed(id);
    services.registry.wait_gone(id, services.reach_deadline()).await;
    Ok(HttpResponse::NoContent().finish())
}
