//! The lanes in which a writer numbers its events.
//!
//! A lane has one append under way at most, and the next one begins where the last committed one ended. So a lane has no gaps,
//! whatever fails: an append that certainly failed leaves its numbers to the next; one whose fate is unknown (a time-out, a lost
//! connection) ends its lane, and the writer goes on in a new one. A hole in a lane is therefore never an accident.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// A lane is given up after so long, so that a sealer need not look at old ones for ever.
pub(super) const LANE_AGE: Duration = Duration::from_secs(86_400);

/// This process's lanes.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Lane>,
    /// How many events of each lane are known to be committed and not known to be sealed: what must be there.
    committed: HashMap<Uuid, i64>,
}

/// The right to append to a lane. Dropping it ends the lane.
pub(super) struct Lane {
    pub(super) id: Uuid,
    /// Number of the next event.
    pub(super) next: i64,
    opened: Instant,
}

impl Lanes {
    /// A lane nobody else appends to.
    pub(super) fn take(&self) -> Lane {
        let mut state = self.lock();
        state.idle.retain(|lane| lane.opened.elapsed() < LANE_AGE);
        state.idle.pop().unwrap_or_else(|| Lane { id: Uuid::now_v7(), next: 1, opened: Instant::now() })
    }

    /// The next `events` numbers are used up for good.
    pub(super) fn committed(&self, mut lane: Lane, events: usize) {
        lane.next += i64::try_from(events).unwrap_or(i64::MAX);
        let mut state = self.lock();
        state.committed.insert(lane.id, lane.next - 1);
        state.idle.push(lane);
    }

    /// Nothing of the append is there, for certain.
    pub(super) fn rolled_back(&self, lane: Lane) {
        self.lock().idle.push(lane);
    }

    /// The last number of each lane that must be in the log and is not known to be sealed.
    pub(super) fn claims(&self) -> Vec<(Uuid, i64)> {
        self.lock().committed.iter().map(|(lane, last)| (*lane, *last)).collect()
    }

    /// Everything of a lane up to `last` is sealed.
    pub(super) fn sealed(&self, lane: Uuid, last: i64) {
        let mut state = self.lock();
        if state.committed.get(&lane).is_some_and(|claimed| *claimed <= last) {
            state.committed.remove(&lane);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Held for a few instructions that do not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_has_one_append_at_a_time_and_no_gaps() {
        let lanes = Lanes::default();
        let (one, ended) = (lanes.take(), lanes.take().id);
        assert_ne!(one.id, ended);
        let id = one.id;
        lanes.committed(one, 3);
        let again = lanes.take();
        assert_eq!((again.id, again.next), (id, 4));
        lanes.rolled_back(again);
        let again = lanes.take();
        assert_eq!((again.id, again.next), (id, 4), "what was rolled back took no number");
        assert!(![id, ended].contains(&lanes.take().id), "an ended lane is not used again");
    }

    #[test]
    fn what_is_committed_is_claimed_until_it_is_sealed() {
        let lanes = Lanes::default();
        let lane = lanes.take();
        let id = lane.id;
        lanes.committed(lane, 5);
        assert_eq!(lanes.claims(), [(id, 5)]);
        lanes.sealed(id, 4);
        assert_eq!(lanes.claims(), [(id, 5)]);
        lanes.sealed(id, 5);
        assert_eq!(lanes.claims(), []);
    }
}
