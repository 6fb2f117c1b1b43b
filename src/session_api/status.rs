//! `GET /api/v1/status`: this user's links, from memory.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use mosaic_actors::domain::answer::Capabilities;
use mosaic_actors::domain::identity::UserId;
use mosaic_actors::peer_registry::LinkView;

use super::Services;
use super::authenticate::authenticate;
use crate::http::{ApiError, json};
use crate::link_health::link_health;
use crate::wire::session_v1::{LinkBody, StatusBody};

/// The state of this user's links. Nothing is dialled for it.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "session",
    security(("session_token" = [])),
    responses(
        (status = 200, description = "One entry per link", body = StatusBody),
        (status = 401, description = "No valid session token", body = crate::http::error::ErrorBody),
    )
)]
pub async fn status(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, ApiError> {
    let session = authenticate(&services, &request).await?;
    let links = services.registry.links_of(session.user, &session.teams);
    let links = links.iter().map(|view| link(view, session.user)).collect();
    Ok(json(StatusCode::OK, &StatusBody { site: services.site.to_string(), links })?)
}

fn link(view: &LinkView, user: UserId) -> LinkBody {
    let status = view.handle.status();
    let capabilities = view.handle.capabilities();
    let known = capabilities.as_deref();
    LinkBody {
        peer: view.peer.to_string(),
        own: view.owner == user,
        health: link_health(&status),
        resources: known.map(open_resources).unwrap_or_default(),
        grant_expires_at: known.map(|known| known.grant_expires_at),
    }
}

fn open_resources(capabilities: &Capabilities) -> Vec<String> {
    let closed = &capabilities.excluded_resources;
    capabilities.resources.iter().filter(|resource| !closed.contains(resource)).cloned().collect()
}
