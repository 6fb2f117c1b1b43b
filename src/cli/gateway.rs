//! `mosaic gateway …`: the node itself.

use clap::Subcommand;

use super::context::Context;
use super::outcome::{Failure, Outcome};

pub(crate) mod init;

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Write a commented configuration, the keys and the first admin token
    Init(init::Init),
}

impl GatewayCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Init(command) => command.run(context),
        }
    }
}
