use clap::Args;

use super::changed;
use crate::cli::context::Context;
use crate::cli::names;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::{UpdateUserV1, UserChangedV1};

#[derive(Debug, Args)]
pub(crate) struct Enable {
    /// Name or id
    user: String,
}

impl Enable {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let id = names::user_id(&node, &self.user).await?.to_string();
        let body = UpdateUserV1 { active: Some(true), ..UpdateUserV1::default() };
        let change: UserChangedV1 = node.patch(&Path::admin(["users", &id]), &body).await?;
        Ok(changed(&change))
    }
}
