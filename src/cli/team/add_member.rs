use clap::Args;

use crate::cli::context::Context;
use crate::cli::names;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::{AddMemberV1, MemberV1};

#[derive(Debug, Args)]
pub(crate) struct AddMember {
    /// Name or id of the team
    team: String,
    /// Name or id of the person
    user: String,
}

impl AddMember {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let team = names::team_id(&node, &self.team).await?.to_string();
        let body = AddMemberV1 { user: self.user };
        let member: MemberV1 = node.post(&Path::admin(["teams", &team, "members"]), &body).await?;
        Ok(Outcome::new(&member, format!("{} is a member of {}\n", member.user.name, self.team)))
    }
}
