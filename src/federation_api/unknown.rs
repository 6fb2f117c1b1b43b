//! Paths and methods that are not served: 404 and 405, but only for a holder of a grant. Nobody else learns what exists.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::query::Verb;

use super::Services;
use super::inbound::Inbound;
use crate::http::ApiError;
use crate::wire::federation_v1::BASE_PATH;

pub(super) async fn no_such_path(
    services: web::Data<Services>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let inbound = admitted(services, &request).await?;
    let fault = Fault::new(FaultKind::NotFound, Stage::Request).with_message("no such path");
    Err(inbound.refuse(fault, "no_such_path").await)
}

pub(super) async fn only_get(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    only(services, request, "GET").await
}

pub(super) async fn only_post(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    only(services, request, "POST").await
}

async fn only(
    services: web::Data<Services>,
    request: HttpRequest,
    method: &'static str,
) -> Result<HttpResponse, ApiError> {
    let inbound = admitted(services, &request).await?;
    // Audited like any refusal; the error shape is given by the middleware, which knows the status.
    let refused = inbound.refuse(Fault::invalid("this path does not answer this method"), "method_not_allowed").await;
    if refused.fault.kind != FaultKind::InvalidRequest {
        return Err(refused);
    }
    Ok(HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, method)).finish())
}

async fn admitted(services: web::Data<Services>, request: &HttpRequest) -> Result<Inbound, ApiError> {
    let mut inbound = Inbound::begin(services, request, action(request.path()), None);
    inbound.admit(request, Verb::Capabilities, None).await?;
    Ok(inbound)
}

/// What was meant, for the audit: verbs of the protocol that this node does not serve yet are told apart.
fn action(path: &str) -> AuditAction {
    match path.strip_prefix(BASE_PATH).unwrap_or_default().trim_start_matches('/').split('/').next() {
        Some("list") => AuditAction::List,
        Some("get") => AuditAction::Get,
        Some("search") => AuditAction::Search,
        Some("renew") => AuditAction::Renew,
        Some("watch") => AuditAction::Watch,
        Some("capabilities") => AuditAction::Capabilities,
        _ => AuditAction::Unknown,
    }
}
