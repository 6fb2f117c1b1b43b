//! Rows of a query as a table, and the account of where they came from.

use serde_json::Value;

use super::table::{Room, Table};
use crate::wire::session_v1::{AnswerBody, Ordered, SourceBody, SourceErrorBody};

/// Columns that a table shows only when asked: they say little to a reader.
const QUIET: [&str; 4] = ["owner_id", "team_id", "updated_at", "_source"];
/// Columns in which a row's own text stands: they get the room that is left.
const TEXTS: [&str; 5] = ["title", "name", "content", "body", "hint"];
/// The text columns of which a table shows only the first that exists; the others are seen with `--wide` or `get`.
const LONG: [&str; 1] = ["body"];

/// The table of an answer's rows.
#[must_use]
pub(crate) fn rows_table(items: &[Ordered<Value>], wide: bool, terminal: Option<usize>) -> String {
    let columns = columns(items, wide);
    let mut table = Table::new().column("source", Room::Keeps);
    for name in &columns {
        let room = match name.as_str() {
            "id" => Room::Keeps,
            name if TEXTS.contains(&name) => Room::GivesWay,
            _ => Room::Optional,
        };
        table = if is_numeric(items, name) { table.numbers(name) } else { table.column(name, room) };
    }
    for item in items {
        let cells = columns.iter().map(|name| item.get(name).map_or_else(String::new, cell));
        let source = item.get("_source").map_or_else(String::new, cell);
        table.row(std::iter::once(source).chain(cells));
    }
    table.render(terminal)
}

/// Every column that some row has, in the order of first appearance: what the row is first, its id last.
fn columns(items: &[Ordered<Value>], wide: bool) -> Vec<String> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in items.iter().flat_map(Ordered::iter) {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    let quiet = |name: &str| name == "_source" || !wide && (QUIET.contains(&name) || LONG.contains(&name));
    let text = seen.iter().copied().find(|name| TEXTS.contains(name) && !quiet(name));
    let middle = seen.iter().copied().filter(|name| !quiet(name) && *name != "id" && Some(*name) != text);
    text.into_iter().chain(middle).chain(seen.contains(&"id").then_some("id")).map(str::to_owned).collect()
}

fn is_numeric(items: &[Ordered<Value>], name: &str) -> bool {
    let mut values = items.iter().filter_map(|item| item.get(name)).filter(|value| !value.is_null()).peekable();
    values.peek().is_some() && values.all(Value::is_number)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => minutes(text).unwrap_or_else(|| text.clone()),
        Value::Array(values) if values.iter().all(Value::is_string) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A time of the wire (`2026-11-01T10:00:00.000000Z`) to the minute; `None` for any other text.
fn minutes(text: &str) -> Option<String> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    let (date, hour, minute) = (time.date(), time.hour(), time.minute());
    text.ends_with('Z').then(|| format!("{date} {hour:02}:{minute:02}"))
}

/// One row in a line: its source, its text, its time and its id.
#[must_use]
pub(crate) fn row_line(item: &Ordered<Value>, terminal: Option<usize>) -> String {
    let text = |name: &str| super::terminal::harmless(&item.get(name).map_or_else(String::new, cell));
    let (source, at, id) = (text("_source"), text("created_at"), text("id"));
    let title = TEXTS.iter().map(|name| text(name)).find(|title| !title.is_empty()).unwrap_or_default();
    // Where it is cut, what is cut is the text.
    let room = terminal.map_or(usize::MAX, |width| width.saturating_sub(source.len().max(8) + at.len() + id.len() + 6));
    let title: String = title.chars().take(room).collect();
    format!("{source:<8}  {at}  {id}  {title}\n")
}

/// One row, a field per line.
#[must_use]
pub(crate) fn row_sheet(item: &Ordered<Value>) -> String {
    let width = item.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    item.iter()
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => "-".to_owned(),
                other => cell(other),
            };
            let (name, value) = (super::terminal::harmless(name), super::terminal::harmless_lines(&value));
            let indented = value.replace('\n', &format!("\n{}", " ".repeat(width + 2)));
            format!("{name:<width$}  {indented}\n")
        })
        .collect()
}

/// The `_sources` summary: one line per source, then what the answer as a whole is worth.
#[must_use]
pub(crate) fn sources_summary(answer: &AnswerBody, terminal: Option<usize>) -> String {
    let mut table = Table::new()
        .column("source", Room::Keeps)
        .column("status", Room::Keeps)
        .numbers("rows")
        .numbers("took")
        .column("note", Room::GivesWay);
    for (name, source) in answer.sources.iter() {
        let took = format!("{} ms", source.took_ms);
        table.row([name, &source.status, &source.rows.to_string(), &took, &note(name, source)]);
    }
    let mut text = table.render(terminal);
    text.push('\n');
    text.push_str(&verdict(answer));
    text.push('\n');
    text
}

fn note(name: &str, source: &SourceBody) -> String {
    let mut notes = Vec::new();
    if let Some(age) = source.age_ms {
        notes.push(format!("{:.1} s old", age as f64 / 1000.0));
    }
    if let Some(error) = &source.error {
        notes.push(why(name, error));
        notes.extend(error.retry_after_ms.map(|after| format!("asked again in {} s", after.div_ceil(1000))));
    }
    if matches!(source.status.as_str(), "timed_out" | "unreachable" | "breaker_open") {
        notes.extend(
            source
                .last_ok_at
                .as_deref()
                .map(|at| format!("last answer {}", minutes(at).unwrap_or_else(|| at.to_owned()))),
        );
    }
    notes.join("; ")
}

/// What an error of a source means to a person, and its code for whoever looks it up.
fn why(source: &str, error: &SourceErrorBody) -> String {
    let meaning = match (error.code.as_str(), source) {
        _ if error.message.is_some() => error.message.as_deref().unwrap_or_default(),
        ("scope_violation", "local") => "this site has no such resource",
        ("scope_violation", _) => "its grant does not cover this resource",
        ("peer_timeout", _) => "no answer in time",
        ("local_timeout", _) => "the database did not answer in time",
        ("peer_unreachable", _) => "cannot be reached",
        ("breaker_open", _) => "not asked, because it failed repeatedly",
        ("grant_revoked", _) => "the grant was revoked",
        ("grant_suspended", _) => "the grant is suspended",
        ("grant_expired", _) => "the grant has expired",
        ("grant_pending", _) => "the grant is not active yet",
        ("certificate_expired", _) => "this link's certificate has expired; enrol again with a new invite",
        ("peer_forbidden" | "peer_unauthorized", _) => "it does not accept this link's certificate",
        ("peer_rate_limited", _) => "asked too often",
        ("peer_bad_answer", _) => "its answer is unusable",
        ("peer_incompatible", _) => "it speaks another version of the protocol",
        _ => return format!("{} at {}", error.code, error.stage),
    };
    format!("{meaning} ({} at {})", error.code, error.stage)
}

fn verdict(answer: &AnswerBody) -> String {
    let rows = match answer.items.len() {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    };
    let missing: Vec<&str> = answer
        .sources
        .iter()
        .filter(|(_, source)| !matches!(source.status.as_str(), "ok" | "empty" | "truncated" | "cached"))
        .map(|(name, _)| name)
        .collect();
    match (answer.partial, answer.truncated) {
        (true, _) => format!("{rows}, incomplete: nothing from {}", missing.join(", ")),
        (false, true) => format!("{rows}, and there are more"),
        (false, false) => format!("{rows}, complete"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> AnswerBody {
        serde_json::from_str(json).unwrap()
    }

    const BLENDED: &str = r#"{"items":[
        {"id":"1","created_at":"2026-11-01T10:00:00.000000Z","owner_id":"o","team_id":null,"title":"Order cables",
         "body":"long","status":"open","priority":2,"due_at":null,"updated_at":"2026-11-01T10:00:00.000000Z","_source":"local"},
        {"id":"2","created_at":"2026-10-31T09:05:00.000000Z","title":"Ship\u001b[2J it","status":"done","priority":11,
         "_source":"work"}],
        "_partial":true,"_truncated":false,"_sources":{"local":{"status":"ok","rows":1,"took_ms":2},
        "work":{"status":"cached","rows":1,"took_ms":0,"age_ms":1500},
        "far":{"status":"timed_out","rows":0,"took_ms":3000,"error":{"code":"peer_timeout","stage":"first_byte",
        "retryable":true,"retry_after_ms":14500},"breaker":"open","last_ok_at":"2026-11-01T09:59:58.5Z"}},"_notices":[],"trace_id":"t"}"#;

    #[test]
    fn rows_are_shown_with_their_source_first_and_their_id_last() {
        let lines = [
            "SOURCE  TITLE         CREATED_AT        STATUS  PRIORITY  ID",
            "local   Order cables  2026-11-01 10:00  open           2  1",
            "work    Ship\u{fffd}[2J it   2026-10-31 09:05  done          11  2",
        ];
        assert_eq!(rows_table(&answer(BLENDED).items, false, None), lines.join("\n") + "\n");
    }

    #[test]
    fn the_summary_names_every_source_and_what_is_missing() {
        let lines = [
            "SOURCE  STATUS     ROWS     TOOK  NOTE",
            "local   ok            1     2 ms",
            "work    cached        1     0 ms  1.5 s old",
            "far     timed_out     0  3000 ms  no answer in time (peer_timeout at first_byte); asked again in 15 s; last answer 2026-11-01 09:59",
            "",
            "2 rows, incomplete: nothing from far",
        ];
        assert_eq!(sources_summary(&answer(BLENDED), None), lines.join("\n") + "\n");
    }

    #[test]
    fn a_row_is_a_sheet_of_fields() {
        let item: Ordered<Value> =
            serde_json::from_str(r#"{"id":"1","body":"two\nlines","team_id":null,"tags":["a","b"]}"#).unwrap();
        assert_eq!(row_sheet(&item), "id       1\nbody     two\n         lines\nteam_id  -\ntags     a, b\n");
    }
}
