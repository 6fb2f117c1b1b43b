use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn admission(start: Instant) -> Admission {
    Admission::new(AdmissionLimits::default(), start)
}

fn ticket(decision: Decision) -> Ticket {
    match decision {
        Decision::Admit(ticket) | Decision::Probe(ticket) => ticket,
        Decision::Refuse(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn call(admission: &mut Admission, outcome: Outcome, now: Instant) {
    let ticket = ticket(admission.admit(now));
    admission.settle(ticket, outcome, now, 0.0);
}

#[test]
fn three_failures_in_a_row_open_the_breaker_and_two_do_not() {
    let now = Instant::now();
    let mut admission = Admission::new(AdmissionLimits { window_minimum: 100, ..AdmissionLimits::default() }, now);
    for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Answered, Outcome::Failed, Outcome::Failed] {
        call(&mut admission, outcome, now);
        assert_eq!(admission.state(), BreakerState::Closed);
    }
    call(&mut admission, Outcome::Failed, now);
    assert_eq!(admission.state(), BreakerState::Open);
    assert_eq!(admission.admit(now), Decision::Refuse(Refusal::BreakerOpen { retry_in: 15 * SECOND }));
}

#[test]
fn half_of_five_within_thirty_seconds_opens_the_breaker_and_older_failures_do_not_count() {
    let start = Instant::now();
    let mut early = admission(start);
    let pattern = [Outcome::Failed, Outcome::Answered, Outcome::Failed, Outcome::Answered];
    pattern.into_iter().for_each(|outcome| call(&mut early, outcome, start));
    call(&mut early, Outcome::Failed, start + 29 * SECOND);
    assert_eq!(early.state(), BreakerState::Open);

    let mut late = admission(start);
    pattern.into_iter().for_each(|outcome| call(&mut late, outcome, start));
    call(&mut late, Outcome::Failed, start + 30 * SECOND);
    assert_eq!(late.state(), BreakerState::Closed);
}

#[test]
fn the_breaker_stays_open_twice_as_long_after_each_failed_probe_up_to_five_minutes() {
    let mut now = Instant::now();
    let mut admission = admission(now);
    (0..3).for_each(|_| call(&mut admission, Outcome::Failed, now));
    for seconds in [15, 30, 60, 120, 240, 300, 300] {
        let until = now + seconds * SECOND;
        assert_eq!(admission.retry_at(), Some(until));
        assert!(matches!(admission.admit(until - Duration::from_millis(1)), Decision::Refuse(_)));
        now = until;
        let Decision::Probe(probe) = admission.admit(now) else { panic!("a probe is due") };
        admission.settle(probe, Outcome::Failed, now, 0.0);
    }
    now += 300 * SECOND;
    let Decision::Probe(probe) = admission.admit(now) else { panic!("a probe is due") };
    admission.settle(probe, Outcome::Answered, now, 0.0);
    assert_eq!(admission.state(), BreakerState::Closed);
    (0..3).for_each(|_| call(&mut admission, Outcome::Failed, now));
    assert_eq!(admission.retry_at(), Some(now + 15 * SECOND), "a closed breaker starts over");
}

#[test]
fn the_open_time_is_spread_by_a_fifth_and_never_longer_than_the_maximum() {
    let now = Instant::now();
    for (jitter, millis) in [(-1.0, 12_000), (0.5, 16_500), (1.0, 18_000)] {
        let mut admission = admission(now);
        for _ in 0..3 {
            let ticket = ticket(admission.admit(now));
            admission.settle(ticket, Outcome::Failed, now, jitter);
        }
        assert_eq!(admission.retry_at(), Some(now + Duration::from_millis(millis)));
    }
}

#[test]
fn a_half_open_breaker_lets_exactly_one_call_probe_and_an_abandoned_probe_makes_room_for_the_next() {
    let start = Instant::now();
    let mut admission = admission(start);
    (0..3).for_each(|_| call(&mut admission, Outcome::Failed, start));
    let now = start + 15 * SECOND;
    let Decision::Probe(probe) = admission.admit(now) else { panic!("a probe is due") };
    assert!(matches!(admission.admit(now), Decision::Refuse(Refusal::BreakerOpen { .. })));
    admission.settle(probe, Outcome::Abandoned, now, 0.0);
    assert!(matches!(admission.admit(now), Decision::Probe(_)));
}

#[test]
fn a_429_is_waited_out_as_told_and_does_not_count_as_a_failure() {
    let now = Instant::now();
    let mut admission = admission(now);
    call(&mut admission, Outcome::Failed, now);
    call(&mut admission, Outcome::Failed, now);
    call(&mut admission, Outcome::Told(Some(7 * SECOND)), now);
    assert_eq!(admission.admit(now + 3 * SECOND), Decision::Refuse(Refusal::Told { retry_in: 4 * SECOND }));
    call(&mut admission, Outcome::Failed, now + 7 * SECOND);
    assert_eq!(admission.state(), BreakerState::Closed, "the 429 ended the row of failures");
    call(&mut admission, Outcome::Told(Some(86_400 * SECOND)), now + 8 * SECOND);
    assert_eq!(admission.admit(now + 8 * SECOND), Decision::Refuse(Refusal::Told { retry_in: 300 * SECOND }));
}

#[test]
fn an_outcome_from_before_the_breaker_opened_does_not_close_it() {
    let now = Instant::now();
    let mut admission = admission(now);
    let slow = ticket(admission.admit(now));
    (0..3).for_each(|_| call(&mut admission, Outcome::Failed, now));
    admission.settle(slow, Outcome::Answered, now, 0.0);
    assert_eq!(admission.state(), BreakerState::Open);
    admission.probe_at_once(now);
    assert!(matches!(admission.admit(now), Decision::Probe(_)), "an admin need not wait");
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Admit,
    Settle(usize, Outcome),
    ProbeAtOnce,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Answered),
        4 => Just(Outcome::Failed),
        1 => Just(Outcome::Abandoned),
        1 => prop::option::of(0..400u64).prop_map(|s| Outcome::Told(s.map(Duration::from_secs))),
    ];
    let step = prop_oneof![
        2 => prop_oneof![0..3_000u64, 0..40_000u64].prop_map(Step::Wait),
        5 => Just(Step::Admit),
        5 => (0..8usize, outcome).prop_map(|(which, outcome)| Step::Settle(which, outcome)),
        1 => Just(Step::ProbeAtOnce),
    ];
    prop::collection::vec(step, 0..120)
}

/// The rules again, the slow way: the whole history is kept and read anew for every decision. Milliseconds since the start.
#[derive(Default)]
struct Oracle {
    /// Outcomes since the breaker last closed: when, and whether it failed.
    history: Vec<(u64, bool)>,
    open_until: Option<u64>,
    probing: bool,
    failed_probes: u32,
    told_until: u64,
    in_flight: usize,
    /// How often the breaker changed; a call settles only within the period in which it began.
    period: u32,
}

impl Oracle {
    /// The call's period, or nothing for a refusal.
    fn admit(&mut self, now: u64, cap: usize) -> Option<u32> {
        if now < self.told_until || self.probing || self.open_until.is_some_and(|until| now < until) {
            return None;
        }
        if self.in_flight == cap {
            return None;
        }
        if self.open_until.take().is_some() {
            self.probing = true;
            self.period += 1;
        }
        self.in_flight += 1;
        Some(self.period)
    }

    fn settle(&mut self, period: u32, outcome: Outcome, now: u64) {
        self.in_flight -= 1;
        if let Outcome::Told(wait) = outcome {
            self.told_until =
                self.told_until.max(now + wait.map_or(1_000, |wait| wait.as_millis() as u64).min(300_000));
        }
        if period != self.period {
            return;
        }
        let failed = match outcome {
            Outcome::Abandoned if self.probing => {
                self.probing = false;
                self.period += 1;
                self.open_until = Some(now);
                return;
            }
            Outcome::Abandoned => return,
            Outcome::Failed => true,
            Outcome::Answered | Outcome::Told(_) => false,
        };
        if self.probing {
            self.probing = false;
            self.period += 1;
            if failed {
                self.failed_probes += 1;
                self.open(now);
            } else {
                self.failed_probes = 0;
                self.history.clear();
            }
            return;
        }
        self.history.push((now / 1_000, failed));
        let recent: Vec<bool> =
            self.history.iter().filter(|(at, _)| at + 30 > now / 1_000).map(|(_, failed)| *failed).collect();
        let failures = recent.iter().filter(|failed| **failed).count();
        let in_a_row = self.history.iter().rev().take_while(|(_, failed)| *failed).count();
        if failed && (in_a_row >= 3 || (recent.len() >= 5 && 2 * failures >= recent.len())) {
            self.period += 1;
            self.open(now);
        }
    }

    fn open(&mut self, now: u64) {
        self.open_until = Some(now + (15_000 * 2u64.pow(self.failed_probes.min(10))).min(300_000));
    }

    fn state(&self) -> BreakerState {
        match (self.probing, self.open_until) {
            (true, _) => BreakerState::HalfOpen,
            (false, Some(_)) => BreakerState::Open,
            (false, None) => BreakerState::Closed,
        }
    }
}

proptest! {
    #[test]
    fn admission_decides_as_the_rules_read_literally(steps in steps()) {
        let start = Instant::now();
        let limits = AdmissionLimits { in_flight: 4, ..AdmissionLimits::default() };
        let mut admission = Admission::new(limits, start);
        let mut oracle = Oracle::default();
        let mut calls: Vec<(Ticket, u32)> = Vec::new();
        let mut millis = 0;
        for step in steps {
            let now = start + Duration::from_millis(millis);
            match step {
                Step::Wait(more) => millis += more,
                Step::ProbeAtOnce => {
                    admission.probe_at_once(now);
                    oracle.told_until = 0;
                    oracle.open_until = oracle.open_until.map(|_| millis);
                }
                Step::Admit => match (admission.admit(now), oracle.admit(millis, 4)) {
                    (Decision::Admit(ticket), Some(period)) => {
                        prop_assert!(!oracle.probing);
                        calls.push((ticket, period));
                    }
                    (Decision::Probe(ticket), Some(period)) => {
                        prop_assert!(oracle.probing);
                        calls.push((ticket, period));
                    }
                    (Decision::Refuse(_), None) => {}
                    (decision, expected) => prop_assert!(false, "{decision:?} but expected {expected:?}"),
                },
                Step::Settle(which, outcome) => {
                    if !calls.is_empty() {
                        let (ticket, period) = calls.remove(which % calls.len());
                        admission.settle(ticket, outcome, now, 0.0);
                        oracle.settle(period, outcome, millis);
                    }
                }
            }
            prop_assert_eq!(admission.state(), oracle.state());
            prop_assert_eq!(admission.in_flight(), calls.len());
            prop_assert!(admission.window.len() <= 30, "the window is bounded");
        }
    }
}
