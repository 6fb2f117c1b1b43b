//! How a [`FaultKind`] looks from outside: the only place that maps it to status codes, error codes and client texts.

use actix_web::http::StatusCode;
use mosaic_actors::domain::fault::FaultKind;

/// What a client sees of a fault, apart from the fault's own message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendering {
    pub status: StatusCode,
    /// `error.code`, one of the codes of the protocol.
    pub code: &'static str,
    /// `error.message` when the fault has none of its own.
    pub message: &'static str,
    /// `error.reason`: only what the holder of the credentials may know about his own grant.
    pub reason: Option<&'static str>,
    /// Whether the fault's own message may be shown. Not where one fixed text keeps cases indistinguishable.
    pub own_message: bool,
}

/// One text for every certificate that opens nothing, so that nobody learns which check failed.
pub const FORBIDDEN_TEXT: &str = "this certificate does not open anything here";
/// One text for unknown, uncovered, excluded and sensitive resources.
pub const SCOPE_VIOLATION_TEXT: &str = "the grant does not cover this resource";
/// One text for absent and invisible rows.
pub const NOT_FOUND_TEXT: &str = "no such row";

/// Maps a fault to status, code and text. Faults of peers keep to their `_sources` entry; should one become a whole answer,
/// it reads as an unavailable dependency.
#[must_use]
pub fn render(kind: FaultKind) -> Rendering {
    match kind {
        FaultKind::InvalidRequest => open(StatusCode::BAD_REQUEST, "invalid_request", "the request is malformed"),
        FaultKind::UnknownSource => open(StatusCode::BAD_REQUEST, "unknown_source", "no such source"),
        FaultKind::Unauthorized => open(StatusCode::UNAUTHORIZED, "unauthorized", "valid credentials are needed"),
        FaultKind::Forbidden => fixed(StatusCode::FORBIDDEN, "forbidden", FORBIDDEN_TEXT),
        FaultKind::GrantPending => ended("this grant has not been enrolled yet", "grant_pending"),
        FaultKind::GrantSuspended => ended("this grant is suspended", "grant_suspended"),
        FaultKind::GrantRevoked => ended("this grant was revoked", "grant_revoked"),
        FaultKind::GrantExpired => ended("this grant has expired", "grant_expired"),
        FaultKind::ScopeViolation => fixed(StatusCode::FORBIDDEN, "scope_violation", SCOPE_VIOLATION_TEXT),
        FaultKind::NotFound => open(StatusCode::NOT_FOUND, "not_found", NOT_FOUND_TEXT),
        FaultKind::Gone => open(StatusCode::GONE, "gone", "this is no longer available"),
        FaultKind::Conflict => open(StatusCode::CONFLICT, "conflict", "the current state does not allow this"),
        FaultKind::TooLarge => open(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request body is too large"),
        FaultKind::RateLimited => open(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests; retry later"),
        FaultKind::Internal => {
            fixed(StatusCode::INTERNAL_SERVER_ERROR, "internal", "an internal error; its details are in the node's log")
        }
        FaultKind::BadAnswer => {
            open(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the other site's answer cannot be used")
        }
        FaultKind::TimedOut
        | FaultKind::Unreachable
        | FaultKind::BreakerOpen
        | FaultKind::CertificateExpired
        | FaultKind::Incompatible
        | FaultKind::Unavailable => {
            open(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the node cannot answer this now; retry later")
        }
    }
}

/// `error.code` of one entry of `_sources`: what a source did not do, told to the session.
#[must_use]
pub fn source_error_code(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest => "peer_refused_request",
        FaultKind::UnknownSource => "unknown_source",
        FaultKind::Unauthorized => "peer_unauthorized",
        FaultKind::Forbidden => "peer_forbidden",
        FaultKind::GrantPending => "grant_pending",
        FaultKind::GrantSuspended => "grant_suspended",
        FaultKind::GrantRevoked => "grant_revoked",
        FaultKind::GrantExpired => "grant_expired",
        FaultKind::ScopeViolation => "scope_violation",
        FaultKind::NotFound => "not_found",
        FaultKind::Gone => "gone",
        FaultKind::Conflict => "conflict",
        FaultKind::TooLarge => "too_large",
        FaultKind::RateLimited => "peer_rate_limited",
        FaultKind::TimedOut => "peer_timeout",
        FaultKind::Unreachable => "peer_unreachable",
        FaultKind::BreakerOpen => "breaker_open",
        FaultKind::CertificateExpired => "certificate_expired",
        FaultKind::Incompatible => "peer_incompatible",
        FaultKind::BadAnswer => "peer_bad_answer",
        FaultKind::Unavailable => "unavailable",
        FaultKind::Internal => "internal",
    }
}

fn open(status: StatusCode, code: &'static str, message: &'static str) -> Rendering {
    Rendering { status, code, message, reason: None, own_message: true }
}

fn fixed(status: StatusCode, code: &'static str, message: &'static str) -> Rendering {
    Rendering { status, code, message, reason: None, own_message: false }
}

fn ended(message: &'static str, reason: &'static str) -> Rendering {
    Rendering { status: StatusCode::FORBIDDEN, code: "forbidden", message, reason: Some(reason), own_message: false }
}
