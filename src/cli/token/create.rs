use std::time::Duration;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::times::{minute, parse_duration};
use crate::wire::admin_v1::{CreateTokenV1, CreatedTokenV1, TokenKindV1};

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// For sessions of this person: name or id
    #[arg(long, value_name = "USER", required_unless_present = "admin", conflicts_with = "admin")]
    user: Option<String>,
    /// For administration
    #[arg(long)]
    admin: bool,
    /// Where the token is used
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// How long it is valid, such as 8h or 30d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lifetime: Option<Duration>,
    /// Keep the token in the state directory (0600) for the commands that follow
    #[arg(long)]
    save: bool,
}

impl Create {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let kind = if self.admin { TokenKindV1::Admin } else { TokenKindV1::Session };
        let body = CreateTokenV1 {
            kind,
            user: self.user,
            label: self.label,
            lifetime_seconds: self.lifetime.map(|lifetime| lifetime.as_secs()),
        };
        let created: CreatedTokenV1 = context.admin()?.post(&Path::admin(["tokens"]), &body).await?;
        let mut outcome = Outcome::new(&created, format!("{}\n", created.token));
        let whose = created.record.user.as_ref().map_or("an admin", |user| user.name.as_str());
        let until = created
            .record
            .expires_at
            .map_or("until it is revoked".to_owned(), |at| format!("until {} UTC", minute(at)));
        outcome = outcome.note(format!("a token of {whose}, valid {until}; shown this once"));
        if self.save {
            let file = context.save_token(kind, &created.token)?;
            outcome = outcome.note(format!("kept in {}", file.display()));
        }
        Ok(outcome)
    }
}
