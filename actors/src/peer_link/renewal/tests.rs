use proptest::prelude::*;

use super::*;
use crate::fakes::{EPOCH, link};

fn credentials(seconds: u64) -> LinkCredentials {
    LinkCredentials { not_before: EPOCH, not_after: EPOCH + Duration::from_secs(seconds), ..link("work").credentials }
}

fn at(second: u64) -> OffsetDateTime {
    EPOCH + Duration::from_secs(second)
}

#[test]
fn a_day_s_certificate_is_due_after_sixteen_hours() {
    let schedule = Schedule::new(&credentials(86_400), 0.0);
    assert_eq!(schedule.step(at(57_599)), Step::Wait(Duration::from_secs(1)));
    assert_eq!(schedule.step(at(57_600)), Step::Renew);
    assert_eq!(schedule.step(at(0)), Step::Wait(SLEEP_MAX), "never sleeps longer than an hour");
    assert_eq!(schedule.step(at(86_400)), Step::Over);
}

#[test]
fn retries_double_from_five_seconds_to_two_minutes() {
    let mut schedule = Schedule::new(&credentials(86_400), 0.0);
    let waits: Vec<u64> = (0..7)
        .map(|_| {
            schedule.failed(at(60_000), None, &RenewalLimits::default(), 0.0);
            match schedule.step(at(60_000)) {
                Step::Wait(wait) => wait.as_secs(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(waits, [5, 10, 20, 40, 80, 120, 120]);
    schedule.failed(at(60_000), Some(Duration::from_secs(300)), &RenewalLimits::default(), 0.0);
    assert_eq!(schedule.step(at(60_000)), Step::Wait(Duration::from_secs(300)), "the owner asked to wait");
}

#[test]
fn only_failures_near_the_end_alarm() {
    let mut schedule = Schedule::new(&credentials(600), 0.0);
    assert!(!schedule.is_alarming(at(599)), "nothing has failed");
    schedule.failed(at(400), None, &RenewalLimits::default(), 0.0);
    assert!(!schedule.is_alarming(at(499)));
    assert!(schedule.is_alarming(at(500)));
}

#[test]
fn a_certificate_that_ends_with_its_grant_is_not_renewed_in_a_loop() {
    let schedule = Schedule::renewed(&credentials(6), at(0), 0.0);
    assert_eq!(schedule.step(at(5)), Step::Wait(Duration::from_secs(1)));
    assert_eq!(schedule.step(at(6)), Step::Over);
}

proptest! {
    #[test]
    fn it_is_due_once_near_two_thirds_and_never_waits_past_the_end(
        life in 60u64..7_776_000, jitter in -1.0f64..=1.0, part in 0.0f64..1.2,
    ) {
        let schedule = Schedule::new(&credentials(life), jitter);
        let now = EPOCH + Duration::from_secs(life).mul_f64(part);
        match schedule.step(now) {
            Step::Over => prop_assert!(part >= 0.999),
            Step::Renew => prop_assert!((0.63..1.0).contains(&part)),
            Step::Wait(wait) => {
                prop_assert!(part < 0.7001);
                prop_assert!(now + wait <= EPOCH + Duration::from_secs(life));
            }
        }
    }

    #[test]
    fn however_it_fails_it_is_tried_again_before_the_end_while_there_is_time(
        life in 60u64..500_000, jitters in proptest::collection::vec(-1.0f64..=1.0, 1..40),
    ) {
        let mut schedule = Schedule::new(&credentials(life), 0.0);
        let mut now = EPOCH + Duration::from_secs(life).mul_f64(DUE);
        let (mut tries, mut alarms) = (0, 0);
        for jitter in jitters.iter().cycle().take(100_000) {
            match schedule.step(now) {
                Step::Over => break,
                Step::Wait(wait) => {
                    prop_assert!(wait <= Duration::from_secs(144));
                    now += wait;
                }
                Step::Renew => {
                    tries += 1;
                    alarms += u32::from(schedule.is_alarming(now));
                    schedule.failed(now, None, &RenewalLimits::default(), *jitter);
                }
            }
        }
        prop_assert!(tries >= 6, "{tries}");
        prop_assert!(alarms >= 3, "{alarms}");
    }
}
