use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::changed;
use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::GrantChangedV1;

#[derive(Debug, Args)]
pub(crate) struct Suspend {
    /// The grant's id, from 'mosaic federation grant list'
    id: Uuid,
}

impl Suspend {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["grants", &self.id.to_string(), "suspend"]);
        let change: GrantChangedV1 = context.admin()?.post(&path, &json!({})).await?;
        Ok(changed(&change))
    }
}
