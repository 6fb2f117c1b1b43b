//! TLS configurations of every listener and client, and what is swapped in them while they serve.
//!
//! One crypto provider (aws-lc-rs), named everywhere: no configuration depends on a process-wide default.

use std::sync::{Arc, OnceLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

// Owner side.
pub mod acceptor;
pub mod client_gate;
pub mod kept_identity;
pub mod peer_connection;
pub mod refused_handshake;
pub mod server_config;
pub mod swappable_identity;
pub mod upkeep;

// Asking side.
pub mod client_config;
pub mod pinned_server;

#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, OnRefused, RefusedHandshake};
pub use client_config::{authority_client_config, enroll_client_config, peer_client_config};
pub use client_gate::ClientGate;
pub use kept_identity::KeptIdentity;
pub use pinned_server::PinnedRoot;
pub use refused_handshake::{HandshakeRefusal, Shown};
pub use server_config::{enrollment_server_config, federation_server_config};
pub use swappable_identity::SwappableIdentity;
pub use upkeep::Upkeep;

/// HTTP/1.1 is all that the listeners speak (RFC 7301 protocol name).
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// Which versions of TLS a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    #[default]
    Only13,
    From12,
}

impl TlsVersions {
    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        static FROM_12: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Self::Only13 => &ONLY_13,
            Self::From12 => &FROM_12,
        }
    }
}

/// The crypto provider of every configuration.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Makes the provider the process's default too, for libraries that ask for one. Called first thing at boot; doing it
/// again changes nothing.
pub fn install_default_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
