use clap::Args;
use serde_json::json;

use super::link_sheet;
use crate::cli::context::Context;
use crate::cli::names;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::LinkV1;

#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// The peer's name, or the link's id
    peer: String,
    /// Whose link, when several people have one to this peer
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl Renew {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let link = names::link(&node, &self.peer, self.user.as_deref()).await?;
        let renewed: LinkV1 = node.post(&Path::admin(["links", &link.id.to_string(), "renew"]), &json!({})).await?;
        Ok(Outcome::new(&renewed, link_sheet(&renewed)))
    }
}
