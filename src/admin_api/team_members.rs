//! `teams/{team}/members`: who is in a team, and who joins.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};

use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json, parse_query};
use crate::wire::admin_v1::cursor::{decode_name, encode_name};
use crate::wire::admin_v1::{AddMemberV1, ListParams, MemberV1, PageV1};

/// Members by name.
#[utoipa::path(get, path = "/api/admin/v1/teams/{team}/members", tag = "admin: people",
    params(("team" = String, Path, description = "Id or name"), ListParams),
    responses((status = 200, body = PageV1<MemberV1>), (status = 404)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: ListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let after = params.cursor.as_deref().map(decode_name).transpose()?;
    let team = services.team_in_path(&request).await?;
    let members = services.people.list_members(team.id, after.as_deref(), size.rows()).await?;
    Ok(paging::answer(&size.page(members, |member| encode_name(&member.name), views::member))?)
}

/// Puts a user into a team; twice is no error. Grants with this subject show the team's rows from the next request on.
#[utoipa::path(post, path = "/api/admin/v1/teams/{team}/members", tag = "admin: people", request_body = AddMemberV1,
    params(("team" = String, Path, description = "Id or name")),
    responses((status = 201, body = MemberV1), (status = 404)), security(("admin_token" = [])))]
pub async fn add(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: AddMemberV1 = parse_json(&services.body(&request, payload).await?)?;
    let team = services.team_in_path(&request).await?;
    let user = services.user_in_body("user", &body.user).await?;
    let version = services.people.add_member(team.id, user.id).await?;
    services.grant_cache.reached(version, services.reach_deadline()).await;
    let member = services.people.member(team.id, user.id).await?.ok_or_else(|| {
        Fault::new(FaultKind::Conflict, Stage::Request)
            .with_message("the user was taken out of the team at the same moment")
    })?;
    Ok(json(StatusCode::CREATED, &views::member(member))?)
}
