//! `users`: all users, and a new one.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::Fault;

use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json, parse_query};
use crate::wire::admin_v1::cursor::{decode_name, encode_name};
use crate::wire::admin_v1::{CreateUserV1, PageV1, UserListParams, UserV1};

/// Longest display name, in characters.
const DISPLAY_NAME_MAX_CHARS: usize = 200;

/// Users by name.
#[utoipa::path(get, path = "/api/admin/v1/users", tag = "admin: people", params(UserListParams),
    responses((status = 200, body = PageV1<UserV1>)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: UserListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let after = params.cursor.as_deref().map(decode_name).transpose()?;
    let users = services.people.list_users(after.as_deref(), params.deleted, size.rows()).await?;
    Ok(paging::answer(&size.page(users, |user| encode_name(&user.name), views::user))?)
}

/// Creates a user. A name is never used again, not even after deletion: it stands in grants and in the audit log.
#[utoipa::path(post, path = "/api/admin/v1/users", tag = "admin: people", request_body = CreateUserV1,
    responses((status = 201, body = UserV1), (status = 409, description = "The name is taken")),
    security(("admin_token" = [])))]
pub async fn create(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: CreateUserV1 = parse_json(&services.body(&request, payload).await?)?;
    let display_name = body.display_name.unwrap_or_default();
    check_display_name(&display_name)?;
    let user = services.people.create_user(&body.name, &display_name).await?;
    Ok(json(StatusCode::CREATED, &views::user(user))?)
}

pub(super) fn check_display_name(text: &str) -> Result<(), Fault> {
    if text.chars().count() > DISPLAY_NAME_MAX_CHARS || text.chars().any(char::is_control) {
        return Err(Fault::invalid("display_name: has at most 200 characters and no control characters"));
    }
    Ok(())
}
