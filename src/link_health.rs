//! From a link's status in memory to what is told of it.

use std::time::Duration;

use mosaic_actors::peer_link::{Injection, LinkStatus, WatchStatus};
use mosaic_actors::ports::peer_transport::InjectedFault;

use crate::faults::source_error_code;
use crate::wire::link_v1::{InjectedV1, LinkFailureV1, LinkHealthV1, LinkWatchV1};

/// What sessions and admins alike are told of a link.
#[must_use]
pub fn link_health(status: &LinkStatus) -> LinkHealthV1 {
    LinkHealthV1 {
        state: status.state.as_str().to_owned(),
        breaker: status.breaker.as_str().to_owned(),
        breaker_retry_in_ms: status.breaker_retry_in.map(whole_milliseconds),
        in_flight: status.in_flight as u64,
        latency_ms: status.latency.map(|latency| (latency.as_secs_f64() * 1e6).round() / 1e3),
        last_ok_at: status.last_ok_at,
        last_failure: status.last_fault.as_ref().map(|(at, fault)| LinkFailureV1 {
            at: *at,
            code: source_error_code(fault.kind).to_owned(),
            stage: fault.stage.as_str().to_owned(),
            retryable: fault.retryable,
        }),
        certificate_not_after: status.certificate_not_after,
        restarts: u64::from(status.restarts),
        watch: watch(&status.watch),
        injected: status.injected.as_ref().map(injected),
    }
}

fn injected(injection: &Injection) -> InjectedV1 {
    let (fault, delay_ms, after_bytes) = match injection.fault {
        InjectedFault::Delay(delay) => ("delay", Some(whole_milliseconds(delay)), None),
        InjectedFault::StallAfter(bytes) => ("stall", None, Some(bytes)),
        InjectedFault::Error => ("error", None, None),
        InjectedFault::Reset => ("reset", None, None),
    };
    InjectedV1 { fault: fault.to_owned(), delay_ms, after_bytes, until: injection.until }
}

fn watch(status: &WatchStatus) -> LinkWatchV1 {
    let (state, since, fault) = match status {
        WatchStatus::Off => ("off", None, None),
        WatchStatus::Up { since } => ("up", Some(*since), None),
        WatchStatus::Down { since, fault } => ("down", Some(*since), Some(fault)),
        WatchStatus::Unsupported { since } => ("unsupported", Some(*since), None),
    };
    LinkWatchV1 {
        state: state.to_owned(),
        since,
        code: fault.map(|fault| source_error_code(fault.kind).to_owned()),
        stage: fault.map(|fault| fault.stage.as_str().to_owned()),
    }
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
