//! The catalog: which tables hold the resources of this site, and what is in their columns.
//!
//! The built-in resources and an operator's `[[resource]]` are declared alike and checked alike at boot, against the
//! database itself. Identifiers come from the configuration only, must exist, and are quoted; values are always bound.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mosaic_actors::domain::catalog::{Catalog, Column, ColumnKind, Resource, ResourceName};

mod built_in;
mod inspect;

#[cfg(test)]
mod tests;

pub use crate::config::ResourceConfig;
pub use built_in::built_in_resources;
pub use inspect::load_catalog;

/// Names that every row has on the wire: no column can be called so, because one object has each name once.
pub const ROW_FIELDS: [&str; 7] = ["id", "created_at", "owner_id", "team_id", "_source", "_resource", "_score"];
/// Most columns of one resource: a row must stay an object that people read.
pub const COLUMNS_MAX: usize = 100;

/// Something the catalog cannot be served with, or should not be: which resource, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogNote {
    pub resource: String,
    pub problem: String,
    pub remedy: String,
}

impl fmt::Display for CatalogNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resource '{}': {}; {}", self.resource, self.problem, self.remedy)
    }
}

/// Why there is no catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Everything that is wrong with the declared resources, at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<CatalogNote>),
    #[error("the database could not be asked about the catalog's tables: {0}")]
    Database(#[from] tokio_postgres::Error),
}

/// The resources of this site with their tables; made once at boot by [`load_catalog`].
#[derive(Debug, Clone, Default)]
pub struct TableCatalog {
    tables: BTreeMap<ResourceName, Arc<TableMap>>,
    domain: Arc<Catalog>,
    /// What works but will be slow or surprising.
    pub warnings: Vec<CatalogNote>,
}

impl TableCatalog {
    fn new(tables: Vec<TableMap>, warnings: Vec<CatalogNote>) -> Self {
        let domain = Arc::new(Catalog::new(tables.iter().map(|table| table.resource.clone())));
        let tables = tables.into_iter().map(|table| (table.resource.name.clone(), Arc::new(table))).collect();
        Self { tables, domain, warnings }
    }

    #[must_use]
    pub fn get(&self, name: &ResourceName) -> Option<&Arc<TableMap>> {
        self.tables.get(name)
    }

    /// The same resources as the domain sees them, without tables.
    #[must_use]
    pub fn domain(&self) -> Arc<Catalog> {
        Arc::clone(&self.domain)
    }
}

/// What Postgres keeps in a column, as far as reading, comparing and writing it differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storage {
    /// `text`, `varchar`, `char`, `name`; `chars_max` from `varchar(n)`.
    Text {
        chars_max: Option<usize>,
    },
    Enum {
        /// Quoted, with its schema.
        type_name: String,
        labels: Vec<String>,
    },
    Uuid,
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// On the wire a number with all its digits; compared as the number that was written.
    Numeric,
    Timestamptz,
    Date,
    Json,
    Jsonb,
    TextArray,
}

impl Storage {
    pub(crate) fn kind(&self) -> ColumnKind {
        match self {
            Self::Text { .. } | Self::Enum { .. } => ColumnKind::Text,
            Self::Uuid => ColumnKind::Uuid,
            Self::Bool => ColumnKind::Bool,
            Self::Int2 | Self::Int4 | Self::Int8 => ColumnKind::Integer,
            Self::Float4 | Self::Float8 | Self::Numeric => ColumnKind::Float,
            Self::Timestamptz => ColumnKind::Timestamp,
            Self::Date => ColumnKind::Date,
            Self::Json | Self::Jsonb => ColumnKind::Json,
            Self::TextArray => ColumnKind::TextList,
        }
    }

    /// The cast under which the column is read, so that its binary form is one that we write.
    pub(crate) fn read_cast(&self) -> &'static str {
        match self {
            Self::Text { .. } | Self::Enum { .. } | Self::Numeric => "::text",
            Self::TextArray => "::text[]",
            _ => "",
        }
    }

    /// The type in which a value for the column is sent inside JSON.
    pub(crate) fn write_type(&self) -> &str {
        match self {
            Self::Text { .. } => "text",
            Self::Enum { type_name, .. } => type_name,
            Self::Uuid => "uuid",
            Self::Bool => "bool",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Float4 => "float4",
            Self::Float8 => "float8",
            Self::Numeric => "numeric",
            Self::Timestamptz => "timestamptz",
            Self::Date => "date",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::TextArray => "text[]",
        }
    }
}

/// A column that exists, ready for SQL.
#[derive(Debug, Clone)]
pub(crate) struct TableColumn {
    /// As on the wire.
    pub name: Box<str>,
    /// In a row's JSON, made once: [`before_value`](super::row_json::before_value).
    pub before_value: Box<[u8]>,
    /// As in SQL.
    pub quoted: String,
    pub storage: Storage,
    pub not_null: bool,
    pub has_default: bool,
    /// Computed by the database (`GENERATED`), or kept by the node (`updated_at`).
    pub read_only: bool,
}

/// One resource's table. The order of [`TableMap::columns`] is that of [`Resource::columns`].
#[derive(Debug, Clone)]
pub struct TableMap {
    pub(crate) resource: Resource,
    /// `"schema"."table"`.
    pub(crate) table: String,
    pub(crate) id: TableColumn,
    pub(crate) order: TableColumn,
    pub(crate) owner: TableColumn,
    pub(crate) team: Option<TableColumn>,
    pub(crate) columns: Vec<TableColumn>,
    /// Constraint name to the wire names of its columns: how a violation names the field without SQL text.
    pub(crate) constraints: BTreeMap<String, Vec<String>>,
    /// A timestamptz column `updated_at` outside of the columns that sessions write, quoted.
    pub(crate) updated_at: Option<String>,
}

impl TableMap {
    /// The resource as the domain sees it.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The column behind a name of the wire. `team_id` has none where the table knows no teams.
    pub(crate) fn field(&self, name: &str) -> Option<&TableColumn> {
        match name {
            "id" => Some(&self.id),
            "created_at" => Some(&self.order),
            "owner_id" => Some(&self.owner),
            "team_id" => self.team.as_ref(),
            _ => self.columns.iter().find(|column| &*column.name == name),
        }
    }
}

/// An identifier as SQL takes it, whatever is in it.
pub(crate) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn domain_columns(columns: &[TableColumn], filterable: &[String]) -> Vec<Column> {
    columns
        .iter()
        .map(|column| Column {
            name: column.name.clone(),
            kind: column.storage.kind(),
            filterable: filterable.iter().any(|name| **name == *column.name),
        })
        .collect()
}
