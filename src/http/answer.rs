//! JSON answers.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use bytes::Bytes;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use serde::Serialize;

/// An answer of `value`. Answers belong to one session, admin or peer: nobody on the way may store them.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<HttpResponse, Fault> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be serialised");
        Fault::new(FaultKind::Internal, Stage::Request)
    })?;
    Ok(json_bytes(status, Bytes::from(bytes)))
}

/// An answer of JSON that is serialised already.
#[must_use]
pub fn json_bytes(status: StatusCode, bytes: Bytes) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(bytes)
}
