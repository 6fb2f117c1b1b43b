//! When a link renews its certificate, when it tries again, and when a person should look. Pure: time and randomness are
//! parameters.
//!
//! ```text
//! 0 ────────────────────────── 2/3 ±1/30 ──────────────── 5/6 ─────────── end
//!      nothing to do            renew; on failure 5 s,     still failing:   enrol again
//!                               10 s, … 2 min, ±20 %       degraded
//! ```

use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::link::LinkCredentials;

#[cfg(test)]
mod tests;

/// At which part of a certificate's life it is renewed (trust.md, "Renewal and revocation").
const DUE: f64 = 2.0 / 3.0;
/// By how much of the life that is spread at most, so that links that were made together do not renew together.
const DUE_SPREAD: f64 = 1.0 / 30.0;
/// With so much of the life left, a renewal that keeps failing degrades the link.
const ALARM: f64 = 1.0 / 6.0;
/// At least so many tries fit into the time between the alarm and the end, however short the life.
const TRIES_AFTER_ALARM: f64 = 4.0;
/// By how much a retry is spread.
const RETRY_SPREAD: f64 = 0.2;
/// Between a renewal and the next one: a certificate that ends with its grant is due again ever sooner.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest sleep: clocks are set, and machines are.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// Bounds of renewing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalLimits {
    /// One renewal, from the dial to the answer.
    pub deadline: Duration,
    /// First wait after a failed one; it doubles …
    pub retry: Duration,
    /// … to this.
    pub retry_max: Duration,
}

impl Default for RenewalLimits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), retry: Duration::from_secs(5), retry_max: Duration::from_secs(120) }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Renew,
    /// Nothing; look again after this.
    Wait(Duration),
    /// The certificate has ended: only enrolling again helps.
    Over,
}

/// The renewal of one certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    /// When to try next.
    due: OffsetDateTime,
    failures: u32,
}

impl Schedule {
    /// For a certificate that the link already had. `jitter` is between -1 and 1.
    #[must_use]
    pub fn new(credentials: &LinkCredentials, jitter: f64) -> Self {
        let (not_before, not_after) = (credentials.not_before, credentials.not_after);
        let part = DUE + DUE_SPREAD * jitter.clamp(-1.0, 1.0);
        Self { not_before, not_after, due: not_before + life(not_before, not_after).mul_f64(part), failures: 0 }
    }

    /// For one that was just made.
    #[must_use]
    pub fn renewed(credentials: &LinkCredentials, now: OffsetDateTime, jitter: f64) -> Self {
        let schedule = Self::new(credentials, jitter);
        Self { due: schedule.due.max(now + PAUSE), ..schedule }
    }

    #[must_use]
    pub fn step(&self, now: OffsetDateTime) -> Step {
        if now >= self.not_after {
            return Step::Over;
        }
        match Duration::try_from(self.due.min(self.not_after) - now) {
            Ok(wait) if !wait.is_zero() => Step::Wait(wait.min(SLEEP_MAX)),
            _ => Step::Renew,
        }
    }

    /// A renewal failed. `told`: how long the owner asked to wait.
    pub fn failed(&mut self, now: OffsetDateTime, told: Option<Duration>, limits: &RenewalLimits, jitter: f64) {
        let doubled = limits.retry.saturating_mul(2u32.saturating_pow(self.failures)).min(limits.retry_max);
        let often_enough = life(self.not_before, self.not_after).mul_f64(ALARM / TRIES_AFTER_ALARM);
        let spread = 1.0 + RETRY_SPREAD * jitter.clamp(-1.0, 1.0);
        let wait = doubled.min(often_enough).mul_f64(spread).max(told.unwrap_or_default());
        self.failures = self.failures.saturating_add(1);
        self.due = now + wait;
    }

    /// Failed renewals of this certificate.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether renewing keeps failing and the end is near.
    #[must_use]
    pub fn is_alarming(&self, now: OffsetDateTime) -> bool {
        self.failures > 0 && self.not_after - now <= life(self.not_before, self.not_after).mul_f64(ALARM)
    }
}

fn life(not_before: OffsetDateTime, not_after: OffsetDateTime) -> Duration {
    Duration::try_from(not_after - not_before).unwrap_or_default()
}
