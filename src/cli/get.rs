use clap::Args;

use super::context::Context;
use super::outcome::{Failure, Outcome};
use super::query::{ask, source_argument};
use super::rows_table::{row_sheet, sources_summary};
use crate::wire::session_v1::QueryBody;

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What kind of row: tasks, notes, memory, …
    resource: String,
    /// The row's id
    id: String,
    /// local, all, federated:<peer> or just the peer's name
    #[arg(long, value_name = "SOURCE", default_value = "all")]
    source: String,
    /// A source without which the answer is a failure; repeat for more
    #[arg(long, value_name = "SOURCE")]
    require: Vec<String>,
    /// How long to wait for slow sources, in milliseconds, at most 30000
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let body = QueryBody {
            verb: "get".to_owned(),
            resource: self.resource,
            id: Some(self.id),
            source: Some(source_argument(&self.source)),
            require: self.require,
            deadline_ms: self.deadline_ms,
            ..QueryBody::default()
        };
        let queried = ask(&context.session()?, &body).await?;
        let mut text = String::new();
        for item in &queried.body.items {
            text.push_str(&row_sheet(item));
            text.push('\n');
        }
        let nothing = queried.body.items.is_empty();
        let hidden = queried.body.sources.iter().all(|(_, source)| source.error.is_none());
        if nothing || !hidden {
            text.push_str(&sources_summary(&queried.body, context.terminal()));
        }
        let outcome =
            Outcome { text, json: Some(queried.json), failed: nothing || queried.status != 200, notes: Vec::new() };
        Ok(if nothing { outcome.note("no such row, or none that you may see") } else { outcome })
    }
}
