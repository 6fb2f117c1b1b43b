//! A B A B …: both sides meet the same weather, and what is compared is each pair.

use std::future::Future;
use std::time::Instant;

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
    driver_cpu: f64,
    seconds: f64,
}

impl Side {
    pub(crate) fn value(&self) -> f64 {
        median(self.values.clone())
    }

    /// Microseconds of CPU time per request.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu * 1e6 / self.requests.max(1.0)
    }

    /// Percent of the rounds' time in which this process itself ran. It drives with one thread: near 100 it is the limit, and not
    /// the server.
    fn driver_busy(&self) -> f64 {
        100.0 * self.driver_cpu / self.seconds
    }
}

/// Both sides, and the median of the pairs' ratios.
pub(crate) struct Compared {
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
    pub(crate) ratio: f64,
}

impl Compared {
    /// Who was the limit, and how the servers' own costs compare, whoever that was.
    pub(crate) fn limits(&self, against: &str) -> String {
        format!(
            "driver busy {:.0} % beside {against}, {:.0} % beside us; CPU time per request {:.2}× {against}'s",
            self.theirs.driver_busy(),
            self.ours.driver_busy(),
            self.ours.cpu_us() / self.theirs.cpu_us()
        )
    }
}

/// Runs the two in turn. The first pair warms up and does not count. `settle` waits after each round until work is done that the
/// round has left behind: the CPU time of that belongs to the round, and not to the other side's.
pub(crate) async fn alternate<A: Future<Output = Round>, B: Future<Output = Round>>(
    pairs: usize,
    (mut ours, our_processes): (impl FnMut() -> A, &[Family]),
    (mut theirs, their_processes): (impl FnMut() -> B, &[Family]),
    settle: impl AsyncFn(),
) -> Compared {
    let (mut warm_up, mut us, mut them, mut ratios) = (Side::default(), Side::default(), Side::default(), Vec::new());
    run(&mut ours, our_processes, &settle, &mut warm_up).await;
    run(&mut theirs, their_processes, &settle, &mut warm_up).await;
    for _ in 0..pairs {
        let our = run(&mut ours, our_processes, &settle, &mut us).await;
        let their = run(&mut theirs, their_processes, &settle, &mut them).await;
        ratios.push(our / their);
    }
    Compared { ours: us, theirs: them, ratio: median(ratios) }
}

/// One round of one side; its value.
async fn run<R: Future<Output = Round>>(
    round: &mut impl FnMut() -> R,
    processes: &[Family],
    settle: &impl AsyncFn(),
    side: &mut Side,
) -> f64 {
    let driver = Family(std::process::id());
    let (cpu_before, driver_before, start) = (cpu::seconds(processes), driver.own_seconds(), Instant::now());
    let done = round().await;
    side.seconds += start.elapsed().as_secs_f64();
    side.driver_cpu += driver.own_seconds() - driver_before;
    settle().await;
    side.cpu += cpu::seconds(processes) - cpu_before;
    side.requests += done.requests;
    side.values.push(done.value);
    done.value
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}
