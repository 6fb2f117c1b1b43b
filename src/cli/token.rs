//! `mosaic token …`: the bearer tokens of sessions and admins.

use clap::Subcommand;

use super::context::Context;
use super::outcome::{Failure, Outcome};

mod create;
mod list;
mod revoke;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; its text is shown once
    Create(create::Create),
    /// List tokens, without their text
    List(list::List),
    /// Revoke a token at once
    Revoke(revoke::Revoke),
}

impl TokenCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Revoke(command) => command.run(context).await,
        }
    }
}
