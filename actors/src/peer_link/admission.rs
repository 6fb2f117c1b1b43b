//! Whether a call may go out now: the breaker, the wait that the peer asked for, and the cap on calls in flight. Pure: time and
//! randomness are parameters.
//!
//! ```text
//! Closed ──3 failures in a row, or ≥ 50 % of ≥ 5 in 30 s──▶ Open ──15 s, 30 s, … 5 min, ±20 %──▶ HalfOpen
//!    ▲                                                       ▲                                     │ one probe
//!    └───────────────────────── it answered ─────────────────┼─────────────────────────────────────┤
//!                                                            └──────────── it failed ──────────────┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::answer::BreakerState;

#[cfg(test)]
mod tests;

/// Bounds of admission (node.md, "Links").
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Most calls under way. Four times the connection pool: enough to keep it busy, little enough to fail early.
    pub in_flight: usize,
    /// So many failures in a row open the breaker.
    pub failures_in_a_row: u32,
    /// At least half of the outcomes in `window` being failures opens the breaker, if there are at least this many.
    pub window_minimum: u32,
    /// Counted in whole seconds.
    pub window: Duration,
    /// How long the breaker stays open at first; doubles with every failed probe.
    pub open: Duration,
    /// The longest it stays open, spread included.
    pub open_max: Duration,
    /// The wait after a 429 that named none.
    pub told_default: Duration,
    /// The longest wait that a peer can impose by a 429.
    pub told_max: Duration,
    /// A time-out after less than this says more about the caller's patience than about the peer, and is not counted.
    pub patience: Duration,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            in_flight: 32,
            failures_in_a_row: 3,
            window_minimum: 5,
            window: Duration::from_secs(30),
            open: Duration::from_secs(15),
            open_max: Duration::from_secs(300),
            told_default: Duration::from_secs(1),
            told_max: Duration::from_secs(300),
            patience: Duration::from_millis(250),
        }
    }
}

/// By how much at most the time that the breaker stays open is spread, so that askers do not come back together.
const SPREAD: f64 = 0.2;
/// What an asker is told to wait while somebody else's probe is under way.
const PROBE_HINT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Admit(Ticket),
    /// Like `Admit`, and its outcome decides about the breaker.
    Probe(Ticket),
    Refuse(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    BreakerOpen {
        retry_in: Duration,
    },
    /// The peer said 429 and this is what is left of the wait.
    Told {
        retry_in: Duration,
    },
    /// Too many calls under way.
    Full,
}

/// Permission for one call; give it back with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The breaker's period in which the call began. Outcomes of an earlier one say nothing about this one.
    period: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered, be it with a refusal.
    Answered,
    /// It answered 429, with the wait it named.
    Told(Option<Duration>),
    /// Transport errors, time-outs, 5xx, answers that cannot be used.
    Failed,
    /// Nobody waited for the end of it.
    Abandoned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// The state behind the decisions.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    start: Instant,
    breaker: Breaker,
    period: u64,
    /// How often the breaker opened since it was last closed.
    openings: u32,
    in_a_row: u32,
    window: VecDeque<Second>,
    told_until: Option<Instant>,
    in_flight: usize,
}

/// Outcomes of one second.
#[derive(Debug, Clone, Copy)]
struct Second {
    number: u64,
    answered: u32,
    failed: u32,
}

impl Admission {
    /// `now` is where the window's seconds are counted from.
    #[must_use]
    pub fn new(limits: AdmissionLimits, now: Instant) -> Self {
        Self {
            limits,
            start: now,
            breaker: Breaker::Closed,
            period: 0,
            openings: 0,
            in_a_row: 0,
            window: VecDeque::new(),
            told_until: None,
            in_flight: 0,
        }
    }

    /// Decides about one call. Admit and Probe must be followed by one [`Self::settle`].
    pub fn admit(&mut self, now: Instant) -> Decision {
        if let Some(retry_in) = self.told_until.and_then(|until| left(until, now)) {
            return Decision::Refuse(Refusal::Told { retry_in });
        }
        let probe = match self.breaker {
            Breaker::Closed => false,
            Breaker::HalfOpen => return Decision::Refuse(Refusal::BreakerOpen { retry_in: PROBE_HINT }),
            Breaker::Open { until } => match left(until, now) {
                Some(retry_in) => return Decision::Refuse(Refusal::BreakerOpen { retry_in }),
                None => true,
            },
        };
        if self.in_flight >= self.limits.in_flight {
            return Decision::Refuse(Refusal::Full);
        }
        self.in_flight += 1;
        if probe {
            self.enter(Breaker::HalfOpen);
            return Decision::Probe(Ticket { period: self.period });
        }
        Decision::Admit(Ticket { period: self.period })
    }

    /// Takes the outcome of a call. `jitter` lies between -1 and 1 and spreads the time for which the breaker opens.
    pub fn settle(&mut self, ticket: Ticket, outcome: Outcome, now: Instant, jitter: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Outcome::Told(wait) = outcome {
            let wait = wait.unwrap_or(self.limits.told_default).min(self.limits.told_max);
            self.told_until = self.told_until.max(Some(now + wait));
        }
        if ticket.period != self.period {
            return;
        }
        match (self.breaker, outcome) {
            (Breaker::Closed, Outcome::Answered | Outcome::Told(_)) => {
                self.in_a_row = 0;
                self.count(now, false);
            }
            (Breaker::Closed, Outcome::Failed) => {
                self.in_a_row += 1;
                self.count(now, true);
                if self.is_failing(now) {
                    self.open(now, jitter);
                }
            }
            (Breaker::HalfOpen, Outcome::Answered | Outcome::Told(_)) => self.close(),
            (Breaker::HalfOpen, Outcome::Failed) => self.open(now, jitter),
            // The probe told nothing: the next call is one.
            (Breaker::HalfOpen, Outcome::Abandoned) => self.enter(Breaker::Open { until: now }),
            (Breaker::Closed, Outcome::Abandoned) | (Breaker::Open { .. }, _) => {}
        }
    }

    /// An admin asked, or the peer was heard from: an open breaker lets the next call probe, and a wait is over.
    pub fn probe_at_once(&mut self, now: Instant) {
        self.told_until = None;
        if let Breaker::Open { .. } = self.breaker {
            self.breaker = Breaker::Open { until: now };
        }
    }

    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.breaker {
            Breaker::Closed => BreakerState::Closed,
            Breaker::Open { .. } => BreakerState::Open,
            Breaker::HalfOpen => BreakerState::HalfOpen,
        }
    }

    /// When an open breaker lets a call probe.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        match self.breaker {
            Breaker::Open { until } => Some(until),
            Breaker::Closed | Breaker::HalfOpen => None,
        }
    }

    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn enter(&mut self, breaker: Breaker) {
        self.breaker = breaker;
        self.period += 1;
    }

    fn open(&mut self, now: Instant, jitter: f64) {
        let doubled = self.limits.open.saturating_mul(2u32.saturating_pow(self.openings)).min(self.limits.open_max);
        let spread = doubled.mul_f64(SPREAD.mul_add(jitter.clamp(-1.0, 1.0), 1.0)).min(self.limits.open_max);
        self.openings = self.openings.saturating_add(1);
        self.enter(Breaker::Open { until: now + spread });
    }

    fn close(&mut self) {
        self.openings = 0;
        self.in_a_row = 0;
        self.window.clear();
        self.enter(Breaker::Closed);
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }

    fn count(&mut self, now: Instant, failed: bool) {
        let number = self.second(now);
        self.forget_before(number);
        if self.window.back().is_none_or(|last| last.number != number) {
            self.window.push_back(Second { number, answered: 0, failed: 0 });
        }
        if let Some(second) = self.window.back_mut() {
            let counter = if failed { &mut second.failed } else { &mut second.answered };
            *counter = counter.saturating_add(1);
        }
    }

    /// Drops the seconds that left the window; so it never holds more entries than the window has seconds.
    fn forget_before(&mut self, current: u64) {
        let seconds = self.limits.window.as_secs();
        while self.window.front().is_some_and(|second| second.number + seconds <= current) {
            self.window.pop_front();
        }
    }

    fn is_failing(&mut self, now: Instant) -> bool {
        self.forget_before(self.second(now));
        let failed: u64 = self.window.iter().map(|second| u64::from(second.failed)).sum();
        let answered: u64 = self.window.iter().map(|second| u64::from(second.answered)).sum();
        self.in_a_row >= self.limits.failures_in_a_row
            || (failed + answered >= u64::from(self.limits.window_minimum) && failed >= answered)
    }
}

/// What is left until `until`; `None` when nothing is.
fn left(until: Instant, now: Instant) -> Option<Duration> {
    until.checked_duration_since(now).filter(|left| !left.is_zero())
}
