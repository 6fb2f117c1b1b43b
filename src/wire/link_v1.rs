//! How a link is, as sessions and admins see it alike; read from memory.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The part of a link's status that does not depend on who asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkHealthV1 {
    /// `pending`, `active`, `degraded`, `suspended`, `revoked` or `expired`.
    pub state: String,
    /// `closed`, `open` or `half_open`.
    pub breaker: String,
    /// When an open breaker lets a probe through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker_retry_in_ms: Option<u64>,
    pub in_flight: u64,
    /// Moving average of answered asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_ok_at: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LinkFailureV1>,
    #[serde(with = "time::serde::rfc3339")]
    pub certificate_not_after: OffsetDateTime,
    /// How often a panic restarted the link.
    pub restarts: u64,
    pub watch: LinkWatchV1,
    /// What an admin makes go wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<InjectedV1>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InjectedV1 {
    /// `delay`, `stall`, `error` or `reset`.
    pub fault: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_bytes: Option<u64>,
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkFailureV1 {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub code: String,
    pub stage: String,
    pub retryable: bool,
}

/// Whether the owner tells changes of the grant by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkWatchV1 {
    /// `up`, `down`, `unsupported` (an older peer), or `off` (not tried yet, or the grant has ended).
    pub state: String,
    /// Since when.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub since: Option<OffsetDateTime>,
    /// Why it is down: code and stage, as of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}
