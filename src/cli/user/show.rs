use clap::Args;

use super::user_sheet;
use crate::cli::context::Context;
use crate::cli::names;
use crate::cli::outcome::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name or id
    user: String,
}

impl Show {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let user = names::user(&context.admin()?, &self.user).await?;
        Ok(Outcome::new(&user, user_sheet(&user)))
    }
}
