//! What a case is, and what it gives.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

/// How much time there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// All cases within five minutes.
    Quick,
    /// As long as it takes: longer rounds, ten million rows, ten minutes of mixed load.
    Full,
}

impl Effort {
    pub(crate) fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }

    /// Pairs of rounds, and the length of each round.
    pub(crate) fn rounds(self) -> (usize, Duration) {
        self.pick((3, Duration::from_secs(1)), (7, Duration::from_secs(5)))
    }
}

/// A question with a name.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(Effort) -> Pin<Box<dyn Future<Output = Vec<Row>>>>,
}

/// What a ratio, or a number of ours, must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours through theirs.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    OursAtMost(f64),
    /// Ours is at most theirs times the first, plus the second in the row's unit.
    AtMostTheirs(f64, f64),
    /// Reported, not promised.
    None,
}

impl Target {
    fn text(self, unit: &str) -> String {
        match self {
            Self::RatioAtLeast(least) => format!("≥ {least}×"),
            Self::RatioAtMost(most) => format!("≤ {most}×"),
            Self::OursAtMost(most) => format!("≤ {} {unit}", number(most)),
            Self::AtMostTheirs(times, plus) => format!("≤ {times}× + {} {unit}", number(plus)),
            Self::None => "–".to_owned(),
        }
    }

    fn holds(self, ours: f64, theirs: Option<f64>) -> Option<bool> {
        let ratio = theirs.map(|theirs| ours / theirs);
        match self {
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Self::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Self::OursAtMost(most) => Some(ours <= most),
            Self::AtMostTheirs(times, plus) => theirs.map(|theirs| ours <= theirs * times + plus),
            Self::None => None,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: f64,
    /// What stands beside us, and its number.
    pub(crate) against: String,
    pub(crate) theirs: Option<f64>,
    /// The median of the rounds' ratios, which is not the ratio of the medians.
    pub(crate) ratio: Option<f64>,
    pub(crate) unit: String,
    pub(crate) target: String,
    pub(crate) holds: Option<bool>,
    /// CPU time of the server's processes per request, in microseconds.
    pub(crate) ours_cpu_us: Option<f64>,
    pub(crate) theirs_cpu_us: Option<f64>,
    /// What else is worth knowing.
    pub(crate) note: String,
}

impl Row {
    /// A number of ours without a peer.
    pub(crate) fn alone(name: impl Into<String>, ours: f64, unit: &str, target: Target) -> Self {
        Self::build(name.into(), ours, None, None, unit, target)
    }

    /// A number of ours beside another one.
    pub(crate) fn beside(
        name: impl Into<String>,
        ours: f64,
        (against, theirs): (&str, f64),
        unit: &str,
        target: Target,
    ) -> Self {
        Self::build(name.into(), ours, Some((against, theirs)), Some(ours / theirs), unit, target)
    }

    /// As [`Row::beside`], with the median of the rounds' own ratios.
    pub(crate) fn with_ratio(mut self, ratio: f64, target: Target) -> Self {
        self.ratio = Some(ratio);
        self.holds = target.holds(ratio, Some(1.0)).filter(|_| !matches!(target, Target::OursAtMost(_))).or(self.holds);
        self
    }

    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn with_cpu(mut self, ours: Option<f64>, theirs: Option<f64>) -> Self {
        (self.ours_cpu_us, self.theirs_cpu_us) = (ours, theirs);
        self
    }

    fn build(
        name: String,
        ours: f64,
        beside: Option<(&str, f64)>,
        ratio: Option<f64>,
        unit: &str,
        target: Target,
    ) -> Self {
        let theirs = beside.map(|(_, theirs)| theirs);
        Self {
            name,
            ours,
            against: beside.map_or(String::new(), |(against, _)| against.to_owned()),
            theirs,
            ratio,
            unit: unit.to_owned(),
            target: target.text(unit),
            holds: target.holds(ours, theirs),
            ours_cpu_us: None,
            theirs_cpu_us: None,
            note: String::new(),
        }
    }

    /// For the one who waits.
    pub(crate) fn line(&self) -> String {
        let theirs = self.theirs.map_or(String::new(), |theirs| format!(", {} {}", self.against, number(theirs)));
        let ratio = self.ratio.map_or(String::new(), |ratio| format!(" = {ratio:.2}×"));
        let cpu = match (self.ours_cpu_us, self.theirs_cpu_us) {
            (Some(ours), Some(theirs)) => format!("; CPU {ours:.0} to {theirs:.0} µs"),
            (Some(ours), None) => format!("; CPU {ours:.0} µs"),
            _ => String::new(),
        };
        format!("{}: {} {}{theirs}{ratio}{cpu} {}", self.name, number(self.ours), self.unit, self.note)
    }
}

/// As many digits as mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
