use clap::Args;
use uuid::Uuid;

use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::cli::times::minute;
use crate::wire::admin_v1::PreviewV1;

#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// The grant's id, from 'mosaic federation grant list'
    id: Uuid,
}

impl Preview {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["grants", &self.id.to_string(), "preview"]);
        let preview: PreviewV1 = context.admin()?.get(&path).await?;
        Ok(Outcome::new(&preview, text(&preview, context.terminal())))
    }
}

fn text(preview: &PreviewV1, terminal: Option<usize>) -> String {
    let mut text = format!(
        "grant {} is {}; it reads as {}, at most {} rows per query\n\n",
        preview.grant_id, preview.status, preview.user.name, preview.max_rows_per_query
    );
    let mut table =
        Table::new().column("resource", Room::Keeps).column("rows", Room::Keeps).column("newest", Room::GivesWay);
    for resource in &preview.resources {
        let rows = format!("{}{}", resource.rows, if resource.at_least { " or more" } else { "" });
        let newest = resource.first.first().map_or_else(String::new, |row| minute(row.created_at));
        table.row([&resource.resource, &rows, &newest]);
    }
    for closed in &preview.closed {
        table.row([&closed.resource, "closed", &closed.reason]);
    }
    text.push_str(&table.render(terminal));
    for warning in &preview.warnings {
        text.push_str(&format!("\nwarning: {}\n", crate::cli::terminal::harmless(warning)));
    }
    text
}
