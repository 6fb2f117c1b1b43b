//! What a connection to the federation listener says about who is at its other end: read once, when it is accepted.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use mosaic_actors::domain::identity::{PeerIdentity, Serial};
use mosaic_actors::ports::clock::Clock;
use time::OffsetDateTime;

use crate::pki::profile::{ExtensionArc, ProfileError, check_client_certificate, check_serial, parse_certificate};

/// Read it with `request.conn_data::<PeerConnection>()`; it is there on every connection of the federation listener.
#[derive(Debug, Clone)]
pub struct PeerConnection {
    /// The identity, or why the certificate has none: then every request is answered with 401.
    pub identity: Result<PeerIdentity, ProfileError>,
    /// The serial number, also of a certificate without an identity; for the audit only.
    pub serial: Option<Serial>,
    pub remote: Option<SocketAddr>,
}

impl PeerConnection {
    /// Reads a verified client certificate (DER); `None` when there is none.
    #[must_use]
    pub fn of_certificate(
        certificate: Option<&[u8]>,
        root: &[u8],
        now: OffsetDateTime,
        arc: &ExtensionArc,
        remote: Option<SocketAddr>,
    ) -> Self {
        let identity = certificate
            .ok_or(ProfileError::NoCertificate)
            .and_then(|der| check_client_certificate(der, root, now, arc));
        let serial = match &identity {
            Ok(identity) => Some(identity.serial.clone()),
            Err(_) => certificate
                .and_then(|der| parse_certificate(der).ok())
                .and_then(|parsed| check_serial(parsed.raw_serial()).ok()),
        };
        Self { identity, serial, remote }
    }
}

/// For `HttpServer::on_connect`, which must be called before `bind_rustls_0_23` or `listen_rustls_0_23`.
/// `root` is the DER of the site's CA root.
pub fn on_connect(
    arc: ExtensionArc,
    root: Vec<u8>,
    clock: Arc<dyn Clock>,
) -> impl Fn(&dyn Any, &mut Extensions) + Send + Sync + 'static {
    move |io, extensions| {
        if let Some(stream) = io.downcast_ref::<TlsStream<TcpStream>>() {
            let (tcp, tls) = stream.get_ref();
            let leaf = tls.peer_certificates().and_then(|chain| chain.first()).map(AsRef::as_ref);
            let remote = tcp.peer_addr().ok();
            extensions.insert(PeerConnection::of_certificate(leaf, &root, clock.now(), &arc, remote));
        }
    }
}

#[cfg(test)]
mod tests;
