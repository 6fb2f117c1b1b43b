//! One request of a peer on its way: admitted, refused, failed or allowed, each with its audit event.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use mosaic_actors::domain::audit::{AuditAction, AuditEvent, AuditOutcome};
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::Grant;
use mosaic_actors::domain::identity::{PeerIdentity, Serial};
use mosaic_actors::domain::query::{ReadRight, Verb};
use mosaic_actors::scope_evaluator::{AccessRequest, Denial, DenyReason, Permit};
use tokio::time::Instant;

use super::Services;
use super::admission::{Refused, Ticket};
use super::watches::Place;
use crate::config::AuditMode;
use crate::http::{ApiError, CurrentRequest, read_body, remote_ip};
use crate::pki::profile::ProfileError;
use crate::tls::peer_connection::PeerConnection;
use crate::wire::federation_v1::DEADLINE_HEADER;

/// A request of a peer, and what is known about it so far.
pub(super) struct Inbound {
    pub(super) services: web::Data<Services>,
    current: CurrentRequest,
    action: AuditAction,
    resource: Option<ResourceName>,
    query_hash: Option<[u8; 32]>,
    grant: Option<Arc<Grant>>,
    serial: Option<Serial>,
    remote: Option<IpAddr>,
    span: tracing::Span,
    /// Held until the answer is made.
    ticket: Option<Ticket>,
}

impl Inbound {
    /// Notes who asks for what. `resource` is what stands in the path.
    pub(super) fn begin(
        services: web::Data<Services>,
        request: &HttpRequest,
        action: AuditAction,
        resource: Option<&str>,
    ) -> Self {
        let connection = connection(request);
        let current = CurrentRequest::of(request);
        let span = tracing::info_span!(
            "federation.request",
            side = "owner",
            request_id = %current.id,
            verb = action.as_str(),
            resource = tracing::field::Empty,
            grant_id = tracing::field::Empty,
            peer = tracing::field::Empty,
            outcome = tracing::field::Empty,
            latency_ms = tracing::field::Empty,
            cached = false
        );
        Self {
            services,
            current,
            action,
            // A name that is none is not written down: the audit holds no text of a stranger's choice.
            resource: resource.and_then(|name| ResourceName::parse(name).ok()),
            query_hash: None,
            grant: None,
            serial: connection.as_ref().and_then(|connection| connection.serial.clone()),
            remote: connection.and_then(|c| c.remote.map(|address| address.ip())).or_else(|| remote_ip(request)),
            span,
            ticket: None,
        }
    }

    pub(super) fn span(&self) -> tracing::Span {
        self.span.clone()
    }

    /// Identity → grant → rate → scope. `Ok` is the only way to rows.
    pub(super) async fn admit(
        &mut self,
        request: &HttpRequest,
        verb: Verb,
        resource: Option<&str>,
    ) -> Result<Permit, ApiError> {
        let identity = self.identity(request).await?;
        let services = self.services.clone();
        let of_grant = AccessRequest { verb: Verb::Capabilities, resource: None };
        let permit = match services.evaluator.authorize(&identity, of_grant) {
            Ok(permit) => permit,
            Err(denial) => return Err(self.deny(denial).await),
        };
        self.ticket = Some(self.take_ticket(&permit.grant, &identity).await?);
        if resource.is_none() {
            return Ok(permit);
        }
        match services.evaluator.authorize(&identity, AccessRequest { verb, resource }) {
            Ok(permit) => {
                self.know(&permit.grant);
                Ok(permit)
            }
            Err(denial) => Err(self.deny(denial).await),
        }
    }

    /// As [`Inbound::admit`], for a watch: a suspended grant has nothing to read and may be watched. It takes of the grant's rate, and
    /// no place among the requests at once, which it would never give back.
    pub(super) async fn admit_watch(&mut self, request: &HttpRequest) -> Result<(PeerIdentity, Place), ApiError> {
        let identity = self.identity(request).await?;
        let services = self.services.clone();
        let of_grant = AccessRequest { verb: Verb::Capabilities, resource: None };
        let grant = match services.evaluator.authorize(&identity, of_grant) {
            Ok(permit) => permit.grant,
            Err(Denial { reason: DenyReason::GrantSuspended, grant: Some(grant) }) => grant,
            Err(denial) => return Err(self.deny(denial).await),
        };
        drop(self.take_ticket(&grant, &identity).await?);
        match services.watches.enter(grant.id) {
            Ok(place) => Ok((identity, place)),
            Err(refused) => Err(self.over_limit(refused).await),
        }
    }

    async fn identity(&self, request: &HttpRequest) -> Result<PeerIdentity, ApiError> {
        match connection(request).map_or(Err(ProfileError::NoCertificate), |found| found.identity) {
            Ok(identity) => Ok(identity),
            Err(error) => {
                let fault = Fault::new(FaultKind::Unauthorized, Stage::Authorize)
                    .with_message("the client certificate is not one of this site's grants");
                Err(self.refuse(fault, error.as_str()).await)
            }
        }
    }

    /// The holder is who it says: notes it, and takes of its rate.
    async fn take_ticket(&mut self, grant: &Arc<Grant>, identity: &PeerIdentity) -> Result<Ticket, ApiError> {
        let services = self.services.clone();
        self.know(grant);
        services.renewal.note_use(grant, &identity.serial, &*services.clock);
        match services.admission.admit(grant).await {
            Ok(ticket) => {
                services.contacts.heard_from(&grant.peer);
                Ok(ticket)
            }
            Err(refused) => Err(self.over_limit(refused).await),
        }
    }

    fn know(&mut self, grant: &Arc<Grant>) {
        if !self.grant.as_ref().is_some_and(|known| Arc::ptr_eq(known, grant)) {
            tracing::record_all!(self.span, grant_id = %grant.id, peer = %grant.peer);
            self.grant = Some(Arc::clone(grant));
        }
    }

    /// Notes what is asked, keyed: equal questions have equal hashes, and nobody without the key can guess a question.
    pub(super) fn asks(&mut self, parts: &[&[u8]]) {
        self.query_hash = Some(self.services.query_hash_key.tag(parts));
    }

    /// The body, after admission.
    pub(super) async fn body(&self, request: &HttpRequest, payload: web::Payload) -> Result<Bytes, ApiError> {
        let limits = &self.services.limits;
        let until = self.current.started + limits.body_time;
        match read_body(request, payload, limits.body_bytes, until).await {
            Ok(body) => Ok(body),
            Err(fault) => Err(self.reject(fault).await),
        }
    }

    /// How long the asker waits, within this node's bounds: what bounds the database query.
    pub(super) async fn deadline(&self, request: &HttpRequest) -> Result<Instant, ApiError> {
        let limits = &self.services.limits;
        let Some(value) = request.headers().get(DEADLINE_HEADER) else {
            return Ok(self.current.started + limits.deadline_default);
        };
        match value.to_str().ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(ms) => Ok(self.current.started + Duration::from_millis(ms).min(limits.deadline_max)),
            None => {
                Err(self.reject(Fault::invalid(format!("{DEADLINE_HEADER} is not a number of milliseconds"))).await)
            }
        }
    }

    /// What the asker did wrong, after it was let in.
    pub(super) async fn reject(&self, fault: Fault) -> ApiError {
        let reason = match fault.kind {
            FaultKind::TooLarge => "too_large",
            FaultKind::NotFound => "not_found",
            _ => "invalid_request",
        };
        self.refuse(fault, reason).await
    }

    async fn deny(&mut self, denial: Denial) -> ApiError {
        if let Some(grant) = &denial.grant {
            self.know(&Arc::clone(grant));
        }
        let fault = Fault::new(denial.reason.kind(), Stage::Authorize);
        if denial.reason == DenyReason::StateUnknown {
            return self.fail(fault, denial.reason.as_str());
        }
        self.refuse(fault, denial.reason.as_str()).await
    }

    async fn over_limit(&self, refused: Refused) -> ApiError {
        let fault = Fault::new(FaultKind::RateLimited, Stage::Admission).after(refused.retry_after);
        let seconds = refused.retry_after.as_secs() + u64::from(refused.retry_after.subsec_nanos() > 0);
        self.refuse(fault, refused.reason)
            .await
            .with_header(HeaderName::from_static("ratelimit-limit"), HeaderValue::from(refused.limit))
            .with_header(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(0))
            .with_header(HeaderName::from_static("ratelimit-reset"), HeaderValue::from(seconds))
    }

    /// A refusal: written down first, then told. Without its event there is only a 503.
    pub(super) async fn refuse(&self, fault: Fault, reason: &'static str) -> ApiError {
        self.outcome(reason);
        let event = self.event(AuditOutcome::Denied, Some(reason), 0, 0);
        match self.services.audit.record(event).await {
            Ok(()) => told(fault),
            Err(fault) => ApiError::new(fault),
        }
    }

    /// Something of this node's failed. The event is tried, but nobody waits for it: the database is what most likely failed.
    pub(super) fn fail(&self, fault: Fault, reason: &'static str) -> ApiError {
        self.outcome(reason);
        let event = self.event(AuditOutcome::Failed, Some(reason), 0, 0);
        self.record_aside(event);
        told(fault)
    }

    /// The rows port broke a right. The answer is dropped, the event committed, the alarm raised.
    pub(super) async fn breach(&self, reason: &'static str) -> ApiError {
        self.outcome(reason);
        self.services.metrics.egress_violation();
        tracing::error!(request_id = %self.current.id, reason, "the egress guard stopped an answer: a defect");
        let event = self.event(AuditOutcome::Failed, Some(reason), 0, 0);
        match self.services.audit.record(event).await {
            Ok(()) => told(Fault::new(FaultKind::Internal, Stage::Egress)),
            Err(fault) => ApiError::new(fault),
        }
    }

    /// The answer may leave: its event is committed (or queued, where the configuration says `relaxed`).
    pub(super) async fn allow(&self, rows: usize, bytes_out: usize) -> Result<(), ApiError> {
        self.outcome("ok");
        let event = self.event(AuditOutcome::Allowed, None, rows, bytes_out);
        match self.services.audit_mode {
            AuditMode::Strict => self.services.audit.record(event).await.map_err(ApiError::new),
            AuditMode::Relaxed => {
                if !self.services.audit.record_later(event) {
                    tracing::warn!(request_id = %self.current.id, "the audit queue is full: an event was dropped");
                }
                Ok(())
            }
        }
    }

    /// The holder acted on a change of its grant, which made it `version`, `after` it was told. What cannot be written down is only
    /// logged: it happened.
    pub(super) fn receipt(&self, of: &'static str, version: Option<i64>, after: Duration) {
        self.record_aside(AuditEvent {
            action: AuditAction::Receipt,
            latency: after,
            grant_version: version,
            ..self.event(AuditOutcome::Allowed, Some(of), 0, 0)
        });
    }

    /// The event of an answer that its own transaction writes down.
    pub(super) fn allowed_event(&self) -> AuditEvent {
        self.event(AuditOutcome::Allowed, None, 0, 0)
    }

    /// An answer leaves whose event [`Inbound::allowed_event`] made.
    pub(super) fn answered(&self) {
        self.outcome("ok");
    }

    /// Of the presented certificate; known once admitted.
    pub(super) fn serial(&self) -> Option<&Serial> {
        self.serial.as_ref()
    }

    fn record_aside(&self, event: AuditEvent) {
        let audit = self.services.audit.clone();
        actix_web::rt::spawn(async move {
            if let Err(fault) = audit.record(event).await {
                tracing::warn!(%fault, "an audit event was lost");
            }
        });
    }

    fn outcome(&self, outcome: &'static str) {
        let elapsed = u64::try_from(self.current.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let resource = self.resource.as_ref().map(ResourceName::as_str);
        tracing::record_all!(self.span, outcome = outcome, latency_ms = elapsed, resource = resource);
        tracing::debug!(parent: &self.span, outcome, "a peer's request");
    }

    fn event(&self, outcome: AuditOutcome, reason: Option<&'static str>, rows: usize, bytes_out: usize) -> AuditEvent {
        let grant = self.grant.as_deref();
        AuditEvent {
            at: self.services.clock.now(),
            request: self.current.id,
            peer: grant.map(|grant| grant.peer.clone()),
            grant: grant.map(|grant| grant.id),
            grant_version: grant.map(|grant| grant.version),
            subject: grant.map(|grant| grant.subject),
            action: self.action.clone(),
            resource: self.resource.clone(),
            query_hash: self.query_hash,
            outcome,
            reason,
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            bytes_out: bytes_out as u64,
            latency: self.current.started.elapsed(),
            serial: self.serial.clone(),
            remote: self.remote,
            suppressed: 0,
        }
    }
}

/// The right that goes with a verb that reads rows.
pub(super) fn right_of(permit: &Permit) -> Result<&ReadRight, ApiError> {
    permit.right.as_ref().ok_or_else(|| ApiError::new(Fault::new(FaultKind::Internal, Stage::Authorize)))
}

/// The answer to a refused peer. Whoever has no business here, or not any more, loses the connection too.
fn told(fault: Fault) -> ApiError {
    let ends = matches!(
        fault.kind,
        FaultKind::Unauthorized | FaultKind::Forbidden | FaultKind::GrantRevoked | FaultKind::GrantExpired
    );
    let error = ApiError::new(fault).without_bearer_challenge();
    if ends { error.closing() } else { error }
}

fn connection(request: &HttpRequest) -> Option<PeerConnection> {
    #[cfg(test)]
    {
        use actix_web::HttpMessage as _;
        if let Some(connection) = request.extensions().get::<PeerConnection>() {
            return Some(connection.clone());
        }
    }
    request.conn_data::<PeerConnection>().cloned()
}
