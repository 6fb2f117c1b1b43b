//! `mosaic federation …`: what this site grants, and which peers it asks.

use clap::Subcommand;

use super::context::Context;
use super::outcome::{Failure, Outcome};

mod audit;
mod grant;
mod peer;
mod status;

#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    /// What other sites may read here
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Which sites this one asks
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// How every link is doing
    Status(status::Status),
    /// Who read what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

impl FederationCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Grant(command) => command.run(context).await,
            Self::Peer(command) => command.run(context).await,
            Self::Status(command) => command.run(context).await,
            Self::Audit(command) => command.run(context).await,
        }
    }
}
