//! The handshake of the federation listener, as actix's own acceptor makes it, but for one thing: who was refused is told.

use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_service::{Service, ServiceFactory};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_utils::counter::Counter;
use actix_web::rt::net::TcpStream;
use futures_util::future::LocalBoxFuture;
use mosaic_actors::domain::identity::Serial;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::refused_handshake::Shown;
use super::server_config::watched_server_config;
use super::{ClientGate, HandshakeRefusal, SwappableIdentity, TlsVersions};

/// A handshake that this node refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedHandshake {
    pub reason: HandshakeRefusal,
    pub remote: Option<IpAddr>,
    /// Of the certificate that was shown, if one was.
    pub serial: Option<Serial>,
    pub took: Duration,
}

/// Told about every refusal, on the thread of the handshake: must not wait.
pub type OnRefused = Arc<dyn Fn(RefusedHandshake) + Send + Sync>;

/// Makes the acceptor of each worker.
#[derive(Clone)]
pub struct Acceptor {
    pub gate: ClientGate,
    pub identity: SwappableIdentity,
    pub versions: TlsVersions,
    pub handshake_timeout: Duration,
    /// Handshakes at once, per worker; then the worker accepts no more until one has ended.
    pub at_once: usize,
    pub on_refused: OnRefused,
}

impl ServiceFactory<TcpStream> for Acceptor {
    type Response = TlsStream<TcpStream>;
    type Error = TlsError<io::Error, DispatchError>;
    type Config = ();
    type Service = AcceptorService;
    type InitError = ();
    type Future = Ready<Result<Self::Service, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        ready(Ok(AcceptorService { running: Counter::new(self.at_once), acceptor: self.clone() }))
    }
}

/// See [`Acceptor`].
pub struct AcceptorService {
    acceptor: Acceptor,
    running: Counter,
}

impl Service<TcpStream> for AcceptorService {
    type Response = TlsStream<TcpStream>;
    type Error = TlsError<io::Error, DispatchError>;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.running.available(context) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&self, tcp: TcpStream) -> Self::Future {
        let place = self.running.get();
        let Acceptor { gate, identity, versions, handshake_timeout, on_refused, .. } = self.acceptor.clone();
        Box::pin(async move {
            let _place = place;
            let started = Instant::now();
            let remote = tcp.peer_addr().ok().map(|address| address.ip());
            let shown = Shown::default();
            let config = watched_server_config(&gate, &shown, &identity, versions);
            let refused = |reason| {
                on_refused(RefusedHandshake { reason, remote, serial: shown.serial(), took: started.elapsed() });
            };
            match timeout(handshake_timeout, TlsAcceptor::from(Arc::new(config)).accept(tcp)).await {
                Ok(Ok(stream)) => Ok(TlsStream::from(stream)),
                Ok(Err(error)) => {
                    if let Some(reason) = shown.refusal(&error) {
                        refused(reason);
                    }
                    Err(TlsError::Tls(error))
                }
                Err(_) => {
                    refused(HandshakeRefusal::TimedOut);
                    Err(TlsError::Timeout)
                }
            }
        })
    }
}
