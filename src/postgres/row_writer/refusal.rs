//! What the table says to a write, in words of the wire: the field, never the constraint or the SQL.

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::postgres::catalog::TableMap;
use crate::postgres::pool::sql_fault;

/// The client's fault where the row is at fault, ours otherwise.
pub(super) fn refusal(table: &TableMap, error: &Error) -> Fault {
    let Some(refused) = error.as_db_error() else { return sql_fault("write rows", error) };
    let code = refused.code();
    let fields = fields(table, refused);
    let conflict = |message: String| Fault::new(FaultKind::Conflict, Stage::Database).with_message(message);
    if *code == SqlState::UNIQUE_VIOLATION || *code == SqlState::EXCLUSION_VIOLATION {
        return match fields.as_slice() {
            [id] if id == "id" => conflict("id: a row with this id exists".to_owned()),
            [] => conflict("another row has these values".to_owned()),
            fields => conflict(format!("{}: another row has this value", fields.join(", "))),
        };
    }
    if *code == SqlState::NOT_NULL_VIOLATION {
        return Fault::invalid(match fields.first() {
            Some(field) => format!("{field}: is required"),
            None => "a field that the table requires cannot be given; see the operator".to_owned(),
        });
    }
    if *code == SqlState::FOREIGN_KEY_VIOLATION {
        return match fields.as_slice() {
            // From the other side: a row of another table refers to this one.
            [] => conflict("other rows refer to this one".to_owned()),
            fields => Fault::invalid(format!("{}: what it refers to does not exist", fields.join(", "))),
        };
    }
    match code.code().get(..2) {
        Some("23") if !fields.is_empty() => {
            Fault::invalid(format!("{}: is not a value that {} accepts", fields.join(", "), table.resource.name))
        }
        // A check that spans no column, a domain, a value that a type cannot hold, a trigger's objection.
        Some("22" | "23" | "P0") => Fault::invalid(format!("a value is not one that {} accepts", table.resource.name)),
        _ => match sql_fault("write rows", error) {
            // The server ended it and undid it.
            fault if fault.kind == FaultKind::TimedOut => fault.with_message(super::NOTHING_WRITTEN),
            fault => fault,
        },
    }
}

/// The fields that an error is about, as the wire calls them.
fn fields(table: &TableMap, error: &DbError) -> Vec<String> {
    if let Some(fields) = error.constraint().and_then(|name| table.constraints.get(name)) {
        return fields.clone();
    }
    let Some(column) = error.column() else { return Vec::new() };
    let quoted = crate::postgres::catalog::quoted(column);
    let keys = [Some(&table.id), Some(&table.order), Some(&table.owner), table.team.as_ref()];
    let named = keys.into_iter().flatten().chain(&table.columns).find(|known| known.quoted == quoted);
    named.map(|known| known.name.to_string()).into_iter().collect()
}
