//! An owner site that does exactly what a test tells it to: a root of its own, an enrolment endpoint at which a real node
//! enrols, and a federation listener over real mutual TLS, written byte by byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use base64::Engine;
use rustls::ServerConfig;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub(crate) use authority::{Authority, Passport};
pub(crate) use play::{Act, Asked, Door, Play, answer, chunk, chunked_head, list_of, ok, row, rows};

mod authority;
mod play;

/// A scriptable owner. Its listeners end with the test's runtime.
pub(crate) struct Hostile {
    pub(crate) site: String,
    pub(crate) authority: Arc<Authority>,
    federation: SocketAddr,
    enrollment: SocketAddr,
    play: watch::Sender<Play>,
    enrolling: Arc<Mutex<Enrolling>>,
    seen: Arc<Seen>,
}

/// What the federation listener met.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    /// Without watches.
    requests: Mutex<Vec<Asked>>,
    watches: AtomicU64,
    /// Bytes that went out, TLS included.
    said: AtomicU64,
}

/// What the enrolment endpoint does.
struct Enrolling {
    tls: Arc<ServerConfig>,
    answer: Arc<dyn Fn(&Enrolment) -> Vec<Act> + Send + Sync>,
}

/// An enrolment as it came, and what an honest site would need to answer it.
#[derive(Clone)]
pub(crate) struct Enrolment {
    pub(crate) csr: String,
    pub(crate) site: String,
    pub(crate) authority: Arc<Authority>,
}

impl Enrolment {
    /// The answer of an honest owner, for a certificate with this life.
    pub(crate) fn granted(&self, life: (time::Duration, time::Duration)) -> Value {
        self.granted_for(&self.csr, life)
    }

    /// The same for the key of another CSR.
    pub(crate) fn granted_for(&self, csr: &str, life: (time::Duration, time::Duration)) -> Value {
        let (grant, subject) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        let certificate = self.authority.client(csr, &grant, &subject, life);
        json!({ "certificate": certificate, "chain": [pem(&self.authority.root)], "grant_id": grant,
                "subject_user_id": subject, "site": self.site })
    }
}

/// The life of a client certificate that nobody objects to.
pub(crate) const A_DAY: (time::Duration, time::Duration) = (time::Duration::minutes(-1), time::Duration::hours(23));

impl Hostile {
    /// Starts a site that is honest so far and has no rows.
    pub(crate) async fn start(site: &str) -> Self {
        let authority = Arc::new(Authority::new(site));
        let listen = || TcpListener::bind("127.0.0.1:0");
        let (federation, enrollment) = (listen().await.expect("a port"), listen().await.expect("a port"));
        let address = |listener: &TcpListener| listener.local_addr().expect("its address");
        let enrolling = Enrolling {
            tls: authority.server(&Passport::default(), None),
            answer: Arc::new(|enrolment| vec![Act::Say(ok(&enrolment.granted(A_DAY).to_string()))]),
        };
        let this = Self {
            site: site.to_owned(),
            federation: address(&federation),
            enrollment: address(&enrollment),
            play: watch::Sender::new(Play::honest(Vec::new())),
            enrolling: Arc::new(Mutex::new(enrolling)),
            seen: Arc::default(),
            authority,
        };
        let own = this.authority.server(&Passport::default(), Some(&this.authority));
        tokio::spawn(serve_federation(federation, own, this.play.subscribe(), Arc::clone(&this.seen)));
        let (site, authority) = (this.site.clone(), Arc::clone(&this.authority));
        tokio::spawn(serve_enrollment(enrollment, site, authority, Arc::clone(&this.enrolling)));
        this
    }

    /// Behaves like this from now on. Every open connection is cut, so that none lives on under the old script.
    pub(crate) fn play(&self, mut play: Play) {
        if let Door::Shows(passport) = &play.door {
            play.door = Door::As(self.authority.server(passport, Some(&self.authority)));
        }
        self.play.send_replace(play);
    }

    /// Answers enrolments like this from now on, over TLS with this configuration.
    pub(crate) fn enrolls(
        &self,
        tls: Arc<ServerConfig>,
        answer: impl Fn(&Enrolment) -> Vec<Act> + Send + Sync + 'static,
    ) {
        *self.enrolling.lock().expect("no panic") = Enrolling { tls, answer: Arc::new(answer) };
    }

    /// An invite for this site, good for five minutes.
    pub(crate) fn invite(&self) -> String {
        #[expect(clippy::disallowed_methods, reason = "the peers of the tests have real clocks")]
        let expires_at = time::OffsetDateTime::now_utc() + time::Duration::minutes(5);
        let expires_at = expires_at.replace_nanosecond(0).expect("no fraction").format(&Rfc3339).expect("a date");
        let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let digest = mosaic::secrets::sha256(&self.authority.root);
        let ca_sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let document = json!({
            "v": 1, "site": self.site, "enroll_url": format!("https://{}", self.enrollment),
            "federation_url": format!("https://{}", self.federation), "ca_sha256": ca_sha256,
            "token": format!("mosaic_enroll_{}", base64.encode([7_u8; 32])), "expires_at": expires_at,
        });
        format!("mosaic-invite:{}", base64.encode(document.to_string()))
    }

    /// TCP connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Bytes that it could send so far, TLS included.
    pub(crate) fn said(&self) -> u64 {
        self.seen.said.load(Ordering::SeqCst)
    }

    /// Watches that were asked for so far.
    pub(crate) fn watches(&self) -> u64 {
        self.seen.watches.load(Ordering::SeqCst)
    }

    /// Every request so far, watches left out.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.seen.requests.lock().expect("no panic").clone()
    }
}

/// DER as PEM.
fn pem(der: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

async fn serve_federation(
    first: TcpListener,
    own: Arc<ServerConfig>,
    mut play: watch::Receiver<Play>,
    seen: Arc<Seen>,
) {
    let address = first.local_addr().expect("its address");
    let mut listener = Some(first);
    loop {
        let refuses = matches!(play.borrow_and_update().door, Door::Refuse);
        if refuses {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.expect("its own port again"));
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = play.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((tcp, _)) = accepted {
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let (own, mut until, seen) = (Arc::clone(&own), play.clone(), Arc::clone(&seen));
                let current = play.borrow().clone();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        _ = until.changed() => {}
                        () = meet(tcp, current, own, seen) => {}
                    }
                });
            },
        }
    }
}

/// One connection from its first byte to its end.
async fn meet(mut tcp: TcpStream, play: Play, own: Arc<ServerConfig>, seen: Arc<Seen>) {
    let (tls, budget) = match play.door {
        Door::Open | Door::Refuse => (own, Budget::unlimited()),
        Door::As(other) => (other, Budget::unlimited()),
        Door::Shows(_) => unreachable!("made into `As` when it was played"),
        Door::Stall(bytes) => (own, Budget { left: bytes, cuts: false }),
        Door::CutAfter(bytes) => (own, Budget { left: bytes, cuts: true }),
        Door::Silent => return std::future::pending().await,
        Door::Reset => {
            // Not before the other side has spoken: it could not tell whether it was connected.
            let _hello = tcp.read_u8().await;
            return reset(&tcp);
        }
        Door::Plain(bytes) => {
            let _hung_up = tcp.write_all(bytes).await;
            return std::future::pending().await;
        }
    };
    let stream = Metered { tcp, budget, seen: Arc::clone(&seen) };
    let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
    while let Some((head, body)) = read_request(&mut stream).await {
        let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let asked = Asked { path, body: serde_json::from_str(&body).unwrap_or(Value::Null) };
        let acts = if asked.path.ends_with("/watch") {
            seen.watches.fetch_add(1, Ordering::SeqCst);
            play.watch.clone()
        } else {
            seen.requests.lock().expect("no panic").push(asked.clone());
            (play.answer)(&asked)
        };
        for act in acts {
            if perform(&mut stream, act, |stream| reset(&stream.get_ref().0.tcp)).await.is_err() {
                return;
            }
        }
    }
}

async fn serve_enrollment(
    listener: TcpListener,
    site: String,
    authority: Arc<Authority>,
    enrolling: Arc<Mutex<Enrolling>>,
) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, answer) = {
            let enrolling = enrolling.lock().expect("no panic");
            (Arc::clone(&enrolling.tls), Arc::clone(&enrolling.answer))
        };
        let (site, authority) = (site.clone(), Arc::clone(&authority));
        tokio::spawn(async move {
            let Ok(mut stream) = TlsAcceptor::from(tls).accept(tcp).await else { return };
            while let Some((_, body)) = read_request(&mut stream).await {
                let body: Value = serde_json::from_str(&body).expect("JSON");
                let csr = body["csr"].as_str().expect("a CSR").to_owned();
                let enrolment = Enrolment { csr, site: site.clone(), authority: Arc::clone(&authority) };
                for act in answer(&enrolment) {
                    if perform(&mut stream, act, |stream| reset(stream.get_ref().0)).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Does one step; an error ends the connection.
async fn perform<S: AsyncWrite + Unpin>(stream: &mut S, act: Act, reset: impl FnOnce(&mut S)) -> io::Result<()> {
    match act {
        Act::Say(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await
        }
        Act::Drip(bytes, pause) => {
            for byte in bytes {
                tokio::time::sleep(pause).await;
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
            }
            Ok(())
        }
        Act::Flood(bytes) => loop {
            stream.write_all(&bytes).await?;
        },
        Act::Stay => std::future::pending().await,
        Act::Close => {
            stream.shutdown().await?;
            Err(io::ErrorKind::NotConnected.into())
        }
        Act::Cut => Err(io::ErrorKind::NotConnected.into()),
        Act::Reset => {
            reset(stream);
            Err(io::ErrorKind::NotConnected.into())
        }
    }
}

/// Makes the end of this connection a reset.
fn reset(tcp: &TcpStream) {
    tcp.set_zero_linger().expect("a socket option");
}

/// Head and body of the next request; nothing when the asker has left.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0_usize);
            if body.len() >= length {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}

/// How much more may be said, and what comes then: the end of TCP, or silence.
struct Budget {
    left: usize,
    cuts: bool,
}

impl Budget {
    fn unlimited() -> Self {
        Self { left: usize::MAX, cuts: false }
    }
}

/// TCP that counts what goes out and stops when its budget is spent.
struct Metered {
    tcp: TcpStream,
    budget: Budget,
    seen: Arc<Seen>,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.budget.left == 0 {
            return if self.budget.cuts { Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) } else { Poll::Pending };
        }
        let allowed = &bytes[..bytes.len().min(self.budget.left)];
        let written = std::task::ready!(Pin::new(&mut self.tcp).poll_write(cx, allowed))?;
        self.budget.left -= written;
        self.seen.said.fetch_add(written as u64, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
