//! `mosaic gateway …`: the node itself.

use clap::Subcommand;

use super::context::Context;
use super::outcome::{Failure, Outcome};

mod doctor;
pub(crate) mod init;
mod rotate_secret;
pub(crate) mod serve;

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Write a commented configuration, the keys and the first admin token
    Init(init::Init),
    /// Run the node until SIGTERM or Ctrl-C
    Serve(serve::Serve),
    /// Check every dependency and say what to do about those that are missing
    Doctor(doctor::Doctor),
    /// Replace the master secret and seal every private key with the new one, while the node runs
    RotateSecret(rotate_secret::RotateSecret),
}

impl GatewayCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Init(command) => command.run(context),
            Self::Doctor(command) => command.run(context).await,
            Self::RotateSecret(command) => command.run(context).await,
            Self::Serve(_) => unreachable!("invariant: the node has its own runtime"),
        }
    }
}
