//! What replicas of a site count together, in Redis or Valkey: the requests of each grant.
//!
//! ```text
//! request ─▶ own count ─▶ connection there? ─ no ──────────────────────────▶ the own count decides
//!                               │ yes
//!                               ▼
//!                     one script, `redis_answer_ms` ─ late or failed ─▶ connection dropped, the own count decides
//! keeper: dial ─ try the script, as quick as for a request ─▶ connection there ─ lost, or a look fails ─▶ pause `redis_retry_ms` ─▶ dial
//! ```
//!
//! A replica always counts by itself too, and that count comes first: what it refuses costs no round trip, and when Redis is gone
//! its buckets are not full. So a Redis that is down, frozen or full lets nobody through without a limit, and makes nobody
//! wait but the requests that were asking when it went; a site of n replicas then lets through n times the rate, and says so.
//! One connection for all: commands of many requests travel together, and a pool would ask before each whether it lives.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mosaic_actors::domain::grant::InboundLimits;
use mosaic_actors::domain::identity::{GrantId, SiteName};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Script, ServerErrorKind};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::Limits;
use crate::telemetry::metrics::Metrics;

mod server_probe;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use server_probe::{ServerLook, look};

/// Dialling and logging in, and each look whether the server still answers. No request waits for it.
const DIAL: Duration = Duration::from_secs(2);

const MICROSECONDS: u64 = 1_000_000;

/// Where Redis is. Shows neither user nor password.
#[derive(Clone)]
pub struct RedisUrl {
    client: Client,
    shown: String,
    host: String,
    encrypted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    #[error("it is no URL")]
    Shape,
    #[error("it does not start with redis:// or rediss://")]
    Scheme,
    #[error("it names no host")]
    Host,
    #[error("its path is not the number of a database")]
    Database,
}

/// Why Redis does not count. None of the texts holds what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisFailure {
    #[error("it cannot be reached: {0}")]
    Unreachable(Box<str>),
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("it wants a password, or another one")]
    Login,
    #[error("its user may not run what counts: EVALSHA, EVAL, TIME, GET and SET on keys mosaic:*")]
    NotAllowed,
    #[error("it takes no writes: it is a replica, or its disk or memory is full")]
    ReadOnly,
    #[error("it answers {0}")]
    Answer(Box<str>),
}

impl RedisUrl {
    pub fn parse(text: &SecretString) -> Result<Self, RedisUrlError> {
        let url = Url::parse(text.expose_secret()).map_err(|_| RedisUrlError::Shape)?;
        let encrypted = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisUrlError::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(RedisUrlError::Host)?.to_owned();
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err(RedisUrlError::Database);
        }
        let shown = format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(6379));
        // The library's own words could repeat the URL.
        let client = Client::open(text.expose_secret()).map_err(|_| RedisUrlError::Shape)?;
        Ok(Self { client, shown, host, encrypted })
    }

    /// Whether what is sent, the password included, is encrypted and the server verified.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Whether the connection stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisFailure> {
        // Ours are shorter, and each use has its own.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        within(DIAL, self.client.get_multiplexed_async_connection_with_config(&config)).await
    }
}

/// Scheme, host and port.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisUrl").field(&self.shown).finish()
    }
}

/// What all replicas together say to one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedVerdict {
    Passed,
    Refused { retry_after: Duration },
}

/// The shared count. Clones share one connection.
#[derive(Clone)]
pub struct SharedLimits {
    inner: Arc<Inner>,
}

struct Inner {
    url: RedisUrl,
    counter: Counter,
    answer: Duration,
    retry: Duration,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// A request found the connection broken.
    lost: Notify,
    /// Whether the last change was told, so that a long outage is one line in the log.
    told_down: AtomicBool,
    metrics: Arc<Metrics>,
}

impl SharedLimits {
    /// Dials in the background, and keeps at it until `stop`. Until Redis answers, every replica counts by itself.
    #[must_use]
    pub fn start(
        url: RedisUrl,
        site: &SiteName,
        limits: &Limits,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let inner = Arc::new(Inner {
            url,
            counter: Counter::of(site),
            answer: limits.redis_answer,
            retry: limits.redis_retry,
            connection: ArcSwapOption::empty(),
            lost: Notify::new(),
            told_down: AtomicBool::new(false),
            metrics,
        });
        actix_rt::spawn(keep(Arc::clone(&inner), stop));
        Self { inner }
    }

    /// Whether requests are counted together now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.connection.load().is_some()
    }

    /// Counts one request of a grant; `None` when Redis does not say in time and this replica's own count has to do.
    pub async fn count(&self, grant: GrantId, limits: &InboundLimits) -> Option<SharedVerdict> {
        let inner = &self.inner;
        let verdict = match inner.connection.load_full() {
            None => None,
            Some(connection) => {
                let counted = inner.counter.count(&connection, grant, limits, inner.answer).await;
                counted.inspect_err(|failure| inner.note_failure(&connection, failure)).ok()
            }
        };
        if verdict.is_none() {
            inner.metrics.limit_fallback();
        }
        verdict
    }
}

impl Inner {
    /// What the server refuses in words may be about one grant's key, as when something else was written there; the keeper looks whether
    /// it is about all of them.
    fn note_failure(&self, connection: &Arc<MultiplexedConnection>, failure: &RedisFailure) {
        match failure {
            RedisFailure::Answer(_) => self.lost.notify_one(),
            _ => self.drop_connection(connection, failure),
        }
    }

    /// Unless it is another one already.
    fn drop_connection(&self, broken: &Arc<MultiplexedConnection>, failure: &RedisFailure) {
        let before = self.connection.compare_and_swap(&Some(Arc::clone(broken)), None);
        if before.as_ref().is_some_and(|current| Arc::ptr_eq(current, broken)) {
            self.tell_down(failure);
            self.lost.notify_one();
        }
    }

    fn tell_down(&self, failure: &RedisFailure) {
        self.metrics.shared_limits(false);
        if !self.told_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(redis = %self.url, %failure, "limits are counted by every replica for itself until Redis is back");
        }
    }

    fn tell_up(&self) {
        self.metrics.shared_limits(true);
        if self.told_down.swap(false, Ordering::Relaxed) {
            tracing::info!(redis = %self.url, "limits are counted by all replicas together again");
        }
    }

    /// A connection over which the script ran, and then in a request's time: a server that is too slow for requests must not be found
    /// up by the keeper and down by the next request, for ever. The first run may have to load the script.
    async fn dial(&self) -> Result<Arc<MultiplexedConnection>, RedisFailure> {
        let connection = Arc::new(self.url.connect().await?);
        self.counter.try_out(&connection, DIAL).await?;
        self.counter.try_out(&connection, self.answer).await?;
        Ok(connection)
    }
}

async fn keep(inner: Arc<Inner>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = keep_one(&inner) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(inner.retry) => {}
        }
    }
}

/// One connection, from the dial to its end.
async fn keep_one(inner: &Inner) {
    let connection = match inner.dial().await {
        Ok(connection) => connection,
        Err(failure) => return inner.tell_down(&failure),
    };
    inner.connection.store(Some(Arc::clone(&connection)));
    inner.tell_up();
    loop {
        // The news may be of an earlier connection: what is stored decides.
        tokio::select! {
            () = inner.lost.notified() => {}
            () = tokio::time::sleep(inner.retry) => {}
        }
        if !inner.connection.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, &connection)) {
            return;
        }
        if let Err(failure) = inner.counter.try_out(&connection, DIAL).await {
            inner.drop_connection(&connection, &failure);
            return;
        }
    }
}

/// The script and the names of its keys.
struct Counter {
    script: Script,
    prefix: String,
}

impl Counter {
    fn of(site: &SiteName) -> Self {
        Self { script: Script::new(include_str!("shared_limits/count.lua")), prefix: format!("mosaic:{site}") }
    }

    async fn count(
        &self,
        connection: &MultiplexedConnection,
        grant: GrantId,
        limits: &InboundLimits,
        answer: Duration,
    ) -> Result<SharedVerdict, RedisFailure> {
        let key = format!("{}:rate:{grant}", self.prefix);
        self.run(connection, &key, limits.requests_per_second, limits.burst, answer).await
    }

    /// The same script on a key of nobody: what cannot run must not be found out by a request.
    async fn try_out(&self, connection: &MultiplexedConnection, answer: Duration) -> Result<(), RedisFailure> {
        self.run(connection, &format!("{}:probe", self.prefix), 100_000, 1_000_000, answer).await.map(drop)
    }

    async fn run(
        &self,
        connection: &MultiplexedConnection,
        key: &str,
        per_second: u32,
        burst: u32,
        answer: Duration,
    ) -> Result<SharedVerdict, RedisFailure> {
        let mut invocation = self.script.prepare_invoke();
        let (interval, burst) = (MICROSECONDS / u64::from(per_second.max(1)), burst.max(1));
        invocation.key(key).arg(interval).arg(burst);
        let mut connection = connection.clone();
        let (passed, wait): (u8, u64) = within(answer, invocation.invoke_async(&mut connection)).await?;
        Ok(match passed {
            1 => SharedVerdict::Passed,
            // Whatever the server says: no bucket takes longer to fill.
            _ => SharedVerdict::Refused { retry_after: Duration::from_micros(wait.min(interval * u64::from(burst))) },
        })
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisFailure> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| failure(&error)),
        Err(_) => Err(RedisFailure::Silent(limit)),
    }
}

fn failure(error: &RedisError) -> RedisFailure {
    let code = error.code().unwrap_or_default();
    match error.kind() {
        ErrorKind::AuthenticationFailed => RedisFailure::Login,
        _ if matches!(code, "NOAUTH" | "WRONGPASS") => RedisFailure::Login,
        ErrorKind::Server(ServerErrorKind::NoPerm) => RedisFailure::NotAllowed,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => RedisFailure::ReadOnly,
        _ if matches!(code, "NOPERM") => RedisFailure::NotAllowed,
        _ if matches!(code, "READONLY" | "MISCONF" | "OOM") => RedisFailure::ReadOnly,
        ErrorKind::Io => RedisFailure::Unreachable(io_reason(error)),
        // A code is a word of the server's; its text may quote a command.
        _ if code.is_empty() => RedisFailure::Answer("something that is no count".into()),
        _ => RedisFailure::Answer(code.into()),
    }
}

fn io_reason(error: &RedisError) -> Box<str> {
    let reason = if error.is_connection_refusal() {
        "the connection is refused"
    } else if error.is_timeout() {
        "the connection timed out"
    } else if error.is_connection_dropped() {
        "the connection ended"
    } else {
        "the address cannot be resolved or dialled, or TLS failed"
    };
    reason.into()
}
