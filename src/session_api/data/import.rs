//! `POST /api/v1/data/{resource}:import`: many rows, one JSON object per line, all of them or none.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use tokio::time::timeout;

use super::{refused, resource};
use crate::http::{ApiError, CurrentRequest, json};
use crate::session_api::Services;
use crate::session_api::authenticate::authenticate;
use crate::wire::session_v1::ImportedBody;

/// What a refused importer is told to wait: an import of some thousand lines takes about as long.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Imports rows that the session's user owns. A wrong line is named, and nothing of the import is written.
#[utoipa::path(
    post,
    path = "/api/v1/data/{resource}:import",
    tag = "session",
    params(("resource" = String, Path, description = "tasks, notes, memory, …")),
    request_body(content = String, content_type = "application/x-ndjson", description = "A row's fields per line; `created_at` may be given"),
    security(("session_token" = [])),
    responses(
        (status = 200, description = "All lines were written", body = ImportedBody),
        (status = 400, description = "A line is wrong; nothing was written", body = crate::http::error::ErrorBody),
        (status = 401, description = "No valid session token", body = crate::http::error::ErrorBody),
        (status = 404, description = "No such resource", body = crate::http::error::ErrorBody),
        (status = 409, description = "An id is taken; nothing was written", body = crate::http::error::ErrorBody),
        (status = 413, description = "Too many lines or bytes", body = crate::http::error::ErrorBody),
        (status = 429, description = "As many imports as may run do run", body = crate::http::error::ErrorBody),
    )
)]
pub async fn import(
    request: HttpRequest,
    payload: Payload,
    current: CurrentRequest,
    services: Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let session = authenticate(&services, &request).await?;
    let resource = resource(&request)?;
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Fault::invalid("a content-encoding is not supported; send the lines as they are").into());
    }
    let limits = &services.limits;
    let _place = services.imports.try_acquire().map_err(|_| busy())?;
    let lines = lines(payload, limits.import_idle);
    let deadline = current.started + limits.import_total;
    let imported = services.rows.import(&session, &resource, lines, deadline).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &ImportedBody { rows: imported.rows as u64 })?)
}

/// An import holds its lines in memory until it writes them: only so many at once.
fn busy() -> Fault {
    Fault::new(FaultKind::RateLimited, Stage::Admission)
        .after(BUSY_WAIT)
        .with_message("this node is reading as many imports as it may; send this one again in a moment")
}

/// The body as it arrives. A sender that pauses too long, or breaks off, ends the import.
fn lines(payload: Payload, idle: Duration) -> impl Stream<Item = Result<Bytes, Fault>> {
    stream::unfold(Some(payload), move |payload| async move {
        let mut payload = payload?;
        match timeout(idle, payload.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(payload))),
            Ok(Some(Err(_))) => Some((Err(Fault::invalid("the request body ended early or is not well framed")), None)),
            Err(_) => Some((Err(Fault::invalid("the lines stopped arriving; nothing was written")), None)),
        }
    })
}
