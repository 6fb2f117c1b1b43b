//! What is written down about every request of a peer and every change of a grant.

use std::net::IpAddr;
use std::time::Duration;

use time::OffsetDateTime;

use super::catalog::ResourceName;
use super::identity::{GrantId, RequestId, Serial, SiteName, UserId};

/// What happened. `action` names a verb or a change; `outcome` and `reason` tell how it ended and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditAction {
    Capabilities,
    List,
    Get,
    Search,
    Renew,
    Watch,
    /// The holder acted on what it was told on its watch; `reason` says on what.
    Receipt,
    Enroll,
    Handshake,
    /// A path that is none of the protocol's.
    Unknown,
    /// A grant changed: `create`, `update`, `suspend`, …
    GrantChanged(&'static str),
}

impl AuditAction {
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::List => "list",
            Self::Get => "get",
            Self::Search => "search",
            Self::Renew => "renew",
            Self::Watch => "watch",
            Self::Receipt => "receipt",
            Self::Enroll => "enroll",
            Self::Handshake => "handshake",
            Self::Unknown => "unknown",
            Self::GrantChanged(change) => change,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditOutcome {
    Allowed,
    Denied,
    Failed,
}

impl AuditOutcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// One event. Never a body, never a row, never a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    pub at: OffsetDateTime,
    pub request: RequestId,
    pub peer: Option<SiteName>,
    pub grant: Option<GrantId>,
    pub grant_version: Option<i64>,
    pub subject: Option<UserId>,
    pub action: AuditAction,
    pub resource: Option<ResourceName>,
    /// Keyed SHA-256 of the canonical query.
    pub query_hash: Option<[u8; 32]>,
    pub outcome: AuditOutcome,
    /// A fixed word: the stage that denied, or what failed.
    pub reason: Option<&'static str>,
    pub rows: u32,
    pub bytes_out: u64,
    pub latency: Duration,
    pub serial: Option<Serial>,
    pub remote: Option<IpAddr>,
    /// How many more events like this one were not written down: only refused handshakes are suppressed.
    pub suppressed: u64,
}

impl AuditEvent {
    /// What every event has, and nothing else: nobody, of nothing, for no reason.
    #[must_use]
    pub fn bare(at: OffsetDateTime, request: RequestId, action: AuditAction, outcome: AuditOutcome) -> Self {
        Self {
            at,
            request,
            peer: None,
            grant: None,
            grant_version: None,
            subject: None,
            action,
            resource: None,
            query_hash: None,
            outcome,
            reason: None,
            rows: 0,
            bytes_out: 0,
            latency: Duration::ZERO,
            serial: None,
            remote: None,
            suppressed: 0,
        }
    }
}
