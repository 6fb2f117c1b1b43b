//! What every list command takes and says.

use serde::Serialize;

use super::outcome::Outcome;
use super::table::Table;
use crate::wire::admin_v1::PageV1;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PageArguments {
    /// Entries wanted, 1 to 200
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: Option<u32>,
    /// Go on behind an earlier page: its `next_cursor`
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

/// A page as a table, or what to do when it is empty.
pub(crate) fn listed<T: Serialize>(
    page: &PageV1<T>,
    table: &Table,
    terminal: Option<usize>,
    when_empty: &str,
) -> Outcome {
    let text = if table.is_empty() { format!("{when_empty}\n") } else { table.render(terminal) };
    let outcome = Outcome::new(page, text);
    match &page.next_cursor {
        Some(cursor) => outcome.note(format!("there is more: --cursor {cursor}")),
        None => outcome,
    }
}

/// Names behind each other; `-` for none.
#[must_use]
pub(crate) fn joined<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<T> = names.into_iter().collect();
    if names.is_empty() {
        return "-".to_owned();
    }
    names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

/// Fields of one thing, a line each.
#[must_use]
pub(crate) fn sheet<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<(&str, String)> = fields.into_iter().collect();
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:<width$}  {}\n", super::terminal::harmless(value))).collect()
}
