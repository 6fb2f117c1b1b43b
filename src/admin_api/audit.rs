//! `audit`: who read what, and who changed what.

use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::audit::AuditOutcome;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::GrantId;

use super::lookup::peer_name;
use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, parse_query};
use crate::postgres::audit::AuditQuery;
use crate::wire::admin_v1::cursor::{decode_time_and_seq, encode_time_and_seq};
use crate::wire::admin_v1::{AuditEventV1, AuditListParams, PageV1};

/// Longest action that is looked for; ours are shorter.
const ACTION_MAX_CHARS: usize = 64;

/// Events, newest first, narrowed by every given filter.
#[utoipa::path(get, path = "/api/admin/v1/audit", tag = "admin: audit", params(AuditListParams),
    responses((status = 200, body = PageV1<AuditEventV1>)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: AuditListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let query = AuditQuery {
        grant: params.grant.map(GrantId),
        peer: params.peer.as_deref().map(peer_name).transpose()?,
        action: params.action.map(action).transpose()?,
        outcome: params.outcome.as_deref().map(outcome).transpose()?,
        from: params.from,
        to: params.to,
        after: params.cursor.as_deref().map(decode_time_and_seq).transpose()?,
        limit: size.rows(),
    };
    let events = services.audit.query(&query).await?;
    Ok(paging::answer(&size.page(events, |event| encode_time_and_seq(event.at, event.seq), views::audit_event))?)
}

fn action(text: String) -> Result<String, Fault> {
    let shape = text.len() <= ACTION_MAX_CHARS && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if shape { Ok(text) } else { Err(Fault::invalid("action: is not a word such as 'list' or 'revoke'")) }
}

fn outcome(text: &str) -> Result<AuditOutcome, Fault> {
    let known = [AuditOutcome::Allowed, AuditOutcome::Denied, AuditOutcome::Failed];
    known
        .into_iter()
        .find(|outcome| outcome.as_str() == text)
        .ok_or_else(|| Fault::invalid("outcome: is none of allowed, denied, failed"))
}
