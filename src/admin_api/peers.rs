//! `peers`: the sites that were granted something.

use actix_web::{HttpRequest, HttpResponse, web};

use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, parse_query};
use crate::wire::admin_v1::cursor::{decode_name, encode_name};
use crate::wire::admin_v1::{ListParams, PageV1, PeerV1};

/// Peers by name. A grant to a new name makes one.
#[utoipa::path(get, path = "/api/admin/v1/peers", tag = "admin: grants", params(ListParams),
    responses((status = 200, body = PageV1<PeerV1>)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: ListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let after = params.cursor.as_deref().map(decode_name).transpose()?;
    let peers = services.grants.list_peers(after.as_deref(), size.rows()).await?;
    Ok(paging::answer(&size.page(peers, |peer| encode_name(&peer.name), views::peer))?)
}
