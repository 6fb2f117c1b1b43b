use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::asker::TrustAnyone;
use super::wait::PATIENCE;

/// One connection, written to and read from byte by byte: what a well-behaved client would hide.
pub(crate) struct Wire<S = TlsStream<TcpStream>> {
    pub(crate) stream: S,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) json: Value,
}

impl Heard {
    /// `error.reason` of a 403, or its code, or `ok`.
    pub(crate) fn word(&self) -> String {
        let error = &self.json["error"];
        let word = error["reason"].as_str().or(error["code"].as_str()).unwrap_or("ok");
        word.to_owned()
    }
}

/// A client that takes any server, with or without a certificate (DER, PKCS#8).
pub(crate) fn client_tls(identity: Option<(&CertificateDer<'static>, &[u8])>) -> rustls::ClientConfig {
    client_tls_of(identity.map(|(certificate, key)| (vec![certificate.clone()], key)))
}

/// With a certificate and what leads from it to below the root.
pub(crate) fn client_tls_with_chain(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> rustls::ClientConfig {
    client_tls_of(Some((chain, key)))
}

fn client_tls_of(identity: Option<(Vec<CertificateDer<'static>>, &[u8])>) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)));
    match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key that can sign");
            // Not `with_client_auth_cert`, which looks at the certificate: a thief's client would not.
            let certified = rustls::sign::CertifiedKey::new(chain, key);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
        }
    }
}

impl Wire {
    /// Connects and shakes hands. With TLS 1.3 a client learns only by its first read that its certificate was refused.
    pub(crate) async fn open(address: &str, config: rustls::ClientConfig) -> io::Result<Self> {
        Self::open_shared(address, Arc::new(config)).await
    }

    pub(crate) async fn open_shared(address: &str, config: Arc<rustls::ClientConfig>) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").expect("a server name");
        let connecting = tokio_rustls::TlsConnector::from(config).connect(name, tcp);
        let stream = timeout(PATIENCE, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self { stream })
    }

    /// `list/tasks` on this connection.
    pub(crate) async fn list(&mut self) -> io::Result<Heard> {
        self.post("/api/federation/v1/list/tasks", "{}").await
    }
}

impl Wire<TcpStream> {
    /// A connection without TLS.
    pub(crate) async fn plain(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a connection") }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> io::Result<Heard> {
        let length = body.len();
        self.send(&format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")).await?;
        self.hear().await
    }

    pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    /// Reads one answer with a `content-length`; an end before it is an error.
    pub(crate) async fn hear(&mut self) -> io::Result<Heard> {
        timeout(PATIENCE, self.hear_without_end()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn hear_without_end(&mut self) -> io::Result<Heard> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(&mut bytes).await?;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length: usize = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while bytes.len() < end + length {
            self.more(&mut bytes).await?;
        }
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let body = bytes[end..end + length].to_vec();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Heard { status, head, body, json })
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let read = self.stream.read_buf(bytes).await?;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Waits until the other side has closed, whatever it still says.
    pub(crate) async fn ends(&mut self) -> bool {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.is_ok()
    }
}

/// A header's value in a lower-case head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}
