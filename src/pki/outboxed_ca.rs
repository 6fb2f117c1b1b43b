//! A step-ca with a memory: revocations that it could not be told yet, and its newest list, both in the node's database.
//!
//! A revocation is decided in the database, in one transaction with its entry here; from then on requests are refused. What follows is
//! the second lock, the list, and it must not be lost: an entry is taken under a lease by one replica, told to step-ca, and
//! struck out when the list that comes back names it. Whatever fails puts it back, later each time, also when the one who asked has
//! stopped waiting: the telling is a task of its own. Every look at the list
//! ([`CertificateAuthority::crl`], every few seconds on every replica) does this first, so that nothing else has to run.
//!
//! Of the lists the highest number wins, whoever fetched it. While step-ca is away the kept one is good until its own end.
//!
//! A step-ca that was restored from a backup has forgotten what came after it. A list that was made after it was told of a revocation,
//! and does not name it, says so: the entry is put in again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mosaic_actors::domain::identity::Serial;
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::clock::Clock;
use time::OffsetDateTime;

use super::authority::{
    CaError, CaHealth, CertificateAuthority, ClientRequest, Crl, IssuedCertificate, ServerIdentity,
};
use super::ca_store::Revocation;
use super::crl::revoked_serials;
use super::revocation_outbox::{RevocationOutbox, Waiting};
use super::step_ca::StepCa;
use super::step_ca::error::StepCaError;
use crate::secrets::sha256;

#[cfg(test)]
mod tests;

/// Revocations that are told in one go: each is two requests to step-ca.
const TAKE_AT_ONCE: u32 = 8;

/// How long an entry stays with the replica that took it: longer than step-ca can take to answer for all that are taken at once.
const LEASE: Duration = Duration::from_secs(90);

/// First and longest pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The authority of a site that runs step-ca, as the node uses it. Clones share one state.
#[derive(Clone)]
pub struct OutboxedCa {
    inner: Arc<Inner>,
}

struct Inner {
    ca: StepCa,
    outbox: Arc<dyn RevocationOutbox>,
    clock: Arc<dyn Clock>,
    root_sha256: [u8; 32],
    reachable: AtomicBool,
    waiting: AtomicU64,
    /// The number of the last list that was told to be lower than it should be.
    restored: AtomicU64,
}

impl OutboxedCa {
    #[must_use]
    pub fn new(ca: StepCa, outbox: Arc<dyn RevocationOutbox>, clock: Arc<dyn Clock>) -> Self {
        let root_sha256 = sha256(&ca.root());
        let (reachable, waiting, restored) = (AtomicBool::new(true), AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Self { inner: Arc::new(Inner { ca, outbox, clock, root_sha256, reachable, waiting, restored }) }
    }
}

impl CertificateAuthority for OutboxedCa {
    fn issue(&self, request: ClientRequest) -> PortFuture<Result<IssuedCertificate, CaError>> {
        self.inner.ca.issue(request)
    }

    fn issue_server(
        &self,
        names: Vec<String>,
        now: OffsetDateTime,
        lifetime: time::Duration,
    ) -> PortFuture<Result<ServerIdentity, CaError>> {
        self.inner.ca.issue_server(names, now, lifetime)
    }

    fn revoke(
        &self,
        serial: Serial,
        not_after: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortFuture<Result<Crl, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            inner.outbox.put(Revocation { serial: serial.clone(), revoked_at: now, not_after }).await?;
            let failed = inner.tell_waiting().await.err();
            let crl = inner.list(now).await?;
            if not_after <= now || revoked_serials(&crl.der).is_ok_and(|named| named.contains(&serial)) {
                return Ok(crl);
            }
            // It is on record and will be told; that it is not on the list yet is what the caller has to know.
            Err(failed.unwrap_or(StepCaError::CrlBehind.into()))
        })
    }

    fn crl(&self) -> PortFuture<Result<Crl, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let told = inner.tell_waiting().await;
            if let Err(error @ CaError::Store(_)) = told {
                return Err(error);
            }
            inner.list(inner.clock.now()).await
        })
    }

    fn root(&self) -> Vec<u8> {
        self.inner.ca.root()
    }

    fn issuers(&self) -> Vec<Vec<u8>> {
        self.inner.ca.issuers()
    }

    fn health(&self) -> CaHealth {
        CaHealth {
            reachable: self.inner.reachable.load(Ordering::Relaxed),
            revocations_waiting: self.inner.waiting.load(Ordering::Relaxed),
        }
    }
}

impl Inner {
    /// Tells step-ca what is due, to the end, however early the caller gives up: an entry that is dropped between being taken and
    /// being put back would rest for a whole lease.
    async fn tell_waiting(self: &Arc<Self>) -> Result<(), CaError> {
        let inner = Arc::clone(self);
        match tokio::spawn(async move { inner.tell_taken().await }).await {
            Ok(told) => told,
            // The process ends, or a bug; the lease ends too.
            Err(error) => Err(CaError::Unavailable(error.to_string().into())),
        }
    }

    /// The first failure is returned, when everything that was taken is struck out or put back.
    async fn tell_taken(&self) -> Result<(), CaError> {
        let mut failed = None;
        for waiting in self.outbox.take(TAKE_AT_ONCE, LEASE).await? {
            // Who did not answer a moment ago would keep the others waiting as long again.
            let told = match &failed {
                Some(error) if is_away(error) => Err(error.clone()),
                _ => self.tell(&waiting).await,
            };
            if let Err(error) = told {
                self.outbox.put_back(waiting.serial.clone(), pause_after(waiting.attempts)).await?;
                failed.get_or_insert(error);
            }
        }
        self.waiting.store(self.outbox.waiting().await?, Ordering::Relaxed);
        failed.map_or(Ok(()), Err)
    }

    async fn tell(&self, waiting: &Waiting) -> Result<(), CaError> {
        let Waiting { serial, not_after, attempts } = waiting;
        match self.ca.revoke(serial.clone(), *not_after, self.clock.now()).await {
            Ok(_) => {
                self.reachable.store(true, Ordering::Relaxed);
                self.outbox.told(serial.clone()).await?;
                tracing::info!(%serial, attempts, "step-ca revoked a certificate");
                Ok(())
            }
            Err(error) => {
                let remedy = error.remedy();
                tracing::warn!(%serial, attempts, %error, remedy, "step-ca could not be told of a revocation; it waits");
                Err(error)
            }
        }
    }

    /// The list with the highest number that still holds: step-ca's, or the one that was kept.
    async fn list(&self, now: OffsetDateTime) -> Result<Crl, CaError> {
        let kept = self.outbox.list(self.root_sha256).await?;
        let kept = kept.and_then(|kept| self.ca.adopt(kept.issuers, &kept.crl).ok());
        let good = kept.clone().filter(|kept| now < kept.next_update);
        let fetched = match self.ca.crl().await {
            Ok(fetched) => fetched,
            Err(error) => {
                self.note_failure(&error, good.as_ref());
                return good.ok_or(error);
            }
        };
        self.reachable.store(true, Ordering::Relaxed);
        match kept {
            Some(kept) if fetched.number < kept.number => {
                if fetched.this_update > kept.this_update {
                    self.note_restored(&fetched, &kept).await?;
                }
                let (offered, kept) = (fetched.number, kept.number);
                good.ok_or_else(|| StepCaError::CrlOlder { offered, kept }.into())
            }
            _ if fetched.next_update <= now => good.ok_or_else(|| StepCaError::CrlStale.into()),
            Some(kept) if fetched.number == kept.number => Ok(kept),
            _ => {
                self.tell_missing_again(&fetched).await?;
                self.outbox.keep(self.root_sha256, fetched.clone(), self.ca.issuers()).await?;
                Ok(fetched)
            }
        }
    }

    /// A list that was made later has a lower number: step-ca counts anew from a backup. (One that another replica fetched earlier is no
    /// news.) What it forgot is told again, which raises its number too. One line for each such list.
    async fn note_restored(&self, offered: &Crl, kept: &Crl) -> Result<(), CaError> {
        if self.restored.swap(offered.number, Ordering::Relaxed) != offered.number {
            let (offered, kept) = (offered.number, kept.number);
            let remedy = CaError::from(StepCaError::CrlOlder { offered, kept }).remedy();
            tracing::warn!(
                offered,
                kept,
                remedy,
                "step-ca's list has a lower number than an earlier one: it was restored from a backup"
            );
        }
        self.tell_missing_again(offered).await
    }

    async fn tell_missing_again(&self, list: &Crl) -> Result<(), CaError> {
        let Ok(named) = revoked_serials(&list.der) else { return Ok(()) };
        let missing = self.outbox.tell_missing_again(named.into_iter().collect(), list.this_update).await?;
        if missing > 0 {
            tracing::warn!(
                missing,
                number = list.number,
                "step-ca's list does not name what it was told; it is told again"
            );
        }
        Ok(())
    }

    /// One line when it goes away; the kept list's end is what makes it urgent.
    fn note_failure(&self, error: &CaError, kept: Option<&Crl>) {
        if self.reachable.swap(false, Ordering::Relaxed) {
            let (remedy, until) = (error.remedy(), kept.map(|kept| kept.next_update.to_string()));
            tracing::warn!(%error, remedy, good_until = until, "step-ca gave no revocation list; the kept one goes on");
        }
    }
}

fn is_away(error: &CaError) -> bool {
    matches!(error, CaError::StepCa(error) if error.is_retryable())
}

/// Before the next attempt, after so many.
fn pause_after(attempts: u32) -> Duration {
    PAUSE.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX)).min(PAUSE_MAX)
}
