//! The asking site's side of a grant.

use std::fmt;

use time::OffsetDateTime;

use super::identity::{GrantId, LinkId, Serial, SiteName, TeamId, UserId};

/// `pending → active → degraded | suspended | revoked | expired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkState {
    Pending,
    Active,
    Degraded,
    Suspended,
    Revoked,
    Expired,
}

impl LinkState {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Active, Self::Degraded, Self::Suspended, Self::Revoked, Self::Expired];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Degraded => "degraded",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Everything needed to speak over a link, and who may.
#[derive(Clone)]
pub struct Link {
    pub id: LinkId,
    /// What this site calls the peer; `_source` of its rows.
    pub peer: SiteName,
    /// The link is this user's; others do not even learn that it exists …
    pub owner: UserId,
    /// … except members of these local teams.
    pub shared_with: Vec<TeamId>,
    pub state: LinkState,
    /// The owner site's grant, for logs and certificates; it gives no right here.
    pub grant: GrantId,
    /// `https://host:port`, no path.
    pub federation_url: Box<str>,
    /// Loopback, link-local and metadata addresses may be dialled.
    pub allow_private: bool,
    pub credentials: LinkCredentials,
    pub created_at: OffsetDateTime,
}

/// The client side of the mutual TLS of one link. The key is opened only when a connection is dialled.
#[derive(Clone)]
pub struct LinkCredentials {
    pub serial: Serial,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// DER, leaf first.
    pub certificate_chain: Vec<Vec<u8>>,
    /// Sealed PKCS#8; opened by the transport only.
    pub sealed_key: Vec<u8>,
    /// Which key of this link it is: the seal is bound to it.
    pub key_version: i32,
    /// DER of the pinned root.
    pub pinned_root: Vec<u8>,
}

impl Link {
    /// Whether `user`, member of `teams`, may ask over this link.
    #[must_use]
    pub fn is_visible_to(&self, user: UserId, teams: &[TeamId]) -> bool {
        self.owner == user || self.shared_with.iter().any(|team| teams.contains(team))
    }
}

impl fmt::Debug for LinkCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkCredentials")
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .field("key_version", &self.key_version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("state", &self.state)
            .field("serial", &self.credentials.serial)
            .finish_non_exhaustive()
    }
}
