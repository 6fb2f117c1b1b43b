//! `mosaic team …`: who shares rows with whom.

use clap::Subcommand;

use super::context::Context;
use super::outcome::{Failure, Outcome};

mod add;
mod add_member;
mod list;
mod members;
mod remove_member;

#[derive(Debug, Subcommand)]
pub(crate) enum TeamCommand {
    /// Add a team
    Add(add::Add),
    /// List teams
    List(list::List),
    /// List the members of a team
    Members(members::Members),
    /// Add a person to a team
    AddMember(add_member::AddMember),
    /// Take a person out of a team
    RemoveMember(remove_member::RemoveMember),
}

impl TeamCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Add(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Members(command) => command.run(context).await,
            Self::AddMember(command) => command.run(context).await,
            Self::RemoveMember(command) => command.run(context).await,
        }
    }
}
