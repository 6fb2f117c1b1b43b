//! The resources of this site: what exists, which columns can be filtered, and what no grant can ever open.

use std::collections::BTreeMap;
use std::fmt;

/// The name of a resource: 1 to 63 characters `a-z 0-9 _`, starting with a letter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a resource name has 1 to 63 characters a-z, 0-9 or '_' and starts with a letter")]
pub struct ResourceNameError;

impl ResourceName {
    /// Parses a resource name.
    pub fn parse(text: &str) -> Result<Self, ResourceNameError> {
        let bytes = text.as_bytes();
        let shape = bytes.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_');
        if shape { Ok(Self(text.into())) } else { Err(ResourceNameError) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of a column, as far as filters and the JSON of a row need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    Uuid,
    Bool,
    /// 16, 32 or 64 bit.
    Integer,
    /// 32 or 64 bit; not finite is written as `null`.
    Float,
    /// RFC 3339 UTC with microseconds.
    Timestamp,
    /// `YYYY-MM-DD`.
    Date,
    /// Written through as it stands; never filterable.
    Json,
    /// A list of texts; never filterable.
    TextList,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: Box<str>,
    pub kind: ColumnKind,
    pub filterable: bool,
}

/// A named, typed set of rows. On the wire every row has `id`, `created_at`, `owner_id` and `team_id` (null for a personal row),
/// whatever the table calls them, then [`Resource::columns`] under their own names, then `_source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub name: ResourceName,
    pub id_kind: ColumnKind,
    pub columns: Vec<Column>,
    /// Columns that `search` looks into.
    pub searchable: Vec<Box<str>>,
    /// Never leaves this site, whatever a grant says.
    pub sensitive: bool,
    /// Sessions may insert, change and delete their rows through the node.
    pub writable: bool,
}

/// All resources of this site, checked against the database at boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    resources: BTreeMap<ResourceName, Resource>,
}

impl Catalog {
    #[must_use]
    pub fn new(resources: impl IntoIterator<Item = Resource>) -> Self {
        Self { resources: resources.into_iter().map(|resource| (resource.name.clone(), resource)).collect() }
    }

    #[must_use]
    pub fn get(&self, name: &ResourceName) -> Option<&Resource> {
        self.resources.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.resources.values()
    }

    /// Whether a grant may name this resource: it exists and is not sensitive.
    #[must_use]
    pub fn is_grantable(&self, name: &ResourceName) -> bool {
        self.get(name).is_some_and(|resource| !resource.sensitive)
    }
}
