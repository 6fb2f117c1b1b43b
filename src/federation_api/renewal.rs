//! What renewing needs beside the way that every request takes: the store, the CA, and the end of the older certificates.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mosaic_actors::domain::grant::Grant;
use mosaic_actors::domain::identity::{GrantId, Serial};
use mosaic_actors::grant_cache::GrantCacheHandle;
use mosaic_actors::ports::clock::Clock;
use tokio::time::Instant;

use crate::pki::authority::CertificateAuthority;
use crate::pki::extension_arc::ExtensionArc;
use crate::postgres::renewal::Renewals;

/// How long this replica may take to hear that certificates ended before it tries to end them again, which changes nothing.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Issues the next certificates of grants.
pub struct Renewal {
    pub(super) store: Renewals,
    pub(super) ca: Arc<dyn CertificateAuthority>,
    pub(super) arc: ExtensionArc,
    /// Asked whether the new certificate has arrived, so that the holder's first request with it is let in.
    pub(super) grants: GrantCacheHandle,
    /// Grants whose older certificates are being ended: at most as many as there are grants.
    ending: Arc<Mutex<HashSet<GrantId>>>,
}

impl Renewal {
    #[must_use]
    pub fn new(
        store: Renewals,
        ca: Arc<dyn CertificateAuthority>,
        arc: ExtensionArc,
        grants: GrantCacheHandle,
    ) -> Self {
        Self { store, ca, arc, grants, ending: Arc::default() }
    }

    /// The holder used a certificate. If it is the newest and older ones still count, they end now: beside the request, which
    /// waits for nothing, and once, however many requests arrive meanwhile.
    pub(super) fn note_use(&self, grant: &Grant, serial: &Serial, clock: &dyn Clock) {
        if !grant.is_taken_over_by(serial, self.grants.snapshot().now(clock)) || !lock(&self.ending).insert(grant.id) {
            return;
        }
        let (store, grants, ending) = (self.store.clone(), self.grants.clone(), Arc::clone(&self.ending));
        let (grant, serial) = (grant.id, serial.clone());
        actix_web::rt::spawn(async move {
            match store.retire_older(grant, &serial).await {
                Ok(None) => {}
                Ok(Some(version)) => {
                    tracing::info!(%grant, %serial, "the renewed certificate is in use; the earlier ones ended");
                    grants.reached(version, Instant::now() + HEARD_WITHIN).await;
                }
                Err(fault) => tracing::warn!(%grant, %fault, "superseded certificates could not be ended early"),
            }
            lock(&ending).remove(&grant);
        });
    }
}

fn lock(ending: &Mutex<HashSet<GrantId>>) -> MutexGuard<'_, HashSet<GrantId>> {
    ending.lock().unwrap_or_else(PoisonError::into_inner)
}
