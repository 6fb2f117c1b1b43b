//! `teams/{team}`: one team, by id or name.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::{Services, views};
use crate::http::{ApiError, json};
use crate::wire::admin_v1::TeamV1;

/// One team.
#[utoipa::path(get, path = "/api/admin/v1/teams/{team}", tag = "admin: people",
    params(("team" = String, Path, description = "Id or name")),
    responses((status = 200, body = TeamV1), (status = 404)), security(("admin_token" = [])))]
pub async fn get(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let team = services.team_in_path(&request).await?;
    Ok(json(StatusCode::OK, &views::team(team))?)
}
