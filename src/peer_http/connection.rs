//! One connection to a peer: dialled in timed steps, then owned by hyper.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::PeerUrl;
use super::limits::PeerLimits;

/// Header fields of an answer: ours have a dozen, and a proxy in between adds a few.
const HEAD_FIELDS_MAX: usize = 64;

/// How to reach a peer when no connection is open.
pub(super) struct Dial<'a> {
    pub(super) url: &'a PeerUrl,
    pub(super) allow_private: bool,
    pub(super) tls: &'a TlsSource,
}

/// Makes the TLS configuration when a connection is dialled: only then is the sealed key opened.
pub(super) type TlsSource = Arc<dyn Fn() -> Result<Arc<ClientConfig>, Fault> + Send + Sync>;

impl Dial<'_> {
    /// Resolves, connects, shakes hands. Each step ends at its own limit and at `deadline`, and faults with its own stage.
    pub(super) async fn connect<B>(&self, limits: &PeerLimits, deadline: Instant) -> Result<Connection<B>, Fault>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let connect_by = deadline.min(Instant::now() + limits.connect);
        let addresses = self.url.resolve(self.allow_private, connect_by).await?;
        let tcp = connect(&addresses, limits, connect_by).await?;
        let name = self.url.server_name().ok_or_else(|| Fault::new(FaultKind::Unreachable, Stage::Tls))?;
        let handshake_by = deadline.min(Instant::now() + limits.tls);
        let stream = timeout_at(handshake_by, TlsConnector::from((self.tls)()?).connect(name, tcp))
            .await
            .map_err(|_| Fault::new(FaultKind::TimedOut, Stage::Tls))?
            .map_err(|error| tls_fault(&error))?;
        Connection::over(stream, limits).await
    }
}

/// A live connection for requests with bodies of this kind. Dropping it closes the socket, whatever was in flight.
pub(super) struct Connection<B = Full<Bytes>> {
    pub(super) sender: SendRequest<B>,
    pub(super) opened: Instant,
    /// Set by the first byte that arrives after [`Connection::listen`].
    heard: Arc<AtomicBool>,
    /// With what alert the peer ended TLS, if it did.
    alert: Arc<OnceLock<AlertDescription>>,
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    async fn over(stream: TlsStream<TcpStream>, limits: &PeerLimits) -> Result<Self, Fault> {
        let (heard, alert) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::new()));
        let io = TokioIo::new(Listening { stream, heard: Arc::clone(&heard), alert: Arc::clone(&alert) });
        let (sender, driver) = http1::Builder::new()
            // Bounds the head, and what is read of a body at a time: a connection at rest keeps this buffer.
            .read_buf_exact_size(Some(limits.head_bytes))
            .max_headers(HEAD_FIELDS_MAX)
            .handshake(io)
            .await
            .map_err(|_| Fault::new(FaultKind::Unreachable, Stage::Send))?;
        // Ends with the connection: hyper stops it when the sender and the body are dropped, or the peer closes.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to a peer ended");
            }
        });
        Ok(Self { sender, opened: Instant::now(), heard, alert })
    }

    /// From now on, note whether the peer says anything.
    pub(super) fn listen(&self) {
        self.heard.store(false, Ordering::Relaxed);
    }

    /// Whether any byte arrived since [`Connection::listen`].
    pub(super) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// What the peer holds against our certificate, if it said so when it ended TLS. In TLS 1.3 it says so behind a handshake that
    /// proved who it is; alerts inside the handshake are anybody's and decide nothing.
    pub(super) fn refusal(&self) -> Option<Fault> {
        let kind = match self.alert.get()? {
            AlertDescription::CertificateRevoked => FaultKind::GrantRevoked,
            AlertDescription::CertificateExpired => FaultKind::CertificateExpired,
            _ => return None,
        };
        Some(Fault::new(kind, Stage::Tls))
    }
}

/// The first address that accepts. What time is left is shared among the addresses that are left, so that one that swallows
/// packets does not hide the next.
async fn connect(addresses: &[SocketAddr], limits: &PeerLimits, deadline: Instant) -> Result<TcpStream, Fault> {
    let mut fault = Fault::new(FaultKind::Unreachable, Stage::Connect);
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Requests are small and waited for.
                tcp.set_nodelay(true).map_err(|_| Fault::new(FaultKind::Unreachable, Stage::Connect))?;
                keep_alive(&tcp, limits);
                return Ok(tcp);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a peer's address does not accept connections");
                fault = Fault::new(FaultKind::Unreachable, Stage::Connect);
            }
            Err(_) => fault = Fault::new(FaultKind::TimedOut, Stage::Connect),
        }
    }
    Err(fault)
}

/// A peer whose machine vanished sends no FIN: the kernel asks after a quiet connection, and ends one on which neither questions nor
/// bytes are acknowledged (RFC 9293 3.8.4, RFC 5482). So dead connections leave the pool, and a watch ends long before its silence does.
fn keep_alive(tcp: &TcpStream, limits: &PeerLimits) {
    use rustix::net::sockopt;
    /// The kernel counts in whole seconds.
    const SECOND: Duration = Duration::from_secs(1);
    let set = sockopt::set_socket_keepalive(tcp, true)
        .and_then(|()| sockopt::set_tcp_keepidle(tcp, limits.keepalive.max(SECOND)))
        .and_then(|()| sockopt::set_tcp_keepintvl(tcp, (limits.keepalive / 3).max(SECOND)))
        .and_then(|()| {
            let ms = u32::try_from(limits.unacknowledged.as_millis()).unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(tcp, ms)
        });
    if let Err(error) = set {
        tracing::warn!(%error, "a connection to a peer is not asked after");
    }
}

/// A handshake that failed. The text is for the log; nothing is decided by it.
fn tls_fault(error: &io::Error) -> Fault {
    tracing::debug!(%error, "the TLS handshake with a peer failed");
    Fault::new(FaultKind::Unreachable, Stage::Tls)
}

/// A stream that notes that it was read from.
struct Listening {
    stream: TlsStream<TcpStream>,
    heard: Arc<AtomicBool>,
    alert: Arc<OnceLock<AlertDescription>>,
}

impl Listening {
    fn note(&self, error: &io::Error) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = cause {
            self.alert.get_or_init(|| *alert);
        }
    }

    /// A peer that refuses the certificate has closed before the request is written: what it said last is still to be read.
    fn hear_why(&mut self, cx: &mut Context<'_>) {
        let mut last = [0; 1];
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut last)) {
            self.note(&error);
        }
    }
}

impl AsyncRead for Listening {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &result {
            self.note(error);
        }
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl AsyncWrite for Listening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(result, Poll::Ready(Err(_))) {
            self.hear_why(cx);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(result, Poll::Ready(Err(_))) {
            self.hear_why(cx);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
