//! `mosaic federation audit …`: who read what.

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::outcome::{Failure, Outcome};

mod list;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events, newest first
    List(list::List),
}

impl AuditCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::List(command) => command.run(context).await,
        }
    }
}
