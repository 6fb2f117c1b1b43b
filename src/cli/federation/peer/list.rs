use clap::Args;

use crate::cli::context::Context;
use crate::cli::lists::{PageArguments, listed};
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::cli::times::minute;
use crate::wire::admin_v1::{LinkV1, PageV1};

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only links of this person: name or id
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

impl List {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["links"])
            .with("user", self.user)
            .with("limit", self.page.limit)
            .with("cursor", self.page.cursor);
        let page: PageV1<LinkV1> = context.admin()?.get(&path).await?;
        let mut table = Table::new()
            .column("peer", Room::Keeps)
            .column("belongs to", Room::Keeps)
            .column("state", Room::Keeps)
            .column("address", Room::GivesWay)
            .column("certificate until", Room::Optional)
            .column("id", Room::Keeps);
        for link in &page.items {
            table.row([
                &link.peer,
                &link.user.name,
                &link.state,
                &link.federation_url,
                &minute(link.not_after),
                &link.id.to_string(),
            ]);
        }
        let when_empty = "no links; redeem an invite with 'mosaic federation peer add <invite>'";
        Ok(listed(&page, &table, context.terminal(), when_empty))
    }
}
