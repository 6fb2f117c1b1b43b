//! `links/{link}/renew`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::{Fault, FaultKind};

use super::lookup::{link_in_path, no_such_link};
use super::{Services, views};
use crate::http::{ApiError, json};
use crate::wire::admin_v1::LinkV1;

/// Renews the link's certificate now, due or not. The answer comes when the new one is in use on this replica.
#[utoipa::path(post, path = "/api/admin/v1/links/{link}/renew", tag = "admin: links",
    params(("link" = uuid::Uuid, Path)),
    responses((status = 200, body = LinkV1), (status = 404),
        (status = 409, description = "The other site does not renew it: the grant does not count, or the certificate has ended"),
        (status = 429, description = "The other site asks to wait"),
        (status = 503, description = "The other site cannot be reached")),
    security(("admin_token" = [])))]
pub async fn renew(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = link_in_path(&request)?;
    services.registry.renew(id).await.ok_or_else(no_such_link)?.map_err(told)?;
    let record = services.links.get(id).await?.ok_or_else(no_such_link)?;
    let status = services.registry.status(id);
    Ok(json(StatusCode::OK, &views::link(record, status.as_deref()))?)
}

/// The other site's refusals, as this site's admin can act on them: none of them is about the admin's own credentials.
fn told(fault: Fault) -> Fault {
    let refused = |text: &str| Fault { kind: FaultKind::Conflict, ..fault.clone() }.with_message(text);
    match fault.kind {
        FaultKind::GrantPending => refused("the other site has not activated the grant"),
        FaultKind::GrantSuspended => {
            refused("the other site suspended the grant; its certificate is renewed once it resumes")
        }
        FaultKind::GrantRevoked => refused("the other site revoked the grant; ask for a new invite"),
        FaultKind::GrantExpired => refused("the grant has ended at the other site; ask for a new invite"),
        FaultKind::CertificateExpired => {
            refused("the link's certificate has ended; remove the link and enrol again with a new invite")
        }
        FaultKind::Unauthorized | FaultKind::Forbidden => {
            refused("the other site does not take this link's certificate any more; ask for a new invite")
        }
        FaultKind::Incompatible => {
            refused("the other site's node does not renew certificates; it is older than this one")
        }
        FaultKind::RateLimited if fault.message.is_none() => {
            fault.with_message("the other site asks to wait before renewing again")
        }
        FaultKind::TimedOut | FaultKind::Unreachable if fault.message.is_none() => {
            fault.with_message("the other site cannot be reached; the renewal is tried again by itself")
        }
        _ => fault,
    }
}
