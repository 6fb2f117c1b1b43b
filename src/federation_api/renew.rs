//! `POST renew`: the holder's next certificate, for a new key.
//!
//! The order is the safety: the grant is read anew → the key is taken → the CA signs → what it signed is compared → one transaction
//! puts the certificate on record beside the one that asked, and writes the event. A crash anywhere leaves the old certificate valid.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::query::Verb;
use mosaic_actors::scope_evaluator::Permit;
use tokio::time::Instant;
use tracing::Instrument;

use super::Services;
use super::inbound::Inbound;
use crate::crash_points;
use crate::http::{ApiError, json, parse_json};
use crate::pki::authority::{ClientRequest, IssuedCertificate};
use crate::pki::csr::{public_key_sha256, verify_csr};
use crate::pki::issued::check_issued;
use crate::pki::pem::{certificate_to_pem, chain_to_pem};
use crate::postgres::enrollment::IssuedForClaim;
use crate::postgres::renewal::{Asked, Renewable, RenewalRefusal};
use crate::wire::federation_v1::{RenewAnswer, RenewRequest};

/// A new certificate for the grant of the presented one. Both are valid until the new one is used, or the overlap is over.
#[utoipa::path(post, path = "/api/federation/v1/renew", tag = "federation",
    request_body = RenewRequest,
    responses((status = 200, body = RenewAnswer),
        (status = 400, description = "The request for a certificate is malformed, or its key is weak"),
        (status = 401, description = "The certificate is not one of a grant"),
        (status = 403, description = "The grant does not count (any more); `reason` where the holder may know"),
        (status = 409, description = "The key is on record"),
        (status = 429, description = "Over the grant's limits, or too many certificates in the last hour")),
    security(("client_certificate" = [])))]
pub(crate) async fn renew(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut inbound = Inbound::begin(services, &request, AuditAction::Renew, None);
    let span = inbound.span();
    async move {
        // As for capabilities, an active grant suffices.
        let permit = inbound.admit(&request, Verb::Capabilities, None).await?;
        answer(&inbound, &permit, &request, payload).await
    }
    .instrument(span)
    .await
}

async fn answer(
    inbound: &Inbound,
    permit: &Permit,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body = inbound.body(request, payload).await?;
    let (csr, public_key) = match key_of(&body) {
        Ok(key) => key,
        Err(fault) => return Err(inbound.reject(fault).await),
    };
    let Some(serial) = inbound.serial().cloned() else {
        return Err(inbound.fail(Fault::new(FaultKind::Internal, Stage::Authorize), "no_serial"));
    };
    let renewal = &inbound.services.renewal;
    let asked = Asked { grant: permit.grant.id, serial, public_key_sha256: public_key_sha256(&public_key) };
    let renewable = match renewal.store.begin(&asked).await {
        Ok(renewable) => renewable,
        Err(refusal) => return Err(refused(inbound, &refusal).await),
    };
    crash_points::reach("renewal.read");
    let issued = issue(inbound, permit, renewable, public_key, csr).await?;
    crash_points::reach("renewal.issued");
    let on_record = IssuedForClaim {
        serial: issued.serial.clone(),
        public_key_sha256: asked.public_key_sha256,
        not_before: issued.not_before,
        not_after: issued.not_after,
    };
    let version = match renewal.store.complete(&asked, &on_record, inbound.allowed_event()).await {
        Ok(version) => version,
        // Whether it was committed is not known: one that may be on record stays valid, one that is not opens nothing.
        Err(refusal @ RenewalRefusal::Fault(_)) => return Err(refused(inbound, &refusal).await),
        Err(refusal) => {
            withdraw(&inbound.services, &issued).await;
            return Err(refused(inbound, &refusal).await);
        }
    };
    crash_points::reach("renewal.recorded");
    // Best effort: a replica that has not heard of the certificate refuses it for the moment.
    renewal.grants.reached(version, Instant::now() + inbound.services.limits.certificate_visible).await;
    inbound.answered();
    let chain = chain_to_pem(&issued.chain);
    Ok(json(StatusCode::OK, &RenewAnswer { certificate: certificate_to_pem(&issued.certificate), chain })?)
}

/// The request contributes its key, and the proof that its sender has the private one.
fn key_of(body: &[u8]) -> Result<(String, Vec<u8>), Fault> {
    let RenewRequest { csr } = parse_json(body)?;
    let public_key = verify_csr(&csr).map_err(|error| Fault::invalid(format!("csr: {error}")))?;
    Ok((csr, public_key))
}

async fn refused(inbound: &Inbound, refusal: &RenewalRefusal) -> ApiError {
    match refusal {
        RenewalRefusal::Fault(fault) if fault.kind != FaultKind::Conflict => {
            inbound.fail(fault.clone(), refusal.reason())
        }
        // Two at the same moment with one key.
        RenewalRefusal::Fault(fault) => inbound.refuse(fault.clone(), "key_on_record").await,
        _ => inbound.refuse(refusal.fault(), refusal.reason()).await,
    }
}

/// Lets the CA sign, and believes nothing of it before it has been compared with what was asked.
async fn issue(
    inbound: &Inbound,
    permit: &Permit,
    renewable: Renewable,
    public_key: Vec<u8>,
    csr_pem: String,
) -> Result<IssuedCertificate, ApiError> {
    let (services, grant) = (&inbound.services, permit.grant.id);
    let request = ClientRequest {
        public_key,
        csr_pem,
        grant,
        subject: renewable.subject,
        peer: renewable.peer,
        not_before: renewable.now,
        not_after: (renewable.now + services.limits.client_certificate).min(renewable.grant_expires_at),
    };
    let issued = services.renewal.ca.issue(request.clone()).await.map_err(|error| {
        tracing::error!(%grant, %error, "the certificate authority renewed nothing");
        inbound.fail(error.fault(), "ca_failed")
    })?;
    if let Err(mismatch) = check_issued(&issued, &request, &services.renewal.arc) {
        tracing::error!(%grant, %mismatch, "the certificate authority issued something else than it was asked for");
        withdraw(services, &issued).await;
        return Err(inbound.fail(Fault::new(FaultKind::Internal, Stage::Authorize), "issued_mismatch"));
    }
    Ok(issued)
}

/// Revokes a certificate that nobody will get. It is on no record and so opens nothing; this is the second lock.
async fn withdraw(services: &Services, issued: &IssuedCertificate) {
    let revoked = services.renewal.ca.revoke(issued.serial.clone(), issued.not_after, services.clock.now()).await;
    if let Err(error) = revoked {
        tracing::error!(serial = %issued.serial, %error, "a certificate that was not handed out could not be revoked");
    }
}
