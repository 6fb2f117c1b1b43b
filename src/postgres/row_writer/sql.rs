//! Statements that write, one per set of given fields. Values come as one JSON parameter and are typed by the statement.

use super::draft::Slot;
use crate::postgres::catalog::TableMap;
use crate::postgres::read_sql::{key_type, row_columns};

/// `$1` an array of rows, `$2` the owner.
pub(super) fn insert(table: &TableMap, shape: &[Slot], returning: bool) -> String {
    let mut columns = vec![table.owner.quoted.clone()];
    let mut values = vec![format!("$2::{}", key_type(&table.owner.storage))];
    for slot in shape {
        columns.push(column(table, *slot).to_owned());
        values.push(format!("r.{}", slot.name()));
    }
    if !shape.contains(&Slot::CreatedAt) {
        columns.push(table.order.quoted.clone());
        values.push("now()".to_owned());
    }
    if let Some(updated_at) = &table.updated_at {
        columns.push(updated_at.clone());
        values.push("now()".to_owned());
    }
    // Without a field of its own a record function has nothing to return; the rows still count.
    let from = if shape.is_empty() {
        "json_array_elements($1::text::json) AS r".to_owned()
    } else {
        format!("json_to_recordset($1::text::json) AS r({})", definitions(table, shape))
    };
    let mut sql =
        format!("INSERT INTO {} AS x ({}) SELECT {} FROM {from}", table.table, columns.join(", "), values.join(", "));
    if returning {
        sql.push_str(" RETURNING ");
        sql.push_str(&row_columns(table, "x"));
    }
    sql
}

/// `$1` the fields, `$2` the id, `$3` the owner.
pub(super) fn update(table: &TableMap, shape: &[Slot]) -> String {
    let mut changes: Vec<_> =
        shape.iter().map(|slot| format!("{} = r.{}", column(table, *slot), slot.name())).collect();
    changes.extend(table.updated_at.as_ref().map(|updated_at| format!("{updated_at} = now()")));
    format!(
        "UPDATE {} AS x SET {} FROM json_to_record($1::text::json) AS r({}) WHERE {} RETURNING {}",
        table.table,
        changes.join(", "),
        definitions(table, shape),
        own_row(table, 2),
        row_columns(table, "x")
    )
}

/// `$1` the id, `$2` the owner.
pub(super) fn delete(table: &TableMap) -> String {
    format!("DELETE FROM {} AS x WHERE {} RETURNING {}", table.table, own_row(table, 1), row_columns(table, "x"))
}

/// The row as reads would show it to its owner: one without a place in the order is there for nobody.
fn own_row(table: &TableMap, first: usize) -> String {
    let (id, owner, order) = (&table.id, &table.owner, &table.order.quoted);
    format!(
        "x.{} = ${first}::{} AND x.{} = ${}::{} AND x.{order} >= '0001-01-01 00:00:00+00'::timestamptz \
         AND x.{order} < '10000-01-01 00:00:00+00'::timestamptz",
        id.quoted,
        key_type(&id.storage),
        owner.quoted,
        first + 1,
        key_type(&owner.storage),
    )
}

fn column(table: &TableMap, slot: Slot) -> &str {
    match slot {
        Slot::Id => &table.id.quoted,
        Slot::Team => table.team.as_ref().map_or("", |team| &team.quoted),
        Slot::CreatedAt => &table.order.quoted,
        Slot::Column(index) => &table.columns[index].quoted,
    }
}

fn definitions(table: &TableMap, shape: &[Slot]) -> String {
    let definition = |slot: &Slot| {
        let sql_type = match slot {
            Slot::Id => key_type(&table.id.storage),
            Slot::Team => table.team.as_ref().map_or("uuid", |team| key_type(&team.storage)),
            Slot::CreatedAt => "timestamptz",
            Slot::Column(index) => table.columns[*index].storage.write_type(),
        };
        format!("{} {sql_type}", slot.name())
    };
    shape.iter().map(definition).collect::<Vec<_>>().join(", ")
}
