//! `mosaic federation audit …`: who read what, and whether that is all as it was written.

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::outcome::{Failure, Outcome};

mod checkpoint;
mod list;
mod verify;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events, newest first
    List(list::List),
    /// Find the first event that is altered, missing, inserted or moved
    Verify(verify::Verify),
    /// Print the signed end of the log, to be kept elsewhere
    Checkpoint(checkpoint::Checkpoint),
}

impl AuditCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::List(command) => command.run(context).await,
            Self::Verify(command) => command.run(context).await,
            Self::Checkpoint(command) => command.run(context).await,
        }
    }
}
