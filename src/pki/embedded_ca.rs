//! The node's own certificate authority: a sealed key in the node's own database, and its revocation list.
//!
//! All replicas of a site share it. The revocation list's number is taken under a row lock in the database, so that two
//! replicas never sign different lists under one number. Recorded revocations are an outbox: whatever the database lists
//! and the current list does not name makes the next [`CertificateAuthority::crl`] sign a new one, also after a crash.

use std::sync::Arc;

use mosaic_actors::domain::identity::{Serial, SiteName};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::clock::Clock;
use time::{Duration, OffsetDateTime};

use super::authority::{CaError, CertificateAuthority, ClientRequest, Crl, IssuedCertificate, ServerIdentity};
use super::ca_material::CaMaterial;
use super::ca_store::{CaStore, CrlDraft, NewCa, Revocation, StoredCa};
use super::crl::{parse_crl, renew_crl_at, revoked_serials, verify_crl};
use super::extension_arc::ExtensionArc;
use super::pem::fingerprint;
use crate::secrets::{SealContext, Sealer};

/// How long a revocation list holds. It is signed anew at half of it, so that a node may be down for twelve hours.
pub const DEFAULT_CRL_LIFETIME: Duration = Duration::hours(24);

/// What an operator may choose about the authority.
#[derive(Debug, Clone)]
pub struct CaOptions {
    /// Where the identity extensions are named.
    pub arc: ExtensionArc,
    /// How long a revocation list holds; longer than zero.
    pub crl_lifetime: Duration,
}

impl Default for CaOptions {
    fn default() -> Self {
        Self { arc: ExtensionArc::default(), crl_lifetime: DEFAULT_CRL_LIFETIME }
    }
}

/// The authority of one site.
#[derive(Clone)]
pub struct EmbeddedCa {
    inner: Arc<Inner>,
}

struct Inner {
    material: CaMaterial,
    options: CaOptions,
    store: Arc<dyn CaStore>,
    clock: Arc<dyn Clock>,
}

impl EmbeddedCa {
    /// Opens the site's authority, or makes one. A replica that starts at the same time gets the same.
    pub async fn open_or_create(
        store: Arc<dyn CaStore>,
        sealer: &Sealer,
        site: &SiteName,
        options: CaOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        let stored = match store.load().await? {
            Some(stored) => stored,
            None => store.create(sealed(&CaMaterial::generate(site, clock.now())?, sealer)).await?,
        };
        Self::open(stored, store, sealer, options, clock)
    }

    /// Takes over a root from PEM. Doing it again with the same root changes nothing; another root than the one that is
    /// there is refused with [`CaError::Exists`], because every asker pinned that one.
    pub async fn import(
        store: Arc<dyn CaStore>,
        sealer: &Sealer,
        certificate_pem: &str,
        key_pem: &str,
        options: CaOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        let material = CaMaterial::import(certificate_pem, key_pem, clock.now())?;
        let stored = store.create(sealed(&material, sealer)).await?;
        if stored.certificate != material.certificate() {
            return Err(CaError::Exists);
        }
        Self::open(stored, store, sealer, options, clock)
    }

    fn open(
        stored: StoredCa,
        store: Arc<dyn CaStore>,
        sealer: &Sealer,
        options: CaOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        let fingerprint = fingerprint(&stored.certificate);
        let key = sealer.open(&seal_context(&fingerprint), &stored.sealed_key)?;
        let material = CaMaterial::from_stored(stored.certificate, &key)?;
        Ok(Self { inner: Arc::new(Inner { material, options, store, clock }) })
    }
}

impl CertificateAuthority for EmbeddedCa {
    fn issue(&self, request: ClientRequest) -> PortFuture<Result<IssuedCertificate, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.material.issue(&request, &inner.options.arc) })
    }

    fn issue_server(
        &self,
        names: Vec<String>,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> PortFuture<Result<ServerIdentity, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.material.issue_server(&names, now, lifetime) })
    }

    fn revoke(
        &self,
        serial: Serial,
        not_after: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortFuture<Result<Crl, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            inner.store.record_revocation(Revocation { serial, revoked_at: now, not_after }).await?;
            inner.current_crl(now).await
        })
    }

    fn crl(&self) -> PortFuture<Result<Crl, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.current_crl(inner.clock.now()).await })
    }

    fn root(&self) -> Vec<u8> {
        self.inner.material.certificate().to_vec()
    }
}

impl Inner {
    /// The current list, or the next one when the current one does not do. Looks without a lock first: that is the rule.
    async fn current_crl(self: &Arc<Self>, now: OffsetDateTime) -> Result<Crl, CaError> {
        let stored = self.store.load().await?.and_then(|stored| stored.crl);
        let revocations = self.store.revocations(now).await?;
        if let Some(current) = self.still_good(stored.as_deref(), &revocations, now) {
            return Ok(current);
        }
        let this = Arc::clone(self);
        self.store
            .renew_crl(now, Box::new(move |draft| this.next_crl(&draft, now)))
            .await?
            .ok_or_else(|| CaError::Unusable("the store kept no revocation list".into()))
    }

    /// Under the lock: another replica may have signed the list in the meantime.
    fn next_crl(&self, draft: &CrlDraft, now: OffsetDateTime) -> Result<Option<Crl>, CaError> {
        if self.still_good(draft.current.as_deref(), &draft.revocations, now).is_some() {
            return Ok(None);
        }
        self.material.sign_crl(draft.next_number, &draft.revocations, now, self.options.crl_lifetime).map(Some)
    }

    /// The list, if it is ours, names every revocation, and is not past half of its life.
    fn still_good(&self, der: Option<&[u8]>, revocations: &[Revocation], now: OffsetDateTime) -> Option<Crl> {
        let der = der?;
        let crl = verify_crl(der, self.material.certificate()).ok()?;
        let named = revoked_serials(der).ok()?;
        let complete = revocations.iter().all(|revocation| named.contains(&revocation.serial));
        (complete && now < renew_crl_at(&crl)).then_some(crl)
    }
}

/// The list that a store holds, as far as it can be read.
pub(crate) fn stored_crl(der: &[u8]) -> Result<Crl, CaError> {
    parse_crl(der).map_err(|error| CaError::Unusable(error.to_string().into()))
}

fn sealed(material: &CaMaterial, sealer: &Sealer) -> NewCa {
    let fingerprint = fingerprint(material.certificate());
    NewCa {
        certificate: material.certificate().to_vec(),
        sealed_key: sealer.seal(&seal_context(&fingerprint), &material.key_pkcs8()),
    }
}

/// The row is named by the certificate that the key belongs to: a key cannot be moved under another certificate.
fn seal_context(fingerprint: &str) -> SealContext<'_> {
    SealContext { table: "embedded_ca", row: fingerprint, key_version: 1 }
}
