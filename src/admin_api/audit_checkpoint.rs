//! `audit/checkpoint`: what to keep outside of the database.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::Services;
use super::kept_checkpoint::checkpoint_v1;
use super::lookup::not_found;
use crate::http::{ApiError, json};
use crate::wire::admin_v1::CheckpointV1;

/// The end of the chain of seals, signed. Whoever has it can tell later that nothing before it was cut or changed.
#[utoipa::path(get, path = "/api/admin/v1/audit/checkpoint", tag = "admin: audit",
    responses((status = 200, body = CheckpointV1), (status = 404, description = "Nothing is sealed yet")),
    security(("admin_token" = [])))]
pub async fn get(services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let checkpoint = services.audit.checkpoint().await?;
    let checkpoint =
        checkpoint.ok_or_else(|| not_found("nothing is sealed yet; the first seal is made within seconds"))?;
    Ok(json(StatusCode::OK, &checkpoint_v1(&checkpoint))?)
}
