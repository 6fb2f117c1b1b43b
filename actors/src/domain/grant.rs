//! The owner's decision, and its life.

use time::OffsetDateTime;

use super::identity::{GrantId, Serial, SiteName, TeamId, UserId};
use super::scope::Scope;

/// `pending → active ⇄ suspended`, and from each of them to `revoked` or `expired`, which are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantStatus {
    Pending,
    Active,
    Suspended,
    Revoked,
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantChange {
    /// The first certificate was issued.
    Activate,
    Suspend,
    Resume,
    Revoke,
    Expire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a grant that is {} cannot be {}", .from.as_str(), .change.past_participle())]
pub struct IllegalTransition {
    pub from: GrantStatus,
    pub change: GrantChange,
}

impl GrantChange {
    #[must_use]
    pub fn past_participle(self) -> &'static str {
        match self {
            Self::Activate => "activated",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Revoke => "revoked",
            Self::Expire => "expired",
        }
    }
}

impl GrantStatus {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Suspended, Self::Revoked, Self::Expired];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// The status after `change`. Nothing happens twice: an illegal or repeated change is an error, not a no-op.
    pub fn after(self, change: GrantChange) -> Result<Self, IllegalTransition> {
        match (self, change) {
            (Self::Pending, GrantChange::Activate) | (Self::Suspended, GrantChange::Resume) => Ok(Self::Active),
            (Self::Active, GrantChange::Suspend) => Ok(Self::Suspended),
            (Self::Pending | Self::Active | Self::Suspended, GrantChange::Revoke) => Ok(Self::Revoked),
            (Self::Pending | Self::Active | Self::Suspended, GrantChange::Expire) => Ok(Self::Expired),
            (from, change) => Err(IllegalTransition { from, change }),
        }
    }
}

/// A grant as the authorisation decision needs it: the row, its subject's native rights, and the serials on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    /// Grows with every change of the row; part of every audit event and cache key.
    pub version: i64,
    pub peer: SiteName,
    pub subject: UserId,
    pub subject_active: bool,
    pub subject_teams: Vec<TeamId>,
    pub scope: Scope,
    pub status: GrantStatus,
    pub expires_at: OffsetDateTime,
    pub limits: InboundLimits,
    pub certificates: Vec<CertificateOnRecord>,
}

/// A certificate that this grant's holder may use now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateOnRecord {
    pub serial: Serial,
    pub not_after: OffsetDateTime,
    /// Set once a newer certificate took over: this one is refused from then on.
    pub accepted_until: Option<OffsetDateTime>,
}

/// How much one grant's holder may ask. Over it: 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundLimits {
    pub requests_per_second: u32,
    pub burst: u32,
    pub concurrent: u32,
}

impl Grant {
    /// Whether `serial` is on record and still accepted at `now`.
    #[must_use]
    pub fn accepts(&self, serial: &Serial, now: OffsetDateTime) -> bool {
        self.certificates.iter().any(|certificate| {
            certificate.serial == *serial
                && now < certificate.not_after
                && certificate.accepted_until.is_none_or(|until| now < until)
        })
    }

    /// Whether a request with `serial` is the sign that its holder has the newest certificate, while older ones still count.
    #[must_use]
    pub fn is_taken_over_by(&self, serial: &Serial, now: OffsetDateTime) -> bool {
        let newest = |certificate: &CertificateOnRecord| certificate.accepted_until.is_none();
        self.certificates.len() > 1
            && self.certificates.iter().any(|certificate| certificate.serial == *serial && newest(certificate))
            && self.certificates.iter().any(|certificate| certificate.accepted_until.is_some_and(|until| now < until))
    }

    /// The status at `now`: an active, suspended or pending grant past its expiry is expired, whatever the row still says.
    #[must_use]
    pub fn status_at(&self, now: OffsetDateTime) -> GrantStatus {
        match self.status {
            GrantStatus::Revoked => GrantStatus::Revoked,
            _ if now >= self.expires_at => GrantStatus::Expired,
            status => status,
        }
    }
}
