//! `mosaic gateway …`: the node itself.

use clap::Subcommand;

use super::context::Context;
use super::outcome::{Failure, Outcome};

pub(crate) mod init;
pub(crate) mod serve;

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Write a commented configuration, the keys and the first admin token
    Init(init::Init),
    /// Run the node until SIGTERM or Ctrl-C
    Serve(serve::Serve),
}

impl GatewayCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Init(command) => command.run(context),
            Self::Serve(_) => unreachable!("invariant: the node has its own runtime"),
        }
    }
}
