//! `grants`: all grants, and a new one with its invite.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::grant::{GrantStatus, InboundLimits};
use mosaic_actors::domain::identity::TeamId;
use mosaic_actors::domain::scope::{Scope, ScopeError};
use serde_json::Value;
use time::OffsetDateTime;

use super::grant_invite::lifetime;
use super::lookup::peer_name;
use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json, parse_query};
use crate::postgres::grants::{GrantPage, NewGrant};
use crate::wire::admin_v1::cursor::{decode_time_and_id, encode_time_and_id};
use crate::wire::admin_v1::scope::parse_scope;
use crate::wire::admin_v1::{CreateGrantV1, CreatedGrantV1, GrantListParams, GrantV1, InboundLimitsV1, PageV1};

/// Grants, newest first.
#[utoipa::path(get, path = "/api/admin/v1/grants", tag = "admin: grants", params(GrantListParams),
    responses((status = 200, body = PageV1<GrantV1>)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: GrantListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let after = params.cursor.as_deref().map(decode_time_and_id).transpose()?;
    let peer = params.peer.as_deref().map(peer_name).transpose()?;
    let status = params.status.as_deref().map(status_named).transpose()?;
    let grants = services.grants.list(&GrantPage { peer, status, after, limit: size.rows() }).await?;
    Ok(paging::answer(&size.page(grants, |grant| encode_time_and_id(grant.created_at, grant.id.0), views::grant))?)
}

/// Creates a pending grant, and the invite that turns it into the peer's link.
#[utoipa::path(post, path = "/api/admin/v1/grants", tag = "admin: grants", request_body = CreateGrantV1,
    responses((status = 201, body = CreatedGrantV1), (status = 400, description = "Names the field that is wrong")),
    security(("admin_token" = [])))]
pub async fn create(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: CreateGrantV1 = parse_json(&services.body(&request, payload).await?)?;
    let invite_lifetime = lifetime(&services, "invite_lifetime_seconds", body.invite_lifetime_seconds)?;
    let new = NewGrant {
        peer: peer_name(&body.peer)?,
        scope: services.checked_scope(&body.scope).await?,
        limits: body.limits.map_or_else(|| Ok(default_limits(&services)), checked_limits)?,
        expires_at: services.checked_expiry(body.expires_at)?,
        subject: services.user_in_body("user", &body.user).await?.id,
    };
    let by = services.changed_by(&request);
    let changed = services.grants.create(&new, &by).await?;
    let invite = services.invite(changed.grant.id, invite_lifetime, &by).await?;
    services.grant_cache.reached(changed.authority_version, services.reach_deadline()).await;
    let mut grant = views::grant(changed.grant);
    grant.invite_expires_at = Some(invite.expires_at);
    Ok(json(StatusCode::CREATED, &CreatedGrantV1 { grant, invite })?)
}

impl Services {
    /// A scope document, checked against the catalog and the teams of this site; a refusal names the field.
    pub(super) async fn checked_scope(&self, document: &Value) -> Result<Scope, Fault> {
        let draft = parse_scope(document).map_err(scope_fault)?;
        let named: Vec<TeamId> =
            draft.filters.iter().filter_map(|(_, teams, _)| teams.as_ref()).flatten().copied().collect();
        let existing = if named.is_empty() { Vec::new() } else { self.people.existing_teams(&named).await? };
        Scope::check(&draft, &self.catalog, |team| existing.contains(&team)).map_err(scope_fault)
    }

    /// When a grant ends: in the future, and not further away than a review can be put off.
    pub(super) fn checked_expiry(&self, expires_at: Option<OffsetDateTime>) -> Result<OffsetDateTime, Fault> {
        let now = self.clock.now();
        let Some(expires_at) = expires_at else { return Ok(now + self.limits.grant_lifetime) };
        if expires_at <= now {
            return Err(Fault::invalid("expires_at: is in the past"));
        }
        if expires_at > now + self.limits.grant_lifetime_max {
            let days = self.limits.grant_lifetime_max.as_secs() / 86_400;
            return Err(Fault::invalid(format!("expires_at: is more than {days} days away")));
        }
        Ok(expires_at)
    }
}

fn scope_fault(error: ScopeError) -> Fault {
    if error.field.is_empty() {
        return Fault::invalid(format!("scope: {}", error.message));
    }
    Fault::invalid(error.to_string())
}

fn status_named(text: &str) -> Result<GrantStatus, Fault> {
    GrantStatus::parse(text).ok_or_else(|| {
        let known = GrantStatus::ALL.map(GrantStatus::as_str).join(", ");
        Fault::invalid(format!("status: is none of {known}"))
    })
}

fn default_limits(services: &Services) -> InboundLimits {
    InboundLimits {
        requests_per_second: services.limits.grant_requests,
        burst: services.limits.grant_burst,
        concurrent: services.limits.grant_concurrent,
    }
}

/// The ranges of the table's checks.
pub(super) fn checked_limits(limits: InboundLimitsV1) -> Result<InboundLimits, Fault> {
    for (field, value, most) in [
        ("requests_per_second", limits.requests_per_second, 100_000),
        ("burst", limits.burst, 1_000_000),
        ("concurrent", limits.concurrent, 10_000),
    ] {
        if !(1..=most).contains(&value) {
            return Err(Fault::invalid(format!("limits.{field}: is {value}; allowed are 1 to {most}")));
        }
    }
    Ok(InboundLimits {
        requests_per_second: limits.requests_per_second,
        burst: limits.burst,
        concurrent: limits.concurrent,
    })
}
