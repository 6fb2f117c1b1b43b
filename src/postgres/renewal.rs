//! Renewing a grant's certificate, in the database: read the grant anew, then put the next certificate on record beside the one
//! that asked for it.
//!
//! The overlap: in the transaction that records a new certificate the older ones get an end, `superseded_until`; the first
//! request with the new one brings that end forward to now. Between the two both open the grant, so that no request of the
//! holder falls into a gap. A holder who never got the answer renews again with the old one, and gets the overlap again.

use std::time::Duration;

use deadpool_postgres::Pool;
use mosaic_actors::domain::audit::AuditEvent;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::GrantStatus;
use mosaic_actors::domain::identity::{GrantId, Serial, SiteName, UserId};
use mosaic_actors::scope_evaluator::DenyReason;
use time::OffsetDateTime;
use tokio_postgres::{GenericClient, Row};

use super::audit::{self, AuditKeys};
use super::enrollment::{IssuedForClaim, put_on_record, record_fault};
use super::grants::{authority_version, lock_authority};
use super::pool::OrFault;

/// Renewals in Postgres.
#[derive(Clone)]
pub struct Renewals {
    pool: Pool,
    keys: AuditKeys,
    limits: RenewalLimits,
}

/// What a holder may do with certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalLimits {
    /// How long the older certificates stay valid when the new one is not used.
    pub overlap: Duration,
    /// Certificates of one grant in an hour, the first one included.
    pub per_hour: u32,
}

/// Who asks for a certificate, with which one, for which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub grant: GrantId,
    /// Of the certificate that was presented.
    pub serial: Serial,
    /// SHA-256 of the new key's SPKI DER.
    pub public_key_sha256: [u8; 32],
}

/// The grant as the database has it now: it may have a new certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewable {
    pub subject: UserId,
    pub peer: SiteName,
    /// No certificate may last longer.
    pub grant_expires_at: OffsetDateTime,
    /// The database's clock.
    pub now: OffsetDateTime,
}

/// Why there is no new certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenewalRefusal {
    /// The grant, or the presented certificate, does not count any more.
    Denied(DenyReason),
    /// A key is certified once.
    KeyOnRecord,
    /// The grant had its share of certificates.
    TooMany { retry_after: Duration },
    /// The database could not say.
    Fault(Fault),
}

impl RenewalRefusal {
    /// The word for the audit event.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Denied(reason) => reason.as_str(),
            Self::KeyOnRecord => "key_on_record",
            Self::TooMany { .. } => "too_many_certificates",
            Self::Fault(_) => "database",
        }
    }

    /// What the holder is told.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Denied(reason) => Fault::new(reason.kind(), Stage::Authorize),
            Self::KeyOnRecord => Fault::new(FaultKind::Conflict, Stage::Request)
                .with_message("csr: this key is already on record; renew with a new one"),
            Self::TooMany { retry_after } => Fault::new(FaultKind::RateLimited, Stage::Admission)
                .with_message("this grant had too many certificates lately; retry later")
                .after(*retry_after),
            Self::Fault(fault) => fault.clone(),
        }
    }
}

impl From<Fault> for RenewalRefusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

const LOOK: &str = "
    SELECT g.status, g.subject_user_id, p.name AS peer, g.expires_at, g.expires_at <= now() AS late,
           u.active AND u.deleted_at IS NULL AS subject_active, clock_timestamp() AS now,
           EXISTS (SELECT FROM grant_certificates c
                   WHERE c.grant_id = g.id AND c.serial = $2 AND c.revoked_at IS NULL AND c.not_after > now()
                         AND (c.superseded_until IS NULL OR c.superseded_until > now())) AS serial_current,
           EXISTS (SELECT FROM grant_certificates c WHERE c.public_key_sha256 = $3) AS key_known,
           lately.many, lately.wait
    FROM grants g
    JOIN peers p ON p.id = g.peer_id
    JOIN users u ON u.id = g.subject_user_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS many,
               COALESCE(EXTRACT(EPOCH FROM min(c.created_at) + interval '1 hour' - now()), 0)::double precision AS wait
        FROM grant_certificates c WHERE c.grant_id = g.id AND c.created_at > now() - interval '1 hour'
    ) AS lately
    WHERE g.id = $1";

/// Gives every other certificate that still counts its end. One that has ended stays ended.
const SUPERSEDE: &str = "
    UPDATE grant_certificates SET superseded_until = now() + $3::double precision * interval '1 second'
    WHERE grant_id = $1 AND serial <> $2 AND revoked_at IS NULL AND not_after > now()
          AND (superseded_until IS NULL OR superseded_until > now())";

/// Ends the older ones, if `$2` is the newest: doing it again, on whichever replica, changes nothing.
const RETIRE: &str = "
    UPDATE grant_certificates SET superseded_until = now()
    WHERE grant_id = $1 AND serial <> $2 AND superseded_until > now()
          AND EXISTS (SELECT FROM grant_certificates newest
                      WHERE newest.grant_id = $1 AND newest.serial = $2 AND newest.superseded_until IS NULL)";

const ANY_TO_RETIRE: &str = "
    SELECT EXISTS (SELECT FROM grant_certificates WHERE grant_id = $1 AND serial <> $2 AND superseded_until > now())";

impl Renewals {
    #[must_use]
    pub fn new(pool: Pool, keys: AuditKeys, limits: RenewalLimits) -> Self {
        Self { pool, keys, limits }
    }

    /// Reads the grant anew: whether its holder may have another certificate, for this key, now.
    pub async fn begin(&self, asked: &Asked) -> Result<Renewable, RenewalRefusal> {
        let client = self.pool.get().await.or_fault("renew a certificate")?;
        self.look(&**client, asked).await
    }

    /// One transaction: the grant is looked at once more, the new certificate goes on record, the older ones get their end, the
    /// event is written. Returns the site-wide counter that includes this change.
    pub async fn complete(
        &self,
        asked: &Asked,
        issued: &IssuedForClaim,
        event: AuditEvent,
    ) -> Result<i64, RenewalRefusal> {
        let mut client = self.pool.get().await.or_fault("renew a certificate")?;
        let transaction = client.transaction().await.or_fault("renew a certificate")?;
        lock_authority(&*transaction).await.or_fault("renew a certificate")?;
        self.look(&*transaction, asked).await?;
        put_on_record(&*transaction, asked.grant, issued).await.map_err(record_fault)?;
        transaction
            .execute(SUPERSEDE, &[&asked.grant.0, &issued.serial.as_bytes(), &self.limits.overlap.as_secs_f64()])
            .await
            .or_fault("renew a certificate")?;
        audit::insert(&*transaction, &self.keys, &[event]).await.or_fault("renew a certificate")?;
        let version = authority_version(&*transaction).await.or_fault("renew a certificate")?;
        transaction.commit().await.or_fault("renew a certificate")?;
        Ok(version)
    }

    /// The certificate `newest` was used: the older ones of the grant end now. Returns the site-wide counter when this call
    /// ended any.
    pub async fn retire_older(&self, grant: GrantId, newest: &Serial) -> Result<Option<i64>, Fault> {
        let mut client = self.pool.get().await.or_fault("end a superseded certificate")?;
        let any =
            client.query_one(ANY_TO_RETIRE, &[&grant.0, &newest.as_bytes()]).await.or_fault("end a certificate")?;
        if !any.get::<_, bool>(0) {
            return Ok(None);
        }
        let transaction = client.transaction().await.or_fault("end a superseded certificate")?;
        lock_authority(&*transaction).await.or_fault("end a superseded certificate")?;
        let ended = transaction
            .execute(RETIRE, &[&grant.0, &newest.as_bytes()])
            .await
            .or_fault("end a superseded certificate")?;
        let version = authority_version(&*transaction).await.or_fault("end a superseded certificate")?;
        transaction.commit().await.or_fault("end a superseded certificate")?;
        Ok((ended > 0).then_some(version))
    }

    async fn look(&self, client: &impl GenericClient, asked: &Asked) -> Result<Renewable, RenewalRefusal> {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&asked.grant.0, &asked.serial.as_bytes(), &asked.public_key_sha256.as_slice()];
        let row = client
            .query_opt(LOOK, &parameters)
            .await
            .or_fault("renew a certificate")?
            .ok_or(RenewalRefusal::Denied(DenyReason::NoSuchGrant))?;
        if let Some(reason) = denied(&row) {
            return Err(RenewalRefusal::Denied(reason));
        }
        if row.get("key_known") {
            return Err(RenewalRefusal::KeyOnRecord);
        }
        if row.get::<_, i64>("many") >= i64::from(self.limits.per_hour) {
            let seconds = row.get::<_, f64>("wait").clamp(1.0, 3_600.0);
            return Err(RenewalRefusal::TooMany { retry_after: Duration::from_secs_f64(seconds) });
        }
        Ok(Renewable {
            subject: UserId(row.get("subject_user_id")),
            peer: SiteName::parse(row.get("peer")).map_err(|_| Fault::new(FaultKind::Internal, Stage::Database))?,
            grant_expires_at: row.get("expires_at"),
            now: row.get("now"),
        })
    }
}

/// That the grant was revoked comes first: its certificates ended with it, and their holder, whom the evaluator let in a moment
/// ago, may know.
fn denied(row: &Row) -> Option<DenyReason> {
    if row.get::<_, &str>("status") == GrantStatus::Revoked.as_str() {
        return Some(DenyReason::GrantRevoked);
    }
    if !row.get::<_, bool>("serial_current") {
        return Some(DenyReason::SerialNotCurrent);
    }
    match GrantStatus::parse(row.get("status")) {
        Some(GrantStatus::Revoked) | None => Some(DenyReason::GrantRevoked),
        _ if row.get("late") => Some(DenyReason::GrantExpired),
        Some(GrantStatus::Expired) => Some(DenyReason::GrantExpired),
        Some(GrantStatus::Pending) => Some(DenyReason::GrantPending),
        Some(GrantStatus::Suspended) => Some(DenyReason::GrantSuspended),
        Some(GrantStatus::Active) if !row.get::<_, bool>("subject_active") => Some(DenyReason::SubjectInactive),
        Some(GrantStatus::Active) => None,
    }
}

#[cfg(test)]
mod tests;
