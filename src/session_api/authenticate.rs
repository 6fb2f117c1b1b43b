//! Whose session a request belongs to.

use actix_web::HttpRequest;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::Session;

use super::Services;
use crate::http::bearer_token;
use crate::secrets::Token;

/// The session of the request's bearer token: one look into the database per request, so that a revoked token, a disabled
/// user or a changed team counts from the next request on.
pub(super) async fn authenticate(services: &Services, request: &HttpRequest) -> Result<Session, Fault> {
    let token = bearer_token(request)?;
    // A text that cannot be a token of ours, an admin's included, needs no look.
    if Token::parse(Token::SESSION, token).is_none() {
        return Err(refusal());
    }
    services.sessions.authenticate_session(&Token::hash(token)).await?.ok_or_else(refusal)
}

/// One text for unknown, expired and revoked: whoever guesses learns nothing.
fn refusal() -> Fault {
    Fault::new(FaultKind::Unauthorized, Stage::Authorize)
        .with_message("this is not a valid session token; it may have expired or been revoked")
}
