//! What makes events and seals this site's own.

use mosaic_actors::domain::identity::SiteName;

use crate::secrets::{MacKey, MasterSecret, SigningKey};

/// Keys of the audit log, derived from the master secret: whoever holds only the database can make neither digest nor signature.
#[derive(Debug, Clone)]
pub struct AuditKeys {
    pub(super) site: SiteName,
    pub(super) events: MacKey,
    pub(super) seals: SigningKey,
}

impl AuditKeys {
    #[must_use]
    pub fn new(master: &MasterSecret, site: &SiteName) -> Self {
        Self { site: site.clone(), events: master.mac_key("audit event"), seals: master.signing_key("audit seal") }
    }

    /// The same keys for every store of a test.
    #[cfg(test)]
    pub(crate) fn testing() -> Self {
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        Self::new(&MasterSecret::parse(&secret).unwrap(), &SiteName::parse("work").unwrap())
    }
}
