use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::names;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The peer's name, or the link's id
    peer: String,
    /// Whose link, when several people have one to this peer
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl Remove {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let link = names::link(&node, &self.peer, self.user.as_deref()).await?;
        node.call(Method::DELETE, &Path::admin(["links", &link.id.to_string()])).await?;
        let text = format!(
            "{}'s link to {} is forgotten; the grant there stays until its owner ends it\n",
            link.user.name, link.peer
        );
        Ok(Outcome::new(&json!({ "id": link.id, "peer": link.peer, "removed": true }), text))
    }
}
