//! Redeeming an invite, in the database: claim the token, then put the certificate on record and activate the grant.
//!
//! A crash between the two leaves a pending grant with a spent token, which a new invite can enrol. The second step is one
//! transaction, so that there is never an active grant without a certificate, and its condition lets one of two through.

use std::time::Duration;

use deadpool_postgres::Pool;
use mosaic_actors::domain::audit::AuditEvent;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::GrantStatus;
use mosaic_actors::domain::identity::{GrantId, Serial, SiteName, UserId};
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::audit::{self, AuditKeys};
use super::grants::{ChangedBy, authority_version, change_event, lock_authority};
use super::pool::{OrFault, sql_fault};
use crate::crash_points;

/// Enrolment tokens in Postgres.
#[derive(Clone)]
pub struct Enrollments {
    pool: Pool,
    keys: AuditKeys,
}

/// A claimed token: its holder, and nobody else any more, may have a certificate for this grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub token: Uuid,
    pub grant: GrantId,
    pub grant_version: i64,
    pub subject: UserId,
    pub peer: SiteName,
    /// No certificate may last longer.
    pub grant_expires_at: OffsetDateTime,
    /// The database's clock at the claim.
    pub now: OffsetDateTime,
}

/// Why a token cannot be claimed. The refusals that know their grant name it, for the audit log only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// 404.
    NotFound,
    /// 410: used, expired, voided by a newer invite, or its grant is not pending any more. The word is for the audit event.
    Gone { reason: &'static str, grant: GrantId },
    /// 409: somebody else claimed it at the same moment.
    Conflict { grant: GrantId },
    /// The database could not say.
    Fault(Fault),
}

impl ClaimRefusal {
    /// The word for the audit event.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "token_unknown",
            Self::Gone { reason, .. } => reason,
            Self::Conflict { .. } => "token_raced",
            Self::Fault(_) => "database",
        }
    }

    /// What the claimant is told.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let refusal = |kind, message: &str| Fault::new(kind, Stage::Authorize).with_message(message);
        match self {
            Self::NotFound => refusal(FaultKind::NotFound, "no such enrolment token"),
            Self::Gone { .. } => {
                refusal(FaultKind::Gone, "this invite cannot be used any more; ask the other site for a new one")
            }
            Self::Conflict { .. } => refusal(FaultKind::Conflict, "this invite is being redeemed by somebody else"),
            Self::Fault(fault) => fault.clone(),
        }
    }
}

/// A certificate that was issued for a claim, after it was compared with what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedForClaim {
    pub serial: Serial,
    /// SHA-256 of the SPKI DER.
    pub public_key_sha256: [u8; 32],
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// A completed enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    pub grant_version: i64,
    pub authority_version: i64,
}

const LOOK: &str = "
    SELECT t.id, t.grant_id, t.used_at IS NOT NULL AS used, t.voided_at IS NOT NULL AS voided, t.expires_at <= now() AS late,
           g.status, g.expires_at <= now() AS grant_late, u.active AND u.deleted_at IS NULL AS subject_active
    FROM enrollment_tokens t JOIN grants g ON g.id = t.grant_id JOIN users u ON u.id = g.subject_user_id
    WHERE t.token_sha256 = $1";

const CLAIM: &str = "
    UPDATE enrollment_tokens t SET used_at = now()
    FROM grants g JOIN peers p ON p.id = g.peer_id JOIN users u ON u.id = g.subject_user_id
    WHERE t.id = $1 AND t.used_at IS NULL AND t.voided_at IS NULL AND t.expires_at > now()
          AND g.id = t.grant_id AND g.status = 'pending' AND g.expires_at > now() AND u.active AND u.deleted_at IS NULL
    RETURNING t.id, g.id AS grant_id, g.version, g.subject_user_id, p.name AS peer, g.expires_at, clock_timestamp() AS now";

impl Enrollments {
    #[must_use]
    pub fn new(pool: Pool, keys: AuditKeys) -> Self {
        Self { pool, keys }
    }

    /// Puts an invite's token on record, voids the earlier ones of the grant and writes the audit event; returns when it ends
    /// (at the latest with the grant). `None` when there is no such grant; a grant that is not pending is a conflict.
    pub async fn create(
        &self,
        grant: GrantId,
        token_sha256: &[u8; 32],
        lifetime: Duration,
        by: &ChangedBy,
    ) -> Result<Option<OffsetDateTime>, Fault> {
        let mut client = self.pool.get().await.or_fault("create an invite")?;
        let transaction = client.transaction().await.or_fault("create an invite")?;
        // The row lock makes two invites for one grant follow each other, so that one of them is void.
        let row = transaction
            .query_opt(
                "SELECT status, version, subject_user_id, expires_at <= now() AS late,
                        (SELECT name FROM peers WHERE peers.id = peer_id) AS peer
                 FROM grants WHERE id = $1 FOR UPDATE",
                &[&grant.0],
            )
            .await
            .or_fault("create an invite")?;
        let Some(row) = row else { return Ok(None) };
        let status: &str = if row.get("late") { "expired" } else { row.get("status") };
        if status != GrantStatus::Pending.as_str() {
            return Err(Fault::new(FaultKind::Conflict, Stage::Request)
                .with_message(format!("a grant that is {status} cannot be invited to; only a pending one can")));
        }
        let ends = replace_token(&*transaction, grant, token_sha256, lifetime).await.or_fault("create an invite")?;
        let subject = UserId(row.get("subject_user_id"));
        let event = change_event(by, "invite", grant, row.get("version"), row.get("peer"), subject);
        audit::insert(&*transaction, &self.keys, &[event]).await.or_fault("create an invite")?;
        transaction.commit().await.or_fault("create an invite")?;
        Ok(Some(ends))
    }

    /// Claims a token: once, by one.
    pub async fn claim(&self, token_sha256: &[u8; 32]) -> Result<Claim, ClaimRefusal> {
        let client = self.pool.get().await.or_fault("claim an enrolment token").map_err(ClaimRefusal::Fault)?;
        let look = client
            .query_opt(LOOK, &[&token_sha256.as_slice()])
            .await
            .map_err(|error| ClaimRefusal::Fault(sql_fault("claim an enrolment token", &error)))?
            .ok_or(ClaimRefusal::NotFound)?;
        let grant = GrantId(look.get("grant_id"));
        if let Some(reason) = gone(&look) {
            return Err(ClaimRefusal::Gone { reason, grant });
        }
        let token: Uuid = look.get("id");
        let claimed = client
            .query_opt(CLAIM, &[&token])
            .await
            .map_err(|error| ClaimRefusal::Fault(sql_fault("claim an enrolment token", &error)))?
            .ok_or(ClaimRefusal::Conflict { grant })?;
        claim_record(&claimed).ok_or(ClaimRefusal::Fault(Fault::new(FaultKind::Internal, Stage::Database)))
    }

    /// Whether a key was certified before: a key belongs to one enrolment.
    pub async fn key_on_record(&self, public_key_sha256: &[u8; 32]) -> Result<bool, Fault> {
        let client = self.pool.get().await.or_fault("look for a key")?;
        let row = client
            .query_one(
                "SELECT EXISTS (SELECT FROM grant_certificates WHERE public_key_sha256 = $1)",
                &[&public_key_sha256.as_slice()],
            )
            .await
            .or_fault("look for a key")?;
        Ok(row.get(0))
    }

    /// One transaction: certificate on record, grant `pending → active`, audit event (its grant version is set here). A grant
    /// that stopped being pending in the meantime is `Gone`; a key or serial on record is a conflict.
    pub async fn complete(
        &self,
        claim: &Claim,
        issued: &IssuedForClaim,
        mut event: AuditEvent,
    ) -> Result<Completed, Fault> {
        let mut client = self.pool.get().await.or_fault("complete an enrolment")?;
        let transaction = client.transaction().await.or_fault("complete an enrolment")?;
        lock_authority(&*transaction).await.or_fault("complete an enrolment")?;
        put_on_record(&*transaction, claim.grant, issued).await.map_err(record_fault)?;
        let activated = transaction
            .query_opt(
                "UPDATE grants SET status = 'active', activated_at = now()
                 WHERE id = $1 AND status = 'pending' AND expires_at > now() RETURNING version",
                &[&claim.grant.0],
            )
            .await
            .or_fault("complete an enrolment")?
            .ok_or_else(|| ClaimRefusal::Gone { reason: "grant_not_pending", grant: claim.grant }.fault())?;
        let grant_version = activated.get("version");
        event.grant_version = Some(grant_version);
        audit::insert(&*transaction, &self.keys, &[event]).await.or_fault("complete an enrolment")?;
        let authority_version = authority_version(&*transaction).await.or_fault("complete an enrolment")?;
        crash_points::reach("enrolment.uncommitted");
        transaction.commit().await.or_fault("complete an enrolment")?;
        Ok(Completed { grant_version, authority_version })
    }
}

async fn replace_token(
    client: &impl GenericClient,
    grant: GrantId,
    token_sha256: &[u8; 32],
    lifetime: Duration,
) -> Result<OffsetDateTime, tokio_postgres::Error> {
    client
        .execute(
            "UPDATE enrollment_tokens SET voided_at = now() WHERE grant_id = $1 AND used_at IS NULL AND voided_at IS NULL",
            &[&grant.0],
        )
        .await?;
    let row = client
        .query_one(
            "INSERT INTO enrollment_tokens (id, grant_id, token_sha256, expires_at)
             SELECT $1, g.id, $3, LEAST(now() + $4::double precision * interval '1 second', g.expires_at)
             FROM grants g WHERE g.id = $2 RETURNING expires_at",
            &[&Uuid::now_v7(), &grant.0, &token_sha256.as_slice(), &lifetime.as_secs_f64()],
        )
        .await?;
    Ok(row.get("expires_at"))
}

pub(super) async fn put_on_record(
    client: &impl GenericClient,
    grant: GrantId,
    issued: &IssuedForClaim,
) -> Result<(), tokio_postgres::Error> {
    client
        .execute(
            "INSERT INTO grant_certificates (serial, grant_id, public_key_sha256, not_before, not_after)
             VALUES ($1, $2, $3, $4, $5)",
            &[
                &issued.serial.as_bytes(),
                &grant.0,
                &issued.public_key_sha256.as_slice(),
                &issued.not_before,
                &issued.not_after,
            ],
        )
        .await
        .map(drop)
}

pub(super) fn record_fault(error: tokio_postgres::Error) -> Fault {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => Fault::new(FaultKind::Conflict, Stage::Request)
            .with_message("this key is already on record; make a new one"),
        _ => sql_fault("put a certificate on record", &error),
    }
}

fn gone(look: &Row) -> Option<&'static str> {
    let is = |column: &str| look.get::<_, bool>(column);
    let pending = look.get::<_, &str>("status") == GrantStatus::Pending.as_str();
    let checks = [
        (is("used"), "token_used"),
        (is("voided"), "token_voided"),
        (is("late"), "token_expired"),
        (!pending || is("grant_late"), "grant_not_pending"),
        (!is("subject_active"), "subject_inactive"),
    ];
    checks.into_iter().find_map(|(is_gone, reason)| is_gone.then_some(reason))
}

fn claim_record(row: &Row) -> Option<Claim> {
    Some(Claim {
        token: row.get("id"),
        grant: GrantId(row.get("grant_id")),
        grant_version: row.get("version"),
        subject: UserId(row.get("subject_user_id")),
        peer: SiteName::parse(row.get("peer")).ok()?,
        grant_expires_at: row.get("expires_at"),
        now: row.get("now"),
    })
}

#[cfg(test)]
mod tests;
