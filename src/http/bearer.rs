//! `Authorization: Bearer <token>` (RFC 6750).

use actix_web::HttpRequest;
use actix_web::http::header;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};

/// Longest token that is looked at; ours have about 60 characters.
const TOKEN_MAX_BYTES: usize = 512;

/// The bearer token of a request. Absent, doubled, of another scheme or of an impossible shape: 401.
pub fn bearer_token(request: &HttpRequest) -> Result<&str, Fault> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refusal("send one 'Authorization: Bearer <token>' header"));
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_matches(' '))
        .filter(|token| is_token(token))
        .ok_or_else(|| refusal("the 'Authorization' header is not 'Bearer <token>'"))
}

fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    (1..=TOKEN_MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

fn refusal(message: &'static str) -> Fault {
    Fault::new(FaultKind::Unauthorized, Stage::Request).with_message(message)
}
