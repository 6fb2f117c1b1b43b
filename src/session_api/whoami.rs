//! `GET /api/v1/whoami`: whose session this is, and what it can ask for here.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};

use super::Services;
use super::authenticate::authenticate;
use crate::http::{ApiError, json};
use crate::postgres::people::IdOrName;
use crate::wire::session_v1::{NamedBody, WhoamiBody};

/// The user, the teams and the resources of this session.
#[utoipa::path(
    get,
    path = "/api/v1/whoami",
    tag = "session",
    security(("session_token" = [])),
    responses(
        (status = 200, description = "User and teams", body = WhoamiBody),
        (status = 401, description = "No valid session token", body = crate::http::error::ErrorBody),
    )
)]
pub async fn whoami(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, ApiError> {
    let session = authenticate(&services, &request).await?;
    let user = services.people.user(&IdOrName::Id(session.user.0)).await?;
    // The user was there when the token was looked up: removed since.
    let user = user.ok_or_else(|| Fault::new(FaultKind::Unauthorized, Stage::Authorize))?;
    let body = WhoamiBody {
        site: services.site.to_string(),
        user: NamedBody { id: user.id.0, name: user.name },
        teams: user.teams.into_iter().map(|(id, name)| NamedBody { id: id.0, name }).collect(),
        resources: services.catalog.iter().map(|resource| resource.name.to_string()).collect(),
    };
    Ok(json(StatusCode::OK, &body)?)
}
