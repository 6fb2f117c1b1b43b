use std::time::Duration;

use clap::Args;
use mosaic_actors::ports::clock::Clock;

use super::scope::ScopeArguments;
use super::{grant_sheet, invite_text};
use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::times::{parse_duration, parse_moment};
use crate::clock::SystemClock;
use crate::wire::admin_v1::{CreateGrantV1, CreatedGrantV1};

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What this site calls the other one
    #[arg(long, value_name = "NAME")]
    peer: String,
    /// Whose rights bound the grant: name or id of a user here
    #[arg(long, value_name = "USER")]
    user: String,
    #[command(flatten)]
    scope: ScopeArguments,
    /// When the grant ends: a date, a time, or a duration such as 90d
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// How long the invite can be redeemed, 1m to 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    invite_lifetime: Option<Duration>,
}

impl Create {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let scope = self.scope.document(&node).await?.ok_or_else(|| {
            Failure::misused("a grant needs a scope")
                .remedy("give --scope <file>, or say what to open: --resource tasks --resource notes")
        })?;
        let now = SystemClock.now();
        let body = CreateGrantV1 {
            peer: self.peer,
            user: self.user,
            scope,
            expires_at: self.expires.map(|text| parse_moment("--expires", &text, now)).transpose()?,
            limits: None,
            invite_lifetime_seconds: self.invite_lifetime.map(|lifetime| lifetime.as_secs()),
        };
        let created: CreatedGrantV1 = node.post(&Path::admin(["grants"]), &body).await?;
        let text = format!("{}\n{}", grant_sheet(&created.grant), invite_text(&created.invite));
        Ok(Outcome::new(&created, text))
    }
}
