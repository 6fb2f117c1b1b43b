//! Rows on their way out, and the account of where they came from.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;

use super::fault::Fault;
use super::identity::{SiteName, TeamId, UserId};
use super::query::Position;

/// Rows of one source, in order, serialised once: `json` holds the objects separated by commas, without brackets.
#[derive(Clone, Default)]
pub struct Page {
    pub json: Bytes,
    pub rows: Vec<RowIndex>,
    /// More rows exist behind the last one.
    pub more: bool,
}

/// One row inside a [`Page`].
#[derive(Clone, PartialEq, Eq)]
pub struct RowIndex {
    pub position: Position,
    /// The bytes of the object within [`Page::json`].
    pub range: Range<usize>,
    /// Whose row it is: what the egress guard compares with the right. Rows of a peer have none of ours.
    pub owner: Option<UserId>,
    pub team: Option<TeamId>,
}

impl Page {
    /// The JSON object of one row; shares memory with the page.
    #[must_use]
    pub fn row_json(&self, row: &RowIndex) -> Bytes {
        self.json.slice(row.range.clone())
    }
}

// Rows are other people's content: nothing of them may reach a log by way of `{:?}`.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("rows", &self.rows.len())
            .field("bytes", &self.json.len())
            .field("more", &self.more)
            .finish()
    }
}

impl fmt::Debug for RowIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowIndex").field("range", &self.range).finish_non_exhaustive()
    }
}

/// What a peer's grant lets this link do, as the peer told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    pub protocol: u32,
    pub site: String,
    pub resources: Vec<String>,
    pub excluded_resources: Vec<String>,
    pub max_rows_per_query: u32,
    pub supported_verbs: Vec<String>,
    pub grant_expires_at: OffsetDateTime,
    /// Seconds.
    pub cache_max_age: u32,
}

/// The name under which a source appears in `_source` and `_sources`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceName {
    Local,
    Peer(SiteName),
}

impl SourceName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::Peer(name) => name.as_str(),
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `status` in `_sources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceStatus {
    Ok,
    Empty,
    Truncated,
    Cached,
    TimedOut,
    Unreachable,
    BreakerOpen,
    Denied,
    GrantExpired,
    GrantRevoked,
    GrantSuspended,
    CertExpired,
    RateLimited,
    Incompatible,
    Error,
}

impl SourceStatus {
    pub const ALL: [Self; 15] = [
        Self::Ok,
        Self::Empty,
        Self::Truncated,
        Self::Cached,
        Self::TimedOut,
        Self::Unreachable,
        Self::BreakerOpen,
        Self::Denied,
        Self::GrantExpired,
        Self::GrantRevoked,
        Self::GrantSuspended,
        Self::CertExpired,
        Self::RateLimited,
        Self::Incompatible,
        Self::Error,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::Cached => "cached",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::BreakerOpen => "breaker_open",
            Self::Denied => "denied",
            Self::GrantExpired => "grant_expired",
            Self::GrantRevoked => "grant_revoked",
            Self::GrantSuspended => "grant_suspended",
            Self::CertExpired => "cert_expired",
            Self::RateLimited => "rate_limited",
            Self::Incompatible => "incompatible",
            Self::Error => "error",
        }
    }

    /// Whether the source answered. Everything else makes the whole answer partial.
    #[must_use]
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Ok | Self::Empty | Self::Truncated | Self::Cached)
    }
}

/// A breaker's state as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BreakerState {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

impl BreakerState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// One entry of `_sources`.
#[derive(Debug, Clone)]
pub struct SourceReport {
    pub source: SourceName,
    pub status: SourceStatus,
    /// Rows of this source in the answer.
    pub rows: usize,
    pub took: Duration,
    pub fault: Option<Fault>,
    /// Peers only.
    pub breaker: Option<BreakerState>,
    pub last_ok_at: Option<OffsetDateTime>,
    /// Age of a cached answer.
    pub age: Option<Duration>,
}

/// One row of a blended answer.
#[derive(Clone)]
pub struct BlendedRow {
    pub source: SourceName,
    pub position: Position,
    pub json: Bytes,
}

/// A hint to the session that is not part of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub code: &'static str,
    pub peer: SiteName,
}
