//! `grants/{grant}/invite`: a new invite for a pending grant; earlier ones are void.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::GrantId;

use super::Services;
use super::lookup::{grant_in_path, no_such_grant};
use crate::http::{ApiError, json, parse_json};
use crate::pki::invite::Invite;
use crate::postgres::grants::ChangedBy;
use crate::secrets::{Token, sha256};
use crate::wire::admin_v1::{CreateInviteV1, InviteV1};

const LIFETIME_MIN_SECONDS: u64 = 60;

/// Creates an invite. Its text appears in this answer only.
#[utoipa::path(post, path = "/api/admin/v1/grants/{grant}/invite", tag = "admin: grants", request_body = CreateInviteV1,
    params(("grant" = uuid::Uuid, Path)),
    responses((status = 201, body = InviteV1), (status = 404), (status = 409, description = "The grant is not pending")),
    security(("admin_token" = [])))]
pub async fn create(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let grant = grant_in_path(&request)?;
    let bytes = services.body(&request, payload).await?;
    let body: CreateInviteV1 = if bytes.is_empty() { CreateInviteV1::default() } else { parse_json(&bytes)? };
    let lifetime = lifetime(&services, "lifetime_seconds", body.lifetime_seconds)?;
    let invite = services.invite(grant, lifetime, &services.changed_by(&request)).await?;
    Ok(json(StatusCode::CREATED, &invite)?)
}

impl Services {
    pub(super) async fn invite(&self, grant: GrantId, lifetime: Duration, by: &ChangedBy) -> Result<InviteV1, Fault> {
        let token = Token::generate(Token::ENROLL);
        let hash = Token::hash(token.expose());
        let expires_at = self.enrollments.create(grant, &hash, lifetime, by).await?.ok_or_else(no_such_grant)?;
        let invite = Invite {
            site: self.site.clone(),
            enroll_url: self.enroll_url.clone(),
            federation_url: self.federation_url.clone(),
            ca_sha256: sha256(&self.authority.root()),
            token,
            expires_at,
        };
        Ok(InviteV1 { grant_id: grant.0, invite: invite.encode().to_string(), expires_at })
    }
}

/// How long an invite can be redeemed.
pub(super) fn lifetime(services: &Services, field: &str, seconds: Option<u64>) -> Result<Duration, Fault> {
    let most = services.limits.invite_lifetime_max.as_secs();
    match seconds {
        None => Ok(services.limits.invite_lifetime),
        Some(seconds) if (LIFETIME_MIN_SECONDS..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => {
            Err(Fault::invalid(format!("{field}: is out of range; allowed are {LIFETIME_MIN_SECONDS} to {most}")))
        }
    }
}
