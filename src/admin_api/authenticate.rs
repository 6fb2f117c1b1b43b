//! `Authorization: Bearer <admin token>` on every path below the scope, also on those that do not exist.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, web};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};

use super::Services;
use crate::http::{ApiError, bearer_token};
use crate::secrets::Token;

pub(super) async fn admin<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match authenticate(request.request()).await {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_boxed_body),
        // An answer, not an error: the middleware outside gives it its request id.
        Err(fault) => Ok(request.error_response(ApiError::new(fault))),
    }
}

async fn authenticate(request: &HttpRequest) -> Result<(), Fault> {
    let services = request.app_data::<web::Data<Services>>().ok_or_else(|| {
        tracing::error!("the admin API was configured without its services");
        Fault::new(FaultKind::Internal, Stage::Request)
    })?;
    // A text that cannot be a token costs no query.
    let token = Token::parse(Token::ADMIN, bearer_token(request)?).ok_or_else(refusal)?;
    let admin = services.sessions.authenticate_admin(&Token::hash(token.expose())).await?;
    admin.map(drop).ok_or_else(refusal)
}

fn refusal() -> Fault {
    Fault::new(FaultKind::Unauthorized, Stage::Authorize)
        .with_message("this is not a valid admin token; it may have been revoked or have expired")
}
