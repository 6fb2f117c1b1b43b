//! From the table of limits to what each part wants to know.

use mosaic_actors::audit_writer::AuditLimits;
use mosaic_actors::fan_out::FanOutLimits;
use mosaic_actors::peer_link::admission::AdmissionLimits;
use mosaic_actors::peer_link::renewal::RenewalLimits;
use mosaic_actors::peer_link::{PeerLinkLimits, WatchLimits};
use mosaic_actors::peer_registry::PeerRegistryLimits;

use crate::config::Limits;
use crate::postgres::authority_feed::FeedLimits;
use crate::postgres::pool::PoolOptions;

pub(super) fn pool(limits: &Limits, name: &str, max_size: usize) -> PoolOptions {
    PoolOptions {
        max_size,
        wait: limits.pool_wait,
        create: limits.database_connect,
        recycle: limits.database_check,
        statement_timeout: limits.statement,
        application_name: format!("mosaic {name}"),
    }
}

pub(super) fn feed(limits: &Limits) -> FeedLimits {
    FeedLimits {
        heartbeat: limits.authority_heartbeat,
        answer: limits.authority_answer,
        reconnect: limits.reconnect,
        reconnect_max: limits.reconnect_max,
        load: limits.statement,
    }
}

pub(super) fn audit(limits: &Limits) -> AuditLimits {
    AuditLimits { batch: limits.audit_batch, queue: limits.audit_queue, ..AuditLimits::default() }
}

pub(super) fn fan_out(limits: &Limits) -> FanOutLimits {
    FanOutLimits {
        max_in_flight: limits.queries_in_flight,
        peer_budget: limits.peer_budget,
        page_cap: limits.page_cap,
        ..FanOutLimits::default()
    }
}

pub(super) fn registry(limits: &Limits) -> PeerRegistryLimits {
    let admission = AdmissionLimits {
        in_flight: limits.peer_in_flight,
        failures_in_a_row: limits.breaker_failures,
        window_minimum: limits.breaker_calls,
        window: limits.breaker_window,
        open: limits.breaker_open,
        open_max: limits.breaker_open_max,
        ..AdmissionLimits::default()
    };
    let link = PeerLinkLimits {
        admission,
        own_call: limits.peer_budget,
        own_calls_at_once: limits.own_calls,
        renewal: RenewalLimits {
            deadline: limits.renewal,
            retry: limits.renewal_retry,
            retry_max: limits.renewal_retry_max,
        },
        cursor_bytes: limits.peer_cursor,
        watch: WatchLimits {
            retry: limits.watch_retry,
            retry_max: limits.watch_retry_max,
            silence: limits.watch_silence,
            ..WatchLimits::default()
        },
        ..PeerLinkLimits::default()
    };
    PeerRegistryLimits { link, ..PeerRegistryLimits::default() }
}
