use clap::Args;

use crate::cli::context::Context;
use crate::cli::lists::{PageArguments, listed};
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::cli::times::{minute, minute_or_dash};
use crate::wire::admin_v1::{PageV1, TokenKindV1, TokenV1};

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only session tokens of this person: name or id
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

impl List {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["tokens"])
            .with("user", self.user)
            .with("limit", self.page.limit)
            .with("cursor", self.page.cursor);
        let page: PageV1<TokenV1> = context.admin()?.get(&path).await?;
        let mut table = Table::new()
            .column("kind", Room::Keeps)
            .column("user", Room::Keeps)
            .column("label", Room::GivesWay)
            .column("created", Room::Optional)
            .column("ends", Room::Keeps)
            .column("id", Room::Keeps);
        for token in &page.items {
            table.row([
                kind(token.kind),
                token.user.as_ref().map_or("", |user| &user.name),
                &token.label,
                &minute(token.created_at),
                &token.revoked_at.map_or_else(|| minute_or_dash(token.expires_at), |_| "revoked".to_owned()),
                &token.id.to_string(),
            ]);
        }
        Ok(listed(&page, &table, context.terminal(), "no tokens; make one with 'mosaic token create --user <name>'"))
    }
}

fn kind(kind: TokenKindV1) -> &'static str {
    match kind {
        TokenKindV1::Session => "session",
        TokenKindV1::Admin => "admin",
    }
}
