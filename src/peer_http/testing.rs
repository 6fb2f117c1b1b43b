//! A peer for tests that says exactly what it is told to, over real mutual TLS with real certificates.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mosaic_actors::domain::identity::{GrantId, LinkId, SiteName, UserId};
use mosaic_actors::domain::link::{Link, LinkCredentials, LinkState};
use mosaic_actors::ports::clock::Clock;
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock::SystemClock;
use crate::pki::authority::ClientRequest;
use crate::pki::ca_material::CaMaterial;
use crate::pki::ca_store::Revocation;
use crate::pki::csr::new_key_and_csr;
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::link_key::seal_link_key;
use crate::secrets::{MasterSecret, Sealer};
use crate::tls::{ClientGate, SwappableIdentity, TlsVersions, enrollment_server_config, federation_server_config};

/// What the peer does after it has read a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Say(Vec<u8>),
    /// One byte at a time, with pauses.
    Drip(Vec<u8>, Duration),
    /// Keeps the connection open and says nothing.
    Stay,
    /// Closes TLS properly.
    Close,
    /// Closes TCP without closing TLS.
    Cut,
}

/// Given the number of the connection and of the request on it, what to do.
type Script = dyn Fn(usize, usize) -> Vec<Act> + Send + Sync;

pub(crate) struct ScriptedPeer {
    pub(crate) url: String,
    pub(crate) ca: Arc<CaMaterial>,
    gate: ClientGate,
    requests: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicUsize>,
}

impl ScriptedPeer {
    /// Requires a client certificate of its own CA.
    pub(crate) async fn federation(script: impl Fn(usize, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start(true, script).await
    }

    /// As an enrolment listener: no client certificate.
    pub(crate) async fn enrollment(script: impl Fn(usize, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start(false, script).await
    }

    async fn start(mutual: bool, script: impl Fn(usize, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let now = SystemClock.now();
        let ca = Arc::new(CaMaterial::generate(&SiteName::parse("work").unwrap(), now).unwrap());
        let identity = SwappableIdentity::new();
        identity.replace(&ca.issue_server(&["localhost".into()], now, time::Duration::days(1)).unwrap()).unwrap();
        let gate = ClientGate::new();
        let config = if mutual {
            gate.update(ca.certificate(), &ca.sign_crl(1, &[], now, time::Duration::days(1)).unwrap().der).unwrap();
            federation_server_config(&gate, &identity, TlsVersions::Only13)
        } else {
            enrollment_server_config(&identity, TlsVersions::Only13)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let serving = accept(listener, Arc::new(config), Arc::new(script), Arc::clone(&requests), Arc::clone(&ended));
        tokio::spawn(serving);
        Self { url: format!("https://localhost:{port}"), ca, gate, requests, ended }
    }

    /// Connections that were served and ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    /// Every request so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Refuses the link's certificate in every handshake from now on.
    pub(crate) fn revoke(&self, link: &Link) {
        let now = SystemClock.now();
        let (serial, not_after) = (link.credentials.serial.clone(), link.credentials.not_after);
        let revocation = Revocation { serial, revoked_at: now, not_after };
        let crl = self.ca.sign_crl(2, &[revocation], now, time::Duration::days(1)).unwrap();
        self.gate.update(self.ca.certificate(), &crl.der).unwrap();
    }

    /// A link to this peer with a certificate that it takes.
    pub(crate) fn link(&self, sealer: &Sealer) -> Link {
        self.link_until(sealer, SystemClock.now() + time::Duration::hours(1))
    }

    pub(crate) fn link_until(&self, sealer: &Sealer, not_after: OffsetDateTime) -> Link {
        let key = new_key_and_csr().unwrap();
        let (id, grant) = (LinkId::new(), GrantId::new());
        let request = ClientRequest {
            public_key: key.public_key.clone(),
            csr_pem: key.csr_pem.clone(),
            grant,
            subject: UserId::new(),
            peer: SiteName::parse("home").unwrap(),
            not_before: SystemClock.now() - time::Duration::minutes(1),
            not_after,
        };
        let issued = self.ca.issue(&request, &ExtensionArc::default()).unwrap();
        Link {
            id,
            peer: SiteName::parse("work").unwrap(),
            owner: UserId::new(),
            shared_with: Vec::new(),
            state: LinkState::Active,
            grant,
            federation_url: self.url.as_str().into(),
            allow_private: true,
            credentials: LinkCredentials {
                serial: issued.serial,
                not_before: issued.not_before,
                not_after: issued.not_after,
                certificate_chain: vec![issued.certificate],
                sealed_key: seal_link_key(sealer, id, 1, &key.pkcs8),
                key_version: 1,
                pinned_root: self.ca.certificate().to_vec(),
            },
            created_at: SystemClock.now(),
        }
    }
}

pub(crate) fn sealer() -> Sealer {
    MasterSecret::generate().unwrap().sealer()
}

/// A 200 with a JSON body.
pub(crate) fn ok_json(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    script: Arc<Script>,
    requests: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicUsize>,
) {
    let acceptor = TlsAcceptor::from(config);
    for number in 0.. {
        let Ok((tcp, _)) = listener.accept().await else { return };
        let (acceptor, script, requests) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&requests));
        let ended = Arc::clone(&ended);
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(tcp).await {
                serve(stream, number, script, requests).await;
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

async fn serve(
    mut stream: TlsStream<TcpStream>,
    connection: usize,
    script: Arc<Script>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    for number in 0.. {
        let Some(request) = read_request(&mut stream).await else { return };
        requests.lock().unwrap().push(request);
        for act in script(connection, number) {
            match act {
                Act::Say(bytes) => {
                    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                Act::Drip(bytes, pause) => {
                    for byte in bytes {
                        tokio::time::sleep(pause).await;
                        if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                }
                Act::Stay => std::future::pending().await,
                Act::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
                Act::Cut => return,
            }
        }
    }
}

async fn read_request(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0_usize);
            if body.len() >= length {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}
