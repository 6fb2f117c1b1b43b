//! What makes events and seals this site's own.

use std::sync::Arc;

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::SiteName;
use tokio::sync::Notify;

use crate::secrets::{MacKey, MasterSecret, SigningKey};

/// Keys of the audit log, derived from the master secret: whoever holds only the database can make neither digest nor signature.
#[derive(Debug, Clone)]
pub struct AuditKeys {
    pub(super) site: SiteName,
    pub(super) events: MacKey,
    pub(super) seals: SigningKey,
    refused: Arc<Notify>,
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

    /// Returns when something was refused because it was made with a retired secret: this process has to learn which one seals.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    /// The fault of what was refused so. Nothing of it is there, and it may be tried again.
    pub(super) fn are_retired(&self) -> Fault {
        tracing::warn!("the master secret that this process seals with is retired; reading again which one seals");
        self.refused.notify_one();
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
