//! What became of each source, in the words of the protocol. Pure.

use super::plan::Verdict;
use crate::domain::answer::{SourceReport, SourceStatus};
use crate::domain::fault::FaultKind;

#[cfg(test)]
mod tests;

/// The status under which a failed source appears in `_sources` (protocol.md, "Session query").
pub(super) fn status_of(kind: FaultKind) -> SourceStatus {
    match kind {
        FaultKind::TimedOut => SourceStatus::TimedOut,
        FaultKind::Unreachable => SourceStatus::Unreachable,
        FaultKind::BreakerOpen => SourceStatus::BreakerOpen,
        FaultKind::Forbidden | FaultKind::ScopeViolation | FaultKind::Unauthorized | FaultKind::GrantPending => {
            SourceStatus::Denied
        }
        FaultKind::GrantExpired => SourceStatus::GrantExpired,
        FaultKind::GrantRevoked => SourceStatus::GrantRevoked,
        FaultKind::GrantSuspended => SourceStatus::GrantSuspended,
        FaultKind::CertificateExpired => SourceStatus::CertExpired,
        FaultKind::RateLimited => SourceStatus::RateLimited,
        FaultKind::Incompatible => SourceStatus::Incompatible,
        // A row that is not there is an answer.
        FaultKind::NotFound => SourceStatus::Empty,
        FaultKind::InvalidRequest
        | FaultKind::UnknownSource
        | FaultKind::Gone
        | FaultKind::Conflict
        | FaultKind::TooLarge
        | FaultKind::BadAnswer
        | FaultKind::Unavailable
        | FaultKind::Internal => SourceStatus::Error,
    }
}

/// The status of a source that answered.
pub(super) fn status_of_answer(rows: usize, more: bool) -> SourceStatus {
    match (rows, more) {
        (_, true) => SourceStatus::Truncated,
        (0, false) => SourceStatus::Empty,
        (_, false) => SourceStatus::Ok,
    }
}

/// Whether the session should be told that the peer is offline.
pub(super) fn is_offline(status: SourceStatus) -> bool {
    matches!(status, SourceStatus::TimedOut | SourceStatus::Unreachable | SourceStatus::BreakerOpen)
}

/// Whether the answer as a whole counts as one. Each report comes with whether its source is required.
pub(super) fn verdict(reports: &[(&SourceReport, bool)]) -> Verdict {
    let failed = |only_required: bool| {
        reports
            .iter()
            .filter(move |(report, required)| !report.status.is_answer() && (*required || !only_required))
            .map(|(report, _)| report.status)
    };
    let all_timed_out = |mut statuses: &mut dyn Iterator<Item = SourceStatus>| {
        Iterator::all(&mut statuses, |status| status == SourceStatus::TimedOut)
    };
    if failed(false).count() == reports.len() && !reports.is_empty() {
        return if all_timed_out(&mut failed(false)) { Verdict::AllTimedOut } else { Verdict::AllFailed };
    }
    if failed(true).next().is_some() {
        return if all_timed_out(&mut failed(true)) { Verdict::RequiredTimedOut } else { Verdict::RequiredFailed };
    }
    Verdict::Answered
}
