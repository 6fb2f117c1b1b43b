//! Which watches are open: how many each grant has, how many there are, and the end of all of them when the node stops.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mosaic_actors::domain::identity::GrantId;
use mosaic_actors::grant_cache::GrantCacheHandle;
use tokio_util::sync::CancellationToken;

use super::admission::Refused;
use crate::config::Limits;

/// What an asker beyond the number of watches is told to wait: it is as good without, and somebody may leave.
const FULL_WAIT: Duration = Duration::from_secs(60);

/// Bounds of watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchBounds {
    /// At most half of the listener's connections: a watch keeps one, and questions need some too.
    pub all: usize,
    pub per_grant: usize,
    pub heartbeat: Duration,
    /// For the acknowledgement of the last news.
    pub receipt: Duration,
}

impl From<&Limits> for WatchBounds {
    fn from(limits: &Limits) -> Self {
        let connections = limits.federation_connections.saturating_mul(limits.workers_here());
        Self {
            all: limits.watches.min(connections / 2).max(1),
            per_grant: limits.watches_per_grant,
            heartbeat: limits.watch_heartbeat,
            receipt: limits.watch_receipt,
        }
    }
}

/// All open watches of this replica.
pub struct Watches {
    pub(super) grants: GrantCacheHandle,
    pub(super) bounds: WatchBounds,
    open: Mutex<HashMap<GrantId, VecDeque<Arc<Seat>>>>,
    count: AtomicUsize,
    closing: CancellationToken,
}

/// One open watch, as the others see it.
struct Seat {
    taken: CancellationToken,
}

impl Watches {
    #[must_use]
    pub fn new(grants: GrantCacheHandle, bounds: WatchBounds) -> Arc<Self> {
        Arc::new(Self {
            grants,
            bounds,
            open: Mutex::default(),
            count: AtomicUsize::new(0),
            closing: CancellationToken::new(),
        })
    }

    /// Open watches.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Tells every watch that this node stops, and lets no new one in.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// A place for one more watch of this grant; the oldest beyond its number loses its own.
    pub(super) fn enter(self: &Arc<Self>, grant: GrantId) -> Result<Place, Refused> {
        let mut open = self.lock();
        let full = self.count.load(Ordering::Relaxed) >= self.bounds.all;
        let replaces = open.get(&grant).is_some_and(|seats| seats.len() >= self.bounds.per_grant);
        if self.closing.is_cancelled() || (full && !replaces) {
            let limit = u32::try_from(self.bounds.all).unwrap_or(u32::MAX);
            return Err(Refused { retry_after: FULL_WAIT, limit, reason: "too_many_watches" });
        }
        let seat = Arc::new(Seat { taken: CancellationToken::new() });
        let seats = open.entry(grant).or_default();
        if replaces && let Some(oldest) = seats.pop_front() {
            oldest.taken.cancel();
        }
        seats.push_back(Arc::clone(&seat));
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Place { watches: Arc::clone(self), grant, seat })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GrantId, VecDeque<Arc<Seat>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch's place; dropping it makes room.
pub(super) struct Place {
    pub(super) watches: Arc<Watches>,
    grant: GrantId,
    seat: Arc<Seat>,
}

/// Why a watch has to end that nothing is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Closing,
    Superseded,
}

impl Place {
    /// Waits until the place is lost.
    pub(super) async fn lost(&self) -> Leave {
        tokio::select! {
            biased;
            () = self.watches.closing.cancelled() => Leave::Closing,
            () = self.seat.taken.cancelled() => Leave::Superseded,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.watches.lock();
        if let Some(seats) = open.get_mut(&self.grant) {
            seats.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
            if seats.is_empty() {
                open.remove(&self.grant);
            }
        }
        self.watches.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mosaic_actors::grant_cache;

    use super::*;
    use crate::clock::SystemClock;

    fn watches(all: usize, per_grant: usize) -> Arc<Watches> {
        let (heartbeat, receipt) = (Duration::from_secs(15), Duration::from_secs(5));
        Watches::new(grant_cache::start(Arc::new(SystemClock)), WatchBounds { all, per_grant, heartbeat, receipt })
    }

    #[tokio::test]
    async fn one_more_watch_of_a_grant_takes_the_place_of_its_oldest_and_of_no_other() {
        let watches = watches(10, 2);
        let (one, other) = (GrantId::new(), GrantId::new());
        let enter = |grant| watches.enter(grant).unwrap_or_else(|_| panic!("there is room"));
        let (first, second, stranger) = (enter(one), enter(one), enter(other));
        let third = enter(one);
        assert_eq!(first.lost().await, Leave::Superseded);
        for stays in [&second, &third, &stranger] {
            assert!(!stays.seat.taken.is_cancelled());
        }
        drop(first);
        assert_eq!(watches.count(), 3);
        watches.close();
        assert_eq!(second.lost().await, Leave::Closing);
        assert!(watches.enter(other).is_err());
    }

    #[test]
    fn watches_leave_half_of_the_connections_to_questions() {
        let limits = Limits { workers: 1, federation_connections: 100, watches: 4_096, ..Limits::default() };
        assert_eq!(WatchBounds::from(&limits).all, 50);
        assert_eq!(WatchBounds::from(&Limits { watches: 30, ..limits }).all, 30);
        let default = Limits::default();
        let connections = default.federation_connections * default.workers_here();
        assert!(WatchBounds::from(&default).all <= connections / 2);
    }

    #[test]
    fn beyond_their_number_watches_are_refused_until_one_leaves() {
        let watches = watches(2, 2);
        let places: Vec<_> = (0..2).map(|_| watches.enter(GrantId::new())).collect();
        assert!(places.iter().all(Result::is_ok));
        assert_eq!(watches.enter(GrantId::new()).map(|_| ()).unwrap_err().reason, "too_many_watches");
        drop(places);
        assert!(watches.enter(GrantId::new()).is_ok());
        assert!(watches.lock().is_empty() && watches.count() == 0, "nothing is left behind");
    }
}
