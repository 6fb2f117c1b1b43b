use clap::Args;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The token's id, from 'mosaic token list'
    id: Uuid,
}

impl Revoke {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        context.admin()?.call(Method::DELETE, &Path::admin(["tokens", &self.id.to_string()])).await?;
        Ok(Outcome::new(&json!({ "id": self.id, "revoked": true }), format!("token {} is revoked\n", self.id)))
    }
}
