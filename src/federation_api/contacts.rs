//! Holders that were heard from, for the links in the other direction.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mosaic_actors::domain::identity::SiteName;
use tokio::time::Instant;

/// A holder is told of once in this time, however much it asks: a link lets an open breaker probe no more often than that.
const PAUSE: Duration = Duration::from_secs(5);
/// With so many holders remembered, those of whom it is time to tell again are forgotten.
const REMEMBERED: usize = 1_024;

/// Tells of holders that were let in.
pub struct Contacts {
    tell: Box<dyn Fn(&SiteName) + Send + Sync>,
    told: Mutex<HashMap<SiteName, Instant>>,
}

impl Contacts {
    #[must_use]
    pub fn new(tell: impl Fn(&SiteName) + Send + Sync + 'static) -> Self {
        Self { tell: Box::new(tell), told: Mutex::default() }
    }

    /// This holder sent a request that was admitted.
    pub(super) fn heard_from(&self, peer: &SiteName) {
        if self.is_time(peer, Instant::now()) {
            (self.tell)(peer);
        }
    }

    fn is_time(&self, peer: &SiteName, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = told.get_mut(peer) {
            let is_time = now >= *at + PAUSE;
            if is_time {
                *at = now;
            }
            return is_time;
        }
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now < *at + PAUSE);
        }
        told.insert(peer.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_asks_and_asks_is_told_of_once_in_five_seconds() {
        let contacts = Contacts::new(|_| {});
        let (home, away) = (SiteName::parse("home").unwrap(), SiteName::parse("away").unwrap());
        let now = Instant::now();
        assert!(contacts.is_time(&home, now));
        for _ in 0..100 {
            assert!(!contacts.is_time(&home, now + PAUSE / 2));
        }
        assert!(contacts.is_time(&away, now), "another is told of all the same");
        assert!(contacts.is_time(&home, now + PAUSE));
    }
}
