use clap::Args;

use crate::cli::context::Context;
use crate::cli::lists::{PageArguments, joined, listed};
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::cli::times::minute;
use crate::wire::admin_v1::{GrantV1, PageV1};

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only grants of this peer
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Only grants of this status
    #[arg(long, value_parser = ["pending", "active", "suspended", "revoked", "expired"])]
    status: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

impl List {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["grants"])
            .with("peer", self.peer)
            .with("status", self.status)
            .with("limit", self.page.limit)
            .with("cursor", self.page.cursor);
        let page: PageV1<GrantV1> = context.admin()?.get(&path).await?;
        let mut table = Table::new()
            .column("peer", Room::Keeps)
            .column("reads as", Room::Keeps)
            .column("status", Room::Keeps)
            .column("resources", Room::GivesWay)
            .column("expires", Room::Optional)
            .column("id", Room::Keeps);
        for grant in &page.items {
            table.row([
                &grant.peer,
                &grant.user.name,
                &grant.status,
                &joined(&grant.scope.resources),
                &minute(grant.expires_at),
                &grant.id.to_string(),
            ]);
        }
        Ok(listed(&page, &table, context.terminal(), "no grants; make one with 'mosaic federation grant create'"))
    }
}
