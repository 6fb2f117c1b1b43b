//! The SQL that reads rows, built from shapes alone: no value, no name of a caller is ever part of the text.
//!
//! One index range per tenant key, each in order and limited, then merged: the cost of a page depends on its size and on the
//! number of teams, not on how many rows there are. An `OR` over tenants would make Postgres read and sort all of them.
//!
//! ```text
//! SELECT DISTINCT ON (order, id) … FROM (
//!     (… WHERE owner = $1 AND (order, id) < ($2, $3) ORDER BY order DESC, id DESC LIMIT n)
//!   UNION ALL
//!     (… FROM unnest($4) AS tenant CROSS JOIN LATERAL (… WHERE team = tenant.key … LIMIT n))
//! ) ORDER BY order DESC, id DESC LIMIT $5
//! ```

use std::fmt::Write as _;

use mosaic_actors::domain::query::{Filter, FilterValue, Operator, OwnRows, Visibility};

use super::catalog::{Storage, TableColumn, TableMap};

#[cfg(test)]
mod tests;

/// A statement and what its parameters stand for, `$1` first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadSql {
    pub text: String,
    pub binds: Vec<Bind>,
}

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    Subject,
    Teams,
    OwnInTeams,
    CursorTime,
    CursorId,
    RowId,
    Limit,
    /// The values of the filter's condition of this index: one, or all as an array.
    Condition(usize),
}

/// Which tenant branches a statement has. What a branch cannot find is left out: none at all is no statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TenantShape {
    own: OwnRows,
    teams: bool,
    own_in_teams: bool,
}

impl TenantShape {
    /// `None`: nothing is visible, and the database need not be asked.
    pub(crate) fn of(visibility: &Visibility, table: &TableMap) -> Option<Self> {
        let has_teams = table.team.is_some();
        let shape = Self {
            own: visibility.own,
            teams: has_teams && !visibility.teams.is_empty(),
            own_in_teams: has_teams && visibility.own != OwnRows::All && !visibility.own_in_teams.is_empty(),
        };
        (shape.own != OwnRows::None || shape.teams || shape.own_in_teams).then_some(shape)
    }
}

/// How many rows an index range gives at most. It stands in the text, so that the planner knows that it is few: with a
/// parameter it would guess a tenth of the table, and read and sort that. Steps keep the number of statements small.
const RANGE_STEPS: [u32; 10] = [2, 11, 51, 101, 201, 501, 1_001, 2_001, 5_001, 10_001];

fn range_step(rows: u32) -> u32 {
    RANGE_STEPS.into_iter().find(|step| *step >= rows).unwrap_or(rows)
}

/// At most `rows` rows in order, behind the cursor if there is one.
pub(crate) fn list_sql(table: &TableMap, tenants: TenantShape, filter: &Filter, cursor: bool, rows: u32) -> ReadSql {
    let mut plan = Plan::new(table);
    let ranges = plan.ranges(tenants);
    let conditions = plan.conditions(filter);
    let bounds = plan.bounds(cursor);
    let order = plan.order_by("r", &table.order.quoted, &table.id.quoted);
    let tail = format!("{bounds}{conditions} ORDER BY {order} LIMIT {}", range_step(rows));
    let columns = plan.columns();
    let limit = plan.bind(Bind::Limit, "int8");
    if let [own @ TenantRange::Own(_)] = ranges.as_slice() {
        // One range is in order and without doubles.
        let text = format!("SELECT u.* FROM {} AS u LIMIT {limit}", own.select(&columns, &table.table, &tail));
        return ReadSql { text, binds: plan.binds };
    }
    let branches: Vec<_> = ranges.iter().map(|range| range.select(&columns, &table.table, &tail)).collect();
    let outer = plan.order_by("u", "k0", "k1");
    let distinct = outer.replace(" DESC", "");
    let text = format!(
        "SELECT DISTINCT ON ({distinct}) u.* FROM ({}) AS u ORDER BY {outer} LIMIT {limit}",
        branches.join(" UNION ALL ")
    );
    ReadSql { text, binds: plan.binds }
}

/// The row of one id if a tenant branch shows it. The id's index finds it; the tenants are checked on that one row.
pub(crate) fn get_sql(table: &TableMap, tenants: TenantShape) -> ReadSql {
    let mut plan = Plan::new(table);
    let id = plan.bind(Bind::RowId, key_type(&table.id.storage));
    let visible: Vec<_> = plan
        .ranges(tenants)
        .iter()
        .map(|range| match range {
            TenantRange::Own(condition) => format!("({condition})"),
            TenantRange::Keys { list, left } => format!("({left} = ANY ({list}))"),
        })
        .collect();
    let bounds = plan.bounds(false);
    let text = format!(
        "SELECT {} FROM {} AS r WHERE r.{} = {id} AND ({}){bounds} LIMIT 1",
        plan.columns(),
        table.table,
        table.id.quoted,
        visible.join(" OR ")
    );
    ReadSql { text, binds: plan.binds }
}

/// Whether there is a row of this id: no tenants, and so nothing of the row either.
pub(crate) fn exists_sql(table: &TableMap) -> ReadSql {
    let mut plan = Plan::new(table);
    let id = plan.bind(Bind::RowId, key_type(&table.id.storage));
    let text = format!("SELECT EXISTS (SELECT FROM {} AS r WHERE r.{} = {id})", table.table, table.id.quoted);
    ReadSql { text, binds: plan.binds }
}

/// What every read returns: order, id, owner, team, then the columns of the catalog. `table` is an alias.
pub(crate) fn row_columns(table: &TableMap, alias: &str) -> String {
    let mut columns = format!(
        "{alias}.{} AS k0, {alias}.{}{} AS k1, {alias}.{}{} AS k2, ",
        table.order.quoted,
        table.id.quoted,
        text_cast(&table.id.storage),
        table.owner.quoted,
        text_cast(&table.owner.storage),
    );
    match &table.team {
        Some(team) => {
            let _ = write!(columns, "{alias}.{}{} AS k3", team.quoted, text_cast(&team.storage));
        }
        None => columns.push_str("NULL::uuid AS k3"),
    }
    for (index, column) in table.columns.iter().enumerate() {
        let _ = write!(columns, ", {alias}.{}{} AS c{index}", column.quoted, column.storage.read_cast());
    }
    columns
}

/// `varchar` keys become text, so that both sides of a union and the program see one type.
fn text_cast(storage: &Storage) -> &'static str {
    if matches!(storage, Storage::Text { .. }) { "::text" } else { "" }
}

enum TenantRange {
    /// A condition on the row.
    Own(String),
    /// One range for each key of a list: what must equal the key, and before it what must hold besides.
    Keys { list: String, left: String },
}

impl TenantRange {
    fn select(&self, columns: &str, table: &str, tail: &str) -> String {
        match self {
            Self::Own(condition) => format!("(SELECT {columns} FROM {table} AS r WHERE {condition}{tail})"),
            Self::Keys { list, left } => format!(
                "(SELECT l.* FROM unnest({list}) AS t(key) CROSS JOIN LATERAL \
                 (SELECT {columns} FROM {table} AS r WHERE {left} = t.key{tail}) AS l)"
            ),
        }
    }
}

struct Plan<'a> {
    table: &'a TableMap,
    binds: Vec<Bind>,
}

impl<'a> Plan<'a> {
    fn new(table: &'a TableMap) -> Self {
        Self { table, binds: Vec::new() }
    }

    /// The parameter of this meaning with its type; the same parameter when it was named before.
    fn bind(&mut self, bind: Bind, sql_type: &str) -> String {
        let index = self.binds.iter().position(|known| *known == bind).unwrap_or_else(|| {
            self.binds.push(bind);
            self.binds.len() - 1
        });
        format!("${}::{sql_type}", index + 1)
    }

    fn columns(&self) -> String {
        row_columns(self.table, "r")
    }

    fn ranges(&mut self, tenants: TenantShape) -> Vec<TenantRange> {
        let mut ranges = Vec::with_capacity(3);
        let owner = &self.table.owner;
        let own = |plan: &mut Self| {
            let subject = plan.bind(Bind::Subject, key_type(&owner.storage));
            format!("r.{} = {subject}", owner.quoted)
        };
        match tenants.own {
            OwnRows::All => ranges.push(TenantRange::Own(own(self))),
            OwnRows::Personal => {
                let personal =
                    self.table.team.as_ref().map_or(String::new(), |team| format!(" AND r.{} IS NULL", team.quoted));
                ranges.push(TenantRange::Own(own(self) + &personal));
            }
            OwnRows::None => {}
        }
        let Some(team) = &self.table.team else { return ranges };
        let key = key_type(&team.storage);
        if tenants.teams {
            let list = self.bind(Bind::Teams, &format!("{key}[]"));
            ranges.push(TenantRange::Keys { list, left: format!("r.{}", team.quoted) });
        }
        if tenants.own_in_teams {
            let left = format!("{} AND r.{}", own(self), team.quoted);
            let list = self.bind(Bind::OwnInTeams, &format!("{key}[]"));
            ranges.push(TenantRange::Keys { list, left });
        }
        ranges
    }

    /// Rows that have a place in the order and on the wire: years 1 to 9999, an id that [`RowId`] can hold.
    ///
    /// With a cursor there is no constant upper bound: the index scan would start at it and walk to the cursor.
    fn bounds(&mut self, cursor: bool) -> String {
        let Self { table, .. } = *self;
        let (order, id) = (&table.order.quoted, &table.id.quoted);
        let mut bounds = if cursor {
            let at = self.bind(Bind::CursorTime, "timestamptz");
            let after = self.bind(Bind::CursorId, key_type(&table.id.storage));
            let collate = collate(&table.id);
            format!(" AND (r.{order}, r.{id}{collate}) < ({at}, {after}{collate})")
        } else {
            format!(" AND r.{order} < '10000-01-01 00:00:00+00'::timestamptz")
        };
        let _ = write!(bounds, " AND r.{order} >= '0001-01-01 00:00:00+00'::timestamptz");
        match &table.id.storage {
            Storage::Text { .. } => {
                let _ = write!(
                    bounds,
                    " AND char_length(r.{id}) BETWEEN 1 AND 200 AND r.{id} !~ '[\\u0001-\\u001f\\u007f-\\u009f]'"
                );
            }
            _ if !table.id.not_null => {
                let _ = write!(bounds, " AND r.{id} IS NOT NULL");
            }
            _ => {}
        }
        bounds
    }

    fn order_by(&self, alias: &str, order: &str, id: &str) -> String {
        format!("{alias}.{order} DESC, {alias}.{id}{} DESC", collate(&self.table.id))
    }

    fn conditions(&mut self, filter: &Filter) -> String {
        let mut text = String::new();
        for (index, condition) in filter.conditions.iter().enumerate() {
            let null = condition.values == [FilterValue::Null];
            let sql = match self.table.field(&condition.field) {
                Some(column) if null => format!("r.{} IS NULL", column.quoted),
                Some(column) => self.comparison(column, condition.operator, index),
                // Only `team_id` of a table without teams: every row is personal.
                None if null => "true".to_owned(),
                None => "false".to_owned(),
            };
            text.push_str(" AND ");
            text.push_str(&sql);
        }
        text
    }

    fn comparison(&mut self, column: &TableColumn, operator: Operator, index: usize) -> String {
        let compared = Compared::of(&column.storage);
        let left = format!("r.{}{}", column.quoted, compared.column_cast);
        let bind = Bind::Condition(index);
        let symbol = match operator {
            Operator::Equal => "=",
            Operator::GreaterOrEqual => ">=",
            Operator::GreaterThan => ">",
            Operator::LessOrEqual => "<=",
            Operator::LessThan => "<",
            Operator::In => {
                let list = self.bind(bind, &format!("{}[]", compared.sent_as));
                return format!("{left} = ANY ({list}{})", compared.array_cast);
            }
        };
        let value = self.bind(bind, compared.sent_as);
        // Texts are ordered by their bytes, the same on every machine; equality uses whatever index there is.
        let collate = if operator != Operator::Equal && compared.sent_as == "text" && compared.value_cast.is_empty() {
            " COLLATE \"C\""
        } else {
            ""
        };
        format!("{left}{collate} {symbol} {value}{}", compared.value_cast)
    }
}

fn collate(id: &TableColumn) -> &'static str {
    if matches!(id.storage, Storage::Text { .. }) { " COLLATE \"C\"" } else { "" }
}

/// The type in which a key (id, owner, team) is bound.
pub(crate) fn key_type(storage: &Storage) -> &'static str {
    match storage {
        Storage::Text { .. } => "text",
        Storage::Int4 | Storage::Int8 => "int8",
        _ => "uuid",
    }
}

/// How a value of a filter meets a column.
struct Compared {
    column_cast: &'static str,
    sent_as: &'static str,
    value_cast: &'static str,
    array_cast: &'static str,
}

impl Compared {
    fn of(storage: &Storage) -> Self {
        let plain = |sent_as| Self { column_cast: "", sent_as, value_cast: "", array_cast: "" };
        match storage {
            // An unknown label would be an error as an enum; as a text it is just not equal.
            Storage::Enum { .. } => Self { column_cast: "::text", ..plain("text") },
            // By way of text: 0.1 as a double is not the 0.1 of a numeric.
            Storage::Numeric => Self { value_cast: "::numeric", array_cast: "::numeric[]", ..plain("text") },
            Storage::Uuid => plain("uuid"),
            Storage::Bool => plain("bool"),
            Storage::Int2 | Storage::Int4 | Storage::Int8 => plain("int8"),
            Storage::Float4 => plain("float4"),
            Storage::Float8 => plain("float8"),
            Storage::Timestamptz => plain("timestamptz"),
            Storage::Date => plain("date"),
            // JSON and lists are never filterable; `where_v1` refuses them before.
            Storage::Text { .. } | Storage::Json | Storage::Jsonb | Storage::TextArray => plain("text"),
        }
    }
}
