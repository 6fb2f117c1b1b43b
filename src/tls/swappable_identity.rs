//! The server's certificate and key, replaced without dropping a connection.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::provider;
use crate::pki::authority::ServerIdentity;

/// What a listener presents. Clones share the one identity; without one, handshakes fail.
#[derive(Clone, Default)]
pub struct SwappableIdentity {
    current: Arc<ArcSwapOption<Presented>>,
}

struct Presented {
    key: Arc<CertifiedKey>,
    renew_at: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// The certificate and the key do not belong together, or one cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the server certificate cannot be used: {0}")]
pub struct IdentityError(#[from] rustls::Error);

impl SwappableIdentity {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Presents `identity` from the next handshake on. The one before stays when this one cannot be used.
    pub fn replace(&self, identity: &ServerIdentity) -> Result<(), IdentityError> {
        let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.to_vec()));
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider())?);
        let (renew_at, not_after) = (identity.renew_at(), identity.not_after);
        self.current.store(Some(Arc::new(Presented { key, renew_at, not_after })));
        Ok(())
    }

    /// Whether it is time to ask for the next certificate; also when there is none.
    #[must_use]
    pub fn is_due(&self, now: OffsetDateTime) -> bool {
        self.current.load().as_ref().is_none_or(|presented| now >= presented.renew_at)
    }

    /// When the presented certificate ends.
    #[must_use]
    pub fn not_after(&self) -> Option<OffsetDateTime> {
        self.current.load().as_ref().map(|presented| presented.not_after)
    }
}

impl ResolvesServerCert for SwappableIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|presented| Arc::clone(&presented.key))
    }
}

impl fmt::Debug for SwappableIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwappableIdentity").field("not_after", &self.not_after()).finish()
    }
}
