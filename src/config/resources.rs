//! `[[resource]]`: an operator's own tables as resources. Shape only; whether the table and its columns exist is checked
//! against the database at boot.

use mosaic_actors::domain::catalog::ResourceName;

/// Which table's rows make a resource, and how.
///
/// `table` is `name` or `schema.name`; every column is a bare name. All are quoted wherever they meet SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceConfig {
    pub name: ResourceName,
    pub table: String,
    /// The key column; unique.
    pub id: String,
    /// The column with the owning user's id.
    pub owner: String,
    /// The column with the team's id, if rows can belong to a team.
    pub team: Option<String>,
    /// The column that orders rows, newest first: a `timestamptz` that never changes; it is `created_at` on the wire.
    pub order: String,
    /// Columns that leave, in this order, besides the four above.
    pub columns: Vec<String>,
    /// Of `columns`, those that `where` may name.
    pub filterable: Vec<String>,
    /// Of `columns`, those that `search` looks into.
    pub searchable: Vec<String>,
    /// No grant can open it.
    pub sensitive: bool,
    /// Sessions may insert, change and delete their rows.
    pub writable: bool,
}
