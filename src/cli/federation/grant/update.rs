use clap::Args;
use mosaic_actors::ports::clock::Clock;
use uuid::Uuid;

use super::changed;
use super::scope::ScopeArguments;
use crate::cli::context::Context;
use crate::cli::node::{Node, Path};
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::times::parse_moment;
use crate::clock::SystemClock;
use crate::wire::admin_v1::{GrantChangedV1, GrantV1, InboundLimitsV1, UpdateGrantV1};

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The grant's id
    id: Uuid,
    #[command(flatten)]
    scope: ScopeArguments,
    /// When the grant ends: a date, a time, or a duration such as 90d
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Sustained requests per second
    #[arg(long, value_name = "N")]
    requests_per_second: Option<u32>,
    /// Requests at once after a pause
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Requests at the same time
    #[arg(long, value_name = "N")]
    concurrent: Option<u32>,
}

impl Update {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let now = SystemClock.now();
        let body = UpdateGrantV1 {
            scope: self.scope.document(&node).await?,
            limits: self.limits(&node).await?,
            expires_at: self.expires.as_deref().map(|text| parse_moment("--expires", text, now)).transpose()?,
        };
        if body == UpdateGrantV1::default() {
            return Err(Failure::misused("nothing to change").remedy("give a scope, --expires or a limit"));
        }
        let change: GrantChangedV1 = node.patch(&self.path(), &body).await?;
        Ok(changed(&change))
    }

    fn path(&self) -> Path {
        Path::admin(["grants", &self.id.to_string()])
    }

    /// The API replaces the three limits together; those that were not named stay as they are.
    async fn limits(&self, node: &Node) -> Result<Option<InboundLimitsV1>, Failure> {
        if self.requests_per_second.is_none() && self.burst.is_none() && self.concurrent.is_none() {
            return Ok(None);
        }
        let grant: GrantV1 = node.get(&self.path()).await?;
        Ok(Some(InboundLimitsV1 {
            requests_per_second: self.requests_per_second.unwrap_or(grant.limits.requests_per_second),
            burst: self.burst.unwrap_or(grant.limits.burst),
            concurrent: self.concurrent.unwrap_or(grant.limits.concurrent),
        }))
    }
}
