//! How an asker verifies an owner's server: by one root, known whole or by its fingerprint, and by host name.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

use super::provider;
use crate::pki::profile::{check_root, extended_key_usage, parse_certificate};
use crate::secrets::sha256;

/// The root that an enrolment found behind its fingerprint: there once a handshake has succeeded.
#[derive(Clone, Default)]
pub struct PinnedRoot(Arc<OnceLock<Vec<u8>>>);

impl PinnedRoot {
    /// DER of the root.
    #[must_use]
    pub fn get(&self) -> Option<Vec<u8>> {
        self.0.get().cloned()
    }
}

impl fmt::Debug for PinnedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedRoot").field(&self.0.get().is_some()).finish()
    }
}

/// Trusts one root and no other.
#[derive(Debug)]
pub(super) struct PinnedServer {
    pin: Pin,
}

#[derive(Debug)]
enum Pin {
    /// DER of the root.
    Root(Vec<u8>),
    /// SHA-256 of the root, which the server must present.
    Fingerprint { sha256: [u8; 32], found: PinnedRoot },
}

impl PinnedServer {
    pub(super) fn by_root(root: Vec<u8>) -> Self {
        Self { pin: Pin::Root(root) }
    }

    pub(super) fn by_fingerprint(sha256: [u8; 32]) -> (Self, PinnedRoot) {
        let found = PinnedRoot::default();
        (Self { pin: Pin::Fingerprint { sha256, found: found.clone() } }, found)
    }

    /// The one root that counts in this handshake.
    fn root<'a>(&'a self, presented: &'a [CertificateDer<'_>]) -> Result<&'a [u8], Error> {
        match &self.pin {
            Pin::Root(root) => Ok(root),
            Pin::Fingerprint { sha256: pin, .. } => presented
                .iter()
                .map(AsRef::as_ref)
                .find(|der| sha256(der) == *pin)
                .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = self.root(intermediates)?;
        check_dates_of_root(root, now)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root))?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms.all)?;
        check_server_auth(end_entity)?;
        verify_server_name(&leaf, server_name)?;
        if let Pin::Fingerprint { found, .. } = &self.pin {
            let _ = found.0.set(root.to_vec());
        }
        Ok(ServerCertVerified::assertion())
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

/// Trust anchors have no dates for webpki; ours do.
fn check_dates_of_root(root: &[u8], now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
    now.filter(|now| check_root(root, *now).is_ok())
        .map(|_| ())
        .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

/// webpki takes a certificate without any extended key usage for any use; we do not.
fn check_server_auth(end_entity: &CertificateDer<'_>) -> Result<(), Error> {
    let certificate =
        parse_certificate(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    match extended_key_usage(&certificate) {
        Ok(Some(usage)) if usage.server_auth => Ok(()),
        _ => Err(Error::InvalidCertificate(CertificateError::InvalidPurpose)),
    }
}
