//! The owner side's grants, as one snapshot that readers take without asking anybody.
//!
//! ```text
//! authority feed ──replace_all / put / lost──▶ writer ──▶ snapshot (arc-swap) ──▶ every request
//!                                                └─────▶ news (watch) ─────────▶ `reached`, scope evaluator
//! ```
//!
//! There is no mailbox on purpose: a queue between a revocation and its effect could fill up, or lag. A change is in force
//! when the call that brought it returns. Writers are serialised by a lock that no reader touches.
//!
//! Invariants: a snapshot that is not fresh opens nothing; only a complete reading makes it fresh; an older reading of a
//! grant never replaces a newer one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::domain::grant::Grant;
use crate::domain::identity::GrantId;
use crate::ports::clock::Clock;
use crate::ports::grant_store::LoadedGrants;

#[cfg(test)]
mod tests;

/// Two readings of the database's clock that differ by less are one: not worth a new snapshot.
const CLOCK_TOLERANCE: time::Duration = time::Duration::milliseconds(100);

/// What is known about grants at one moment.
#[derive(Debug, Clone)]
pub struct GrantSnapshot {
    /// Whether the connection to the database's news is intact. If not, nothing may be allowed on this snapshot.
    pub fresh: bool,
    /// The change counter up to which all changes are included.
    pub version: i64,
    pub grants: HashMap<GrantId, Arc<Grant>>,
    /// The database's clock minus this machine's, so that a grant ends on all replicas alike.
    pub clock_offset: time::Duration,
}

impl GrantSnapshot {
    /// The database's time, as far as this node can tell.
    #[must_use]
    pub fn now(&self, clock: &dyn Clock) -> OffsetDateTime {
        clock.now().saturating_add(self.clock_offset)
    }
}

/// What followers of the cache are told: that something changed, and how far the snapshot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) fresh: bool,
    pub(crate) version: i64,
    /// Grows with every published snapshot, also with those that keep the version.
    pub(crate) edition: u64,
}

/// The grants of this site. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct GrantCacheHandle {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: ArcSwap<GrantSnapshot>,
    writer: Mutex<Writer>,
    news: watch::Sender<News>,
    clock: Arc<dyn Clock>,
}

/// What only writers need.
#[derive(Default)]
struct Writer {
    /// At which change counter each grant was last read, absent ones included.
    read_at: HashMap<GrantId, i64>,
}

/// An empty cache that refuses everything until the first [`GrantCacheHandle::replace_all`].
#[must_use]
pub fn start(clock: Arc<dyn Clock>) -> GrantCacheHandle {
    let empty = GrantSnapshot { fresh: false, version: 0, grants: HashMap::new(), clock_offset: time::Duration::ZERO };
    GrantCacheHandle {
        shared: Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(empty),
            writer: Mutex::default(),
            news: watch::Sender::new(News { fresh: false, version: 0, edition: 0 }),
            clock,
        }),
    }
}

impl GrantCacheHandle {
    /// Takes a complete reading; from now on the snapshot is fresh.
    pub fn replace_all(&self, loaded: LoadedGrants) {
        let mut writer = self.writer();
        writer.read_at = loaded.grants.iter().map(|grant| (grant.id, loaded.version)).collect();
        self.publish(GrantSnapshot {
            fresh: true,
            version: loaded.version,
            clock_offset: loaded.database_now - self.shared.clock.now(),
            grants: loaded.grants.into_iter().map(|grant| (grant.id, Arc::new(grant))).collect(),
        });
        drop(writer);
    }

    /// Takes one grant, or its absence, as read at change counter `version`.
    pub fn put(&self, id: GrantId, grant: Option<Grant>, version: i64) {
        self.put_all(vec![(id, grant)], version);
    }

    /// Takes several grants that were read together: `version` counts as reached only with the last of them.
    ///
    /// Ignored while the snapshot is not fresh: the complete reading that must follow includes these changes.
    pub fn put_all(&self, changes: Vec<(GrantId, Option<Grant>)>, version: i64) {
        let mut writer = self.writer();
        let current = self.shared.snapshot.load_full();
        if !current.fresh {
            return;
        }
        let mut next = GrantSnapshot::clone(&current);
        for (id, grant) in changes {
            if writer.read_at.get(&id).is_some_and(|read_at| *read_at > version) {
                continue;
            }
            writer.read_at.insert(id, version);
            match grant {
                Some(grant) => next.grants.insert(id, Arc::new(grant)),
                None => next.grants.remove(&id),
            };
        }
        next.version = next.version.max(version);
        self.publish(next);
    }

    /// Takes a reading of the database's clock. This machine's may have been set in the meantime; a grant ends by the database's.
    pub fn database_clock(&self, database_now: OffsetDateTime) {
        let writer = self.writer();
        let current = self.shared.snapshot.load_full();
        let clock_offset = database_now - self.shared.clock.now();
        if current.fresh && (clock_offset - current.clock_offset).abs() > CLOCK_TOLERANCE {
            self.publish(GrantSnapshot { clock_offset, ..GrantSnapshot::clone(&current) });
        }
        drop(writer);
    }

    /// The news from the database stopped: nothing is allowed until the next [`Self::replace_all`].
    pub fn lost(&self) {
        let writer = self.writer();
        let mut next = GrantSnapshot::clone(&self.shared.snapshot.load());
        if next.fresh {
            next.fresh = false;
            self.publish(next);
        }
        drop(writer);
    }

    /// Calls [`Self::lost`] when dropped: held by whoever feeds the cache, so that its end, also by a panic, closes the door.
    #[must_use]
    pub fn feed_guard(&self) -> FeedGuard {
        FeedGuard { cache: self.clone() }
    }

    /// The snapshot of this moment: no lock, no waiting.
    #[must_use]
    pub fn snapshot(&self) -> Arc<GrantSnapshot> {
        self.shared.snapshot.load_full()
    }

    /// Waits until a fresh snapshot includes change `version`; false when `deadline` comes first.
    pub async fn reached(&self, version: i64, deadline: Instant) -> bool {
        let mut news = self.shared.news.subscribe();
        let arrived = news.wait_for(|news| news.fresh && news.version >= version);
        matches!(timeout_at(deadline, arrived).await, Ok(Ok(_)))
    }

    /// Tells whenever a new snapshot was published.
    #[must_use]
    pub fn changes(&self) -> GrantChanges {
        GrantChanges { news: self.news() }
    }

    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.shared.news.subscribe()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only with the writer's lock held.
    fn publish(&self, snapshot: GrantSnapshot) {
        let (fresh, version) = (snapshot.fresh, snapshot.version);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.news.send_modify(|news| *news = News { fresh, version, edition: news.edition + 1 });
    }
}

/// See [`GrantCacheHandle::changes`].
#[derive(Debug, Clone)]
pub struct GrantChanges {
    news: watch::Receiver<News>,
}

impl GrantChanges {
    /// Waits for a snapshot newer than the last one that this told of; several in the meantime are one. Never returns once the cache
    /// is gone.
    pub async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// See [`GrantCacheHandle::feed_guard`].
pub struct FeedGuard {
    cache: GrantCacheHandle,
}

impl Drop for FeedGuard {
    fn drop(&mut self) {
        self.cache.lost();
    }
}
