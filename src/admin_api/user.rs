//! `users/{user}`: one user, by id or name.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::Fault;

use super::lookup::not_found;
use super::users::check_display_name;
use super::{Services, views};
use crate::http::{ApiError, json, parse_json};
use crate::postgres::people::{UserChanged, UserUpdate};
use crate::wire::admin_v1::{UpdateUserV1, UserChangedV1, UserV1};

/// One user.
#[utoipa::path(get, path = "/api/admin/v1/users/{user}", tag = "admin: people",
    params(("user" = String, Path, description = "Id or name")),
    responses((status = 200, body = UserV1), (status = 404)), security(("admin_token" = [])))]
pub async fn get(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let user = services.user_in_path(&request).await?;
    Ok(json(StatusCode::OK, &views::user(user))?)
}

/// Changes a user. Disabling ends the user's sessions and revokes every grant with this subject, for good.
#[utoipa::path(patch, path = "/api/admin/v1/users/{user}", tag = "admin: people", request_body = UpdateUserV1,
    params(("user" = String, Path, description = "Id or name")),
    responses((status = 200, body = UserChangedV1), (status = 404)), security(("admin_token" = [])))]
pub async fn update(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: UpdateUserV1 = parse_json(&services.body(&request, payload).await?)?;
    if body == UpdateUserV1::default() {
        return Err(Fault::invalid("nothing to change; give 'active' or 'display_name'").into());
    }
    body.display_name.as_deref().map(check_display_name).transpose()?;
    let user = services.user_in_path(&request).await?;
    let update = UserUpdate { active: body.active, display_name: body.display_name };
    let changed = services.people.update_user(user.id, &update, &services.changed_by(&request)).await?;
    answer(&services, changed).await
}

/// Deletes a user: sessions end, links are removed with their keys, grants with this subject are revoked. Rows and audit stay.
#[utoipa::path(delete, path = "/api/admin/v1/users/{user}", tag = "admin: people",
    params(("user" = String, Path, description = "Id or name")),
    responses((status = 200, body = UserChangedV1), (status = 404)), security(("admin_token" = [])))]
pub async fn delete(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let user = services.user_in_path(&request).await?;
    let changed = services.people.delete_user(user.id, &services.changed_by(&request)).await?;
    answer(&services, changed).await
}

async fn answer(services: &Services, changed: Option<UserChanged>) -> Result<HttpResponse, ApiError> {
    let changed = changed.ok_or_else(|| not_found("this user was deleted"))?;
    let effective = services.grant_cache.reached(changed.authority_version, services.reach_deadline()).await;
    if !changed.revoked.is_empty() {
        services.publish_crl(&changed.revoked).await;
    }
    let body = UserChangedV1 {
        user: views::user(changed.user),
        revoked_grants: changed.revoked_grants.into_iter().map(|grant| grant.0).collect(),
        effective,
    };
    Ok(json(StatusCode::OK, &body)?)
}
