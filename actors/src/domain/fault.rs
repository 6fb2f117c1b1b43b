//! One failure, described once: what went wrong, in which stage, and whether asking again can help.
//! The edges map it to status codes, metric labels and log lines; no other text reaches a client.

use std::fmt;
use std::time::Duration;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The request is malformed or names something that cannot be asked.
    InvalidRequest,
    /// A `source` that this user does not have.
    UnknownSource,
    /// No or no valid credentials.
    Unauthorized,
    /// Valid credentials without the right.
    Forbidden,
    GrantPending,
    GrantSuspended,
    GrantRevoked,
    GrantExpired,
    /// The resource is unknown, not in scope, excluded or sensitive.
    ScopeViolation,
    NotFound,
    Gone,
    Conflict,
    TooLarge,
    RateLimited,
    /// No answer in time.
    TimedOut,
    /// No connection, or it broke.
    Unreachable,
    BreakerOpen,
    /// This link's client certificate is past its end.
    CertificateExpired,
    /// The peer speaks a protocol that this node does not.
    Incompatible,
    /// The peer's answer cannot be used: not JSON, too large, lying.
    BadAnswer,
    /// A dependency of this node (database, audit, grant state) cannot be reached.
    Unavailable,
    /// A defect of this node.
    Internal,
}

/// Where it went wrong, in the order of a request's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Request,
    Plan,
    /// In-flight caps, breaker, rate limits.
    Admission,
    Resolve,
    Connect,
    Tls,
    Send,
    FirstByte,
    Body,
    Parse,
    Authorize,
    Database,
    Egress,
    Audit,
}

impl Stage {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Plan => "plan",
            Self::Admission => "admission",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Send => "send",
            Self::FirstByte => "first_byte",
            Self::Body => "body",
            Self::Parse => "parse",
            Self::Authorize => "authorize",
            Self::Database => "database",
            Self::Egress => "egress",
            Self::Audit => "audit",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    pub kind: FaultKind,
    pub stage: Stage,
    pub retryable: bool,
    /// Not before then does asking again make sense.
    pub retry_after: Option<Duration>,
    /// For the client, in our own words: what is wrong with the request and what to do. Never SQL, paths, hosts or ids of others.
    pub message: Option<Box<str>>,
}

impl Fault {
    #[must_use]
    pub fn new(kind: FaultKind, stage: Stage) -> Self {
        let retryable = matches!(
            kind,
            FaultKind::RateLimited
                | FaultKind::TimedOut
                | FaultKind::Unreachable
                | FaultKind::BreakerOpen
                | FaultKind::BadAnswer
                | FaultKind::Unavailable
                | FaultKind::Internal
        );
        Self { kind, stage, retryable, retry_after: None, message: None }
    }

    #[must_use]
    pub fn invalid(message: impl Into<Box<str>>) -> Self {
        Self::new(FaultKind::InvalidRequest, Stage::Request).with_message(message)
    }

    #[must_use]
    pub fn with_message(mut self, message: impl Into<Box<str>>) -> Self {
        self.message = Some(message.into());
        self
    }

    #[must_use]
    pub fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.kind, self.stage.as_str())?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}
