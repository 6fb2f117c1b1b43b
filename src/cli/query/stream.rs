//! Rows as they arrive.

use std::io::Write as _;

use serde_json::Value;

use super::{
    AnswerBody, Context, Failure, Node, Outcome, Path, QueryBody, notes, onwards, page, queried, sources_summary,
};
use crate::cli::rows_table::row_line;
use crate::wire::session_v1::Ordered;

/// What the last line of a streamed answer is besides the account of its sources.
#[derive(serde::Deserialize)]
struct Last {
    error: Option<Value>,
}

/// Prints each row when it comes. `ndjson`: as the node sent it.
pub(super) async fn stream(node: &Node, context: &Context, body: &QueryBody, ndjson: bool) -> Result<Outcome, Failure> {
    let (mut rows, mut last) = (Vec::new(), None);
    let path = Path::session(["query"]);
    let whole = node.post_for_lines(&path, body, |line| {
        if ndjson {
            print(line)?;
        }
        let row: Ordered<Value> = serde_json::from_slice(line).map_err(|e| unreadable(&e))?;
        // A row has a source; the account of the sources has none.
        if row.get("_source").is_none() {
            last = Some(line.to_vec());
        } else {
            if !ndjson {
                print(row_line(&row, context.terminal()).as_bytes())?;
            }
            rows.push(row);
        }
        Ok(())
    });
    if let Some(answer) = whole.await? {
        let queried = queried(node, &answer)?;
        if ndjson {
            print(&[answer.body.as_slice(), b"\n"].concat())?;
            return Ok(Outcome { failed: queried.status != 200, notes: notes(&queried.body), ..Outcome::default() });
        }
        return Ok(page(context, queried, false));
    }
    let last = last.ok_or_else(|| Failure::failed("the answer ended before the account of its sources"))?;
    let failed = serde_json::from_slice::<Last>(&last).is_ok_and(|last| last.error.is_some());
    let mut body: AnswerBody = serde_json::from_slice(&last).map_err(|e| unreadable(&e))?;
    body.items = rows;
    let mut outcome = Outcome { failed, notes: notes(&body), ..Outcome::default() };
    if !ndjson {
        let gap = if body.items.is_empty() { "" } else { "\n" };
        outcome.text = format!("{gap}{}{}", sources_summary(&body, context.terminal()), onwards(context, &body));
    }
    Ok(outcome)
}

/// Out at once: whoever reads it waits for it.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|e| Failure::failed(format!("standard output is closed: {e}")))
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::failed(format!("the node's answer is not what this version understands: {error}"))
}
