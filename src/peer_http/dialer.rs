//! Makes the transport of a link out of what the database keeps of it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::link::{Link, LinkCredentials};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::ports::peer_transport::{PeerDialer, PeerTransport};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::address::PeerUrl;
use super::connection::TlsSource;
use super::limits::PeerLimits;
use super::renew::Renewal;
use super::transport::{Endpoint, HttpTransport};
use crate::pki::link_key::open_link_key;
use crate::secrets::Sealer;
use crate::tls::peer_client_config;

/// Speaks HTTP/1.1 over mutual TLS to the peers of links.
pub struct HttpDialer {
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    limits: PeerLimits,
}

impl HttpDialer {
    #[must_use]
    pub fn new(sealer: Sealer, clock: Arc<dyn Clock>, limits: PeerLimits) -> Self {
        Self { sealer, clock, limits }
    }

    /// Connections that are open at the same time have one configuration, and with it one opened key, among them. It goes with the
    /// last of them.
    fn shared_config(&self, link: &Link) -> TlsSource {
        let (sealer, own) = (self.sealer.clone(), link.clone());
        let open = Mutex::new(Weak::new());
        Arc::new(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(config) = open.upgrade() {
                return Ok(config);
            }
            let config = client_config(&sealer, &own)?;
            *open = Arc::downgrade(&config);
            Ok(config)
        })
    }
}

impl PeerDialer for HttpDialer {
    fn transport(&self, link: &Link) -> Result<Arc<dyn PeerTransport>, Fault> {
        let url = PeerUrl::parse(&link.federation_url).map_err(|error| {
            tracing::error!(link = %link.id, %error, "a link's address cannot be dialled");
            unusable()
        })?;
        // Tried once now, so that material that is of no use shows when the link starts and not when somebody waits.
        client_config(&self.sealer, link)?;
        let endpoint = Endpoint {
            peer: link.peer.clone(),
            url,
            allow_private: link.allow_private,
            certificate_not_after: link.credentials.not_after,
            tls: self.shared_config(link),
            clock: Arc::clone(&self.clock),
            limits: self.limits,
        };
        Ok(Arc::new(HttpTransport::new(endpoint)))
    }

    fn renew(&self, link: &Link, deadline: Instant) -> PortFuture<Result<LinkCredentials, Fault>> {
        let Ok(url) = PeerUrl::parse(&link.federation_url) else {
            return Box::pin(std::future::ready(Err(unusable())));
        };
        let (sealer, own) = (self.sealer.clone(), link.clone());
        let renewal = Renewal {
            url,
            tls: Arc::new(move || client_config(&sealer, &own)),
            sealer: self.sealer.clone(),
            clock: Arc::clone(&self.clock),
            limits: self.limits,
        };
        let link = link.clone();
        Box::pin(async move { renewal.run(&link, deadline).await })
    }
}

/// Opens the sealed key for as long as it takes to make a configuration of it.
fn client_config(sealer: &Sealer, link: &Link) -> Result<Arc<ClientConfig>, Fault> {
    let key = open_link_key(sealer, link).map_err(|error| {
        tracing::error!(link = %link.id, %error, "the sealed key of a link does not open");
        unusable()
    })?;
    let credentials = &link.credentials;
    let config =
        peer_client_config(&credentials.pinned_root, &credentials.certificate_chain, &key).map_err(|error| {
            tracing::error!(link = %link.id, %error, "the certificate of a link cannot be used");
            unusable()
        })?;
    Ok(Arc::new(config))
}

fn unusable() -> Fault {
    let fault = Fault::new(FaultKind::Internal, Stage::Tls);
    Fault { retryable: false, ..fault }
        .with_message("the link's certificate, key or address cannot be used; enrol again")
}
