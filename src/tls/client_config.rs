//! TLS of the asking side: one configuration per link and certificate, one per enrolment.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, ConfigBuilder};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::pinned_server::{PinnedRoot, PinnedServer};
use super::{ALPN_HTTP_1_1, TlsVersions, provider};

/// The client certificate and key of a link do not fit together, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the client certificate cannot be used: {0}")]
pub struct ClientConfigError(#[from] rustls::Error);

/// For a link: trusts the pinned root only, and presents the link's certificate.
///
/// `chain` is DER, leaf first; a root at its end is not sent. `key_pkcs8` must belong to the leaf.
pub fn peer_client_config(
    pinned_root: &[u8],
    chain: &[Vec<u8>],
    key_pkcs8: &[u8],
) -> Result<ClientConfig, ClientConfigError> {
    let presented = chain.iter().filter(|der| der.as_slice() != pinned_root);
    let presented = presented.map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8.to_vec()));
    let config = builder(PinnedServer::by_root(pinned_root.to_vec())).with_client_auth_cert(presented, key)?;
    Ok(finish(config))
}

/// For an enrolment: trusts the server whose presented chain holds the certificate with this SHA-256 and leads to it. The
/// root itself is in the second value once a request has been answered.
#[must_use]
pub fn enroll_client_config(ca_sha256: [u8; 32]) -> (ClientConfig, PinnedRoot) {
    let (verifier, found) = PinnedServer::by_fingerprint(ca_sha256);
    (finish(builder(verifier).with_no_client_auth()), found)
}

/// For a certificate authority outside the node: trusts its root only.
#[must_use]
pub fn authority_client_config(pinned_root: &[u8]) -> ClientConfig {
    finish(builder(PinnedServer::by_root(pinned_root.to_vec())).with_no_client_auth())
}

fn builder(verifier: PinnedServer) -> ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier);
    ClientConfig::builder_with_provider(provider())
        // Under TLS 1.2 the client certificate travels in the clear; every node speaks 1.3.
        .with_protocol_versions(TlsVersions::Only13.supported())
        .expect("invariant: the provider has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    config
}
