//! `grants/{grant}/suspend`.

use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::grant::GrantChange;

use super::Services;
use crate::http::ApiError;
use crate::wire::admin_v1::GrantChangedV1;

/// Pauses an active grant; its certificates stay.
#[utoipa::path(post, path = "/api/admin/v1/grants/{grant}/suspend", tag = "admin: grants",
    params(("grant" = uuid::Uuid, Path)),
    responses((status = 200, body = GrantChangedV1), (status = 404),
        (status = 409, description = "The grant's status does not allow this")),
    security(("admin_token" = [])))]
pub async fn suspend(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(services.change_grant(&request, GrantChange::Suspend, "suspend").await?)
}
