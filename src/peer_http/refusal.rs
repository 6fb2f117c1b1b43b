//! What a peer's refusal means here. Its message is never passed on: only status, code and reason are believed.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};

use super::exchange::RawAnswer;
use crate::wire::federation_v1::{ErrorAnswer, ErrorAnswerDetail};

/// Largest body that an error may have.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// How long to wait when a 429 or 503 does not say, and the longest that is believed.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// Which 404 is an answer and which says that the peer does not know the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The row, the invite: a normal answer.
    Thing,
    /// The verb itself: the peer speaks something else.
    Path,
}

/// The fault that an answer with a status other than 200 stands for.
pub(super) fn refusal(answer: &RawAnswer, missing: Missing) -> Fault {
    let detail = detail(answer);
    if answer.status.is_server_error() {
        let fault = Fault::new(FaultKind::Unavailable, Stage::FirstByte).with_message("the peer cannot answer now");
        return match retry_after(&answer.headers, detail.as_ref()) {
            Some(wait) => fault.after(wait),
            None => fault,
        };
    }
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        let wait = retry_after(&answer.headers, detail.as_ref()).unwrap_or(RETRY_AFTER_DEFAULT);
        return Fault::new(FaultKind::RateLimited, Stage::Admission).after(wait);
    }
    let Some(detail) = detail else {
        return Fault::new(FaultKind::BadAnswer, Stage::Parse)
            .with_message("the peer's refusal is not of this protocol");
    };
    // What is wrong with the question is not a matter of rights.
    let stage = match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Stage::Authorize,
        _ => Stage::Request,
    };
    Fault::new(kind(answer.status, &detail, missing), stage)
}

fn kind(status: StatusCode, detail: &ErrorAnswerDetail<'_>, missing: Missing) -> FaultKind {
    match status {
        StatusCode::BAD_REQUEST => FaultKind::InvalidRequest,
        StatusCode::UNAUTHORIZED => FaultKind::Unauthorized,
        StatusCode::FORBIDDEN => forbidden(detail),
        StatusCode::NOT_FOUND if missing == Missing::Thing => FaultKind::NotFound,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => FaultKind::Incompatible,
        StatusCode::CONFLICT => FaultKind::Conflict,
        StatusCode::GONE => FaultKind::Gone,
        StatusCode::PAYLOAD_TOO_LARGE => FaultKind::TooLarge,
        StatusCode::REQUEST_TIMEOUT => FaultKind::TimedOut,
        _ => FaultKind::BadAnswer,
    }
}

fn forbidden(detail: &ErrorAnswerDetail<'_>) -> FaultKind {
    match (detail.code.as_ref(), detail.reason.as_deref()) {
        ("scope_violation", _) => FaultKind::ScopeViolation,
        (_, Some("grant_pending")) => FaultKind::GrantPending,
        (_, Some("grant_suspended")) => FaultKind::GrantSuspended,
        (_, Some("grant_revoked")) => FaultKind::GrantRevoked,
        (_, Some("grant_expired")) => FaultKind::GrantExpired,
        _ => FaultKind::Forbidden,
    }
}

fn detail(answer: &RawAnswer) -> Option<ErrorAnswerDetail<'_>> {
    if !answer.is_json() || answer.body.len() > ERROR_BYTES_MAX {
        return None;
    }
    serde_json::from_slice::<ErrorAnswer<'_>>(&answer.body).ok().map(|answer| answer.error)
}

fn retry_after(headers: &HeaderMap, detail: Option<&ErrorAnswerDetail<'_>>) -> Option<Duration> {
    let told = detail.and_then(|detail| detail.retry_after_ms).map(Duration::from_millis);
    let header = || headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs);
    told.or_else(header).map(|wait| wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> RawAnswer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        RawAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn json(status: u16, body: &'static str) -> FaultKind {
        refusal(&answer(status, &[("content-type", "application/json; charset=utf-8")], body), Missing::Path).kind
    }

    #[test]
    fn status_code_and_reason_decide_what_a_refusal_means() {
        let forbidden = r#"{"error":{"code":"forbidden","message":"m","request_id":"r"}}"#;
        assert_eq!(json(403, forbidden), FaultKind::Forbidden);
        assert_eq!(json(401, r#"{"error":{"code":"unauthorized"}}"#), FaultKind::Unauthorized);
        assert_eq!(json(403, r#"{"error":{"code":"scope_violation"}}"#), FaultKind::ScopeViolation);
        for (reason, kind) in [
            (r#"{"error":{"code":"forbidden","reason":"grant_pending"}}"#, FaultKind::GrantPending),
            (r#"{"error":{"code":"forbidden","reason":"grant_suspended"}}"#, FaultKind::GrantSuspended),
            (r#"{"error":{"code":"forbidden","reason":"grant_revoked"}}"#, FaultKind::GrantRevoked),
            (r#"{"error":{"code":"forbidden","reason":"grant_expired"}}"#, FaultKind::GrantExpired),
            (r#"{"error":{"code":"forbidden","reason":"other"}}"#, FaultKind::Forbidden),
        ] {
            assert_eq!(json(403, reason), kind);
        }
        assert_eq!(json(400, r#"{"error":{"code":"invalid_request"}}"#), FaultKind::InvalidRequest);
        assert_eq!(json(404, r#"{"error":{"code":"not_found"}}"#), FaultKind::Incompatible);
        assert_eq!(json(302, r#"{"error":{"code":"moved"}}"#), FaultKind::BadAnswer);
    }

    #[test]
    fn a_missing_row_is_an_answer_and_a_missing_path_is_another_protocol() {
        let answer = answer(404, &[("content-type", "application/json")], r#"{"error":{"code":"not_found"}}"#);
        assert_eq!(refusal(&answer, Missing::Thing).kind, FaultKind::NotFound);
        assert_eq!(refusal(&answer, Missing::Path).kind, FaultKind::Incompatible);
    }

    #[test]
    fn a_refusal_that_is_not_ours_is_a_bad_answer() {
        let html = answer(403, &[("content-type", "text/html")], "<h1>Forbidden</h1>");
        assert_eq!(refusal(&html, Missing::Path).kind, FaultKind::BadAnswer);
        assert_eq!(json(403, "{"), FaultKind::BadAnswer);
        assert_eq!(json(404, "[]"), FaultKind::BadAnswer);
    }

    #[test]
    fn the_wait_of_a_429_is_taken_from_body_or_header_and_bounded() {
        let of = |headers: &[(&'static str, &'static str)], body| {
            refusal(&answer(429, headers, body), Missing::Path).retry_after
        };
        assert_eq!(of(&[("retry-after", "7")], ""), Some(Duration::from_secs(7)));
        assert_eq!(of(&[], ""), Some(RETRY_AFTER_DEFAULT));
        assert_eq!(of(&[("retry-after", "999999")], ""), Some(RETRY_AFTER_MAX));
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], ""), Some(RETRY_AFTER_DEFAULT));
        let body = r#"{"error":{"code":"rate_limited","retry_after_ms":250}}"#;
        let both = [("retry-after", "1"), ("content-type", "application/json")];
        assert_eq!(of(&both, body), Some(Duration::from_millis(250)));
    }
}
