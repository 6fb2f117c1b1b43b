//! How often an address may fail. Tokens cannot be guessed; this bounds the noise of trying.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures count for so long.
const WINDOW: Duration = Duration::from_secs(60);

/// The failures of the last minute, by address. Cheap to clone.
#[derive(Clone)]
pub struct Failures {
    by_address: Arc<Mutex<HashMap<IpAddr, Record>>>,
    most: usize,
    addresses: usize,
}

#[derive(Default)]
struct Record {
    /// When they happened, oldest first; never more than allowed.
    failed: VecDeque<Instant>,
    /// Attempts that run: each may become a failure, so that trying many at once gains nothing.
    running: usize,
}

/// An attempt that runs. Dropped, it counts no more; [`Attempt::failed`] makes it count for a minute.
pub(super) struct Attempt {
    failures: Failures,
    address: IpAddr,
    failed_at: Option<Instant>,
}

impl Failures {
    /// `most` failures a minute for each of at most `addresses` addresses.
    #[must_use]
    pub fn new(most: u32, addresses: usize) -> Self {
        Self { by_address: Arc::default(), most: usize::try_from(most).unwrap_or(usize::MAX), addresses }
    }

    /// Lets an attempt begin, or tells how long to wait.
    pub(super) fn begin(&self, address: IpAddr, now: Instant) -> Result<Attempt, Duration> {
        let address = household(address);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= self.addresses && !by_address.contains_key(&address) {
            make_room(&mut by_address, now);
        }
        let record = by_address.entry(address).or_default();
        record.forget(now);
        if record.failed.len() + record.running >= self.most {
            let oldest = record.failed.front().copied();
            return Err(
                oldest.map_or(Duration::from_secs(1), |failed| (failed + WINDOW).saturating_duration_since(now))
            );
        }
        record.running += 1;
        Ok(Attempt { failures: self.clone(), address, failed_at: None })
    }

    fn end(&self, address: IpAddr, failed: Option<Instant>) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = by_address.get_mut(&address) else { return };
        record.running = record.running.saturating_sub(1);
        record.failed.extend(failed);
        if record.failed.is_empty() && record.running == 0 {
            by_address.remove(&address);
        }
    }
}

impl Record {
    fn forget(&mut self, now: Instant) {
        while self.failed.front().is_some_and(|failed| now.duration_since(*failed) >= WINDOW) {
            self.failed.pop_front();
        }
    }
}

/// Drops what is over, and if that is not enough, the address that failed longest ago: who fills the map from many addresses
/// gets a few more tries, never more memory.
fn make_room(by_address: &mut HashMap<IpAddr, Record>, now: Instant) {
    by_address.retain(|_, record| {
        record.forget(now);
        record.running > 0 || !record.failed.is_empty()
    });
    let idle = by_address.iter().filter(|(_, record)| record.running == 0);
    let oldest = idle.min_by_key(|(_, record)| record.failed.back().copied()).map(|(address, _)| *address);
    if let Some(oldest) = oldest {
        by_address.remove(&oldest);
    }
}

/// One customer of a provider gets a whole /64 of IPv6.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

impl Attempt {
    /// It failed, and counts for a minute.
    pub(super) fn failed(mut self, now: Instant) {
        self.failed_at = Some(now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.failures.end(self.address, self.failed_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_sixth_failure_of_a_minute_is_not_tried() {
        let (failures, start) = (Failures::new(5, 100), Instant::now());
        for second in 0..5 {
            failures.begin(HERE, start + seconds(second)).ok().unwrap().failed(start + seconds(second));
        }
        assert_eq!(failures.begin(HERE, start + seconds(10)).err(), Some(seconds(50)));
        assert!(failures.begin(HERE, start + seconds(60)).is_ok(), "the first failure is a minute old");
        let other = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 8));
        assert!(failures.begin(other, start + seconds(10)).is_ok());
    }

    #[test]
    fn successes_do_not_count() {
        let (failures, now) = (Failures::new(5, 100), Instant::now());
        for _ in 0..100 {
            drop(failures.begin(HERE, now).ok().unwrap());
        }
        assert!(failures.by_address.lock().unwrap().is_empty(), "nothing is remembered of them");
    }

    #[test]
    fn trying_many_at_once_gains_nothing() {
        let (failures, now) = (Failures::new(5, 100), Instant::now());
        let running: Vec<_> = (0..5).map(|_| failures.begin(HERE, now).ok().unwrap()).collect();
        assert_eq!(failures.begin(HERE, now).err(), Some(seconds(1)));
        drop(running);
        assert!(failures.begin(HERE, now).is_ok());
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address_and_mapped_ipv4_is_ipv4() {
        let (failures, now) = (Failures::new(1, 100), Instant::now());
        failures.begin("2001:db8::1".parse().unwrap(), now).ok().unwrap().failed(now);
        assert!(failures.begin("2001:db8::ffff:1".parse().unwrap(), now).is_err());
        assert!(failures.begin("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
        failures.begin(HERE, now).ok().unwrap().failed(now);
        assert!(failures.begin("::ffff:203.0.113.7".parse().unwrap(), now).is_err());
    }

    #[test]
    fn the_number_of_remembered_addresses_is_bounded() {
        let (failures, now) = (Failures::new(5, 10), Instant::now());
        for last in 0..100_u8 {
            failures.begin(IpAddr::from([10, 0, 0, last]), now).ok().unwrap().failed(now);
        }
        assert!(failures.by_address.lock().unwrap().len() <= 10);
    }
}
