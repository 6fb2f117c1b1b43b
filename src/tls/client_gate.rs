//! Who may finish a handshake on the federation listener: holders of a certificate that the site's CA signed and that its
//! revocation list does not name.
//!
//! The gate starts closed. It opens with a root and a revocation list that the root (or its intermediate) signed; a newer list replaces the one
//! before without dropping a connection; an older or forged one is refused and the last good one stays until it is stale,
//! from when on everyone is refused. That a certificate is revoked is said even then.

use std::fmt;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::provider;
use crate::pki::authority::Crl;
use crate::pki::crl::{CrlError, verify_crl_by};

/// The verifier of client certificates. Clones share one state.
#[derive(Clone, Default)]
pub struct ClientGate {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    loaded: ArcSwapOption<Loaded>,
    /// Updates compare with what is loaded and replace it in one step.
    updating: Mutex<()>,
}

struct Loaded {
    root: Vec<u8>,
    crl: Crl,
    strict: Arc<dyn ClientCertVerifier>,
    /// Does not mind a stale list: asked only why the strict one refused.
    lenient: Arc<dyn ClientCertVerifier>,
}

/// Why a revocation list was not taken. What was loaded before stays.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Crl(#[from] CrlError),
    #[error("revocation list {offered} is older than {loaded}, which is loaded")]
    Older { offered: u64, loaded: u64 },
    #[error("there are two different revocation lists with the number {0}")]
    Conflict(u64),
    #[error("the root cannot be used: {0}")]
    Root(rustls::Error),
    #[error("the revocation list cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl ClientGate {
    /// A gate that refuses everyone until [`ClientGate::update`] has succeeded once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads a root (DER) and the revocation list (DER) that it signed. `Ok(true)` when something changed; the same list again
    /// is no change.
    pub fn update(&self, root: &[u8], crl: &[u8]) -> Result<bool, GateError> {
        self.update_by(root, &[root.to_vec()], crl)
    }

    /// The same with a list that one of `issuers` signed: the root, or an intermediate that is known to lead to it.
    pub fn update_by(&self, root: &[u8], issuers: &[Vec<u8>], crl: &[u8]) -> Result<bool, GateError> {
        // Nothing inside panics half-way through a change; a poisoned lock guards no broken state.
        let _updating = self.state.updating.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let crl = verify_crl_by(crl, issuers)?;
        if let Some(loaded) = self.state.loaded.load().as_ref().filter(|loaded| loaded.root == root) {
            if crl.number < loaded.crl.number {
                return Err(GateError::Older { offered: crl.number, loaded: loaded.crl.number });
            }
            if crl.number == loaded.crl.number {
                return if crl.der == loaded.crl.der { Ok(false) } else { Err(GateError::Conflict(crl.number)) };
            }
        }
        self.state.loaded.store(Some(Arc::new(Loaded::new(root, crl)?)));
        Ok(true)
    }

    /// Whether a root and a revocation list are loaded. The listener opens only then.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.loaded.load().is_some()
    }

    /// The loaded revocation list: for the enrolment listener, metrics and readiness.
    #[must_use]
    pub fn crl(&self) -> Option<Crl> {
        self.state.loaded.load().as_ref().map(|loaded| loaded.crl.clone())
    }

    /// DER of the loaded root.
    #[must_use]
    pub fn root(&self) -> Option<Vec<u8>> {
        self.state.loaded.load().as_ref().map(|loaded| loaded.root.clone())
    }
}

impl Loaded {
    fn new(root: &[u8], crl: Crl) -> Result<Self, GateError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root.to_vec())).map_err(GateError::Root)?;
        let roots = Arc::new(roots);
        let builder = || {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
                .with_crls([CertificateRevocationListDer::from(crl.der.clone())])
                .only_check_end_entity_revocation()
        };
        let strict = builder().enforce_revocation_expiration().build()?;
        let lenient = builder().build()?;
        Ok(Self { root: root.to_vec(), crl, strict, lenient })
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = match self.strict.verify_client_cert(end_entity, intermediates, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let stale = matches!(
            refused,
            Error::InvalidCertificate(
                CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. }
            )
        );
        if stale {
            let revoked = Error::InvalidCertificate(CertificateError::Revoked);
            let answer = self.lenient.verify_client_cert(end_entity, intermediates, now);
            if answer.err().as_ref() == Some(&revoked) {
                return Err(revoked);
            }
        }
        Err(refused)
    }
}

impl ClientCertVerifier for ClientGate {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    /// None: the CA's name is nobody's business before it has shown a certificate, and a client needs no help to choose.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let loaded = self.state.loaded.load();
        let loaded = loaded.as_ref().ok_or(Error::InvalidCertificate(CertificateError::UnknownRevocationStatus))?;
        loaded.verify(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for ClientGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientGate").field("crl", &self.crl()).finish()
    }
}
