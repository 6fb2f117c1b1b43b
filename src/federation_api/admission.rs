//! How much one grant's holder may ask: a rate with a burst, and a number of requests at once. Over it: 429.
//!
//! The rate is counted here, and where the site has a Redis by all replicas together besides. How many run at once is counted here
//! only: it guards this process's connections and memory, and a count of what runs elsewhere would outlive a replica that is killed.
//!
//! Only holders of a grant get here, so that the map below cannot be filled by strangers; it is bounded all the same.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use mosaic_actors::domain::grant::{Grant, InboundLimits};
use mosaic_actors::domain::identity::GrantId;

use crate::shared_limits::{SharedLimits, SharedVerdict};

/// Grants whose rates are remembered. Beyond it, those that have rested longest are forgotten, which costs nothing: a rested
/// grant has its whole burst again.
const GRANTS_MAX: usize = 10_000;
/// How long to wait when too many requests run at once: about as long as one of them takes.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Rates and counts of every grant that asked lately.
#[derive(Default)]
pub struct Admission {
    meters: Mutex<HashMap<GrantId, Arc<Meter>>>,
    shared: Option<SharedLimits>,
}

/// One grant's.
struct Meter {
    limits: InboundLimits,
    rate: DefaultDirectRateLimiter,
    in_flight: AtomicU32,
}

/// A request that runs. Dropping it makes room for the next.
pub struct Ticket(Arc<Meter>);

/// Over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub retry_after: Duration,
    /// For `RateLimit-Limit`: the burst.
    pub limit: u32,
    /// A word for the audit.
    pub reason: &'static str,
}

impl Admission {
    #[must_use]
    pub fn new(shared: Option<SharedLimits>) -> Self {
        Self { shared, ..Self::default() }
    }

    /// Lets a request of this grant in, or tells when to come back. The grant's own limits count; changing them starts anew.
    pub async fn admit(&self, grant: &Grant) -> Result<Ticket, Refused> {
        let ticket = self.admit_here(grant)?;
        let Some(shared) = &self.shared else { return Ok(ticket) };
        match shared.count(grant.id, &grant.limits).await {
            Some(SharedVerdict::Refused { retry_after }) => {
                Err(Refused { retry_after, limit: grant.limits.burst, reason: "rate_limited" })
            }
            // Without an answer the count above has decided.
            Some(SharedVerdict::Passed) | None => Ok(ticket),
        }
    }

    /// By what this replica has let in.
    fn admit_here(&self, grant: &Grant) -> Result<Ticket, Refused> {
        let meter = self.meter(grant);
        let ticket = Ticket::take(&meter).ok_or(Refused {
            retry_after: BUSY_WAIT,
            limit: grant.limits.burst,
            reason: "too_many_at_once",
        })?;
        match meter.rate.check() {
            Ok(_) => Ok(ticket),
            Err(until) => Err(Refused {
                retry_after: until.wait_time_from(DefaultClock::default().now()),
                limit: grant.limits.burst,
                reason: "rate_limited",
            }),
        }
    }

    fn meter(&self, grant: &Grant) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        match meters.get(&grant.id) {
            Some(meter) if meter.limits == grant.limits => Arc::clone(meter),
            _ => {
                if meters.len() >= GRANTS_MAX {
                    meters.retain(|_, meter| !meter.is_rested());
                }
                let meter = Arc::new(Meter::new(grant.limits));
                meters.insert(grant.id, Arc::clone(&meter));
                meter
            }
        }
    }
}

impl Meter {
    fn new(limits: InboundLimits) -> Self {
        let positive = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(positive(limits.requests_per_second)).allow_burst(positive(limits.burst));
        Self { limits, rate: RateLimiter::direct(quota), in_flight: AtomicU32::new(0) }
    }

    /// Nothing runs; forgetting it at worst gives its holder one more burst.
    fn is_rested(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }
}

impl Ticket {
    fn take(meter: &Arc<Meter>) -> Option<Self> {
        let most = meter.limits.concurrent.max(1);
        meter
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |running| (running < most).then_some(running + 1))
            .ok()
            .map(|_| Self(Arc::clone(meter)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use mosaic_actors::domain::grant::GrantStatus;
    use mosaic_actors::domain::identity::{SiteName, UserId};
    use mosaic_actors::domain::scope::Scope;
    use time::macros::datetime;

    use super::*;

    fn grant(requests_per_second: u32, burst: u32, concurrent: u32) -> Grant {
        Grant {
            id: GrantId::new(),
            version: 1,
            peer: SiteName::parse("home").unwrap(),
            subject: UserId::new(),
            subject_active: true,
            subject_teams: Vec::new(),
            scope: Scope {
                resources: Default::default(),
                excluded_resources: Default::default(),
                filters: Default::default(),
                max_rows_per_query: 100,
                cache_max_age_seconds: 30,
            },
            status: GrantStatus::Active,
            expires_at: datetime!(2030-01-01 0:00 UTC),
            limits: InboundLimits { requests_per_second, burst, concurrent },
            certificates: Vec::new(),
        }
    }

    #[test]
    fn a_burst_passes_and_the_next_is_told_when_to_come_back() {
        let (admission, grant) = (Admission::default(), grant(1, 3, 100));
        for _ in 0..3 {
            assert!(admission.admit_here(&grant).is_ok());
        }
        let refused = admission.admit_here(&grant).map(|_| ()).unwrap_err();
        assert_eq!((refused.reason, refused.limit), ("rate_limited", 3));
        assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= Duration::from_secs(1));
    }

    #[test]
    fn requests_at_once_are_counted_until_they_end() {
        let (admission, grant) = (Admission::default(), grant(1_000, 1_000, 2));
        let (first, second) = (admission.admit_here(&grant).unwrap_or_else(|_| panic!()), admission.admit_here(&grant));
        assert!(second.is_ok());
        assert_eq!(admission.admit_here(&grant).map(|_| ()).unwrap_err().reason, "too_many_at_once");
        drop(first);
        assert!(admission.admit_here(&grant).is_ok());
    }

    #[test]
    fn a_request_refused_for_running_beside_too_many_costs_no_rate() {
        let (admission, grant) = (Admission::default(), grant(1, 2, 1));
        let running = admission.admit_here(&grant);
        for _ in 0..10 {
            assert_eq!(admission.admit_here(&grant).map(|_| ()).unwrap_err().reason, "too_many_at_once");
        }
        drop(running);
        assert!(admission.admit_here(&grant).is_ok());
    }

    #[test]
    fn grants_do_not_share_limits_and_a_changed_limit_counts_at_once() {
        let (admission, mut one, other) = (Admission::default(), grant(1, 1, 8), grant(1, 1, 8));
        assert!(admission.admit_here(&one).is_ok());
        assert!(admission.admit_here(&one).is_err());
        assert!(admission.admit_here(&other).is_ok());
        one.limits.burst = 5;
        assert!(admission.admit_here(&one).is_ok());
    }

    #[test]
    fn the_map_of_grants_is_bounded() {
        let admission = Admission::default();
        for _ in 0..=GRANTS_MAX {
            assert!(admission.admit_here(&grant(1, 1, 1)).is_ok());
        }
        assert!(admission.meters.lock().unwrap().len() <= GRANTS_MAX);
    }
}
