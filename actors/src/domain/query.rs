//! What is asked, and with which right.

use std::fmt;
use std::num::NonZeroU32;

use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::catalog::ResourceName;
use super::identity::{TeamId, UserId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Capabilities,
    List,
    Get,
    Search,
}

impl Verb {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::List => "list",
            Self::Get => "get",
            Self::Search => "search",
        }
    }
}

/// A row's identifier as it stands on the wire: 1 to 200 characters, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row id has 1 to 200 characters and no control characters")]
pub struct RowIdError;

impl RowId {
    /// Longest identifier, in characters: fits every key that an operator's table is likely to have, and bounds cursors.
    pub const MAX_CHARS: usize = 200;

    /// Parses a row identifier.
    pub fn parse(text: &str) -> Result<Self, RowIdError> {
        let length = text.chars().count();
        if (1..=Self::MAX_CHARS).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(RowIdError)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a row stands in the order `created_at` descending, `id` descending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub created_at: OffsetDateTime,
    pub id: RowId,
}

/// One comparison of a typed filter. Fields and value types were checked against the catalog; values are always bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub field: Box<str>,
    pub operator: Operator,
    /// One value, except for [`Operator::In`].
    pub values: Vec<FilterValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    Equal,
    GreaterOrEqual,
    GreaterThan,
    LessOrEqual,
    LessThan,
    In,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FilterValue {
    Null,
    Text(String),
    Uuid(Uuid),
    Bool(bool),
    Integer(i64),
    Float(f64),
    Timestamp(OffsetDateTime),
    Date(Date),
}

/// `where`, typed: all conditions must hold. Sorted by field and operator, so that equal filters are equal values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    pub conditions: Vec<Condition>,
}

/// The right to read one resource's rows. Only the scope evaluator (for a peer) and a session (for its own user) make one,
/// and nothing but this value opens the rows port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRight {
    pub(crate) subject: UserId,
    pub(crate) resource: ResourceName,
    pub(crate) visibility: Visibility,
    pub(crate) max_rows: NonZeroU32,
}

/// Which tenants' rows are visible. The branches may overlap (an own row in an own team); the reader removes doubles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    pub own: OwnRows,
    /// Every row of these teams.
    pub teams: Vec<TeamId>,
    /// Of these teams, which are not the subject's any more, only the rows that the subject owns.
    pub own_in_teams: Vec<TeamId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnRows {
    /// Every row that the subject owns, in whatever team.
    All,
    /// Rows that the subject owns and that have no team.
    Personal,
    None,
}

impl ReadRight {
    /// A session's right to its own user's rows: own rows and those of own teams, sensitive resources included.
    #[must_use]
    pub fn of_session(session: &super::identity::Session, resource: ResourceName, max_rows: NonZeroU32) -> Self {
        Self {
            subject: session.user,
            resource,
            visibility: Visibility { own: OwnRows::All, teams: session.teams.clone(), own_in_teams: Vec::new() },
            max_rows,
        }
    }

    #[must_use]
    pub fn subject(&self) -> UserId {
        self.subject
    }

    #[must_use]
    pub fn resource(&self) -> &ResourceName {
        &self.resource
    }

    #[must_use]
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// Most rows that one answer may hold.
    #[must_use]
    pub fn max_rows(&self) -> NonZeroU32 {
        self.max_rows
    }

    /// The second wall: whether a row of this owner and team may leave under this right.
    #[must_use]
    pub fn allows(&self, owner: Option<UserId>, team: Option<TeamId>) -> bool {
        let own = owner == Some(self.subject);
        let by_owner = own
            && match self.visibility.own {
                OwnRows::All => true,
                OwnRows::Personal => team.is_none(),
                OwnRows::None => false,
            };
        by_owner
            || team.is_some_and(|team| {
                self.visibility.teams.contains(&team) || (own && self.visibility.own_in_teams.contains(&team))
            })
    }
}

/// Sources that a session asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSelector {
    Local,
    Peer(super::identity::SiteName),
    All,
}
