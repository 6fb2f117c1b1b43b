use clap::Args;

use crate::cli::context::Context;
use crate::cli::lists::sheet;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::{CreateTeamV1, TeamV1};

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// 1 to 63 characters a-z, 0-9, '.', '_' or '-'
    name: String,
}

impl Add {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let team: TeamV1 = context.admin()?.post(&Path::admin(["teams"]), &CreateTeamV1 { name: self.name }).await?;
        Ok(Outcome::new(&team, sheet([("id", team.id.to_string()), ("name", team.name.clone())])))
    }
}
