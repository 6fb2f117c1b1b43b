use clap::Args;

use super::link_sheet;
use crate::cli::context::Context;
use crate::cli::names;
use crate::cli::outcome::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The peer's name, or the link's id
    peer: String,
    /// Whose link, when several people have one to this peer
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl Show {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let link = names::link(&context.admin()?, &self.peer, self.user.as_deref()).await?;
        Ok(Outcome::new(&link, link_sheet(&link)))
    }
}
