//! The three ports: free, ours already, or somebody else's; and who can listen in on them.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Probe;
use crate::config::Config;
use crate::postgres::embedded;
use crate::tls::enroll_client_config;

/// A process on this machine answers within this, or is not ours.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether this very node serves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    Yes,
    /// Something answers as a node does, but whether it is this one cannot be told.
    Perhaps,
    No,
}

/// Our own running node is recognised by its certificate: the enrolment listener presents the root that is in our database.
/// Without the database's word: it owns our state directory and answers as a node does.
pub(super) async fn is_serving(config: &Config, root: Option<&[u8]>) -> Serving {
    if let Some(root) = root
        && tokio::time::timeout(PATIENCE, presents(config, root)).await == Ok(Some(()))
    {
        return Serving::Yes;
    }
    let answers = tokio::time::timeout(PATIENCE, is_healthy(config)).await == Ok(Some(()));
    match (answers, embedded::is_in_use(&config.state_dir)) {
        (true, true) => Serving::Yes,
        // With the database's word, it was not ours.
        (true, false) if root.is_none() => Serving::Perhaps,
        _ => Serving::No,
    }
}

/// A TLS handshake with the enrolment listener that ends at `root`.
async fn presents(config: &Config, root: &[u8]) -> Option<()> {
    let address = reachable(config.enrollment.listen)?;
    let url = config.enrollment.public_url(config.enrollment.listen);
    let name = ServerName::try_from(url.host_str()?.trim_matches(['[', ']']).to_owned()).ok()?;
    let (client, _) = enroll_client_config(crate::secrets::sha256(root));
    let stream = TcpStream::connect(address).await.ok()?;
    TlsConnector::from(Arc::new(client)).connect(name, stream).await.ok().map(|_| ())
}

/// `GET /healthz` over plain HTTP; with TLS, that the port is open has to do.
async fn is_healthy(config: &Config) -> Option<()> {
    let mut stream = TcpStream::connect(reachable(config.api.listen)?).await.ok()?;
    if config.api.tls.is_some() {
        return Some(());
    }
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await.ok()?;
    (head == *b"HTTP/1.1 200").then_some(())
}

/// The address to dial for a listener; `None` for one whose port is chosen when it starts.
fn reachable(listen: SocketAddr) -> Option<SocketAddr> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (listen.port() != 0).then(|| SocketAddr::new(ip, listen.port()))
}

pub(super) fn probes(config: &Config, serving: Serving) -> Vec<Probe> {
    [
        ("api listener", "api.listen", config.api.listen),
        ("federation listener", "federation.listen", config.federation.listener.listen),
        ("enrollment listener", "enrollment.listen", config.enrollment.listen),
    ]
    .into_iter()
    .map(|(name, key, address)| port(name, key, address, serving))
    .collect()
}

fn port(name: &'static str, key: &str, address: SocketAddr, serving: Serving) -> Probe {
    if address.port() == 0 {
        return Probe::green(name, format!("{address}: any free port"));
    }
    let taken = match TcpListener::bind(address) {
        Ok(_) => return Probe::green(name, format!("{address} is free")),
        Err(error) => error,
    };
    let port = address.port();
    match (taken.kind(), serving) {
        (ErrorKind::AddrInUse, Serving::Yes) => Probe::green(name, format!("{address} is served by this node")),
        (ErrorKind::AddrInUse, Serving::Perhaps) => Probe::yellow(
            name,
            format!(
                "{address} is taken, perhaps by this node: whether it is this one cannot be told without its database"
            ),
            format!("see who has it: ss -ltnp 'sport = :{port}'"),
        ),
        (ErrorKind::AddrInUse, Serving::No) => Probe::red(
            name,
            format!("{address} is taken by another process"),
            format!("see who has it: ss -ltnp 'sport = :{port}'; stop it, or choose another port with {key}"),
        ),
        (ErrorKind::PermissionDenied, _) => Probe::red(
            name,
            format!("{address} may not be opened by this user"),
            format!("choose a port above 1023 with {key}, or allow it: setcap cap_net_bind_service=+ep <mosaic>"),
        ),
        (ErrorKind::AddrNotAvailable, _) => Probe::red(
            name,
            format!("{address} is no address of this machine"),
            format!("write one of 'ip address', or 0.0.0.0:{port} for all, to {key}"),
        ),
        _ => Probe::red(name, format!("{address}: {taken}"), format!("choose another address with {key}")),
    }
}

/// Where others could read along, or cannot find this site.
pub(super) fn exposure(config: &Config) -> Vec<Probe> {
    let mut probes = Vec::new();
    if config.api.tls.is_none() && !config.api.listen.ip().is_loopback() {
        probes.push(Probe::yellow(
            "api encryption",
            format!("{} speaks plain HTTP, so tokens and rows cross the network readable", config.api.listen),
            "set api.tls_certificate and api.tls_key, or listen on 127.0.0.1 behind a proxy that speaks TLS",
        ));
    }
    for (name, key, listener) in [
        ("federation address", "federation.public_url", &config.federation.listener),
        ("enrollment address", "enrollment.public_url", &config.enrollment),
    ] {
        let url = listener.public_url(listener.listen);
        if listener.public_url.is_none() && listener.listen.ip().is_unspecified() {
            let detail = format!("invites will say {url}, after this machine's name");
            probes.push(Probe::yellow(
                name,
                detail,
                format!("set {key} to the URL by which other sites reach this one"),
            ));
        } else {
            probes.push(Probe::green(name, format!("invites say {url}")));
        }
    }
    probes
}
