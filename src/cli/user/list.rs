use clap::Args;

use super::state;
use crate::cli::context::Context;
use crate::cli::lists::{PageArguments, joined, listed};
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::wire::admin_v1::{PageV1, UserV1};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    page: PageArguments,
}

impl List {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["users"]).with("limit", self.page.limit).with("cursor", self.page.cursor);
        let page: PageV1<UserV1> = context.admin()?.get(&path).await?;
        let mut table = Table::new()
            .column("name", Room::Keeps)
            .column("display name", Room::GivesWay)
            .column("state", Room::Keeps)
            .column("teams", Room::GivesWay)
            .column("id", Room::Keeps);
        for user in &page.items {
            let teams = joined(user.teams.iter().map(|team| &team.name));
            table.row([&user.name, &user.display_name, state(user), &teams, &user.id.to_string()]);
        }
        Ok(listed(&page, &table, context.terminal(), "nobody yet; add people with 'mosaic user add <name>'"))
    }
}
