//! The database of tier `local`: a private cluster that this process starts, watches and stops.

use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod binaries;
pub mod cluster;
pub mod server_user;

pub use binaries::ServerBinaries;
pub use cluster::{ClusterOptions, PrivateCluster};

/// Why the embedded database does not run.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "no PostgreSQL server is installed: initdb and postgres are neither on the PATH nor in /usr/lib/postgresql/*/bin"
    )]
    NoBinaries,
    #[error("{} does not hold a working initdb and postgres", .0.display())]
    NoBinariesIn(PathBuf),
    #[error("the installed PostgreSQL {found} is too old")]
    TooOld { found: u32 },
    #[error("the data directory was made by PostgreSQL {data}, installed is {binaries}")]
    OtherMajor { data: u32, binaries: u32 },
    #[error("PostgreSQL refuses to run as root, and there is no user 'postgres' to run it as")]
    NoServerUser,
    #[error("the database server runs as user 'postgres', who may not enter {}", directory.display())]
    Barred { directory: PathBuf },
    #[error("another node uses this state directory")]
    InUse,
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the database server cannot be started: {0}")]
    Spawn(std::io::Error),
    #[error("{program} failed ({status}): {log}")]
    Setup { program: String, status: String, log: String },
    #[error("the database server ended while starting ({status}): {log}")]
    Exited { status: String, log: String },
    #[error("the database server was not ready within {} s: {log}", within.as_secs())]
    NotReady { within: Duration, log: String },
    #[error("an earlier run's database server (process {pid}) does not stop")]
    Leftover { pid: u32 },
}

impl EmbeddedError {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoBinaries => {
                "install one: apt-get install -y postgresql (Debian, Ubuntu), or set postgres.bin_dir".into()
            }
            Self::NoBinariesIn(_) => {
                "point postgres.bin_dir at a server's bin directory, or remove it to search".into()
            }
            Self::TooOld { .. } => {
                format!("install PostgreSQL {} or newer: apt-get install -y postgresql", binaries::OLDEST_MAJOR)
            }
            Self::OtherMajor { data, .. } => format!(
                "install that version too: apt-get install -y postgresql-{data}; or move the data with pg_upgrade"
            ),
            Self::NoServerUser => {
                "install the postgresql package, which makes it, or run the node as another user".into()
            }
            Self::Barred { directory } => format!(
                "use a state_dir that everybody may pass through, such as /var/lib/mosaic, or: chmod o+x {}",
                directory.display()
            ),
            Self::InUse => "stop it, or give this node a state_dir of its own".into(),
            Self::File { .. } => "check that the directory exists, is writable for this user and has space left".into(),
            Self::Spawn(_) => "check the limits on processes and memory of this machine".into(),
            Self::Setup { .. } | Self::Exited { .. } | Self::NotReady { .. } => {
                "read the server's message above; often the disk is full or memory is short".into()
            }
            Self::Leftover { pid } => format!("kill -9 {pid}"),
        }
    }
}
