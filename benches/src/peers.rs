//! Sites that cost as little as they can: one thread speaks the owner's side of the protocol for all of them, over mutual TLS with
//! a real root, real server certificates and client certificates from the real enrolment of the node that asks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use base64::Engine;
use bytes::{Bytes, BytesMut};
use mosaic::pki::authority::ClientRequest;
use mosaic::pki::ca_material::CaMaterial;
use mosaic::pki::extension_arc::ExtensionArc;
use mosaic::pki::pem::{certificate_to_pem, csr_from_pem};
use mosaic::wire::federation_v1::{WATCH_MEDIA_TYPE, WatchLine};
use mosaic_actors::domain::identity::{GrantId, SiteName, UserId};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::ground::{ca, now};

/// How often a peer says on a watch that it is there: as an owner does.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A peer that never answers again, as its delay.
const NEVER: u64 = u64::MAX;

/// So many sites behind one thread, which ends with this value.
pub(crate) struct Peers {
    peers: Vec<Arc<Peer>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

struct Peer {
    site: SiteName,
    ca: CaMaterial,
    federation: SocketAddr,
    enrollment: SocketAddr,
    /// Microseconds before each answer, as a network and a database far away take.
    delay: AtomicU64,
    usual_delay: u64,
    watched: AtomicBool,
    capabilities: Bytes,
    list: Bytes,
}

impl Peers {
    /// `rows` rows each. Their delays are spread evenly over `delays`, so that there is a slowest one.
    pub(crate) fn start(count: usize, rows: usize, delays: std::ops::RangeInclusive<Duration>) -> Self {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let span = *delays.end() - *delays.start();
                for index in 0..count {
                    let part = u32::try_from(index).expect("few peers") as f64 / (count.max(2) - 1) as f64;
                    let peer = Peer::listen(index, rows, *delays.start() + span.mul_f64(part)).await;
                    tell.send(peer).expect("whoever started it waits");
                }
                drop(tell);
                let _ = stopped.await;
            });
        });
        Self { peers: told.into_iter().collect(), _stop: stop }
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        self.peers[index].site.as_str()
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// An invite of one of them, good for five minutes.
    pub(crate) fn invite(&self, index: usize) -> String {
        self.peers[index].invite()
    }

    /// How many of them have a watch open.
    pub(crate) fn watched(&self) -> usize {
        self.peers.iter().filter(|peer| peer.watched.load(Ordering::SeqCst)).count()
    }

    /// The delay with which it started, from the next request on.
    pub(crate) fn restore(&self, index: usize) {
        let peer = &self.peers[index];
        peer.delay.store(peer.usual_delay, Ordering::SeqCst);
    }

    /// From the next request on. `None`: it takes questions, and connections, and says nothing.
    pub(crate) fn delay(&self, index: usize, delay: Option<Duration>) {
        let micros = delay.map_or(NEVER, micros);
        self.peers[index].delay.store(micros, Ordering::SeqCst);
    }
}

impl Peer {
    async fn listen(index: usize, rows: usize, delay: Duration) -> Arc<Self> {
        let name = format!("peer-{index}");
        let listen = || TcpListener::bind("127.0.0.1:0");
        let (federation, enrollment) = (listen().await.expect("a port"), listen().await.expect("a port"));
        let delay = micros(delay);
        let peer = Arc::new(Self {
            site: SiteName::parse(&name).expect("a site's name"),
            ca: ca(&name),
            federation: federation.local_addr().expect("its address"),
            enrollment: enrollment.local_addr().expect("its address"),
            delay: AtomicU64::new(delay),
            usual_delay: delay,
            watched: AtomicBool::new(false),
            capabilities: capabilities(&name),
            list: list(index, rows),
        });
        tokio::spawn(Arc::clone(&peer).serve(federation, true));
        tokio::spawn(Arc::clone(&peer).serve(enrollment, false));
        peer
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, mutual: bool) {
        let acceptor = TlsAcceptor::from(self.tls(mutual));
        while let Ok((tcp, _)) = listener.accept().await {
            let (peer, acceptor) = (Arc::clone(&self), acceptor.clone());
            tokio::spawn(async move {
                if mutual && peer.delay.load(Ordering::SeqCst) == NEVER {
                    return std::future::pending().await;
                }
                let _ = tcp.set_nodelay(true);
                if let Ok(stream) = acceptor.accept(tcp).await {
                    peer.converse(stream).await;
                }
            });
        }
    }

    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut read = BytesMut::with_capacity(4096);
        while let Some((path, body)) = next_request(&mut stream, &mut read).await {
            let answer = if path.ends_with("/enroll") {
                self.enroll(&body)
            } else {
                match self.delay.load(Ordering::SeqCst) {
                    NEVER => return std::future::pending().await,
                    0 => {}
                    micros => tokio::time::sleep(Duration::from_micros(micros)).await,
                }
                if path.ends_with("/watch") {
                    return self.watch(stream).await;
                }
                if path.ends_with("/capabilities") { self.capabilities.clone() } else { self.list.clone() }
            };
            if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }

    /// Says once how the grant stands, and then that it is there, for as long as the asker listens.
    async fn watch(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let standing = WatchLine { event: "grant_active".to_owned(), number: Some(1), version: Some(1) };
        let heartbeat = WatchLine { event: "heartbeat".to_owned(), number: None, version: None };
        let mut acknowledged = BytesMut::new();
        let mut say = watch_head() + &chunk(&standing);
        loop {
            if stream.write_all(say.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                break;
            }
            self.watched.store(true, Ordering::SeqCst);
            say = tokio::select! {
                read = stream.read_buf(&mut acknowledged) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(_) => String::new(),
                },
                () = tokio::time::sleep(HEARTBEAT) => match self.delay.load(Ordering::SeqCst) {
                    NEVER => String::new(),
                    _ => chunk(&heartbeat),
                },
            };
            acknowledged.clear();
        }
        self.watched.store(false, Ordering::SeqCst);
    }

    fn enroll(&self, body: &[u8]) -> Bytes {
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let csr = body["csr"].as_str().expect("a CSR");
        let parsed = rcgen::CertificateSigningRequestParams::from_pem(csr).expect("a CSR");
        let request = ClientRequest {
            public_key: rcgen::PublicKeyData::subject_public_key_info(&parsed.public_key),
            csr_pem: csr.to_owned(),
            grant: GrantId::new(),
            subject: UserId::new(),
            peer: SiteName::parse("home").expect("a site's name"),
            not_before: now(),
            not_after: now() + time::Duration::days(1),
        };
        assert!(csr_from_pem(csr).is_ok(), "a CSR in PEM");
        let issued = self.ca.issue(&request, &ExtensionArc::default()).expect("a certificate");
        let chain: Vec<_> = issued.chain.iter().map(|der| certificate_to_pem(der)).collect();
        ok(&json!({ "certificate": certificate_to_pem(&issued.certificate), "chain": chain, "grant_id": request.grant.to_string(),
                    "subject_user_id": request.subject.to_string(), "site": self.site.as_str() }).to_string())
    }

    fn tls(&self, mutual: bool) -> Arc<ServerConfig> {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let identity = self.ca.issue_server(&names, now(), time::Duration::days(1)).expect("a server certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3");
        let builder = if mutual {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(self.ca.certificate().to_vec())).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.to_vec()));
        Arc::new(builder.with_single_cert(chain, key).expect("key and certificate match"))
    }

    fn invite(&self) -> String {
        let expires_at = (now() + time::Duration::minutes(5)).replace_nanosecond(0).expect("no fraction");
        let digest = mosaic::secrets::sha256(self.ca.certificate());
        let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let document = json!({
            "v": 1, "site": self.site.as_str(), "enroll_url": format!("https://{}", self.enrollment),
            "federation_url": format!("https://{}", self.federation),
            "ca_sha256": digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "token": format!("mosaic_enroll_{}", base64.encode([7_u8; 32])),
            "expires_at": expires_at.format(&Rfc3339).expect("a date"),
        });
        format!("mosaic-invite:{}", base64.encode(document.to_string()))
    }
}

fn capabilities(site: &str) -> Bytes {
    ok(&json!({ "protocol": 1, "site": site, "resources": ["tasks"], "excluded_resources": [], "max_rows_per_query": 200,
                "supported_verbs": ["capabilities", "list", "get"], "grant_expires_at": "2099-01-01T00:00:00Z",
                "cache_max_age": 0 }).to_string())
}

/// Rows as an owner writes them, newest first.
fn list(peer: usize, rows: usize) -> Bytes {
    let newest = now() - time::Duration::seconds(i64::try_from(peer).expect("few peers"));
    let items: Vec<_> = (0..rows)
        .map(|index| {
            let at = (newest - time::Duration::minutes(i64::try_from(index).expect("few rows"))).replace_microsecond(1);
            json!({ "id": uuid::Uuid::new_v4(), "created_at": at.expect("a microsecond").format(&Rfc3339).expect("a date"),
                    "owner_id": "0198f3c0-0000-7000-8000-000000000001", "team_id": null, "title": format!("Task {index}"),
                    "body": "What is to be done about it. ".repeat(4), "status": "open", "priority": 3, "due_at": null,
                    "_source": "local" })
        })
        .collect();
    ok(&json!({ "items": items, "_truncated": false }).to_string())
}

fn micros(delay: Duration) -> u64 {
    u64::try_from(delay.as_micros()).expect("a short delay")
}

fn watch_head() -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: {WATCH_MEDIA_TYPE}\r\n\r\n")
}

/// A line of a watch as a chunk of its own.
fn chunk(line: &WatchLine) -> String {
    let line = serde_json::to_string(line).expect("JSON");
    format!("{:x}\r\n{line}\n\r\n", line.len() + 1)
}

fn ok(body: &str) -> Bytes {
    Bytes::from(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncontent-type: application/json\r\n\r\n{body}",
        body.len()
    ))
}

/// Path and body; nothing when the asker has left.
async fn next_request(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> Option<(String, Bytes)> {
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let whole = end + 4 + length.unwrap_or(0_usize);
            if read.len() >= whole {
                let mut request = read.split_to(whole);
                let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
                return Some((path, request.split_off(end + 4).freeze()));
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}
