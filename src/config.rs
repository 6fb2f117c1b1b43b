//! What a node is told at boot: `mosaic.toml` < `MOSAIC_*` environment < flags.
//!
//! [`Config`] is complete and cannot be wrong; whatever is wrong with its sources is reported together, each with its place,
//! its key and a remedy. Nothing else reads the environment.
//!
//! A key's environment variable is its path in capitals, joined by `_`: `api.listen` is `MOSAIC_API_LISTEN`,
//! `limits.page_cap` is `MOSAIC_LIMITS_PAGE_CAP`. On the command line every key can be given as `--set key=value`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mosaic_actors::domain::identity::SiteName;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::pki::extension_arc::ExtensionArc;
use crate::pki::step_ca::config::StepCaConfig;
use crate::secrets::{MasterSecret, SecretError};

pub mod keys;
pub mod limits;
pub mod resources;

mod flags;
mod load;
mod problem;
mod reader;
mod sample;
mod sources;
#[cfg(test)]
mod tests;

pub use flags::ConfigArgs;
pub use limits::Limits;
pub(crate) use limits::PeerConnections;
pub use load::{API_PORT, ENROLLMENT_PORT, FEDERATION_PORT};
pub use problem::{ConfigErrors, Origin, Problem};
pub use resources::ResourceConfig;
pub use sample::SampleValues;
pub use sources::{DEFAULT_FILE, Surroundings};

pub use crate::telemetry::logs::LogFormat;

/// Everything that a node is told.
#[derive(Debug, Clone)]
pub struct Config {
    pub site: SiteName,
    pub tier: Tier,
    /// Absolute. Holds keys, tokens and, in tier `local`, the database.
    pub state_dir: PathBuf,
    pub api: ApiConfig,
    pub federation: FederationConfig,
    pub enrollment: ListenerConfig,
    pub postgres: PostgresConfig,
    /// Where replicas share what they count; every replica counts by itself without.
    pub redis: Option<SecretString>,
    pub ca: CaConfig,
    pub audit: AuditMode,
    pub log: LogConfig,
    pub master_secret: MasterSecretSource,
    pub limits: Limits,
    /// The operator's own; the built-in ones are not listed here.
    pub resources: Vec<ResourceConfig>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Where the process kills itself (ADR 19).
    #[cfg(debug_assertions)]
    pub crash_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Database and CA inside the node.
    Local,
    /// A database by URL, CA inside the node.
    Standalone,
    /// A database by URL with pgvector, Redis or Valkey, and a step-ca: what several replicas share is outside of all of them.
    Federated,
}

impl Tier {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Standalone => "standalone",
            Self::Federated => "federated",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    pub listen: SocketAddr,
    /// Plain HTTP without.
    pub tls: Option<TlsFiles>,
}

/// PEM files: a chain, leaf first, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationConfig {
    pub listener: ListenerConfig,
    /// TLS 1.2 besides 1.3.
    pub tls12: bool,
    /// Admins may make links go wrong.
    pub fault_injection: bool,
}

/// A listener that other sites reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    pub listen: SocketAddr,
    /// What stands in invites; `https`, no path, no userinfo.
    pub public_url: Option<Url>,
}

#[derive(Debug, Clone)]
pub enum PostgresConfig {
    Embedded { bin_dir: Option<PathBuf>, search_path: Option<OsString> },
    Url(SecretString),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaConfig {
    pub kind: CaKind,
    pub extension_arc: ExtensionArc,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaKind {
    /// The node, with a sealed key in its own database.
    Embedded,
    /// A step-ca of this site.
    StepCa(Box<StepCaConfig>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditMode {
    /// No row leaves before its event is committed.
    Strict,
    /// Events of allowed reads are queued; denials and changes are strict all the same.
    Relaxed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

/// Where the master secret comes from.
#[derive(Debug, Clone)]
pub enum MasterSecretSource {
    File(PathBuf),
    /// Base64 of 32 bytes, from `MOSAIC_MASTER_SECRET`.
    Given(SecretString),
}

impl MasterSecretSource {
    /// The secrets as they are there now.
    pub fn read(&self) -> Result<MasterSecret, SecretError> {
        match self {
            Self::File(file) => MasterSecret::load(file),
            Self::Given(text) => MasterSecret::parse(text.expose_secret()),
        }
    }
}

impl ListenerConfig {
    /// The URL for invites. Without a configured one: the address that the listener is bound to, or this machine's name when
    /// it is bound to all addresses.
    #[must_use]
    pub fn public_url(&self, bound: SocketAddr) -> Url {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = match bound.ip() {
            ip if ip.is_unspecified() => host_name(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            IpAddr::V4(ip) => ip.to_string(),
        };
        let port = bound.port();
        let parsed = Url::parse(&format!("https://{host}:{port}"));
        parsed
            .or_else(|_| Url::parse(&format!("https://localhost:{port}")))
            .expect("invariant: a host and a port make a URL")
    }
}

impl Config {
    /// Where a node or a command dies, if a test says so. Nothing in a release build.
    pub fn arm_crash_point(&self) {
        #[cfg(debug_assertions)]
        if let Some(point) = &self.crash_at {
            crate::crash_points::arm(point);
        }
    }

    /// Names for the server certificates: the hosts of both public URLs. IP addresses come without brackets.
    #[must_use]
    pub fn server_names(&self, federation: SocketAddr, enrollment: SocketAddr) -> Vec<String> {
        let urls = [self.federation.listener.public_url(federation), self.enrollment.public_url(enrollment)];
        let mut names: Vec<String> = urls.iter().filter_map(host_of).collect();
        names.dedup();
        names
    }

    /// Where the first admin's token is written.
    #[must_use]
    pub fn admin_token_file(&self) -> PathBuf {
        self.state_dir.join("admin.token")
    }

    /// Where the newest checkpoint of the audit log is kept.
    #[must_use]
    pub fn audit_checkpoint_file(&self) -> PathBuf {
        self.state_dir.join("audit.checkpoint")
    }

    /// Where `gateway init --ca-cert --ca-key` leaves certificate and key (PEM) of a CA of the operator's own, for the first
    /// boot, which seals the key into the database and removes both files.
    #[must_use]
    pub fn ca_import_files(&self) -> (PathBuf, PathBuf) {
        (self.state_dir.join("ca-import.pem"), self.state_dir.join("ca-import.key"))
    }

    /// Where a node whose authority is a step-ca keeps its sealed server certificate, for a start while step-ca is away.
    #[must_use]
    pub fn server_identity_file(&self) -> PathBuf {
        self.state_dir.join("server-identity.sealed")
    }

    /// Where `mosaic token create --save` writes.
    #[must_use]
    pub fn session_token_file(&self) -> PathBuf {
        self.state_dir.join("session.token")
    }

    /// The private cluster of tier `local`.
    #[must_use]
    pub fn postgres_dir(&self) -> PathBuf {
        self.state_dir.join("postgres")
    }

    /// `http` or `https`, as clients on this machine reach the API.
    #[must_use]
    pub fn api_url(&self, bound: SocketAddr) -> String {
        let scheme = if self.api.tls.is_some() { "https" } else { "http" };
        let host: SocketAddr = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, bound.port()).into(),
            IpAddr::V6(ip) if ip.is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, bound.port()).into(),
            _ => bound,
        };
        format!("{scheme}://{host}")
    }
}

fn host_of(url: &Url) -> Option<String> {
    match url.host()? {
        url::Host::Domain(name) => Some(name.to_owned()),
        url::Host::Ipv4(ip) => Some(ip.to_string()),
        url::Host::Ipv6(ip) => Some(ip.to_string()),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
