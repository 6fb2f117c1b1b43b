use clap::Args;

use crate::cli::context::Context;
use crate::cli::lists::{PageArguments, listed};
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::wire::admin_v1::{PageV1, TeamV1};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    page: PageArguments,
}

impl List {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["teams"]).with("limit", self.page.limit).with("cursor", self.page.cursor);
        let page: PageV1<TeamV1> = context.admin()?.get(&path).await?;
        let mut table = Table::new().column("name", Room::Keeps).numbers("members").column("id", Room::Keeps);
        for team in &page.items {
            table.row([&team.name, &team.members.to_string(), &team.id.to_string()]);
        }
        Ok(listed(&page, &table, context.terminal(), "no team yet; add one with 'mosaic team add <name>'"))
    }
}
