//! TLS of the two listeners that other sites reach.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WantsServerCert};
use rustls::{ConfigBuilder, WantsVerifier};

use super::refused_handshake::{ConnectionGate, Shown};
use super::{ALPN_HTTP_1_1, ClientGate, SwappableIdentity, TlsVersions, provider};

/// The federation listener: no handshake without a client certificate that the gate lets through.
#[must_use]
pub fn federation_server_config(
    gate: &ClientGate,
    identity: &SwappableIdentity,
    versions: TlsVersions,
) -> ServerConfig {
    watched_server_config(gate, &Shown::default(), identity, versions)
}

/// The same for one connection: `shown` learns what its client shows.
pub(super) fn watched_server_config(
    gate: &ClientGate,
    shown: &Shown,
    identity: &SwappableIdentity,
    versions: TlsVersions,
) -> ServerConfig {
    let gate = ConnectionGate { gate: gate.clone(), shown: shown.clone() };
    finish(builder(versions).with_client_cert_verifier(Arc::new(gate)), identity)
}

/// The enrolment listener: the asker has no certificate yet.
#[must_use]
pub fn enrollment_server_config(identity: &SwappableIdentity, versions: TlsVersions) -> ServerConfig {
    finish(builder(versions).with_no_client_auth(), identity)
}

fn builder(versions: TlsVersions) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions.supported())
        .expect("invariant: the provider has cipher suites for both versions")
}

/// A resumed session skips the verification of the client certificate, so nothing can be resumed: nothing is stored, no
/// ticket is sent, no early data is taken.
fn finish(builder: ConfigBuilder<ServerConfig, WantsServerCert>, identity: &SwappableIdentity) -> ServerConfig {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(identity.clone());
    let mut config = builder.with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    config
}
