//! `tokens`: bearer tokens of sessions and admins.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::Fault;

use super::lookup::not_found;
use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json, parse_query};
use crate::postgres::people::IdOrName;
use crate::postgres::sessions::{TokenPage, TokenRecord};
use crate::secrets::Token;
use crate::wire::admin_v1::cursor::{decode_time_and_id, encode_time_and_id};
use crate::wire::admin_v1::{CreateTokenV1, CreatedTokenV1, PageV1, TokenKindV1, TokenListParams, TokenV1};

const LABEL_MAX_CHARS: usize = 200;
/// A token that ends sooner is a mistake in the unit.
const LIFETIME_MIN_SECONDS: u64 = 60;

/// Tokens, newest first, revoked ones too; never their text.
#[utoipa::path(get, path = "/api/admin/v1/tokens", tag = "admin: people", params(TokenListParams),
    responses((status = 200, body = PageV1<TokenV1>)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: TokenListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let after = params.cursor.as_deref().map(decode_time_and_id).transpose()?;
    let user = match &params.user {
        None => None,
        Some(text) => {
            let user = services.people.user(&IdOrName::parse(text)).await?;
            Some(user.ok_or_else(|| not_found("user: no such user on this site"))?.id)
        }
    };
    let tokens = services.sessions.list(&TokenPage { user, after, limit: size.rows() }).await?;
    Ok(paging::answer(&size.page(tokens, |token| encode_time_and_id(token.created_at, token.id), views::token))?)
}

/// Creates a session token for a user, or an admin token. The answer is the only place where its text ever appears.
#[utoipa::path(post, path = "/api/admin/v1/tokens", tag = "admin: people", request_body = CreateTokenV1,
    responses((status = 201, body = CreatedTokenV1)), security(("admin_token" = [])))]
pub async fn create(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: CreateTokenV1 = parse_json(&services.body(&request, payload).await?)?;
    let label = body.label.as_deref().unwrap_or_default();
    if label.chars().count() > LABEL_MAX_CHARS || label.chars().any(char::is_control) {
        return Err(Fault::invalid("label: has at most 200 characters and no control characters").into());
    }
    let lifetime = lifetime(&services, body.lifetime_seconds)?;
    let (token, record) = match (body.kind, &body.user) {
        (TokenKindV1::Session, Some(user)) => session_token(&services, user, label, lifetime).await?,
        (TokenKindV1::Admin, None) => admin_token(&services, label, lifetime).await?,
        (TokenKindV1::Session, None) => {
            return Err(Fault::invalid("user: is missing; a session token belongs to a user").into());
        }
        (TokenKindV1::Admin, Some(_)) => {
            return Err(Fault::invalid("user: leave it out; an admin token belongs to no user").into());
        }
    };
    let body = CreatedTokenV1 { token: token.expose().to_owned(), record: views::token(record) };
    Ok(json(StatusCode::CREATED, &body)?)
}

fn lifetime(services: &Services, seconds: Option<u64>) -> Result<Option<Duration>, Fault> {
    let most = services.limits.session_token_max.as_secs();
    match seconds {
        None => Ok(None),
        Some(seconds) if (LIFETIME_MIN_SECONDS..=most).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        Some(_) => Err(Fault::invalid(format!(
            "lifetime_seconds: is out of range; allowed are {LIFETIME_MIN_SECONDS} to {most}"
        ))),
    }
}

async fn session_token(
    services: &Services,
    user: &str,
    label: &str,
    lifetime: Option<Duration>,
) -> Result<(Token, TokenRecord), Fault> {
    let user = services.user_in_body("user", user).await?;
    let token = Token::generate(Token::SESSION);
    let lifetime = lifetime.unwrap_or(services.limits.session_token);
    let hash = Token::hash(token.expose());
    let record = services.sessions.create_session_token(user.id, &hash, label, lifetime).await?;
    // The user was active a moment ago.
    let record = record.ok_or_else(|| Fault::invalid("user: was disabled at the same moment"))?;
    Ok((token, record))
}

async fn admin_token(
    services: &Services,
    label: &str,
    lifetime: Option<Duration>,
) -> Result<(Token, TokenRecord), Fault> {
    let token = Token::generate(Token::ADMIN);
    let record = services.sessions.create_admin_token(&Token::hash(token.expose()), label, lifetime).await?;
    Ok((token, record))
}
