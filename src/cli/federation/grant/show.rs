use clap::Args;
use uuid::Uuid;

use super::grant_sheet;
use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::GrantV1;

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The grant's id, from 'mosaic federation grant list'
    id: Uuid,
}

impl Show {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let grant: GrantV1 = context.admin()?.get(&Path::admin(["grants", &self.id.to_string()])).await?;
        Ok(Outcome::new(&grant, grant_sheet(&grant)))
    }
}
