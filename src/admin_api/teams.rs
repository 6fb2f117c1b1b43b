//! `teams`: all teams, and a new one.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json, parse_query};
use crate::wire::admin_v1::cursor::{decode_name, encode_name};
use crate::wire::admin_v1::{CreateTeamV1, ListParams, PageV1, TeamV1};

/// Teams by name.
#[utoipa::path(get, path = "/api/admin/v1/teams", tag = "admin: people", params(ListParams),
    responses((status = 200, body = PageV1<TeamV1>)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: ListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let after = params.cursor.as_deref().map(decode_name).transpose()?;
    let teams = services.people.list_teams(after.as_deref(), size.rows()).await?;
    Ok(paging::answer(&size.page(teams, |team| encode_name(&team.name), views::team))?)
}

/// Creates a team.
#[utoipa::path(post, path = "/api/admin/v1/teams", tag = "admin: people", request_body = CreateTeamV1,
    responses((status = 201, body = TeamV1), (status = 409, description = "The name is taken")),
    security(("admin_token" = [])))]
pub async fn create(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: CreateTeamV1 = parse_json(&services.body(&request, payload).await?)?;
    let team = services.people.create_team(&body.name).await?;
    Ok(json(StatusCode::CREATED, &views::team(team))?)
}
