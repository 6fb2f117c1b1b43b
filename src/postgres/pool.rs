//! Connections to the node's database: pools from a URL, and what their failures mean.
//!
//! Sessions and peers have pools of their own, so that peers can never starve local users. A pool dials lazily; making one
//! reads the URL and the root certificates, nothing else.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Limits, PeerConnections};

mod threads;

pub use threads::ThreadPools;

/// A pooled connection that rested longer than this is asked a question before it is handed out. One that was used a
/// moment ago is not: the round trip would double the cost of a small read, and a closed socket is noticed without it.
const CHECK_AFTER_IDLE: Duration = Duration::from_secs(1);

/// How one pool behaves.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Most connections.
    pub max_size: usize,
    /// Longest wait for a free connection.
    pub wait: Duration,
    /// Longest time for dialling, TLS and login.
    pub create: Duration,
    /// Longest time for the check of a rested connection.
    pub recycle: Duration,
    /// The server ends a statement after this long. Callers with a deadline of their own set less.
    pub statement_timeout: Duration,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
}

impl PoolOptions {
    /// For sessions, admins and housekeeping.
    #[must_use]
    pub fn sessions(limits: &Limits) -> Self {
        Self::named("mosaic sessions", limits.sessions_pool, limits)
    }

    /// For peers.
    #[must_use]
    pub fn peers(limits: &Limits) -> Self {
        Self::named("mosaic peers", limits.peers_pool, limits)
    }

    /// For one connection beside the pools; `name` is what `pg_stat_activity` shows.
    #[must_use]
    pub fn single(name: &str, limits: &Limits) -> Self {
        Self::named(name, 1, limits)
    }

    fn named(name: &str, max_size: usize, limits: &Limits) -> Self {
        Self {
            max_size,
            wait: limits.pool_wait,
            create: limits.database_connect,
            recycle: limits.database_check,
            statement_timeout: limits.statement,
            application_name: name.to_owned(),
        }
    }
}

/// One connection, with the default limits.
impl Default for PoolOptions {
    fn default() -> Self {
        Self::single("mosaic", &Limits::default())
    }
}

/// The pools of a node: sessions and peers apart, and of each the connections that only read apart from the others.
#[derive(Clone)]
pub struct Pools {
    /// Local sessions, admins and the node's own housekeeping.
    pub sessions: Pool,
    /// What a peer's request changes: its certificates.
    pub peers: Pool,
    /// Events of peers' requests: for each thread that serves them, and for everybody else.
    pub peer_events: ThreadPools,
    /// Rows for local sessions and admins.
    pub session_rows: ThreadPools,
    /// Rows for peers: for each thread that serves them.
    pub peer_rows: ThreadPools,
}

impl Pools {
    /// All pools on the database of `url`, for as many `threads` as serve peers. Local rows have half as many connections as the
    /// other work of sessions, beside it; those of peers are divided by [`PeerConnections`].
    pub fn new(
        url: &DatabaseUrl,
        sessions: &PoolOptions,
        peers: &PoolOptions,
        threads: usize,
    ) -> Result<Self, DatabaseUrlError> {
        let part = |options: &PoolOptions, max_size: usize, name: &str| {
            let application_name = format!("{}{name}", options.application_name);
            url.pool(&PoolOptions { max_size: max_size.max(1), application_name, ..options.clone() })
        };
        let parts = |count: usize, max_size: usize, name: &str| {
            let pools = (0..count).map(|_| part(peers, max_size, name)).collect::<Result<_, _>>();
            pools.map(ThreadPools::new)
        };
        let PeerConnections { threads, changes, events, rows } = PeerConnections::of(peers.max_size, threads);
        Ok(Self {
            sessions: part(sessions, sessions.max_size, "")?,
            peers: part(peers, changes, "")?,
            peer_events: parts(threads + 1, events, " (events)")?,
            session_rows: part(sessions, Limits::row_connections(sessions.max_size), " (rows)")?.into(),
            peer_rows: parts(threads, rows, " (rows)")?,
        })
    }

    /// Closes all: waiting and later callers get [`FaultKind::Unavailable`].
    pub fn close(&self) {
        self.sessions.close();
        self.peers.close();
        [&self.peer_events, &self.session_rows, &self.peer_rows]
            .into_iter()
            .flat_map(ThreadPools::all)
            .for_each(Pool::close);
    }
}

/// Whether and how the connection is encrypted. There is no mode that quietly falls back to plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// `sslmode=disable`, or none given.
    Off,
    /// `sslmode=require`, `verify-ca` or `verify-full`: chain and host name are always verified, against this file of PEM
    /// certificates (`sslrootcert`) or the system's roots.
    Verified { roots: Option<PathBuf> },
}

/// Where the database is: `postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=/path`.
/// Neither `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: tokio_postgres::Config,
    tls: TlsMode,
    text: SecretString,
}

/// What is wrong with a database URL. Texts never repeat the URL.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error("it does not start with postgresql:// or postgres://")]
    Scheme,
    #[error("it cannot be read: {0}")]
    Malformed(String),
    #[error("it names no database")]
    NoDatabase,
    #[error("it names no user")]
    NoUser,
    #[error("sslmode is '{0}'; known are disable, require, verify-ca and verify-full")]
    SslMode(String),
    #[error("sslmode=prefer and sslmode=allow fall back to plain text without a word; say verify-full, or disable")]
    Opportunistic,
    #[error("the root certificates in {} cannot be read: {reason}", file.display())]
    Roots { file: PathBuf, reason: String },
    #[error("the system has no root certificates; name a file with sslrootcert")]
    NoSystemRoots,
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl DatabaseUrl {
    /// Parses `url`. Multiple hosts (`h1:5432,h2:5432`) and `target_session_attrs` work as in libpq.
    pub fn parse(url: &SecretString) -> Result<Self, DatabaseUrlError> {
        let text = url.expose_secret();
        if !["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(DatabaseUrlError::Scheme);
        }
        let (plain, tls) = take_tls(text)?;
        let mut config =
            tokio_postgres::Config::from_str(&plain).map_err(|e| DatabaseUrlError::Malformed(cause(&e)))?;
        if config.get_user().is_none_or(str::is_empty) {
            return Err(DatabaseUrlError::NoUser);
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(DatabaseUrlError::NoDatabase);
        }
        config.ssl_mode(if tls == TlsMode::Off { SslMode::Disable } else { SslMode::Require });
        Ok(Self { config, tls, text: url.clone() })
    }

    /// The URL as it was given, password included: for child processes and for people who asked for it.
    #[must_use]
    pub fn expose(&self) -> &SecretString {
        &self.text
    }

    #[must_use]
    pub fn tls(&self) -> &TlsMode {
        &self.tls
    }

    /// Every host is a Unix socket or a loopback address: nothing on the network can listen in.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        })
    }

    /// A pool that dials when it is first used.
    pub fn pool(&self, options: &PoolOptions) -> Result<Pool, DatabaseUrlError> {
        let config = self.config_for(options);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match self.connector()? {
            Some(tls) => Manager::from_config(config, tls, recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        let (check, settings) = (options.recycle, settings_of(options));
        Pool::builder(manager)
            .max_size(options.max_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(options.wait))
            .create_timeout(Some(options.create))
            .recycle_timeout(Some(options.recycle))
            .post_create(Hook::async_fn(move |client, _| {
                let settings = settings.clone();
                Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
            }))
            .pre_recycle(Hook::async_fn(move |client, metrics| {
                let rested = metrics.last_used() > CHECK_AFTER_IDLE;
                Box::pin(async move { if rested { answers(client, check).await } else { Ok(()) } })
            }))
            .build()
            .map_err(|e| DatabaseUrlError::Malformed(e.to_string()))
    }

    /// A connection outside the pools, for `LISTEN`, migrations and probes. Its driver runs as a task of its own and ends
    /// with the connection.
    pub async fn connect(&self, options: &PoolOptions) -> Result<tokio_postgres::Client, ConnectError> {
        let (client, driver) = self.dial(options).await?;
        tokio::spawn(driver);
        client.batch_execute(&settings_of(options)).await?;
        Ok(client)
    }

    /// Like [`Self::connect`], but the caller drives the connection, and so sees its notifications.
    /// The driver of a connection with TLS and that of one without are different types, hence the enum.
    pub async fn connect_driven(
        &self,
        options: &PoolOptions,
    ) -> Result<(tokio_postgres::Client, DrivenConnection), ConnectError> {
        let config = self.config_for(options);
        let dial = async {
            Ok::<_, ConnectError>(match self.connector()? {
                Some(tls) => {
                    let (client, connection) = config.connect(tls).await?;
                    (client, DrivenConnection::Tls(Box::new(connection)))
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    (client, DrivenConnection::Plain(Box::new(connection)))
                }
            })
        };
        tokio::time::timeout(options.create, dial).await.map_err(|_| ConnectError::TimedOut(options.create))?
    }

    async fn dial(
        &self,
        options: &PoolOptions,
    ) -> Result<(tokio_postgres::Client, impl Future<Output = ()> + Send + 'static), ConnectError> {
        let (client, mut connection) = self.connect_driven(options).await?;
        let driver = async move {
            while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if let Err(error) = message {
                    tracing::debug!(error = %SqlCause(&error), "a database connection ended");
                    return;
                }
            }
        };
        Ok((client, driver))
    }

    fn config_for(&self, options: &PoolOptions) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        config.application_name(&options.application_name);
        config.connect_timeout(options.create);
        config.tcp_user_timeout(options.statement_timeout);
        config
    }

    pub(crate) fn connector(&self) -> Result<Option<MakeRustlsConnect>, DatabaseUrlError> {
        let TlsMode::Verified { roots } = &self.tls else { return Ok(None) };
        let roots = match roots {
            Some(file) => roots_from(file)?,
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| DatabaseUrlError::Tls(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(MakeRustlsConnect::new(config)))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl").field("at", &self.to_string()).field("tls", &self.tls).finish()
    }
}

/// Host, port and database; no user, no password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => {
                    let port = ports.get(index).or_else(|| ports.first()).copied().unwrap_or(5432);
                    write!(f, "{separator}{name}:{port}")?;
                }
                Host::Unix(directory) => write!(f, "{separator}{}", directory.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

/// A connection whose driver the caller polls.
pub enum DrivenConnection {
    Plain(Box<tokio_postgres::Connection<Socket, tokio_postgres::tls::NoTlsStream>>),
    Tls(Box<tokio_postgres::Connection<Socket, TlsStreamOf>>),
}

type TlsStreamOf = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;

impl DrivenConnection {
    /// The next notice or notification; `None` when the connection ended in order. Must be polled for the client to move.
    pub fn poll_message(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>> {
        match self {
            Self::Plain(connection) => connection.poll_message(context),
            Self::Tls(connection) => connection.poll_message(context),
        }
    }
}

/// Why a connection outside the pools could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Url(#[from] DatabaseUrlError),
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("{}", SqlCause(.0))]
    Sql(#[from] tokio_postgres::Error),
}

/// Turns a failure of the database into a [`Fault`] for the caller and a log line for the operator.
pub trait OrFault<T> {
    /// `doing` says what was tried, for the log: "read the grants".
    fn or_fault(self, doing: &'static str) -> Result<T, Fault>;
}

impl<T> OrFault<T> for Result<T, tokio_postgres::Error> {
    fn or_fault(self, doing: &'static str) -> Result<T, Fault> {
        self.map_err(|error| sql_fault(doing, &error))
    }
}

impl<T> OrFault<T> for Result<T, PoolError> {
    fn or_fault(self, doing: &'static str) -> Result<T, Fault> {
        self.map_err(|error| match &error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                tracing::warn!(doing, cause = %SqlCause(error), "the database cannot be reached");
                Fault::new(FaultKind::Unavailable, Stage::Database)
            }
            PoolError::Timeout(what) => {
                tracing::warn!(doing, timeout = ?what, "no database connection in time");
                Fault::new(FaultKind::Unavailable, Stage::Database)
            }
            other => {
                tracing::warn!(doing, cause = %other, "no database connection");
                Fault::new(FaultKind::Unavailable, Stage::Database)
            }
        })
    }
}

impl<T> OrFault<T> for Result<T, ConnectError> {
    fn or_fault(self, doing: &'static str) -> Result<T, Fault> {
        self.map_err(|error| {
            tracing::warn!(doing, cause = %error, "the database cannot be reached");
            Fault::new(FaultKind::Unavailable, Stage::Database)
        })
    }
}

/// What a SQL failure is to a caller: a statement that ran too long is [`FaultKind::TimedOut`]; a server that is gone,
/// starting, full, read-only or short of something is [`FaultKind::Unavailable`]; a statement that the server refuses is a
/// defect of ours, [`FaultKind::Internal`]. Logged here, because nobody further up knows more.
pub fn sql_fault(doing: &'static str, error: &tokio_postgres::Error) -> Fault {
    let kind = fault_kind(error.code());
    match kind {
        FaultKind::Internal => tracing::error!(doing, cause = %SqlCause(error), "the database refused a statement"),
        FaultKind::TimedOut => tracing::info!(doing, cause = %SqlCause(error), "a statement was cut off"),
        _ => tracing::warn!(doing, cause = %SqlCause(error), "the database is not available"),
    }
    Fault::new(kind, Stage::Database)
}

/// Whether nothing of a statement is there: the server said that it failed, and goes on serving the connection. Of one that the
/// connection did not outlive nobody knows.
pub(crate) fn is_rolled_back(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| said.parsed_severity() == Some(Severity::Error))
}

fn fault_kind(code: Option<&SqlState>) -> FaultKind {
    // Without a code the connection broke. Classes: PostgreSQL manual, appendix A.
    let Some(code) = code else { return FaultKind::Unavailable };
    if *code == SqlState::QUERY_CANCELED {
        return FaultKind::TimedOut;
    }
    match code.code().get(..2) {
        // connection, read only or in recovery, serialisation, insufficient resources, object not in state, operator, system
        Some("08" | "25" | "40" | "53" | "55" | "57" | "58" | "28") => FaultKind::Unavailable,
        _ => FaultKind::Internal,
    }
}

/// A SQL error for the log: its code and names, but no text that the server may have filled with values of a row
/// (classes 22 and 23, and every `DETAIL`).
pub struct SqlCause<'a>(pub &'a tokio_postgres::Error);

impl fmt::Display for SqlCause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = self.0.as_db_error() else { return f.write_str(&cause(self.0)) };
        write!(f, "{} {}", error.severity(), error.code().code())?;
        if !matches!(error.code().code().get(..2), Some("22" | "23")) {
            write!(f, ": {}", error.message())?;
        }
        for (what, name) in [("table", error.table()), ("column", error.column()), ("constraint", error.constraint())] {
            if let Some(name) = name {
                write!(f, ", {what} {name}")?;
            }
        }
        Ok(())
    }
}

/// An error and its sources, on one line: tokio-postgres says "error connecting to server" and hides why one level down.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

async fn answers(client: &deadpool_postgres::ClientWrapper, within: Duration) -> Result<(), HookError> {
    match tokio::time::timeout(within, client.simple_query("")).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(HookError::Backend(error)),
        Err(_) => Err(HookError::message("the connection does not answer")),
    }
}

/// What every connection is told first. Times leave as UTC, and a forgotten transaction cannot hold locks for long. A statement
/// must see what was committed while it waited for a lock, whatever the server's default is: so an event that waited for who
/// retires its master secret is refused (ADR 18).
fn settings_of(options: &PoolOptions) -> String {
    let timeout = options.statement_timeout.as_millis();
    format!(
        "SET statement_timeout = {timeout}; SET idle_in_transaction_session_timeout = 60000; SET TIME ZONE 'UTC';
         SET default_transaction_isolation = 'read committed'"
    )
}

/// Takes the TLS parameters out of the URL: tokio-postgres knows neither the `verify-` modes nor `sslrootcert`.
fn take_tls(text: &str) -> Result<(String, TlsMode), DatabaseUrlError> {
    let Some((base, query)) = text.split_once('?') else { return Ok((text.to_owned(), TlsMode::Off)) };
    let (mut kept, mut mode, mut roots) = (Vec::new(), None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value),
            Some(("sslrootcert", "system")) => roots = None,
            Some(("sslrootcert", value)) => roots = Some(PathBuf::from(percent_decoded(value)?)),
            _ => kept.push(pair),
        }
    }
    let tls = match mode {
        None if roots.is_none() => TlsMode::Off,
        Some("disable") => TlsMode::Off,
        None | Some("require" | "verify-ca" | "verify-full") => TlsMode::Verified { roots },
        Some("prefer" | "allow") => return Err(DatabaseUrlError::Opportunistic),
        Some(other) => return Err(DatabaseUrlError::SslMode(other.escape_debug().to_string())),
    };
    let plain = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    Ok((plain, tls))
}

fn percent_decoded(text: &str) -> Result<String, DatabaseUrlError> {
    let bad = || DatabaseUrlError::Malformed("sslrootcert is not percent-encoded UTF-8".to_owned());
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let hex = text.get(at + 1..at + 3).ok_or_else(bad)?;
            decoded.push(u8::from_str_radix(hex, 16).map_err(|_| bad())?);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).map_err(|_| bad())
}

fn roots_from(file: &Path) -> Result<RootCertStore, DatabaseUrlError> {
    let unreadable = |reason: String| DatabaseUrlError::Roots { file: file.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unreadable(e.to_string()))? {
        let certificate = certificate.map_err(|e| unreadable(e.to_string()))?;
        roots.add(certificate).map_err(|e| unreadable(e.to_string()))?;
    }
    if roots.is_empty() { Err(unreadable("it holds no certificate".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, DatabaseUrlError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(DatabaseUrlError::NoSystemRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests;
