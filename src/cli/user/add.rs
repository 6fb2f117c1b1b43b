use clap::Args;

use super::user_sheet;
use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::{CreateUserV1, UserV1};

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// 1 to 63 characters a-z, 0-9, '.', '_' or '-'
    name: String,
    /// The name as people write it
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
}

impl Add {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let body = CreateUserV1 { name: self.name, display_name: self.display_name };
        let user: UserV1 = context.admin()?.post(&Path::admin(["users"]), &body).await?;
        Ok(Outcome::new(&user, user_sheet(&user)))
    }
}
