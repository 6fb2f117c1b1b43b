use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::names;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct RemoveMember {
    /// Name or id of the team
    team: String,
    /// Name or id of the person
    user: String,
}

impl RemoveMember {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let team = names::team_id(&node, &self.team).await?;
        let user = names::user_id(&node, &self.user).await?;
        let path = Path::admin(["teams", &team.to_string(), "members", &user.to_string()]);
        node.call(Method::DELETE, &path).await?;
        let text = format!("{} is no member of {} any more\n", self.user, self.team);
        Ok(Outcome::new(&json!({ "team_id": team, "user_id": user, "removed": true }), text))
    }
}
