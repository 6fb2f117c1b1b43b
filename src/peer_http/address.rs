//! Where a peer may be dialled.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use rustls_pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// `https://host:port`, nothing else: no userinfo, path, query or fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerUrl {
    host: Host<String>,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerUrlError {
    #[error("is not a URL")]
    NotUrl,
    #[error("does not start with https://")]
    NotHttps,
    #[error("holds a user name or password")]
    UserInfo,
    #[error("holds a path, query or fragment; only https://host:port is allowed")]
    Path,
    #[error("names a host or port that cannot be dialled")]
    Host,
}

impl PeerUrl {
    /// Parses a peer's address.
    pub fn parse(text: &str) -> Result<Self, PeerUrlError> {
        let url = Url::parse(text).map_err(|_| PeerUrlError::NotUrl)?;
        if url.scheme() != "https" {
            return Err(PeerUrlError::NotHttps);
        }
        // `https://@host` has empty userinfo, which `url` does not tell from none.
        if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
            return Err(PeerUrlError::UserInfo);
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(PeerUrlError::Path);
        }
        let host = url.host().ok_or(PeerUrlError::Host)?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(PeerUrlError::Host)?;
        let this = Self { host, port };
        this.server_name().map(|_| this).ok_or(PeerUrlError::Host)
    }

    /// What the peer's certificate must be valid for.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.host {
            Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()).ok(),
            Host::Ipv4(address) => Some(ServerName::from(IpAddr::V4(*address))),
            Host::Ipv6(address) => Some(ServerName::from(IpAddr::V6(*address))),
        }
    }

    /// The `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The addresses behind the name that may be dialled, freshly resolved: what a name pointed to yesterday proves nothing.
    pub(super) async fn resolve(&self, allow_private: bool, deadline: Instant) -> Result<Vec<SocketAddr>, Fault> {
        let found: Vec<SocketAddr> = match &self.host {
            Host::Ipv4(address) => vec![SocketAddr::new(IpAddr::V4(*address), self.port)],
            Host::Ipv6(address) => vec![SocketAddr::new(IpAddr::V6(*address), self.port)],
            Host::Domain(name) => timeout_at(deadline, tokio::net::lookup_host((name.as_str(), self.port)))
                .await
                .map_err(|_| Fault::new(FaultKind::TimedOut, Stage::Resolve))?
                .map_err(|_| unresolved("the peer's host name does not resolve"))?
                .collect(),
        };
        let allowed: Vec<SocketAddr> =
            found.iter().copied().filter(|address| may_dial(address.ip(), allow_private)).take(ADDRESSES_MAX).collect();
        match (allowed.is_empty(), found.is_empty()) {
            (false, _) => Ok(allowed),
            (true, true) => Err(unresolved("the peer's host name has no address")),
            (true, false) => {
                let text = "the peer's address is loopback, link-local or metadata; such a link needs allow_private";
                Err(Fault { retryable: false, ..unresolved(text) })
            }
        }
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn unresolved(message: &'static str) -> Fault {
    Fault::new(FaultKind::Unreachable, Stage::Resolve).with_message(message)
}

/// Whether an address may be dialled. Loopback, link-local and cloud metadata only where the link says so: an invite must not
/// make this node talk to its own machine. Addresses that name no host are never dialled.
fn may_dial(address: IpAddr, allow_private: bool) -> bool {
    match plain(address) {
        IpAddr::V4(v4) if v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() => false,
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => false,
        plain => allow_private || !is_private(plain),
    }
}

/// The IPv4 address inside an IPv6 one that stands for it: mapped (RFC 4291), NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // The deprecated IPv4-compatible form, apart from `::` and `::1`.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => embedded(high, low),
        _ => address,
    }
}

fn is_private(address: IpAddr) -> bool {
    const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        // 0.0.0.0/8 is "this host" (RFC 1122), which Linux dials as loopback.
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6 == METADATA_V6,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_url_is_https_host_and_port_only() {
        assert_eq!(PeerUrl::parse("https://work.example:8643").map(|u| u.authority()), Ok("work.example:8643".into()));
        assert_eq!(PeerUrl::parse("https://work.example/").map(|u| u.authority()), Ok("work.example:443".into()));
        assert_eq!(PeerUrl::parse("https://[::1]:8643").map(|u| u.authority()), Ok("[::1]:8643".into()));
        for (text, error) in [
            ("work.example:8643", PeerUrlError::NotHttps),
            ("http://work.example", PeerUrlError::NotHttps),
            ("", PeerUrlError::NotUrl),
            ("https://", PeerUrlError::NotUrl),
            ("https://user@work.example", PeerUrlError::UserInfo),
            ("https://:secret@work.example", PeerUrlError::UserInfo),
            ("https://@work.example", PeerUrlError::UserInfo),
            ("https://work.example/x", PeerUrlError::Path),
            ("https://work.example?x", PeerUrlError::Path),
            ("https://work.example#x", PeerUrlError::Path),
            ("https://work.example:0", PeerUrlError::Host),
        ] {
            assert_eq!(PeerUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn loopback_link_local_and_metadata_need_allow_private_in_every_notation() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert!(!may_dial(ip, false), "{address}");
            assert!(may_dial(ip, true), "{address}");
        }
        for address in ["192.168.1.4", "10.0.0.1", "203.0.113.7", "2001:db8::1", "fd12::1"] {
            assert!(may_dial(address.parse().unwrap(), false), "{address}");
        }
        for address in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
            assert!(!may_dial(address.parse().unwrap(), true), "{address}");
        }
    }

    #[tokio::test]
    async fn the_resolved_address_decides_for_literals_and_names_alike() {
        let deadline = Instant::now() + Duration::from_secs(5);
        for host in ["https://127.0.0.1:9", "https://localhost:9", "https://0x7f000001:9", "https://[::ffff:7f00:1]:9"]
        {
            let url = PeerUrl::parse(host).unwrap();
            let fault = url.resolve(false, deadline).await.unwrap_err();
            assert_eq!((fault.kind, fault.stage, fault.retryable), (FaultKind::Unreachable, Stage::Resolve, false));
            assert!(!url.resolve(true, deadline).await.unwrap().is_empty(), "{host}");
        }
    }
}
