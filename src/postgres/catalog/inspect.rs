//! Compares declared resources with the database: every problem at once, each with a remedy.

use std::collections::{BTreeMap, BTreeSet};

use mosaic_actors::domain::catalog::{ColumnKind, Resource, ResourceName};
use tokio_postgres::Client;

use super::{
    COLUMNS_MAX, CatalogError, CatalogNote, ROW_FIELDS, ResourceConfig, Storage, TableCatalog, TableColumn, TableMap,
    domain_columns, quoted,
};

mod found;

use found::{FoundColumn, FoundIndex, FoundTable};

/// Checks the declared resources (the built-in ones and the operator's) and makes the catalog.
///
/// A table, column or privilege that is missing, or a type that cannot be served, is an error; a missing index is a warning
/// in [`TableCatalog::warnings`] with the statement that creates it.
pub async fn load_catalog(client: &Client, declared: &[ResourceConfig]) -> Result<TableCatalog, CatalogError> {
    let mut notes = Notes::default();
    let mut tables: Vec<TableMap> = Vec::with_capacity(declared.len());
    for config in declared {
        notes.resource = config.name.to_string();
        check_columns(config, &mut notes);
        let name = config.name.clone();
        if tables.iter().any(|table| table.resource.name == name) {
            notes.problem("its name is declared twice", "give each resource a name of its own");
            continue;
        }
        let Some(found) = found::table(client, &config.table).await? else {
            notes.problem(
                format!("table '{}' does not exist or is not visible", config.table),
                "create it, or write its name as schema.table",
            );
            continue;
        };
        tables.extend(table_map(name, config, &found, &mut notes));
    }
    if notes.problems.is_empty() {
        Ok(TableCatalog::new(tables, notes.warnings))
    } else {
        Err(CatalogError::Problems(notes.problems))
    }
}

#[derive(Default)]
struct Notes {
    resource: String,
    problems: Vec<CatalogNote>,
    warnings: Vec<CatalogNote>,
}

impl Notes {
    fn note(&self, problem: impl Into<String>, remedy: impl Into<String>) -> CatalogNote {
        CatalogNote { resource: self.resource.clone(), problem: problem.into(), remedy: remedy.into() }
    }

    fn problem(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        let note = self.note(problem, remedy);
        if !self.problems.contains(&note) {
            self.problems.push(note);
        }
    }

    fn warning(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(self.note(problem, remedy));
    }
}

fn check_columns(config: &ResourceConfig, notes: &mut Notes) {
    if config.columns.len() > COLUMNS_MAX {
        notes.problem(
            format!("it has {} columns", config.columns.len()),
            format!("list at most {COLUMNS_MAX} in 'columns'"),
        );
    }
    let mut seen = BTreeSet::new();
    for column in &config.columns {
        if ROW_FIELDS.contains(&column.as_str()) {
            notes.problem(
                format!("column '{column}' is called like a field that every row has"),
                "leave it out of 'columns', or serve a view that renames it",
            );
        } else if !seen.insert(column) {
            notes.problem(format!("column '{column}' is listed twice"), "list it once in 'columns'");
        }
    }
    for (key, names) in [("filterable", &config.filterable), ("searchable", &config.searchable)] {
        for name in names.iter().filter(|name| !seen.contains(name) && !ROW_FIELDS.contains(&name.as_str())) {
            notes.problem(
                format!("'{key}' names '{name}', which is not in 'columns'"),
                "add it there or remove it here",
            );
        }
    }
}

fn table_map(name: ResourceName, config: &ResourceConfig, found: &FoundTable, notes: &mut Notes) -> Option<TableMap> {
    let before = notes.problems.len();
    let id = key_column(found, "id", &config.id, &ID_TYPES, notes);
    let order = key_column(found, "order", &config.order, &ORDER_TYPES, notes);
    let owner = key_column(found, "owner", &config.owner, &TENANT_TYPES, notes);
    let team = config.team.as_ref().map(|team| key_column(found, "team", team, &TENANT_TYPES, notes));
    let columns: Vec<_> =
        config.columns.iter().filter_map(|name| data_column(found, name, config.writable, notes)).collect();
    check_uses(config, &columns, notes);
    check_privileges(config, found, notes);
    let team = match team {
        Some(None) => return None,
        Some(team) => team,
        None => None,
    };
    let (id, order, owner) = (id?, order?, owner?);
    if notes.problems.len() > before {
        return None;
    }
    let map = TableMap {
        resource: Resource {
            name,
            id_kind: id.storage.kind(),
            columns: domain_columns(&columns, &config.filterable),
            searchable: config.searchable.iter().map(|name| name.as_str().into()).collect(),
            sensitive: config.sensitive,
            writable: config.writable,
        },
        table: format!("{}.{}", quoted(&found.schema), quoted(&found.name)),
        constraints: constraints(found, config),
        updated_at: config.writable.then(|| updated_at(found)).flatten(),
        id,
        order,
        owner,
        team,
        columns,
    };
    if found.is_table {
        check_indexes(&map, config, found, notes);
    }
    check_writable(&map, config, found, notes);
    Some(map)
}

/// Which types a key column may have, and how a message names them.
type KeyTypes = (fn(&Storage) -> bool, &'static str);

const ID_TYPES: KeyTypes = (
    |storage| matches!(storage, Storage::Uuid | Storage::Text { .. } | Storage::Int4 | Storage::Int8),
    "uuid, text, integer or bigint",
);
const ORDER_TYPES: KeyTypes = (|storage| matches!(storage, Storage::Timestamptz), "timestamptz");
const TENANT_TYPES: KeyTypes =
    (|storage| matches!(storage, Storage::Uuid | Storage::Text { .. }), "uuid, or text that holds ids of this site");

fn key_column(found: &FoundTable, role: &str, name: &str, types: &KeyTypes, notes: &mut Notes) -> Option<TableColumn> {
    let column = existing(found, role, name, notes)?;
    match storage(column).filter(|storage| (types.0)(storage) && column.type_name != "character") {
        Some(storage) => {
            let wire = match role {
                "order" => "created_at",
                "owner" => "owner_id",
                "team" => "team_id",
                _ => role,
            };
            Some(table_column(wire, column, storage, false))
        }
        None => {
            notes.problem(
                format!("{role} column '{name}' is {}", column.declared_type),
                format!("it must be {}; a view can cast it", types.1),
            );
            None
        }
    }
}

fn data_column(found: &FoundTable, name: &str, writable: bool, notes: &mut Notes) -> Option<TableColumn> {
    let column = existing(found, "listed", name, notes)?;
    match storage(column) {
        Some(storage) => Some(table_column(name, column, storage, writable)),
        None => {
            notes.problem(
                format!("column '{name}' is {}, which cannot be served", column.declared_type),
                "leave it out of 'columns', or serve a view that casts it to text",
            );
            None
        }
    }
}

fn existing<'a>(found: &'a FoundTable, role: &str, name: &str, notes: &mut Notes) -> Option<&'a FoundColumn> {
    let column = found.columns.iter().find(|column| column.name == name);
    match column {
        None => notes.problem(
            format!("{role} column '{name}' does not exist in {}.{}", found.schema, found.name),
            "correct the name or add the column",
        ),
        Some(column) if !column.may_select => notes.problem(
            format!("{role} column '{name}' may not be read by the node's database user"),
            format!("GRANT SELECT ON {} TO CURRENT_USER, as the table's owner", table_sql(found)),
        ),
        Some(_) => {}
    }
    column.filter(|column| column.may_select)
}

fn table_column(wire: &str, column: &FoundColumn, storage: Storage, writable: bool) -> TableColumn {
    let kept_by_node = writable && wire == UPDATED_AT && storage == Storage::Timestamptz;
    TableColumn {
        name: wire.into(),
        before_value: crate::postgres::row_json::before_value(wire),
        quoted: quoted(&column.name),
        storage,
        not_null: column.not_null,
        has_default: column.has_default,
        read_only: column.generated || kept_by_node,
    }
}

/// A timestamptz column of this name in a writable table is set by the node on every change.
const UPDATED_AT: &str = "updated_at";

fn updated_at(found: &FoundTable) -> Option<String> {
    found
        .columns
        .iter()
        .find(|column| column.name == UPDATED_AT && storage(column) == Some(Storage::Timestamptz) && !column.generated)
        .map(|column| quoted(&column.name))
}

fn storage(column: &FoundColumn) -> Option<Storage> {
    if !column.labels.is_empty() {
        return Some(Storage::Enum { type_name: column.base_type_sql.clone(), labels: column.labels.clone() });
    }
    Some(match column.type_name.as_str() {
        "text" | "name" => Storage::Text { chars_max: None },
        "character varying" | "character" => Storage::Text { chars_max: column.chars_max },
        "uuid" => Storage::Uuid,
        "boolean" => Storage::Bool,
        "smallint" => Storage::Int2,
        "integer" => Storage::Int4,
        "bigint" => Storage::Int8,
        "real" => Storage::Float4,
        "double precision" => Storage::Float8,
        "numeric" => Storage::Numeric,
        "timestamp with time zone" => Storage::Timestamptz,
        "date" => Storage::Date,
        "json" => Storage::Json,
        "jsonb" => Storage::Jsonb,
        "text[]" | "character varying[]" => Storage::TextArray,
        _ => return None,
    })
}

fn check_uses(config: &ResourceConfig, columns: &[TableColumn], notes: &mut Notes) {
    for column in columns {
        let kind = column.storage.kind();
        let named = |names: &[String]| names.iter().any(|name| **name == *column.name);
        if named(&config.filterable) && matches!(kind, ColumnKind::Json | ColumnKind::TextList) {
            notes.problem(
                format!("column '{}' is filterable, but a list or JSON cannot be compared", column.name),
                "remove it from 'filterable'",
            );
        }
        if named(&config.searchable) && !matches!(kind, ColumnKind::Text | ColumnKind::TextList) {
            notes.problem(
                format!("column '{}' is searchable, but is no text", column.name),
                "remove it from 'searchable'",
            );
        }
    }
}

fn check_privileges(config: &ResourceConfig, found: &FoundTable, notes: &mut Notes) {
    if config.writable && !found.may_write {
        notes.problem(
            "it is writable, but the node's database user may not insert, update and delete",
            format!("GRANT INSERT, UPDATE, DELETE ON {} TO CURRENT_USER, or set 'writable = false'", table_sql(found)),
        );
    }
}

/// Where each constraint of the table points, in names of the wire.
fn constraints(found: &FoundTable, config: &ResourceConfig) -> BTreeMap<String, Vec<String>> {
    let wire = |column: &String| -> String {
        if *column == config.id {
            "id".to_owned()
        } else if *column == config.owner {
            "owner_id".to_owned()
        } else if config.team.as_ref() == Some(column) {
            "team_id".to_owned()
        } else if *column == config.order {
            "created_at".to_owned()
        } else {
            column.clone()
        }
    };
    found.constraints.iter().map(|(name, columns)| (name.clone(), columns.iter().map(wire).collect())).collect()
}

fn check_writable(map: &TableMap, config: &ResourceConfig, found: &FoundTable, notes: &mut Notes) {
    if !config.writable {
        return;
    }
    let known = |name: &str| {
        [&config.id, &config.owner, &config.order].into_iter().any(|key| key == name)
            || config.team.as_deref() == Some(name)
            || map.columns.iter().any(|column| *column.name == *name)
            || name == UPDATED_AT
    };
    for column in &found.columns {
        if column.not_null && !column.has_default && !column.generated && !known(&column.name) {
            notes.warning(
                format!(
                    "column '{}' is NOT NULL without a default and not in 'columns': inserts will fail",
                    column.name
                ),
                "add it to 'columns', give it a default, or set 'writable = false'",
            );
        }
    }
}

fn check_indexes(map: &TableMap, config: &ResourceConfig, found: &FoundTable, notes: &mut Notes) {
    let unique =
        found.indexes.iter().any(|index| index.unique && !index.partial && index.columns == [config.id.clone()]);
    if !unique {
        notes.warning(
            format!("no unique index on '{}': a get reads the whole table, and doubled ids would hide rows", config.id),
            format!("CREATE UNIQUE INDEX CONCURRENTLY ON {} ({})", table_sql(found), map.id.quoted),
        );
    }
    for key in [Some(&config.owner), config.team.as_ref()].into_iter().flatten() {
        if !found.indexes.iter().any(|index| serves_order(index, key, map, config)) {
            let collate = if matches!(map.id.storage, Storage::Text { .. }) { " COLLATE \"C\"" } else { "" };
            notes.warning(
                format!("no index serves lists by '{key}': each list sorts all rows of one {key}"),
                format!(
                    "CREATE INDEX CONCURRENTLY ON {} ({}, {} DESC, {}{collate} DESC)",
                    table_sql(found),
                    quoted(key),
                    map.order.quoted,
                    map.id.quoted
                ),
            );
        }
    }
}

/// `(key, order, id)`, the last two in one direction with nulls where that direction has them by default.
fn serves_order(index: &FoundIndex, key: &str, map: &TableMap, config: &ResourceConfig) -> bool {
    const ASCENDING: i16 = 0;
    const DESCENDING_NULLS_FIRST: i16 = 3;
    let columns = !index.partial
        && index.columns.len() >= 3
        && index.columns[0] == key
        && index.columns[1] == config.order
        && index.columns[2] == config.id;
    let direction = index.options.get(1..3).is_some_and(|options| {
        options == [ASCENDING, ASCENDING] || options == [DESCENDING_NULLS_FIRST, DESCENDING_NULLS_FIRST]
    });
    let collation =
        !matches!(map.id.storage, Storage::Text { .. }) || index.collations.get(2).is_some_and(|name| name == "C");
    columns && direction && collation
}

fn table_sql(found: &FoundTable) -> String {
    format!("{}.{}", quoted(&found.schema), quoted(&found.name))
}
