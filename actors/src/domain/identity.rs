//! Who asks, as whom, and from where.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random identifier (UUID v7: time ordered, so that index pages fill in order).
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

identifier!(
    /// A person known to this site.
    UserId
);
identifier!(
    /// A team of this site.
    TeamId
);
identifier!(
    /// The owner site's decision that a peer may read.
    GrantId
);
identifier!(
    /// The asking site's side of a grant.
    LinkId
);
identifier!(
    /// One session token; the token itself is only known hashed.
    SessionTokenId
);
identifier!(
    /// One request, in logs, audit and the `x-request-id` header.
    RequestId
);

/// The name of a site, as it calls itself or as a peer is called here: 1 to 63 characters `a-z 0-9 -`, starting and ending
/// with a letter or a digit (a DNS label, RFC 1123), and not one of the words that select sources.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteName(Box<str>);

/// Words that cannot name a site because `source` gives them a meaning.
const RESERVED_SITE_NAMES: [&str; 3] = ["local", "all", "federated"];

/// Why a text is not a site name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SiteNameError {
    #[error("a site name has 1 to 63 characters a-z, 0-9 or '-', and starts and ends with a letter or a digit")]
    Shape,
    #[error("'local', 'all' and 'federated' have a meaning as sources and cannot name a site")]
    Reserved,
}

impl SiteName {
    /// Parses a site name.
    pub fn parse(text: &str) -> Result<Self, SiteNameError> {
        let bytes = text.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let shape = bytes.len() <= 63
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if !shape {
            return Err(SiteNameError::Shape);
        }
        if RESERVED_SITE_NAMES.contains(&text) {
            return Err(SiteNameError::Reserved);
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate serial number: the magnitude's big-endian bytes without leading zeros, 1 to 20 of them (RFC 5280 4.1.2.2).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// Most octets that RFC 5280 allows for a serial number.
    pub const MAX_BYTES: usize = 20;

    /// Parses the magnitude's bytes; `None` for zero and for a serial that is too long.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let start = bytes.iter().position(|b| *b != 0)?;
        let magnitude = &bytes[start..];
        (magnitude.len() <= Self::MAX_BYTES).then(|| Self(magnitude.into()))
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a peer's client certificate says, after the strict profile check. It names a grant; it grants nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    pub grant: GrantId,
    pub subject: UserId,
    pub serial: Serial,
}

/// A local session: which user, in which teams, by which token. Read from the database on every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub user: UserId,
    pub teams: Vec<TeamId>,
    pub token: SessionTokenId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_name_is_a_dns_label_and_no_source_word() {
        assert_eq!(SiteName::parse("work-2").map(|n| n.to_string()), Ok("work-2".to_owned()));
        for bad in ["", "-work", "work-", "Work", "wo rk", "w_k", &"a".repeat(64)] {
            assert_eq!(SiteName::parse(bad), Err(SiteNameError::Shape), "{bad:?}");
        }
        for word in RESERVED_SITE_NAMES {
            assert_eq!(SiteName::parse(word), Err(SiteNameError::Reserved), "{word:?}");
        }
    }

    #[test]
    fn a_serial_has_no_leading_zeros_and_is_neither_zero_nor_over_long() {
        assert_eq!(Serial::from_bytes(&[0, 0, 1, 2]).map(|s| s.to_string()), Some("0102".to_owned()));
        assert_eq!(Serial::from_bytes(&[0, 0]), None);
        assert_eq!(Serial::from_bytes(&[]), None);
        assert_eq!(Serial::from_bytes(&[1; 21]), None);
        assert!(Serial::from_bytes(&[1; 20]).is_some());
    }
}
