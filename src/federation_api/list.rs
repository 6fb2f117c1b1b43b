//! `POST list/{resource}`: a page of rows, newest first.

use std::num::NonZeroU32;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{BufMut, Bytes, BytesMut};
use mosaic_actors::domain::answer::Page;
use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::query::{Filter, ReadRight, Verb};
use mosaic_actors::ports::local_rows::ListRows;
use mosaic_actors::scope_evaluator::{Permit, egress};
use tracing::Instrument;

use super::Services;
use super::inbound::{Inbound, right_of};
use crate::http::{ApiError, json_bytes, parse_json, path_text};
use crate::wire::cursor_v1::{PeerCursorBinding, decode_peer_cursor, encode_peer_cursor};
use crate::wire::federation_v1::{LIST_ANSWER_HEAD, ListRequest, list_answer_tail};
use crate::wire::where_v1::{canonical_where_within, parse_where_within};

/// Rows of one resource, newest first, within the grant's scope and its subject's rights.
#[utoipa::path(post, path = "/api/federation/v1/list/{resource}", tag = "federation",
    request_body = ListRequest, params(("resource" = String, Path)),
    responses((status = 200, description = "`{\"items\":[…],\"next_cursor\"?,\"_truncated\":bool}`", body = Object),
        (status = 400, description = "A bad limit, cursor or filter"),
        (status = 401, description = "The certificate is not one of a grant"),
        (status = 403, description = "The grant does not count, or does not cover the resource"),
        (status = 429, description = "Over the grant's limits")),
    security(("client_certificate" = [])))]
pub(crate) async fn list(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    // A name that cannot be decoded names no resource: it is refused as such, after the caller is known.
    let resource = path_text(&request, "resource").unwrap_or_default();
    let mut inbound = Inbound::begin(services, &request, AuditAction::List, Some(&resource));
    let span = inbound.span();
    async move {
        let permit = inbound.admit(&request, Verb::List, Some(&resource)).await?;
        answer(&mut inbound, &permit, &request, payload).await
    }
    .instrument(span)
    .await
}

async fn answer(
    inbound: &mut Inbound,
    permit: &Permit,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let right = right_of(permit)?;
    let deadline = inbound.deadline(request).await?;
    let body = inbound.body(request, payload).await?;
    let asked = match Asked::parse(&body, permit, right, &inbound.services) {
        Ok(asked) => asked,
        Err(fault) => return Err(inbound.reject(fault).await),
    };
    let (limit, cursor) = (asked.query.limit.get().to_be_bytes(), asked.cursor.as_deref().unwrap_or_default());
    inbound.asks(&[b"list", right.resource().as_str().as_bytes(), &limit, cursor.as_bytes(), &asked.filter]);
    let page = match inbound.services.rows.list(right.clone(), asked.query, deadline).await {
        Ok(page) => page,
        Err(fault) if fault.kind == FaultKind::InvalidRequest => return Err(inbound.reject(fault).await),
        Err(fault) => return Err(inbound.fail(fault, "rows")),
    };
    let page = match egress::check(right, page) {
        Ok(page) => page.into_page(),
        Err(violation) => return Err(inbound.breach(violation.as_str()).await),
    };
    let binding = PeerCursorBinding { grant: permit.grant.id, resource: right.resource(), filter: &asked.filter };
    let next = page.rows.last().filter(|_| page.more);
    let next = next.map(|row| encode_peer_cursor(&inbound.services.cursor_key, binding, &row.position));
    let json = assemble(&page, next.as_deref());
    inbound.allow(page.rows.len(), json.len()).await?;
    Ok(json_bytes(StatusCode::OK, json))
}

/// The question, checked against grant and catalog.
struct Asked {
    query: ListRows,
    cursor: Option<String>,
    /// Canonical; empty without a filter.
    filter: Bytes,
}

impl Asked {
    fn parse(body: &[u8], permit: &Permit, right: &ReadRight, services: &Services) -> Result<Self, Fault> {
        let request: ListRequest = parse_json(body)?;
        let resource =
            services.catalog.get(right.resource()).ok_or_else(|| Fault::new(FaultKind::Internal, Stage::Authorize))?;
        let (filter, canonical) = match &request.filter {
            Some(raw) => {
                let within = &services.limits.filter;
                (parse_where_within(raw, resource, within)?, canonical_where_within(raw, within)?)
            }
            None => (Filter::default(), Bytes::new()),
        };
        let binding = PeerCursorBinding { grant: permit.grant.id, resource: right.resource(), filter: &canonical };
        let after = request
            .cursor
            .as_deref()
            .map(|cursor| decode_peer_cursor(&services.cursor_key, binding, cursor))
            .transpose()?;
        let query = ListRows { limit: limit(request.limit, right, services), after, filter };
        Ok(Self { query, cursor: request.cursor, filter: canonical })
    }
}

/// A limit above the grant's cap is capped; `_truncated` will say that more rows exist.
fn limit(asked: Option<NonZeroU32>, right: &ReadRight, services: &Services) -> NonZeroU32 {
    asked.unwrap_or(services.limits.page_default).min(right.max_rows())
}

/// One buffer: the page is copied once, no row is looked at again.
fn assemble(page: &Page, next_cursor: Option<&str>) -> Bytes {
    let tail = list_answer_tail(next_cursor, page.more);
    let mut json = BytesMut::with_capacity(LIST_ANSWER_HEAD.len() + page.json.len() + tail.len());
    json.put_slice(LIST_ANSWER_HEAD);
    json.put_slice(&page.json);
    json.put_slice(&tail);
    json.freeze()
}
