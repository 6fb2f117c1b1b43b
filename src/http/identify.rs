//! The outermost middleware: a request id for every request, the error shape for every error.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::RequestId;
use tokio::time::Instant;
use uuid::fmt::Hyphenated;

use super::error::ApiError;
use super::unread::Unread;

/// The header that names a request in answers, logs and audit.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request in hand. An extractor in every app that is wrapped in [`identify`].
#[derive(Debug, Clone, Copy)]
pub struct CurrentRequest {
    pub id: RequestId,
    /// When its head was parsed: latencies and deadlines count from here.
    pub started: Instant,
}

impl CurrentRequest {
    fn begin() -> Self {
        Self { id: RequestId::new(), started: Instant::now() }
    }

    /// The request that an app has given an id to.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        request.extensions().get().copied().unwrap_or_else(Self::begin)
    }
}

impl FromRequest for CurrentRequest {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}

/// Wrap every app: `App::new().wrap(actix_web::middleware::from_fn(http::identify))`. An id that a client sends is ignored:
/// ids are ours, so that nobody can write another request's id into our log.
pub async fn identify<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let current = CurrentRequest::begin();
    let unread = Unread::of(&mut request);
    request.extensions_mut().insert(current);
    let mut response = match next.call(request).await {
        Ok(response) => shaped(response, current.id),
        // A layer below gave up without a response; its request is gone, so the error itself carries the id.
        Err(error) => {
            let error = error_of(&error).identified_by(current.id);
            let Some(unread) = unread else { return Err(error.into()) };
            let answer = unread.until_answered(error.to_response());
            return Err(InternalError::from_response(error, answer).into());
        }
    };
    if let Some(unread) = unread {
        let (request, answer) = response.into_parts();
        response = ServiceResponse::new(request, unread.until_answered(answer));
    }
    let mut text = [0; Hyphenated::LENGTH];
    let id = current.id.0.hyphenated().encode_lower(&mut text);
    let id = HeaderValue::from_str(id).expect("invariant: a UUID is a header value");
    response.headers_mut().insert(REQUEST_ID, id);
    let (request, status, took) = (response.request(), response.status().as_u16(), current.started.elapsed());
    let (method, path) = (request.method(), request.path());
    tracing::debug!(request_id = %current.id, %method, path, status, took_us = took.as_micros(), "request");
    Ok(response)
}

/// Gives the error shape to every error answer that has none yet.
fn shaped<B: MessageBody + 'static>(response: ServiceResponse<B>, id: RequestId) -> ServiceResponse<BoxBody> {
    if let Some(error) = response.response().error().and_then(|error| error.as_error::<ApiError>()) {
        if error.fault.kind == FaultKind::Internal {
            tracing::error!(request_id = %id, fault = %error.fault, "a request failed");
        }
        let answer = error.clone().identified_by(id).to_response();
        return response.into_response(answer);
    }
    if response.status().as_u16() < 400 || !is_bare(&response) {
        return response.map_into_boxed_body();
    }
    let status = response.status();
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut answer = ApiError::new(fault_of(status)).identified_by(id).to_response_with_status(status);
    copy_allow(&mut answer, allow);
    response.into_response(answer)
}

/// Whether nobody wrote a body for people or programs: empty, or the framework's plain text.
fn is_bare<B: MessageBody>(response: &ServiceResponse<B>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0))
        || content_type.is_none_or(|content_type| content_type.starts_with("text/plain"))
}

fn copy_allow(answer: &mut HttpResponse, allow: Option<HeaderValue>) {
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
}

fn error_of(error: &actix_web::Error) -> ApiError {
    error
        .as_error::<ApiError>()
        .cloned()
        .unwrap_or_else(|| ApiError::new(fault_of(error.as_response_error().status_code())))
}

/// The fault behind a status that the framework chose.
fn fault_of(status: StatusCode) -> Fault {
    match status {
        StatusCode::NOT_FOUND => Fault::new(FaultKind::NotFound, Stage::Request).with_message("no such path"),
        StatusCode::METHOD_NOT_ALLOWED => Fault::invalid("this path does not answer this method"),
        StatusCode::PAYLOAD_TOO_LARGE => Fault::new(FaultKind::TooLarge, Stage::Request),
        StatusCode::UNAUTHORIZED => Fault::new(FaultKind::Unauthorized, Stage::Request),
        StatusCode::TOO_MANY_REQUESTS => Fault::new(FaultKind::RateLimited, Stage::Admission),
        StatusCode::SERVICE_UNAVAILABLE => Fault::new(FaultKind::Unavailable, Stage::Request),
        status if status.is_client_error() => Fault::new(FaultKind::InvalidRequest, Stage::Request),
        _ => Fault::new(FaultKind::Internal, Stage::Request),
    }
}

/// The address of the socket's other end. Headers never decide it.
#[must_use]
pub fn remote_ip(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|address| address.ip())
}

/// The caller's W3C trace context when it is well formed: `00-<32 hex>-<16 hex>-<2 hex>`, ids not zero.
/// `baggage` and `tracestate` stop at the border.
#[must_use]
pub fn traceparent(request: &HttpRequest) -> Option<Box<str>> {
    let text = request.headers().get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return None };
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let non_zero = |part: &str| part.bytes().any(|b| b != b'0');
    let valid =
        *version == "00" && hex(trace, 32) && non_zero(trace) && hex(span, 16) && non_zero(span) && hex(flags, 2);
    valid.then(|| text.into())
}
