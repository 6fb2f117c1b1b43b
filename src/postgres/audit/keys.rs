//! What makes events and seals this site's own.

use std::sync::{Arc, Mutex, PoisonError};

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::SiteName;
use tokio::sync::Notify;

use crate::secrets::{KeyId, MacKey, MasterSecret, SigningKey};

/// Keys of the audit log, derived from the master secret: whoever holds only the database can make neither digest nor signature.
#[derive(Debug, Clone)]
pub struct AuditKeys {
    pub(super) site: SiteName,
    pub(super) events: MacKey,
    pub(super) seals: SigningKey,
    refused: Arc<Refused>,
}

/// What a process has to be told when the database refuses its secret.
#[derive(Debug, Default)]
struct Refused {
    notify: Notify,
    /// The secret that was told of last: every request is refused until there is another one.
    told: Mutex<Option<KeyId>>,
}

impl AuditKeys {
    #[must_use]
    pub fn new(master: &MasterSecret, site: &SiteName) -> Self {
        Self {
            site: site.clone(),
            events: master.mac_key("audit event"),
            seals: master.signing_key("audit seal"),
            refused: Arc::default(),
        }
    }

    /// The secret that digests are made with now.
    pub(super) fn sealing(&self) -> KeyId {
        self.events.sign(&[]).0
    }

    /// Returns when something was refused because it was made with a retired secret: this process has to learn which one seals.
    pub async fn refused(&self) {
        self.refused.notify.notified().await;
    }

    /// The fault of what was refused so. Nothing of it is there, and it may be tried again.
    pub(super) fn are_retired(&self) -> Fault {
        let secret = self.sealing();
        // Held for one comparison.
        let before = self.refused.told.lock().unwrap_or_else(PoisonError::into_inner).replace(secret);
        if before != Some(secret) {
            tracing::warn!(%secret, "the master secret that this process seals with is retired; reading again which one seals");
        }
        self.refused.notify.notify_one();
        Fault::new(FaultKind::Unavailable, Stage::Audit)
    }

    /// The same keys for every store of a test.
    #[cfg(test)]
    pub(crate) fn testing() -> Self {
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        Self::new(&MasterSecret::parse(&secret).unwrap(), &SiteName::parse("work").unwrap())
    }
}
