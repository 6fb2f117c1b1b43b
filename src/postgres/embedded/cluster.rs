//! One private Postgres cluster: made, started, stopped, and nobody else's.
//!
//! Everything lives under one root directory: `data/` (the cluster), `run/` (its socket). Only the role `mosaic` can log in,
//! with a password, over a socket in a directory that other users cannot enter; when that path is too long for a socket, over
//! a free port on loopback, with the same password. Calls block; the server's process is spawned by a thread that lives as
//! long as this process, because the kernel ties the server's life to that thread.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use secrecy::{ExposeSecret, SecretString};

use super::server_user::{ServerUser, command};
use super::{EmbeddedError, ServerBinaries};

/// Longest socket path that the kernel takes (`sun_path` without its NUL, unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// Names the socket; no network port is opened with it.
const SOCKET_PORT: u16 = 5432;
/// The cluster's only role that can log in, and its database.
pub const ROLE: &str = "mosaic";
pub const DATABASE: &str = "mosaic";
/// Lines of the server's log that are kept for an error message.
const KEPT_LOG_LINES: usize = 20;
const POLL: Duration = Duration::from_millis(20);

/// What a cluster is made and run with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub binaries: ServerBinaries,
    /// Absolute. Made when missing, readable by the server's user only.
    pub root: PathBuf,
    pub password: SecretString,
    /// False only for tests: a crash of the machine may lose the cluster.
    pub durable: bool,
    pub max_connections: u32,
    pub shared_buffers_mib: u32,
    /// Longest time from spawn to accepting connections; crash recovery included.
    pub start_within: Duration,
    /// Longest time for a fast shutdown before it becomes an immediate one.
    pub stop_within: Duration,
}

/// How a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Socket(PathBuf),
    Loopback(u16),
}

impl Address {
    fn url(&self, password: &SecretString, database: &str) -> SecretString {
        let password = password.expose_secret();
        SecretString::from(match self {
            Self::Socket(directory) => {
                let directory = percent_encoded(&directory.to_string_lossy());
                format!("postgresql://{ROLE}:{password}@/{database}?host={directory}&port={SOCKET_PORT}")
            }
            Self::Loopback(port) => format!("postgresql://{ROLE}:{password}@127.0.0.1:{port}/{database}"),
        })
    }
}

/// The URL of the server that runs on the cluster in `root`, whoever started it; `None` when none takes connections.
pub(super) fn url_of_running(root: &Path, password: &SecretString) -> Option<SecretString> {
    let data = root.join("data");
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    // Line 1 process, 4 port, 5 socket directory, 8 state.
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let process: u32 = lines.first()?.parse().ok()?;
    if !serves(process, &data) || *lines.get(7)? != "ready" {
        return None;
    }
    let address = match *lines.get(4)? {
        "" => Address::Loopback(lines.get(3)?.parse().ok()?),
        directory => Address::Socket(PathBuf::from(directory)),
    };
    Some(address.url(password, DATABASE))
}

/// A private cluster. Dropping it stops the server.
pub struct PrivateCluster {
    options: ClusterOptions,
    user: Option<ServerUser>,
    address: Address,
    /// The server ran at this address once: others know it, and it stays.
    settled: bool,
    process: Option<ServerProcess>,
}

struct ServerProcess {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl PrivateCluster {
    /// Makes the cluster if there is none, and stops a server that a killed process left behind. The caller holds whatever
    /// lock makes it the only one to use `options.root`.
    pub fn prepare(options: ClusterOptions) -> Result<Self, EmbeddedError> {
        let user = ServerUser::needed()?;
        check_way(&options.root, user)?;
        make_private(&options.root, user)?;
        let data = options.root.join("data");
        stop_leftover(&data, options.stop_within)?;
        match major_of(&data) {
            Some(major) if major != options.binaries.major() => {
                return Err(EmbeddedError::OtherMajor { data: major, binaries: options.binaries.major() });
            }
            Some(_) => {}
            None => initialise(&options, user)?,
        }
        let run = options.root.join("run");
        make_private(&run, user)?;
        let address = address_in(run)?;
        Ok(Self { options, user, address, settled: false, process: None })
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&mut self) -> Result<(), EmbeddedError> {
        self.start_while(&|| true)
    }

    /// Like [`Self::start`], given up with [`EmbeddedError::Cancelled`] as soon as `wanted` says no.
    pub fn start_while(&mut self, wanted: &dyn Fn() -> bool) -> Result<(), EmbeddedError> {
        let deadline = Instant::now() + self.options.start_within;
        loop {
            match self.start_once(deadline, wanted) {
                // The processes of a killed server need a moment to notice that it is gone; a port that was free a moment ago
                // may be taken.
                Err(EmbeddedError::Exited { log, .. }) if Instant::now() < deadline && passes(&log) => {
                    thread::sleep(POLL * 5);
                    if matches!(self.address, Address::Loopback(_)) && !self.settled {
                        self.address = Address::Loopback(free_port()?);
                    }
                }
                Ok(()) => {
                    self.settled = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn start_once(&mut self, deadline: Instant, wanted: &dyn Fn() -> bool) -> Result<(), EmbeddedError> {
        let mut child = spawn_kept(self.server_command()).map_err(EmbeddedError::Spawn)?;
        let log = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            read_log(stderr, Arc::clone(&log));
        }
        let process = self.process.insert(ServerProcess { child, log });
        let pid_file = self.options.root.join("data/postmaster.pid");
        loop {
            if let Some(status) = process.child.try_wait().map_err(EmbeddedError::Spawn)? {
                let log = process.last_lines();
                self.process = None;
                return Err(EmbeddedError::Exited { status: status.to_string(), log });
            }
            if is_ready(&pid_file, process.child.id()) {
                return Ok(());
            }
            if !wanted() {
                self.stop();
                return Err(EmbeddedError::Cancelled);
            }
            if Instant::now() >= deadline {
                let log = process.last_lines();
                self.stop();
                return Err(EmbeddedError::NotReady { within: self.options.start_within, log });
            }
            thread::sleep(POLL);
        }
    }

    /// The server's end, if it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.child.try_wait().ok().flatten()?;
        self.process = None;
        Some(status)
    }

    /// Stops the server: fast (sessions are cut, everything is written), and harder when that takes too long.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let steps = [(Signal::INT, self.options.stop_within), (Signal::QUIT, self.options.stop_within / 2)];
        for (signal, patience) in steps {
            process.signal(signal);
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                match process.child.try_wait() {
                    Ok(None) => thread::sleep(POLL),
                    Ok(Some(_)) | Err(_) => return,
                }
            }
        }
        tracing::warn!("the embedded database does not stop; killing it");
        process.signal(Signal::KILL);
        // A killed process always ends; reaping it cannot wait for long.
        let _ = process.child.wait();
    }

    /// Stops the server's main process without a word (SIGKILL). For tests of crashes.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Freezes every process of the server (SIGSTOP): connections are accepted by the kernel and never answered. For tests.
    pub fn freeze(&self) {
        self.signal_family(Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal_family(Signal::CONT);
    }

    /// The main process of the running server.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Where to connect, password included. `database` needs no quoting: letters, digits, `_`.
    #[must_use]
    pub fn url(&self, database: &str) -> SecretString {
        self.address.url(&self.options.password, database)
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.options.root
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    fn signal_family(&self, signal: Signal) {
        let Some(main) = self.pid() else { return };
        self.signal(signal);
        for child in children_of(main) {
            if let Some(pid) = pid(child) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn server_command(&self) -> Command {
        let mut command = command(&self.options.binaries.program("postgres"), self.user, true);
        command.arg("-D").arg(self.options.root.join("data"));
        for setting in self.settings() {
            command.arg("-c").arg(setting);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Settings stand on the command line, so that an old data directory runs with those of this build.
    fn settings(&self) -> Vec<String> {
        let (listen, port, directory) = match &self.address {
            Address::Socket(directory) => ("", SOCKET_PORT, directory.display().to_string()),
            Address::Loopback(port) => ("127.0.0.1", *port, String::new()),
        };
        let durable = if self.options.durable { "on" } else { "off" };
        let mut settings = vec![
            format!("listen_addresses={listen}"),
            format!("port={port}"),
            format!("unix_socket_directories={directory}"),
            format!("max_connections={}", self.options.max_connections),
            format!("shared_buffers={}MB", self.options.shared_buffers_mib),
            format!("fsync={durable}"),
            format!("full_page_writes={durable}"),
            format!("synchronous_commit={durable}"),
        ];
        settings.extend(FIXED_SETTINGS.iter().map(ToString::to_string));
        settings
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// For a small machine next to the node: little memory, no workers that sit idle, no statement and no value in the log.
const FIXED_SETTINGS: &[&str] = &[
    "unix_socket_permissions=0700",
    "cluster_name=mosaic",
    "max_wal_size=256MB",
    "min_wal_size=32MB",
    "checkpoint_completion_target=0.9",
    "work_mem=4MB",
    "maintenance_work_mem=32MB",
    "autovacuum_max_workers=2",
    "max_worker_processes=4",
    "max_parallel_workers_per_gather=0",
    "jit=off",
    "huge_pages=off",
    "password_encryption=scram-sha-256",
    "timezone=UTC",
    "log_timezone=UTC",
    "logging_collector=off",
    "log_destination=stderr",
    "log_line_prefix=",
    "log_min_messages=log",
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
    "log_statement=none",
];

impl ServerProcess {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = pid(self.child.id()) {
            // Fails only when the process is gone, which is what every caller checks next.
            let _ = kill_process(pid, signal);
        }
    }

    fn last_lines(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

// ------------------------------------------------------------------------------------------------------------- making it

/// Runs `initdb` beside the final place and moves the result there, so that a crash never leaves half a cluster.
fn initialise(options: &ClusterOptions, user: Option<ServerUser>) -> Result<(), EmbeddedError> {
    let (fresh, data) = (options.root.join("data.new"), options.root.join("data"));
    remove_all(&fresh)?;
    remove_all(&data)?;
    let password_file = options.root.join("password.new");
    write_private(&password_file, options.password.expose_secret().as_bytes(), user)?;
    let mut initdb = command(&options.binaries.program("initdb"), user, true);
    initdb.arg("--pgdata").arg(&fresh).arg("--pwfile").arg(&password_file).arg(format!("--username={ROLE}")).args([
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--lc-collate=C",
        "--lc-ctype=C.UTF-8",
        "--lc-messages=C",
        "--no-instructions",
        "--no-sync",
    ]);
    let made = run(initdb, None);
    let removed = fs::remove_file(&password_file);
    made?;
    removed.map_err(|e| EmbeddedError::file(&password_file, e))?;
    single_user(options, user, &fresh, false, &format!("CREATE DATABASE {DATABASE};\n"))?;
    if options.durable {
        // Everything once, at the end, instead of after every step.
        let mut sync = command(&options.binaries.program("initdb"), user, true);
        sync.arg("--sync-only").arg("--pgdata").arg(&fresh);
        run(sync, None)?;
    }
    fs::rename(&fresh, &data).map_err(|e| EmbeddedError::file(&data, e))
}

/// Runs statements without a server, as the cluster's superuser.
fn single_user(
    options: &ClusterOptions,
    user: Option<ServerUser>,
    data: &Path,
    durable: bool,
    statements: &str,
) -> Result<(), EmbeddedError> {
    let mut postgres = command(&options.binaries.program("postgres"), user, true);
    // `exit_on_error`: a statement that fails shows in the exit status.
    postgres.args(["--single", "-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "-D"]).arg(data);
    if !durable {
        postgres.args(["-c", "fsync=off"]);
    }
    postgres.arg("postgres");
    run(postgres, Some(statements))
}

/// Gives the role the password of `options` in an existing cluster: for a state directory whose password file was lost.
pub(super) fn reset_password(options: &ClusterOptions) -> Result<(), EmbeddedError> {
    let user = ServerUser::needed()?;
    let data = options.root.join("data");
    stop_leftover(&data, options.stop_within)?;
    let password = options.password.expose_secret();
    single_user(options, user, &data, options.durable, &format!("ALTER ROLE {ROLE} PASSWORD '{password}';\n"))
}

/// The version of the cluster in `data`; `None` when there is none.
pub(super) fn major_of(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn run(mut command: Command, input: Option<&str>) -> Result<(), EmbeddedError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn_kept(command).map_err(EmbeddedError::Spawn)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends early says why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(EmbeddedError::Spawn)?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(EmbeddedError::Setup { program, status: output.status.to_string(), log })
}

pub(super) fn check_way(root: &Path, user: Option<ServerUser>) -> Result<(), EmbeddedError> {
    let parent = root.parent().unwrap_or(root);
    match user.and_then(|user| user.barred_from(parent)) {
        Some(directory) => Err(EmbeddedError::Barred { directory }),
        None => Ok(()),
    }
}

/// A directory of the server's user that nobody else may enter.
fn make_private(directory: &Path, user: Option<ServerUser>) -> Result<(), EmbeddedError> {
    let made = match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        }
        other => other,
    };
    made.and_then(|()| user.map_or(Ok(()), |user| user.own(directory))).map_err(|e| EmbeddedError::file(directory, e))
}

fn write_private(file: &Path, content: &[u8], user: Option<ServerUser>) -> Result<(), EmbeddedError> {
    let write = || {
        let mut opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
        opened.write_all(content)?;
        user.map_or(Ok(()), |user| user.own(file))
    };
    write().map_err(|e| EmbeddedError::file(file, e))
}

fn remove_all(directory: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(EmbeddedError::file(directory, error)),
        _ => Ok(()),
    }
}

fn address_in(run: PathBuf) -> Result<Address, EmbeddedError> {
    let socket = run.join(format!(".s.PGSQL.{SOCKET_PORT}"));
    // Unusual characters would need quoting inside Postgres' list of directories.
    let plain = run.to_str().is_some_and(|path| !path.contains([',', '"', '\'']));
    if plain && socket.as_os_str().len() <= SOCKET_PATH_MAX {
        Ok(Address::Socket(run))
    } else {
        Ok(Address::Loopback(free_port()?))
    }
}

fn free_port() -> Result<u16, EmbeddedError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(EmbeddedError::Spawn)
}

// ------------------------------------------------------------------------------------------------------------ its process

/// Spawns from a thread that lives as long as this process.
fn spawn_kept(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, orders) = mpsc::sync_channel::<Order>(16);
        let keep = move || {
            for (mut command, reply) in orders {
                let _ = reply.send(command.spawn());
            }
        };
        thread::Builder::new()
            .name("database-keeper".to_owned())
            .spawn(keep)
            .expect("invariant: a thread can be started at boot");
        sender
    });
    let (reply, answer) = mpsc::sync_channel(1);
    let gone = |_| std::io::Error::other("the thread that starts the database is gone");
    keeper.send((command, reply)).map_err(|_| gone(mpsc::RecvError))?;
    answer.recv().map_err(gone)?
}

/// Forwards the server's log to ours, line by line, and keeps the last ones for an error message.
fn read_log(stderr: ChildStderr, kept: Arc<Mutex<VecDeque<String>>>) {
    let read = move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // "the database system is starting up": the answer to every one of our own attempts while it recovers.
            let is_refusal = line.contains("the database system is ");
            if (line.starts_with("FATAL") && !is_refusal) || line.starts_with("PANIC") {
                tracing::warn!(target: "mosaic::embedded_postgres", "{line}");
            } else {
                tracing::debug!(target: "mosaic::embedded_postgres", "{line}");
            }
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT_LOG_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    };
    // Without the thread the server's pipe would fill up and block it.
    thread::Builder::new()
        .name("database-log".to_owned())
        .spawn(read)
        .expect("invariant: a thread can be started at boot");
}

/// `postmaster.pid` as pg_ctl reads it: line 1 the process, line 8 its state.
fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(pid_file) else { return false };
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

/// Whether the server's last words name something that passes by itself.
fn passes(log: &str) -> bool {
    log.contains("is still in use") || log.contains("could not bind") || log.contains("Address already in use")
}

/// Stops the server that a killed process left on `data`; removes a pid file that names somebody else.
fn stop_leftover(data: &Path, patience: Duration) -> Result<(), EmbeddedError> {
    let pid_file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else { return Ok(()) };
    let leftover = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    let Some(process) = leftover.filter(|process| serves(*process, data)).and_then(pid) else {
        return fs::remove_file(&pid_file).map_err(|e| EmbeddedError::file(&pid_file, e));
    };
    tracing::info!(
        pid = process.as_raw_nonzero().get(),
        "stopping the database server that an earlier run left behind"
    );
    for (signal, patience) in [(Signal::INT, patience), (Signal::QUIT, patience / 2), (Signal::KILL, patience / 2)] {
        // A frozen process acts on no signal but KILL until it is thawed.
        let _ = kill_process(process, signal);
        let _ = kill_process(process, Signal::CONT);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if test_kill_process(process).is_err() || !serves(process.as_raw_nonzero().get().unsigned_abs(), data) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }
    Err(EmbeddedError::Leftover { pid: process.as_raw_nonzero().get().unsigned_abs() })
}

/// Whether `process` is a server on `data`: a postmaster works in its data directory. Numbers are reused, so the number alone
/// says nothing.
fn serves(process: u32, data: &Path) -> bool {
    let here = fs::read_link(format!("/proc/{process}/cwd"));
    here.is_ok_and(|here| data.canonicalize().is_ok_and(|data| data == here))
}

fn children_of(parent: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn pid(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().and_then(Pid::from_raw)
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
