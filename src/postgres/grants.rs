//! The owner side's grants: their rows, their changes, and what the authorisation decision reads.
//!
//! Every change is one transaction that takes the authority lock first, so that changes never wait for each other in a circle,
//! and that holds its audit event, so that neither exists without the other. Illegal changes are refused by the domain's
//! [`GrantStatus::after`] and, should two race, by the condition in the `UPDATE`.

use std::net::IpAddr;

use deadpool_postgres::Pool;
use mosaic_actors::domain::audit::{AuditAction, AuditEvent, AuditOutcome};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::{CertificateOnRecord, Grant, GrantChange, GrantStatus, InboundLimits};
use mosaic_actors::domain::identity::{GrantId, RequestId, Serial, SiteName, TeamId, UserId};
use mosaic_actors::domain::scope::Scope;
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::grant_store::{GrantStore, LoadedGrants};
use time::OffsetDateTime;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::audit::{self, AuditKeys};
use super::pool::OrFault;
use crate::wire::admin_v1::ScopeV1;

mod changes;
mod load;
mod record;

pub use changes::{Changed, GrantUpdate, NewGrant, RevokedCertificate};
pub use record::{CertificateRecord, GrantPage, GrantRecord, PeerRecord};

pub(super) use changes::{authority_version, lock_authority, revoke_all_of_subject};
pub(super) use load::{beat_with, load_all_with, load_of_subject_with, load_with};

/// The grants in Postgres.
#[derive(Clone)]
pub struct Grants {
    pool: Pool,
    keys: AuditKeys,
}

/// Who changes something, for the audit event.
#[derive(Debug, Clone, Copy)]
pub struct ChangedBy {
    pub request: RequestId,
    pub at: OffsetDateTime,
    pub remote: Option<IpAddr>,
}

impl Grants {
    #[must_use]
    pub fn new(pool: Pool, keys: AuditKeys) -> Self {
        Self { pool, keys }
    }
}

impl GrantStore for Grants {
    fn load_all(&self) -> PortFuture<Result<LoadedGrants, Fault>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let mut client = pool.get().await.or_fault("load the grants")?;
            load_all_with(&mut client).await.or_fault("load the grants")
        })
    }

    fn load(&self, grant: GrantId) -> PortFuture<Result<Option<Grant>, Fault>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = pool.get().await.or_fault("load a grant")?;
            load_with(&**client, &[grant]).await.map(|grants| grants.into_iter().next()).or_fault("load a grant")
        })
    }
}

/// The event of a change. `grant_version` is the version that the change made.
pub(super) fn change_event(
    by: &ChangedBy,
    change: &'static str,
    grant: GrantId,
    version: i64,
    peer: &str,
    subject: UserId,
) -> AuditEvent {
    AuditEvent {
        peer: SiteName::parse(peer).ok(),
        grant: Some(grant),
        grant_version: Some(version),
        subject: Some(subject),
        remote: by.remote,
        ..AuditEvent::bare(by.at, by.request, AuditAction::GrantChanged(change), AuditOutcome::Allowed)
    }
}

#[cfg(test)]
pub(crate) mod tests;
