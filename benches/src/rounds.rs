//! A B A B …: both sides meet the same weather, and what is compared is each pair.

use std::future::Future;

use crate::cpu::{self, Family};

/// What one round gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// What is compared: requests per second, or a time.
    pub(crate) value: f64,
    pub(crate) requests: f64,
}

/// One side of a comparison over all rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Side {
    values: Vec<f64>,
    cpu: f64,
    requests: f64,
}

impl Side {
    pub(crate) fn value(&self) -> f64 {
        median(self.values.clone())
    }

    /// Microseconds of CPU time per request.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu * 1e6 / self.requests.max(1.0)
    }

    fn add(&mut self, round: Round, cpu: f64) {
        self.values.push(round.value);
        self.requests += round.requests;
        self.cpu += cpu;
    }
}

/// Both sides, and the median of the pairs' ratios.
pub(crate) struct Compared {
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
    pub(crate) ratio: f64,
}

/// Runs the two in turn. The first pair warms up and does not count.
pub(crate) async fn alternate<A: Future<Output = Round>, B: Future<Output = Round>>(
    pairs: usize,
    (mut ours, our_processes): (impl FnMut() -> A, &[Family]),
    (mut theirs, their_processes): (impl FnMut() -> B, &[Family]),
) -> Compared {
    ours().await;
    theirs().await;
    let (mut us, mut them, mut ratios) = (Side::default(), Side::default(), Vec::new());
    for _ in 0..pairs {
        let before = cpu::seconds(our_processes);
        let our = ours().await;
        us.add(our, cpu::seconds(our_processes) - before);
        let before = cpu::seconds(their_processes);
        let their = theirs().await;
        them.add(their, cpu::seconds(their_processes) - before);
        ratios.push(our.value / their.value);
    }
    Compared { ours: us, theirs: them, ratio: median(ratios) }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}
