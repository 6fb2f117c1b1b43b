use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::answer::SourceName;

#[test]
fn every_failure_has_the_status_that_the_protocol_names() {
    use FaultKind as F;
    use SourceStatus as S;
    let table = [
        (F::TimedOut, S::TimedOut),
        (F::Unreachable, S::Unreachable),
        (F::BreakerOpen, S::BreakerOpen),
        (F::Forbidden, S::Denied),
        (F::Unauthorized, S::Denied),
        (F::ScopeViolation, S::Denied),
        (F::GrantPending, S::Denied),
        (F::GrantExpired, S::GrantExpired),
        (F::GrantRevoked, S::GrantRevoked),
        (F::GrantSuspended, S::GrantSuspended),
        (F::CertificateExpired, S::CertExpired),
        (F::RateLimited, S::RateLimited),
        (F::Incompatible, S::Incompatible),
        (F::NotFound, S::Empty),
        (F::BadAnswer, S::Error),
        (F::Unavailable, S::Error),
        (F::Internal, S::Error),
        (F::InvalidRequest, S::Error),
        (F::UnknownSource, S::Error),
        (F::Gone, S::Error),
        (F::Conflict, S::Error),
        (F::TooLarge, S::Error),
    ];
    for (kind, status) in table {
        assert_eq!(status_of(kind), status, "{kind:?}");
    }
}

#[test]
fn a_source_with_more_rows_is_truncated_also_when_none_of_them_came_this_time() {
    assert_eq!(status_of_answer(0, false), SourceStatus::Empty);
    assert_eq!(status_of_answer(3, false), SourceStatus::Ok);
    assert_eq!(status_of_answer(3, true), SourceStatus::Truncated);
    assert_eq!(status_of_answer(0, true), SourceStatus::Truncated);
}

fn report(status: SourceStatus) -> SourceReport {
    SourceReport {
        source: SourceName::Local,
        status,
        rows: 0,
        took: Duration::ZERO,
        fault: None,
        breaker: None,
        last_ok_at: None,
        age: None,
    }
}

proptest! {
    #[test]
    fn the_verdict_fails_when_nothing_answered_or_something_required_did_not(
        sources in prop::collection::vec((prop::sample::select(SourceStatus::ALL.to_vec()), any::<bool>()), 1..6)
    ) {
        let reports: Vec<_> = sources.iter().map(|(status, required)| (report(*status), *required)).collect();
        let pairs: Vec<_> = reports.iter().map(|(report, required)| (report, *required)).collect();
        let answered = |status: &SourceStatus| {
            ["ok", "empty", "truncated", "cached"].contains(&status.as_str())
        };
        let missing: Vec<_> = sources.iter().filter(|(status, _)| !answered(status)).collect();
        let missing_required: Vec<_> = missing.iter().filter(|(_, required)| *required).collect();
        let expected = if missing.len() == sources.len() {
            if missing.iter().all(|(status, _)| status.as_str() == "timed_out") { Verdict::AllTimedOut } else { Verdict::AllFailed }
        } else if missing_required.is_empty() {
            Verdict::Answered
        } else if missing_required.iter().all(|(status, _)| status.as_str() == "timed_out") {
            Verdict::RequiredTimedOut
        } else {
            Verdict::RequiredFailed
        };
        prop_assert_eq!(verdict(&pairs), expected);
    }
}
