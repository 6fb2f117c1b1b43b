use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use super::invite_text;
use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::times::parse_duration;
use crate::wire::admin_v1::{CreateInviteV1, InviteV1};

#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// The grant's id, from 'mosaic federation grant list'
    id: Uuid,
    /// How long the invite can be redeemed, 1m to 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lifetime: Option<Duration>,
}

impl Invite {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["grants", &self.id.to_string(), "invite"]);
        let body = CreateInviteV1 { lifetime_seconds: self.lifetime.map(|lifetime| lifetime.as_secs()) };
        let invite: InviteV1 = context.admin()?.post(&path, &body).await?;
        Ok(Outcome::new(&invite, invite_text(&invite)))
    }
}
