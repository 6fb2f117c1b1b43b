use clap::Args;

use crate::cli::context::Context;
use crate::cli::lists::{PageArguments, listed};
use crate::cli::names;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::cli::times::minute;
use crate::wire::admin_v1::{MemberV1, PageV1};

#[derive(Debug, Args)]
pub(crate) struct Members {
    /// Name or id of the team
    team: String,
    #[command(flatten)]
    page: PageArguments,
}

impl Members {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let team = names::team_id(&node, &self.team).await?.to_string();
        let path =
            Path::admin(["teams", &team, "members"]).with("limit", self.page.limit).with("cursor", self.page.cursor);
        let page: PageV1<MemberV1> = node.get(&path).await?;
        let mut table = Table::new().column("name", Room::Keeps).column("since", Room::Keeps).column("id", Room::Keeps);
        for member in &page.items {
            table.row([&member.user.name, &minute(member.added_at), &member.user.id.to_string()]);
        }
        Ok(listed(&page, &table, context.terminal(), "no members yet; add one with 'mosaic team add-member'"))
    }
}
