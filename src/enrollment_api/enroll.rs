//! `POST enroll`: a one-time token and a public key in, a client certificate out.
//!
//! The order is the safety: claim the token → take the key → let the CA sign → compare what it signed → one transaction that puts the
//! certificate on record, activates the grant and writes the event. A crash anywhere leaves a pending grant that a new invite
//! can enrol, or an active grant with its certificate.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::audit::{AuditAction, AuditEvent, AuditOutcome};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::Serial;
use tokio::time::Instant;

use super::Services;
use crate::crash_points;
use crate::http::{ApiError, CurrentRequest, bearer_token, json, parse_json, read_body, remote_ip};
use crate::pki::authority::{ClientRequest, IssuedCertificate};
use crate::pki::csr::{public_key_sha256, verify_csr};
use crate::pki::issued::check_issued;
use crate::pki::pem::{certificate_to_pem, chain_to_pem};
use crate::postgres::enrollment::{Claim, ClaimRefusal, Completed, IssuedForClaim};
use crate::secrets::Token;
use crate::wire::federation_v1::{EnrollAnswer, EnrollRequest};

/// Why an attempt ended, for the client and for the audit.
struct Failure {
    fault: Fault,
    reason: &'static str,
    /// Whether the asker did it, and it counts against its address; otherwise this node or its CA failed.
    by_asker: bool,
}

/// Redeems an invite for a client certificate.
#[utoipa::path(post, path = "/api/federation/v1/enroll", tag = "enrollment",
    request_body = crate::wire::federation_v1::EnrollRequest,
    responses((status = 200, body = crate::wire::federation_v1::EnrollAnswer),
        (status = 404, description = "No such token"),
        (status = 409, description = "Somebody else redeems it, or the key is on record"),
        (status = 410, description = "The token was used or has expired, or the grant is not pending"),
        (status = 429, description = "Too many failures from this address")),
    security(("enrollment_token" = [])))]
pub(crate) async fn enroll(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let current = CurrentRequest::of(&request);
    let remote = remote_ip(&request);
    let address = remote.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    // Not written down: whoever is over the limit could otherwise fill the audit log without any right.
    let attempt = services.failures.begin(address, Instant::now()).map_err(|wait| {
        Fault::new(FaultKind::RateLimited, Stage::Admission)
            .with_message("too many failed enrolments from this address; retry later")
            .after(wait)
    })?;
    match redeem(&services, &request, payload, current, remote).await {
        Ok(answer) => Ok(json(StatusCode::OK, &answer)?),
        Err(failure) => {
            if failure.by_asker {
                attempt.failed(Instant::now());
            }
            tracing::info!(request_id = %current.id, reason = failure.reason, "an enrolment failed");
            services.audit.record(failed(&services, current, remote, &failure)).await?;
            Err(ApiError::new(failure.fault))
        }
    }
}

/// Failed attempts name no grant, peer or subject: nobody has proved to be any of them.
fn failed(services: &Services, current: CurrentRequest, remote: Option<IpAddr>, failure: &Failure) -> AuditEvent {
    AuditEvent {
        reason: Some(failure.reason),
        latency: current.started.elapsed(),
        remote,
        ..AuditEvent::bare(
            services.clock.now(),
            current.id,
            AuditAction::Enroll,
            if failure.by_asker { AuditOutcome::Denied } else { AuditOutcome::Failed },
        )
    }
}

async fn redeem(
    services: &Services,
    request: &HttpRequest,
    payload: web::Payload,
    current: CurrentRequest,
    remote: Option<IpAddr>,
) -> Result<EnrollAnswer, Failure> {
    let token = token_hash(request)?;
    // Before the claim: an upload that breaks off must not spend the token.
    let csr = csr(services, request, payload, current).await?;
    let claim = services.enrollments.claim(&token).await.map_err(claim_refused)?;
    crash_points::reach("enrolment.claimed");
    let public_key =
        verify_csr(&csr).map_err(|error| by_asker(Fault::invalid(format!("csr: {error}")), "csr_refused"))?;
    let key_sha256 = public_key_sha256(&public_key);
    if services.enrollments.key_on_record(&key_sha256).await.map_err(|fault| by_node(fault, "database"))? {
        let fault = Fault::new(FaultKind::Conflict, Stage::Request)
            .with_message("csr: this key is already on record; enrol with a new one");
        return Err(by_asker(fault, "key_on_record"));
    }
    crash_points::reach("enrolment.key_checked");
    let issued = issue(services, &claim, public_key, csr).await?;
    crash_points::reach("enrolment.compared");
    let completed = complete(services, &claim, &issued, key_sha256, current, remote).await?;
    crash_points::reach("enrolment.recorded");
    // Best effort: should this replica not have heard of it in time, the asker's first request is refused and its second is not.
    services.grants.reached(completed.authority_version, Instant::now() + services.limits.grant_visible).await;
    Ok(EnrollAnswer {
        certificate: certificate_to_pem(&issued.certificate),
        chain: chain_to_pem(&issued.chain),
        grant_id: claim.grant.to_string(),
        subject_user_id: claim.subject.to_string(),
        site: services.site.to_string(),
    })
}

fn token_hash(request: &HttpRequest) -> Result<[u8; 32], Failure> {
    let text = bearer_token(request).map_err(|fault| by_asker(fault, "token_missing"))?;
    // What has not the shape of a token is answered like one that is unknown.
    match Token::parse(Token::ENROLL, text) {
        Some(token) => Ok(Token::hash(token.expose())),
        None => Err(claim_refused(ClaimRefusal::NotFound)),
    }
}

async fn csr(
    services: &Services,
    request: &HttpRequest,
    payload: web::Payload,
    current: CurrentRequest,
) -> Result<String, Failure> {
    let until = current.started + services.limits.body_time;
    let body = read_body(request, payload, services.limits.body_bytes, until)
        .await
        .map_err(|fault| by_asker(fault, "body_refused"))?;
    parse_json::<EnrollRequest>(&body).map(|request| request.csr).map_err(|fault| by_asker(fault, "invalid_request"))
}

/// Lets the CA sign, and believes nothing of it before it has been compared with what was asked.
async fn issue(
    services: &Services,
    claim: &Claim,
    public_key: Vec<u8>,
    csr_pem: String,
) -> Result<IssuedCertificate, Failure> {
    let request = ClientRequest {
        public_key,
        csr_pem,
        grant: claim.grant,
        subject: claim.subject,
        peer: claim.peer.clone(),
        not_before: claim.now,
        not_after: (claim.now + services.limits.client_certificate).min(claim.grant_expires_at),
    };
    let issued = services.ca.issue(request.clone()).await.map_err(|error| {
        tracing::error!(grant = %claim.grant, %error, "the certificate authority issued nothing");
        by_node(error.fault(), "ca_failed")
    })?;
    crash_points::reach("enrolment.issued");
    if let Err(mismatch) = check_issued(&issued, &request, &services.arc) {
        tracing::error!(grant = %claim.grant, %mismatch, "the certificate authority issued something else than it was asked for");
        withdraw(services, &issued).await;
        return Err(by_node(Fault::new(FaultKind::Internal, Stage::Authorize), "issued_mismatch"));
    }
    Ok(issued)
}

async fn complete(
    services: &Services,
    claim: &Claim,
    issued: &IssuedCertificate,
    public_key_sha256: [u8; 32],
    current: CurrentRequest,
    remote: Option<IpAddr>,
) -> Result<Completed, Failure> {
    let on_record = IssuedForClaim {
        serial: issued.serial.clone(),
        public_key_sha256,
        not_before: issued.not_before,
        not_after: issued.not_after,
    };
    let event = succeeded(services, claim, &issued.serial, current, remote);
    match services.enrollments.complete(claim, &on_record, event).await {
        Ok(completed) => Ok(completed),
        Err(fault) if matches!(fault.kind, FaultKind::Gone | FaultKind::Conflict) => {
            withdraw(services, issued).await;
            Err(by_asker(fault, "grant_not_pending"))
        }
        // Whether it was committed is not known: a certificate that may be on record stays valid, one that is not opens nothing.
        Err(fault) => Err(by_node(fault, "database")),
    }
}

fn succeeded(
    services: &Services,
    claim: &Claim,
    serial: &Serial,
    current: CurrentRequest,
    remote: Option<IpAddr>,
) -> AuditEvent {
    AuditEvent {
        peer: Some(claim.peer.clone()),
        grant: Some(claim.grant),
        grant_version: Some(claim.grant_version),
        subject: Some(claim.subject),
        latency: current.started.elapsed(),
        serial: Some(serial.clone()),
        remote,
        ..AuditEvent::bare(services.clock.now(), current.id, AuditAction::Enroll, AuditOutcome::Allowed)
    }
}

/// Revokes a certificate that nobody will get. It is on no record and so opens nothing; this is the second lock.
async fn withdraw(services: &Services, issued: &IssuedCertificate) {
    let revoked = services.ca.revoke(issued.serial.clone(), issued.not_after, services.clock.now()).await;
    if let Err(error) = revoked {
        tracing::error!(serial = %issued.serial, %error, "a certificate that was not handed out could not be revoked");
    }
}

fn claim_refused(refusal: ClaimRefusal) -> Failure {
    let by_asker = !matches!(refusal, ClaimRefusal::Fault(_));
    Failure { fault: refusal.fault(), reason: refusal.reason(), by_asker }
}

fn by_asker(fault: Fault, reason: &'static str) -> Failure {
    Failure { fault, reason, by_asker: true }
}

fn by_node(fault: Fault, reason: &'static str) -> Failure {
    Failure { fault, reason, by_asker: false }
}
