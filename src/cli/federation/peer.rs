//! `mosaic federation peer …`: the asking side's links.

use clap::Subcommand;

use super::status::{state, watch};
use crate::cli::context::Context;
use crate::cli::lists::{joined, sheet};
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::times::{minute, minute_or_dash};
use crate::wire::admin_v1::LinkV1;

mod add;
mod fault;
mod list;
mod remove;
mod renew;
mod show;

#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// Redeem an invite: enrol, and ask that site from now on
    Add(add::Add),
    /// List the links to other sites
    List(list::List),
    /// Show one link
    Show(show::Show),
    /// Renew a link's certificate now; by itself it is renewed at two thirds of its life
    Renew(renew::Renew),
    /// Make a link go wrong for a while, where the configuration allows it
    Fault(fault::FaultArgs),
    /// Forget a link, its key and its certificate
    Remove(remove::Remove),
}

impl PeerCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Add(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Show(command) => command.run(context).await,
            Self::Renew(command) => command.run(context).await,
            Self::Fault(command) => command.run(context).await,
            Self::Remove(command) => command.run(context).await,
        }
    }
}

fn link_sheet(link: &LinkV1) -> String {
    let mut fields = vec![
        ("id", link.id.to_string()),
        ("peer", link.peer.clone()),
        ("calls itself", link.site.clone()),
        ("belongs to", format!("{} ({})", link.user.name, link.user.id)),
        ("shared with", joined(link.shared_with.iter().map(ToString::to_string))),
        ("state", link.state.clone()),
        ("address", link.federation_url.clone()),
        ("private address", if link.allow_private { "allowed" } else { "refused" }.to_owned()),
        ("grant there", link.grant_id.to_string()),
        ("subject there", link.subject_user_id.to_string()),
        ("certificate", format!("{} until {}", link.serial, minute(link.not_after))),
        ("since", minute(link.created_at)),
    ];
    if let Some(status) = &link.status {
        let health = &status.health;
        fields.push(("now", state(health)));
        fields.push(("breaker", health.breaker.clone()));
        fields.push(("watch", watch(&health.watch)));
        fields.push(("last answer", minute_or_dash(health.last_ok_at)));
        if let Some(failure) = &health.last_failure {
            fields.push(("last failure", format!("{} at {}, {}", failure.code, failure.stage, minute(failure.at))));
        }
    }
    sheet(fields)
}
