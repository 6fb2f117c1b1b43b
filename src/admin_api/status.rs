//! `status`: this replica at one moment, read from memory.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::{Services, views};
use crate::http::{ApiError, json};
use crate::wire::admin_v1::{AuthorityStatusV1, StatusV1};

/// What this replica knows: rights, grants, links. Asks neither the database nor a peer.
#[utoipa::path(get, path = "/api/admin/v1/status", tag = "admin: node",
    responses((status = 200, body = StatusV1)), security(("admin_token" = [])))]
pub async fn get(services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let snapshot = services.grant_cache.snapshot();
    let now = snapshot.now(&*services.clock);
    let mut grants = BTreeMap::new();
    for grant in snapshot.grants.values() {
        *grants.entry(grant.status_at(now).as_str().to_owned()).or_insert(0) += 1;
    }
    let body = StatusV1 {
        site: services.site.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        authority: AuthorityStatusV1 { fresh: snapshot.fresh, version: snapshot.version },
        grants,
        links: services.registry.statuses().iter().map(views::link_status).collect(),
    };
    Ok(json(StatusCode::OK, &body)?)
}
