//! The database of tier `local`: a private cluster that this process starts, watches and stops.
//!
//! In the state directory: `postgres/` (the cluster), `postgres.password` (of its only role), `postgres.lock` (held while a
//! process owns the cluster). A server that crashes is started again; one that a killed node left behind is stopped first.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use crate::config::Limits;

pub mod binaries;
pub mod cluster;
pub mod server_user;

pub use binaries::ServerBinaries;
pub use cluster::{ClusterOptions, PrivateCluster};

/// How often the supervisor looks whether the server still runs.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// What the embedded database is started with.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    pub state_dir: PathBuf,
    pub bin_dir: Option<PathBuf>,
    /// `PATH` of the node.
    pub search_path: Option<OsString>,
    /// False only for tests: a crash of the machine may lose the data.
    pub durable: bool,
    pub limits: Limits,
}

/// The server as its supervisor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    Running {
        pid: u32,
        /// Times that it was started again.
        restarts: u32,
    },
    /// It ended by itself and is being started again.
    Restarting {
        restarts: u32,
    },
    Stopped,
}

/// The running database of tier `local`. Dropping it stops the server.
pub struct EmbeddedPostgres {
    url: SecretString,
    state: watch::Receiver<ServerState>,
    stopping: Arc<AtomicBool>,
    supervisor: Option<(mpsc::SyncSender<()>, JoinHandle<()>)>,
    // Last: the next node may start when the server has stopped.
    _lock: File,
}

impl EmbeddedPostgres {
    /// Starts the server, making the cluster first when there is none. Blocks for about a second then, and for as long as
    /// crash recovery takes after a crash.
    pub fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let lock = lock(&options.state_dir)?;
        let mut cluster = prepare(options)?;
        cluster.start()?;
        let url = cluster.url(cluster::DATABASE);
        let running = ServerState::Running { pid: cluster.pid().unwrap_or_default(), restarts: 0 };
        let (state, observed) = watch::channel(running);
        let (stop, orders) = mpsc::sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let supervisor = Supervisor {
            cluster,
            orders,
            state,
            stopping: Arc::clone(&stopping),
            first_pause: options.limits.embedded_restart,
            longest_pause: options.limits.embedded_restart_max,
        };
        let thread = thread::Builder::new().name("database-supervisor".to_owned()).spawn(move || supervisor.run());
        let thread = thread.map_err(EmbeddedError::Spawn)?;
        Ok(Self { url, state: observed, stopping, supervisor: Some((stop, thread)), _lock: lock })
    }

    /// Where the database is, password included. Stays the same as long as this value lives.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// For readiness, metrics and tests.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ServerState> {
        self.state.clone()
    }

    /// Stops the server: sessions are cut, everything is written. Blocks until it has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some((stop, thread)) = self.supervisor.take() else { return };
        self.stopping.store(true, Ordering::Release);
        // A supervisor that is gone took the server with it.
        let _ = stop.send(());
        if thread.join().is_err() {
            tracing::error!("the database's supervisor panicked");
        }
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// The URL of an embedded database that some process on this machine runs in `state_dir` now.
#[must_use]
pub fn url_of_running(state_dir: &Path) -> Option<SecretString> {
    let password = read_password(&state_dir.join("postgres.password")).ok().flatten()?;
    cluster::url_of_running(&state_dir.join("postgres"), &password)
}

/// Whether some process owns the embedded database of `state_dir` now.
#[must_use]
pub fn is_in_use(state_dir: &Path) -> bool {
    File::open(lock_file(state_dir)).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The binaries that would be used: those of the existing data's version, if there are data.
pub fn binaries_for(options: &EmbeddedOptions) -> Result<ServerBinaries, EmbeddedError> {
    let data = cluster::major_of(&options.state_dir.join("postgres/data"));
    ServerBinaries::find(options.bin_dir.as_deref(), options.search_path.as_deref(), data)
}

/// Whether the server could be started: binaries of the right version, a user to run it, and a way to its data.
pub fn check_installation(options: &EmbeddedOptions) -> Result<ServerBinaries, EmbeddedError> {
    let user = server_user::ServerUser::needed()?;
    cluster::check_way(&options.state_dir.join("postgres"), user)?;
    binaries_for(options)
}

// ------------------------------------------------------------------------------------------------------------ supervisor

struct Supervisor {
    cluster: PrivateCluster,
    orders: mpsc::Receiver<()>,
    state: watch::Sender<ServerState>,
    stopping: Arc<AtomicBool>,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Supervisor {
    /// Until it is told to stop, or nobody is left who could tell.
    fn run(mut self) {
        let (mut restarts, mut pause, mut started) = (0_u32, self.first_pause, Instant::now());
        while self.rests(WATCH_EVERY) {
            let Some(status) = self.cluster.ended() else { continue };
            // One that ran for long and then crashed is not one that cannot run.
            pause = if started.elapsed() > self.longest_pause { self.first_pause } else { pause };
            restarts = restarts.saturating_add(1);
            tracing::error!(%status, restarts, "the embedded database ended by itself; starting it again");
            self.state.send_replace(ServerState::Restarting { restarts });
            if !self.restart(&mut pause) {
                break;
            }
            started = Instant::now();
            self.state.send_replace(ServerState::Running { pid: self.cluster.pid().unwrap_or_default(), restarts });
        }
        self.cluster.stop();
        self.state.send_replace(ServerState::Stopped);
    }

    /// Tries until the server runs; false when the node stops meanwhile.
    fn restart(&mut self, pause: &mut Duration) -> bool {
        loop {
            if !self.rests(*pause) {
                return false;
            }
            *pause = (*pause * 2).min(self.longest_pause);
            let stopping = Arc::clone(&self.stopping);
            match self.cluster.start_while(&move || !stopping.load(Ordering::Acquire)) {
                Ok(()) => return true,
                Err(EmbeddedError::Cancelled) => return false,
                Err(error) => {
                    tracing::error!(%error, remedy = error.remedy(), pause_ms = pause.as_millis(), "the embedded database does not start");
                }
            }
        }
    }

    /// Waits; false when the node stops meanwhile.
    fn rests(&self, pause: Duration) -> bool {
        matches!(self.orders.recv_timeout(pause), Err(RecvTimeoutError::Timeout))
    }
}

// ---------------------------------------------------------------------------------------------------- lock and password

fn lock_file(state_dir: &Path) -> PathBuf {
    state_dir.join("postgres.lock")
}

fn lock(state_dir: &Path) -> Result<File, EmbeddedError> {
    let path = lock_file(state_dir);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|e| EmbeddedError::file(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmbeddedError::InUse),
        Err(TryLockError::Error(error)) => Err(EmbeddedError::file(&path, error)),
    }
}

/// The cluster, with the password that the state directory holds; a lost one is replaced.
fn prepare(options: &EmbeddedOptions) -> Result<PrivateCluster, EmbeddedError> {
    let file = options.state_dir.join("postgres.password");
    let root = options.state_dir.join("postgres");
    let kept = read_password(&file)?;
    let (password, is_new) = kept.map_or_else(|| new_password().map(|new| (new, true)), |kept| Ok((kept, false)))?;
    let limits = &options.limits;
    let cluster = ClusterOptions {
        binaries: binaries_for(options)?,
        root: root.clone(),
        password,
        durable: options.durable,
        max_connections: limits.embedded_connections,
        shared_buffers_mib: limits.embedded_buffers,
        start_within: limits.embedded_start,
        stop_within: limits.embedded_stop,
    };
    if is_new {
        if cluster::major_of(&root.join("data")).is_some() {
            tracing::warn!("the embedded database's password file is gone; giving its role a new password");
            cluster::reset_password(&cluster)?;
        }
        write_password(&file, &cluster.password)?;
    }
    PrivateCluster::prepare(cluster)
}

fn new_password() -> Result<SecretString, EmbeddedError> {
    let mut random = [0_u8; 24];
    let filled = aws_lc_rs::rand::fill(&mut random);
    filled.map_err(|_| EmbeddedError::Spawn(std::io::Error::other("the system gives no random bytes")))?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(random)))
}

/// `None` when there is no file. What it holds goes into a URL and a statement, so only our own alphabet is taken.
fn read_password(file: &Path) -> Result<Option<SecretString>, EmbeddedError> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let text = text.trim();
            let ours = text.len() >= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if ours {
                Ok(Some(SecretString::from(text.to_owned())))
            } else {
                Err(EmbeddedError::PasswordFile(file.to_owned()))
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbeddedError::file(file, error)),
    }
}

/// Whole or not at all: written beside and renamed.
fn write_password(file: &Path, password: &SecretString) -> Result<(), EmbeddedError> {
    let fresh = file.with_extension("password.new");
    let write = || {
        let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        opened.set_permissions(fs::Permissions::from_mode(0o600))?;
        opened.write_all(password.expose_secret().as_bytes())?;
        opened.sync_all()?;
        fs::rename(&fresh, file)
    };
    write().map_err(|e| EmbeddedError::file(file, e))
}

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
    #[error("starting the database server was given up, because the node stops")]
    Cancelled,
    #[error("{} does not hold the password of the embedded database", .0.display())]
    PasswordFile(PathBuf),
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
            Self::Cancelled => "start the node again".into(),
            Self::PasswordFile(file) => format!("remove {}; the next start makes a new password", file.display()),
        }
    }
}

#[cfg(test)]
mod tests;
