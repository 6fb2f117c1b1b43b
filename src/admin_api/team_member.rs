//! `teams/{team}/members/{user}`: who leaves.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Services;
use super::lookup::not_found;
use crate::http::ApiError;

/// Takes a user out of a team. Grants with this subject stop showing the team's rows at once.
#[utoipa::path(delete, path = "/api/admin/v1/teams/{team}/members/{user}", tag = "admin: people",
    params(("team" = String, Path, description = "Id or name"), ("user" = String, Path, description = "Id or name")),
    responses((status = 204), (status = 404)), security(("admin_token" = [])))]
pub async fn remove(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let team = services.team_in_path(&request).await?;
    let user = services.user_in_path(&request).await?;
    let removed = services.people.remove_member(team.id, user.id).await?;
    let version = removed.ok_or_else(|| not_found(format!("'{}' is not in the team '{}'", user.name, team.name)))?;
    services.grant_cache.reached(version, services.reach_deadline()).await;
    Ok(HttpResponse::NoContent().finish())
}
