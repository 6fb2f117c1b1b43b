use clap::Args;

use super::context::Context;
use super::filter::parse_where;
use super::node::{Node, Path, RawAnswer};
use super::outcome::{Failure, Outcome};
use super::rows_table::{rows_table, sources_summary};
use crate::wire::session_v1::{AnswerBody, QueryBody};

mod stream;

/// Most rows that `--all` collects: a terminal is no place for more, and memory is finite.
const ALL_ROWS_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// What to ask for: tasks, notes, memory, …
    resource: String,
    /// local, all, federated:<peer> or just the peer's name
    #[arg(long, value_name = "SOURCE", default_value = "all")]
    source: String,
    /// A condition: field=value, field>=value (<=, >, <), or a JSON object; repeat for more, all must hold
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Rows of one page, at most 200
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on behind an earlier page: its `next_cursor`
    #[arg(long, value_name = "CURSOR", conflicts_with = "all")]
    cursor: Option<String>,
    /// Collect every page, at most 10000 rows
    #[arg(long)]
    all: bool,
    /// A source without which the answer is a failure; repeat for more
    #[arg(long, value_name = "SOURCE")]
    require: Vec<String>,
    /// How long to wait for slow sources, in milliseconds, at most 30000
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
    /// Print rows as they arrive, each source's in its turn, instead of one table at the end
    #[arg(long, conflicts_with_all = ["all", "wide"])]
    stream: bool,
    /// Print rows as they arrive, a JSON object per line, and the account of the sources as the last line
    #[arg(long, conflicts_with_all = ["all", "wide", "stream"])]
    ndjson: bool,
    /// Show every column
    #[arg(long)]
    wide: bool,
    /// Say how the query was run
    #[arg(long)]
    explain: bool,
}

impl Query {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.session()?;
        let body = QueryBody {
            verb: "list".to_owned(),
            resource: self.resource,
            source: Some(source_argument(&self.source)),
            limit: self.limit,
            cursor: self.cursor,
            filter: parse_where(&self.conditions)?,
            require: self.require,
            deadline_ms: self.deadline_ms,
            explain: self.explain.then_some(true),
            ..QueryBody::default()
        };
        if self.stream || self.ndjson {
            stream::stream(&node, context, &body, self.ndjson || context.json()).await
        } else if self.all {
            all_pages(&node, context, body, self.wide).await
        } else {
            one_page(&node, context, &body, self.wide).await
        }
    }
}

/// A bare peer name is what people type.
#[must_use]
pub(crate) fn source_argument(text: &str) -> String {
    match text {
        "all" | "local" => text.to_owned(),
        text if text.starts_with("federated:") => text.to_owned(),
        peer => format!("federated:{peer}"),
    }
}

/// An answer of the query endpoint: also a failed one has a body to show.
pub(crate) struct Queried {
    pub(crate) status: u16,
    pub(crate) json: String,
    pub(crate) body: AnswerBody,
}

/// Asks once.
pub(crate) async fn ask(node: &Node, body: &QueryBody) -> Result<Queried, Failure> {
    queried(node, &node.post_raw(&Path::session(["query"]), body).await?)
}

/// An answer without rows of its own (400, 401, 503 …) is a failure; one that names its sources is not.
fn queried(node: &Node, answer: &RawAnswer) -> Result<Queried, Failure> {
    match serde_json::from_slice(&answer.body) {
        Ok(parsed) => {
            let json = String::from_utf8_lossy(&answer.body).into_owned();
            Ok(Queried { status: answer.status, json, body: parsed })
        }
        Err(_) if answer.status != 200 => Err(node.refusal(answer)),
        Err(e) => Err(Failure::failed(format!("the node's answer is not what this version understands: {e}"))),
    }
}

async fn one_page(node: &Node, context: &Context, body: &QueryBody, wide: bool) -> Result<Outcome, Failure> {
    let queried = ask(node, body).await?;
    Ok(page(context, queried, wide))
}

/// An answer that came whole.
fn page(context: &Context, queried: Queried, wide: bool) -> Outcome {
    let text = page_text(&queried.body, wide, context.terminal());
    let mut outcome =
        Outcome { text, json: Some(queried.json), failed: queried.status != 200, notes: notes(&queried.body) };
    outcome.text.push_str(&onwards(context, &queried.body));
    outcome
}

/// How to ask for what is missing.
fn onwards(context: &Context, body: &AnswerBody) -> String {
    let Some(cursor) = body.next_cursor.as_ref().filter(|_| !context.json()) else { return String::new() };
    let again = if body.partial { "missing rows and the next page" } else { "next page" };
    format!("{again}: --cursor {cursor}\n")
}

/// Rows, summary, and how it was run when that was asked for.
#[must_use]
pub(crate) fn page_text(body: &AnswerBody, wide: bool, terminal: Option<usize>) -> String {
    let mut text = String::new();
    if !body.items.is_empty() {
        text.push_str(&rows_table(&body.items, wide, terminal));
        text.push('\n');
    }
    text.push_str(&sources_summary(body, terminal));
    if let Some(explain) = &body.explain {
        let plan = serde_json::to_string_pretty(explain).unwrap_or_default();
        text.push_str(&format!("\n{}\n", super::terminal::harmless_lines(&plan)));
    }
    text
}

fn notes(body: &AnswerBody) -> Vec<String> {
    body.notices
        .iter()
        .map(|notice| match notice.code.as_str() {
            "federation_offline" => {
                format!("{} is offline; answers come without its rows until it is back", notice.peer)
            }
            code => format!("{code}: {}", notice.peer),
        })
        .collect()
}

/// Page after page until nothing is left, a page brings nothing new, or the bound is reached.
async fn all_pages(node: &Node, context: &Context, mut body: QueryBody, wide: bool) -> Result<Outcome, Failure> {
    body.limit = body.limit.or(Some(200));
    let mut whole = ask(node, &body).await?;
    let mut cursor = whole.body.next_cursor.take();
    while let Some(next) = cursor.take() {
        if whole.status != 200 || whole.body.items.len() >= ALL_ROWS_MAX {
            whole.body.next_cursor = Some(next);
            break;
        }
        body.cursor = Some(next.clone());
        let page = ask(node, &body).await?;
        // A source that stays away keeps the cursor alive for ever: without rows it is time to stop.
        let fruitless = page.body.items.is_empty();
        cursor = page.body.next_cursor.clone();
        whole.body.absorb(page.body);
        if page.status != 200 || fruitless {
            whole.body.next_cursor = cursor.take();
        }
    }
    let text = page_text(&whole.body, wide, context.terminal());
    let json = serde_json::to_string(&whole.body).expect("invariant: an answer that was read is JSON");
    let mut outcome = Outcome { text, json: Some(json), failed: whole.status != 200, notes: notes(&whole.body) };
    if let Some(next) = &whole.body.next_cursor {
        outcome = outcome.note(format!("stopped before the end; go on with --cursor {next}"));
    }
    Ok(outcome)
}
