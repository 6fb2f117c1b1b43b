//! Keeps this replica's view of rights, links and the revocation list as fresh as the database.
//!
//! ```text
//! connect ─ LISTEN ─ read everything ─▶ fresh ─┬─ announcement ─▶ read what changed ─▶ cache, registry
//!    ▲                                         ├─ heartbeat: the change counter is ahead ─▶ read everything
//!    └── back off ◀── lost: rights unknown ◀───┴─ no answer in time, or the connection ended
//! ```
//!
//! Announcements of authority carry the change counter. They arrive in the order of the commits and without gaps, so that a
//! version counts as reached only when everything up to it was read; a gap, or anything that cannot be read, means reading
//! everything again. The heartbeat is the second path: it finds a connection that is dead without knowing it, and changes
//! that were not announced. Invariant: whatever ends the feed, a panic included, leaves the cache refusing everything.

use std::time::Duration;

use mosaic_actors::domain::identity::{GrantId, UserId};
use mosaic_actors::grant_cache::GrantCacheHandle;
use mosaic_actors::peer_registry::PeerRegistryHandle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use super::grants::{beat_with, load_all_with, load_of_subject_with, load_with};
use super::pool::{ConnectError, DatabaseUrl, PoolOptions, SqlCause};

mod announcements;

use announcements::{Announcements, Batch, drive};

/// Who is told.
#[derive(Clone)]
pub struct FeedSinks {
    pub grants: GrantCacheHandle,
    pub links: PeerRegistryHandle,
    /// Counts up whenever the revocation list may have changed; its readers load it again.
    pub crl: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy)]
pub struct FeedLimits {
    /// Between two questions for the change counter.
    pub heartbeat: Duration,
    /// No answer within this: rights are unknown.
    pub answer: Duration,
    /// First and longest pause before connecting again.
    pub reconnect: Duration,
    pub reconnect_max: Duration,
    /// For reading everything right after connecting; nothing is served meanwhile.
    pub load: Duration,
}

/// The running feed. Dropping it ends the feed.
pub struct AuthorityFeed {
    task: JoinHandle<()>,
}

/// Starts the feed on the current runtime; it must be one whose threads are never blocked, because its timeouts decide
/// whether this replica may serve. Connects in the background: wait for [`GrantCacheHandle::snapshot`] to be fresh.
#[must_use]
pub fn start(database: DatabaseUrl, options: PoolOptions, sinks: FeedSinks, limits: FeedLimits) -> AuthorityFeed {
    let feed = Feed { database, options, sinks, limits };
    AuthorityFeed { task: tokio::spawn(feed.run()) }
}

impl AuthorityFeed {
    /// Ends the feed and waits for it; from then on the cache refuses everything.
    pub async fn stop(mut self) {
        self.task.abort();
        // It was cancelled just now: nothing to learn from its end.
        let _ended = (&mut self.task).await;
    }
}

impl Drop for AuthorityFeed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Feed {
    database: DatabaseUrl,
    options: PoolOptions,
    sinks: FeedSinks,
    limits: FeedLimits,
}

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{}", SqlCause(.0))]
    Sql(#[from] tokio_postgres::Error),
    #[error("no answer within {} ms while it was to {doing}", within.as_millis())]
    Silent { doing: &'static str, within: Duration },
    #[error("the connection ended")]
    Ended,
}

impl Feed {
    async fn run(self) {
        let _closes_the_door = self.sinks.grants.feed_guard();
        let mut pause = self.limits.reconnect;
        loop {
            let begun = Instant::now();
            let lost = match self.follow().await {
                Ok(never) => match never {},
                Err(lost) => lost,
            };
            self.sinks.grants.lost();
            // A connection that held for a while was healthy: the next attempt is a first one again.
            if begun.elapsed() > self.limits.reconnect_max {
                pause = self.limits.reconnect;
            }
            tracing::warn!(cause = %lost, retry_in_ms = pause.as_millis(), "lost the news of the database; peers get 503");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.limits.reconnect_max);
        }
    }

    /// Follows one connection until it is lost.
    async fn follow(&self) -> Result<std::convert::Infallible, Lost> {
        let (mut client, connection) = self.database.connect_driven(&self.options).await?;
        let announcements = Announcements::default();
        let mut driver = Driver(tokio::spawn(drive(connection, announcements.clone())));
        // LISTEN before reading, so that no change falls between the two.
        let listen = client.batch_execute("LISTEN mosaic_authority; LISTEN mosaic_links; LISTEN mosaic_crl");
        in_time("listen", self.limits.answer, listen).await?;
        let mut applied = self.read_everything(&mut client, self.limits.load).await?;
        self.sinks.links.reload();
        self.sinks.crl.send_modify(|count| *count += 1);
        tracing::info!(version = applied, "rights are fresh");
        let mut heartbeat = interval(self.limits.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let beat = tokio::select! {
                () = announcements.arrived() => false,
                _ = heartbeat.tick() => true,
                _ = &mut driver.0 => return Err(Lost::Ended),
            };
            if beat {
                let beat = in_time("answer a heartbeat", self.limits.answer, beat_with(&client));
                let (version, database_now) = beat.await?;
                self.sinks.grants.database_clock(database_now);
                applied = self.apply(&mut client, announcements.take(), applied).await?;
                if version > applied {
                    tracing::info!(version, applied, "the change counter is ahead of its announcements");
                    applied = self.read_everything(&mut client, self.limits.answer).await?;
                }
            } else {
                applied = self.apply(&mut client, announcements.take(), applied).await?;
            }
        }
    }

    async fn read_everything(&self, client: &mut Client, within: Duration) -> Result<i64, Lost> {
        let loaded = in_time("read all grants", within, load_all_with(client)).await?;
        let version = loaded.version;
        self.sinks.grants.replace_all(loaded);
        Ok(version)
    }

    /// Brings the cache from `applied` to what the batch announces, and returns where it is.
    async fn apply(&self, client: &mut Client, batch: Batch, applied: i64) -> Result<i64, Lost> {
        if batch.all_links {
            self.sinks.links.reload();
        } else {
            batch.links.iter().for_each(|link| self.sinks.links.link_changed(*link));
        }
        if batch.crl {
            self.sinks.crl.send_modify(|count| *count += 1);
        }
        let Some(authority) = batch.authority else { return Ok(applied) };
        if !authority.follows(applied) {
            return self.read_everything(client, self.limits.answer).await;
        }
        if authority.last <= applied {
            return Ok(applied);
        }
        let changed = in_time("read changed grants", self.limits.answer, async {
            let grants: Vec<GrantId> = authority.grants.iter().copied().collect();
            let users: Vec<UserId> = authority.users.iter().copied().collect();
            let mut changed = load_with(client, &grants).await?;
            changed.extend(load_of_subject_with(client, &users).await?);
            Ok::<_, tokio_postgres::Error>(changed)
        });
        let changed = changed.await?.into_iter().map(|grant| (grant.id, Some(grant))).collect();
        self.sinks.grants.put_all(changed, authority.last);
        Ok(authority.last)
    }
}

/// The task that moves the connection; it ends with the value.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn in_time<T>(
    doing: &'static str,
    within: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Lost> {
    timeout(within, work).await.map_err(|_| Lost::Silent { doing, within })?.map_err(Lost::Sql)
}

#[cfg(test)]
mod tests;
