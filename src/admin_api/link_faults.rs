//! `links/{link}/faults`: a link goes wrong on purpose, for a while.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::LinkId;
use mosaic_actors::ports::peer_transport::InjectedFault;

use super::lookup::{link_in_path, no_such_link};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json};
use crate::wire::admin_v1::{InjectFaultV1, InjectableFaultV1, LinkStatusV1};

/// Makes calls over the link go wrong, on this replica, until the time is over or the fault is cleared. Only where the configuration
/// allows it (`federation.fault_injection`). A later fault takes the place of an earlier one.
#[utoipa::path(post, path = "/api/admin/v1/links/{link}/faults", tag = "admin: links", request_body = InjectFaultV1,
    params(("link" = uuid::Uuid, Path)), responses((status = 200, body = LinkStatusV1), (status = 404),
        (status = 409, description = "The configuration does not allow it")),
    security(("admin_token" = [])))]
pub async fn inject(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let link = link_in_path(&request)?;
    if services.registry.status(link).is_none() {
        return Err(no_such_link().into());
    }
    if !services.fault_injection {
        let text = "fault injection is off; set federation.fault_injection = true and start the node anew";
        return Err(Fault::new(FaultKind::Conflict, Stage::Request).with_message(text).into());
    }
    let body: InjectFaultV1 = parse_json(&services.body(&request, payload).await?)?;
    let fault = fault_of(&body)?;
    let most = services.limits.fault_injection;
    let lasts = Duration::from_secs(body.for_s);
    if lasts.is_zero() || lasts > most {
        return Err(Fault::invalid(format!("for_s: expected 1 to {} seconds", most.as_secs())).into());
    }
    put(&services, link, Some((fault, lasts))).await
}

/// The link is asked again as it should be.
#[utoipa::path(delete, path = "/api/admin/v1/links/{link}/faults", tag = "admin: links",
    params(("link" = uuid::Uuid, Path)), responses((status = 200, body = LinkStatusV1), (status = 404)),
    security(("admin_token" = [])))]
pub async fn clear(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    put(&services, link_in_path(&request)?, None).await
}

async fn put(
    services: &Services,
    link: LinkId,
    injected: Option<(InjectedFault, Duration)>,
) -> Result<HttpResponse, ApiError> {
    if !services.registry.inject(link, injected).await {
        return Err(no_such_link().into());
    }
    let status = services.registry.status(link).ok_or_else(no_such_link)?;
    Ok(json(StatusCode::OK, &views::link_status(&status))?)
}

/// Each fault has its own number, and no other's.
fn fault_of(body: &InjectFaultV1) -> Result<InjectedFault, Fault> {
    let alone = |given: bool, name: &str| {
        if given { Err(Fault::invalid(format!("{name}: does not belong to this fault"))) } else { Ok(()) }
    };
    if body.fault != InjectableFaultV1::Delay {
        alone(body.delay_ms.is_some(), "delay_ms")?;
    }
    if body.fault != InjectableFaultV1::Stall {
        alone(body.after_bytes.is_some(), "after_bytes")?;
    }
    match body.fault {
        InjectableFaultV1::Delay => match body.delay_ms {
            Some(ms) if (1..=60_000).contains(&ms) => Ok(InjectedFault::Delay(Duration::from_millis(ms))),
            _ => Err(Fault::invalid("delay_ms: expected 1 to 60000 milliseconds")),
        },
        InjectableFaultV1::Stall => Ok(InjectedFault::StallAfter(body.after_bytes.unwrap_or(0))),
        InjectableFaultV1::Error => Ok(InjectedFault::Error),
        InjectableFaultV1::Reset => Ok(InjectedFault::Reset),
    }
}
