//! The error shape: `{"error":{"code","message","reason"?,"request_id","retry_after_ms"?}}`.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::RequestId;
use serde::Serialize;

use crate::faults::{Rendering, render};

/// A fault on its way to a client. `?` makes one from a [`Fault`]; the middleware [`super::identify()`] adds the request id.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub fault: Fault,
    pub request_id: Option<RequestId>,
    headers: Vec<(HeaderName, HeaderValue)>,
    close: bool,
    /// `WWW-Authenticate: Bearer` on a 401 (RFC 9110 section 11.6.1), except where certificates authenticate.
    bearer_challenge: bool,
    own_words: bool,
}

/// The JSON of an error, for OpenAPI and for clients that parse it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody<'a> {
    pub error: ErrorDetail<'a>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorDetail<'a> {
    /// One of the codes of the protocol, such as `invalid_request`.
    pub code: &'a str,
    /// What is wrong and what to do, for people.
    pub message: &'a str,
    /// Why the holder's own grant does not open anything now, such as `grant_revoked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Milliseconds; asking again earlier is of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self { fault, request_id: None, headers: Vec::new(), close: false, bearer_challenge: true, own_words: false }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The connection closes after this answer.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// A certificate authenticates here: a 401 asks for no bearer token.
    #[must_use]
    pub fn without_bearer_challenge(mut self) -> Self {
        self.bearer_challenge = false;
        self
    }

    /// The fault's own message is told also where one fixed text hides which check failed. For sessions, from whom nothing about
    /// their own user's rights is hidden; never towards a peer.
    #[must_use]
    pub fn in_own_words(mut self) -> Self {
        self.own_words = true;
        self
    }

    #[must_use]
    pub(super) fn identified_by(mut self, request: RequestId) -> Self {
        self.request_id = Some(request);
        self
    }

    /// The whole answer with the status that the fault's kind maps to.
    #[must_use]
    pub fn to_response(&self) -> HttpResponse {
        self.to_response_with_status(render(self.fault.kind).status)
    }

    /// As [`Self::to_response`], for the few statuses that no fault kind has (405).
    #[must_use]
    pub(super) fn to_response_with_status(&self, status: StatusCode) -> HttpResponse {
        let rendering = render(self.fault.kind);
        let body = ErrorBody { error: self.detail(&rendering) };
        let bytes = serde_json::to_vec(&body).expect("invariant: an error body of strings serialises");
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, "application/json"));
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(wait) = self.fault.retry_after {
            response.insert_header((header::RETRY_AFTER, whole_seconds(wait)));
        }
        if status == StatusCode::UNAUTHORIZED && self.bearer_challenge {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        if self.close {
            response.force_close();
        }
        response.body(bytes)
    }

    fn detail<'a>(&'a self, rendering: &'a Rendering) -> ErrorDetail<'a> {
        let own = self.fault.message.as_deref().filter(|_| rendering.own_message || self.own_words);
        ErrorDetail {
            code: rendering.code,
            message: own.unwrap_or(rendering.message),
            reason: rendering.reason,
            request_id: self.request_id.map(|id| id.to_string()),
            retry_after_ms: self.fault.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Whole seconds, rounded up: RFC 9110 section 10.2.3 knows no fractions, and earlier would be refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.fault, f)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        render(self.fault.kind).status
    }

    fn error_response(&self) -> HttpResponse {
        self.to_response()
    }
}

/// The default service of every listener: `App::default_service(web::to(no_such_path))`.
pub async fn no_such_path() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(Fault::new(FaultKind::NotFound, Stage::Request).with_message("no such path")))
}
