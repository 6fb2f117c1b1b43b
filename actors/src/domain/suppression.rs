//! How many of many like events are written down: the first few of a window, by their source and in all; the rest are counted.
//!
//! Whoever makes noise cannot fill the log, and cannot hide others' noise behind his own without that being counted. Nothing here
//! grows: the sources that are remembered are bounded, what comes from beyond them is counted together.

use std::collections::HashMap;
use std::hash::Hash;

/// Bounds of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuppressionLimits {
    /// Events of one source that are written down.
    pub per_source: u32,
    /// Events of all sources that are written down.
    pub in_all: u32,
    /// Sources that are remembered.
    pub sources: usize,
}

/// One window's count.
#[derive(Debug)]
pub struct Suppression<S> {
    limits: SuppressionLimits,
    written: u32,
    sources: HashMap<S, Count>,
    /// Suppressed events of sources that are not remembered.
    others: u64,
}

#[derive(Debug, Default)]
struct Count {
    written: u32,
    suppressed: u64,
}

/// What a closed window leaves to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed<S> {
    /// `None`: all that are not remembered, together.
    pub source: Option<S>,
    pub events: u64,
}

impl<S: Eq + Hash + Ord + Clone> Suppression<S> {
    #[must_use]
    pub fn new(limits: SuppressionLimits) -> Self {
        Self { limits, written: 0, sources: HashMap::new(), others: 0 }
    }

    /// Whether this event is to be written down. If not, it is counted.
    pub fn admits(&mut self, source: &S) -> bool {
        let (in_all, per_source) = (self.limits.in_all, self.limits.per_source);
        let full = self.sources.len() >= self.limits.sources;
        if full && !self.sources.contains_key(source) {
            self.others += 1;
            return false;
        }
        let count = self.sources.entry(source.clone()).or_default();
        let admits = count.written < per_source && self.written < in_all;
        if admits {
            count.written += 1;
            self.written += 1;
        } else {
            count.suppressed += 1;
        }
        admits
    }

    /// An event that was let through could not be written: it is counted after all.
    pub fn could_not(&mut self, source: &S) {
        match self.sources.get_mut(source) {
            Some(count) => count.suppressed += 1,
            None => self.others += 1,
        }
    }

    /// What was told of a window and could not be written is counted on in this one.
    pub fn put_back(&mut self, told: Suppressed<S>) {
        let full = self.sources.len() >= self.limits.sources;
        match told.source {
            Some(source) if !full || self.sources.contains_key(&source) => {
                self.sources.entry(source).or_default().suppressed += told.events;
            }
            _ => self.others += told.events,
        }
    }

    /// Ends the window: what was counted only, by source, and the next window begins.
    pub fn close(&mut self) -> Vec<Suppressed<S>> {
        let mut told: Vec<Suppressed<S>> = self
            .sources
            .drain()
            .filter(|(_, count)| count.suppressed > 0)
            .map(|(source, count)| Suppressed { source: Some(source), events: count.suppressed })
            .collect();
        told.sort_by(|one, other| one.source.cmp(&other.source));
        if self.others > 0 {
            told.push(Suppressed { source: None, events: self.others });
        }
        self.written = 0;
        self.others = 0;
        told
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SuppressionLimits = SuppressionLimits { per_source: 2, in_all: 5, sources: 3 };

    fn suppressed(source: Option<u8>, events: u64) -> Suppressed<u8> {
        Suppressed { source, events }
    }

    #[test]
    fn the_first_of_a_source_are_written_and_the_rest_counted() {
        let mut window = Suppression::new(LIMITS);
        let admitted: Vec<bool> = (0..4).map(|_| window.admits(&7)).collect();
        assert_eq!(admitted, [true, true, false, false]);
        assert!(window.admits(&8), "another source has its own count");
        assert_eq!(window.close(), [suppressed(Some(7), 2)]);
        assert!(window.admits(&7), "the next window begins anew");
        assert_eq!(window.close(), []);
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let mut window = Suppression::new(LIMITS);
        assert!(window.admits(&7));
        window.could_not(&7);
        window.could_not(&9);
        assert_eq!(window.close(), [suppressed(Some(7), 1), suppressed(None, 1)]);
    }

    #[test]
    fn what_is_put_back_is_told_with_the_next_window_within_the_same_bounds() {
        let mut window = Suppression::new(LIMITS);
        for source in 0..4 {
            (0..4).for_each(|_| _ = window.admits(&source));
        }
        let told = window.close();
        let events: u64 = told.iter().map(|suppressed| suppressed.events).sum();
        assert!(window.admits(&9), "another source comes first");
        told.into_iter().for_each(|told| window.put_back(told));
        (0..3).for_each(|_| _ = window.admits(&9));
        let again = window.close();
        assert!(again.len() <= LIMITS.sources + 1, "{again:?}");
        assert_eq!(again.iter().map(|suppressed| suppressed.events).sum::<u64>(), events + 2);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_bound_holds(events in proptest::collection::vec(0_u8..10, 0..200)) {
            let mut window = Suppression::new(LIMITS);
            let written = events.iter().filter(|source| window.admits(source)).count();
            prop_assert!(written <= LIMITS.in_all as usize && window.sources.len() <= LIMITS.sources);
            let told = window.close();
            prop_assert!(told.len() <= LIMITS.sources + 1);
            let counted: u64 = told.iter().map(|suppressed| suppressed.events).sum();
            prop_assert_eq!(written as u64 + counted, events.len() as u64);
        }
    }
}
