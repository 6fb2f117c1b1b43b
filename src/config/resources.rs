//! `[[resource]]`: an operator's own tables as resources. Shape only; whether the table and its columns exist is checked
//! against the database at boot.

use std::collections::BTreeMap;

use mosaic_actors::domain::catalog::ResourceName;

use super::problem::{Origin, Problem, meant};
use super::reader::kind_of;
use super::sources::{ResourceTable, Setting, Value, unknown};

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

/// What a `[[resource]]` may say.
const KEYS: &[&str] =
    &["name", "table", "id", "owner", "team", "order", "columns", "filterable", "searchable", "sensitive", "writable"];

/// Longest identifier of Postgres, in bytes.
const IDENTIFIER_MAX: usize = 63;
/// Names that every row has on the wire already.
const WIRE_NAMES: [&str; 5] = ["id", "created_at", "owner_id", "team_id", "_source"];
/// Columns of one resource: more make rows that no answer's cap can hold.
const COLUMNS_MAX: usize = 100;
const RESOURCES_MAX: usize = 100;

/// Reads every `[[resource]]`, noting what is wrong.
pub(super) fn read(tables: &[ResourceTable], problems: &mut Vec<Problem>) -> Vec<ResourceConfig> {
    let mut resources: Vec<ResourceConfig> = Vec::new();
    for (table, origin) in tables {
        let mut reader = TableReader { table, origin, problems };
        let Some(resource) = reader.resource() else { continue };
        if resources.iter().any(|other| other.name == resource.name) {
            reader.note("name", "stands twice".to_owned(), "give every resource a name of its own");
        }
        resources.push(resource);
    }
    if let Some((_, origin)) = tables.get(RESOURCES_MAX) {
        problems.push(Problem {
            origin: origin.clone(),
            key: "resource".to_owned(),
            what: format!("is one too many: {RESOURCES_MAX} are allowed"),
            remedy: "make views that join what belongs together".to_owned(),
        });
    }
    resources
}

struct TableReader<'a> {
    table: &'a BTreeMap<String, Setting>,
    origin: &'a Origin,
    problems: &'a mut Vec<Problem>,
}

impl TableReader<'_> {
    fn resource(&mut self) -> Option<ResourceConfig> {
        self.refuse_unknown();
        let name = self.name();
        let table = self.table_name();
        let id = self.identifier("id").or_else(|| self.default_of("id", "id"));
        let owner = self.identifier("owner").or_else(|| self.required("owner", "the column with the owning user's id"));
        let order = self.identifier("order").or_else(|| self.default_of("order", "created_at"));
        let team = self.identifier("team");
        let columns = self.columns(name.as_ref());
        let filterable = self.subset("filterable", &columns);
        let searchable = self.subset("searchable", &columns);
        let (sensitive, writable) = (self.flag("sensitive"), self.flag("writable"));
        Some(ResourceConfig {
            name: name?,
            table: table?,
            id: id?,
            owner: owner?,
            team,
            order: order?,
            columns,
            filterable,
            searchable,
            sensitive,
            writable,
        })
    }

    fn refuse_unknown(&mut self) {
        for (key, setting) in self.table {
            if !KEYS.contains(&key.as_str()) {
                let meant = meant(key, KEYS.iter().copied());
                let path = format!("resource.{key}");
                self.problems.push(unknown(setting.origin.clone(), path, "is not a setting", meant, "remove it"));
            }
        }
    }

    fn name(&mut self) -> Option<ResourceName> {
        let text =
            self.text("name").or_else(|| self.required("name", "what the resource is called in queries and scopes"))?;
        let parsed = ResourceName::parse(&text);
        parsed.map_err(|e| self.note("name", format!("= \"{}\": {e}", text.escape_debug()), "choose another name")).ok()
    }

    fn table_name(&mut self) -> Option<String> {
        let text = self.text("table").or_else(|| self.required("table", "a table or view: name, or schema.name"))?;
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() <= 2 && parts.iter().all(|part| is_identifier(part)) {
            return Some(text);
        }
        self.note("table", format!("= \"{}\" is no table name", text.escape_debug()), "write name, or schema.name");
        None
    }

    fn identifier(&mut self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if is_identifier(&text) {
            return Some(text);
        }
        let what = format!("= \"{}\" is no column name", text.escape_debug());
        self.note(key, what, "write the bare column name: 1 to 63 bytes, no dots, quotes or control characters");
        None
    }

    fn columns(&mut self, resource: Option<&ResourceName>) -> Vec<String> {
        let Some(columns) = self.texts("columns") else {
            let what = "is missing: the columns that leave, besides id, owner, team and order";
            self.note("columns", what.to_owned(), "write columns = [\"title\", …]; an empty list is allowed");
            return Vec::new();
        };
        let mut seen: Vec<&String> = Vec::new();
        for column in &columns {
            let wrong = match column.as_str() {
                _ if seen.contains(&column) => Some("stands twice"),
                name if WIRE_NAMES.contains(&name) => Some("is a name that every row has on the wire already"),
                name if !is_identifier(name) => Some("is no column name"),
                _ => None,
            };
            if let Some(wrong) = wrong {
                let what =
                    format!("of {}: \"{}\" {wrong}", resource.map_or("?", ResourceName::as_str), column.escape_debug());
                self.note("columns", what, "remove or rename it; a view can rename columns");
            }
            seen.push(column);
        }
        if columns.len() > COLUMNS_MAX {
            self.note("columns", format!("has {} entries", columns.len()), "name at most 100");
        }
        columns
    }

    fn subset(&mut self, key: &str, columns: &[String]) -> Vec<String> {
        let listed = self.texts(key).unwrap_or_default();
        for column in listed.iter().filter(|column| !columns.contains(column)) {
            let meant = meant(column, columns.iter().map(String::as_str)).map(str::to_owned);
            let remedy = meant
                .map_or("add it to columns, or remove it here".to_owned(), |meant| format!("did you mean {meant}?"));
            self.note(key, format!("names \"{}\", which is not in columns", column.escape_debug()), &remedy);
        }
        listed
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.table.get(key).map(|setting| &setting.value) {
            None => false,
            Some(Value::Bool(value)) => *value,
            Some(_) => {
                self.note(key, "is neither true nor false".to_owned(), "write true or false, without quotes");
                false
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match &self.table.get(key)?.value {
            Value::Text(text) => Some(text.clone()),
            other => {
                self.note(key, format!("is {}, not text", kind_of(other)), "write it in quotes");
                None
            }
        }
    }

    fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        match &self.table.get(key)?.value {
            Value::Texts(texts) => Some(texts.clone()),
            other => {
                self.note(key, format!("is {}, not a list of texts", kind_of(other)), "write [\"one\", \"two\"]");
                Some(Vec::new())
            }
        }
    }

    /// Notes that `key` is missing, unless it is there and was noted as wrong.
    fn required(&mut self, key: &str, meaning: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.note(key, format!("is missing: {meaning}"), &format!("add {key} = \"…\""));
        }
        None
    }

    fn default_of(&self, key: &str, default: &str) -> Option<String> {
        (!self.table.contains_key(key)).then(|| default.to_owned())
    }

    fn note(&mut self, key: &str, what: String, remedy: &str) {
        let origin = self.table.get(key).map_or(self.origin, |setting| &setting.origin).clone();
        self.problems.push(Problem { origin, key: format!("resource.{key}"), what, remedy: remedy.to_owned() });
    }
}

fn is_identifier(text: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !matches!(c, '"' | '\'' | '.' | '\\' | ';');
    !text.is_empty() && text.len() <= IDENTIFIER_MAX && text.chars().all(allowed)
}
