//! `audit/verify`: whether the log is as it was written.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::Fault;

use super::Services;
use super::kept_checkpoint::{checkpoint_of, checkpoint_v1};
use crate::http::{ApiError, json, parse_json};
use crate::postgres::audit::{Checkpoint, Problem, ProblemKind, Verification};
use crate::wire::admin_v1::{AuditEventNameV1, AuditProblemV1, AuditVerificationV1, VerifyAuditV1};

/// Looks for the first event that is altered, missing, inserted or moved. Reads the whole log: minutes for tens of millions of
/// events.
#[utoipa::path(get, path = "/api/admin/v1/audit/verify", tag = "admin: audit",
    responses((status = 200, body = AuditVerificationV1), (status = 409, description = "A verification is under way")),
    security(("admin_token" = [])))]
pub async fn verify(services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    Ok(services.verify_audit(None).await?)
}

/// The same, and the log must go through a checkpoint that was kept elsewhere.
#[utoipa::path(post, path = "/api/admin/v1/audit/verify", tag = "admin: audit", request_body = VerifyAuditV1,
    responses((status = 200, body = AuditVerificationV1), (status = 409, description = "A verification is under way")),
    security(("admin_token" = [])))]
pub async fn verify_against(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: VerifyAuditV1 = parse_json(&services.body(&request, payload).await?)?;
    let kept = body.checkpoint.as_ref().map(checkpoint_of).transpose()?;
    Ok(services.verify_audit(kept).await?)
}

impl Services {
    async fn verify_audit(&self, kept: Option<Checkpoint>) -> Result<HttpResponse, Fault> {
        let own = self.kept_checkpoint.read();
        let unreadable = own.is_err();
        let kept: Vec<Checkpoint> = kept.into_iter().chain(own.ok().flatten()).collect();
        let mut found = self.audit.verify(&kept).await?;
        if unreadable && found.problem.is_none() {
            found.problem = Some(Problem {
                kind: ProblemKind::Cut,
                event: None,
                seal: None,
                detail: "audit.checkpoint in this node's state directory cannot be read: whether the log goes so far is not known"
                    .to_owned(),
            });
        }
        json(StatusCode::OK, &verification_v1(found))
    }
}

fn verification_v1(found: Verification) -> AuditVerificationV1 {
    AuditVerificationV1 {
        ok: found.problem.is_none(),
        sealed: found.sealed,
        unsealed: found.unsealed,
        before_sealing: found.before_sealing,
        by_seal_alone: found.by_seal_alone,
        seals: found.seals,
        head: found.head.as_ref().map(checkpoint_v1),
        problem: found.problem.map(problem_v1),
    }
}

fn problem_v1(problem: Problem) -> AuditProblemV1 {
    AuditProblemV1 {
        kind: problem.kind.as_str().to_owned(),
        detail: problem.detail,
        seal: problem.seal,
        event: problem.event.map(|event| AuditEventNameV1 {
            lane: event.lane,
            number: event.number,
            seq: event.seq,
            at: event.at,
            request_id: event.request,
        }),
    }
}
