//! `mosaic federation grant …`: the owner's decisions.

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::lists::{joined, sheet};
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::times::{minute, minute_or_dash};
use crate::wire::admin_v1::{GrantChangedV1, GrantV1, InviteV1, ScopeV1};

mod create;
mod invite;
mod list;
mod preview;
mod resume;
mod revoke;
mod scope;
mod show;
mod suspend;
mod update;

#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Let a peer read as one of your users; prints an invite
    Create(create::Create),
    /// List grants, newest first
    List(list::List),
    /// Show one grant
    Show(show::Show),
    /// Change scope, limits or end; takes effect on the next request
    Update(update::Update),
    /// End a grant for good, open connections included
    Revoke(revoke::Revoke),
    /// Refuse requests until 'resume'; certificates stay
    Suspend(suspend::Suspend),
    /// Let a suspended grant read again
    Resume(resume::Resume),
    /// Make a new invite for a pending grant; voids the earlier one
    Invite(invite::Invite),
    /// Show what a grant opens now, before or after it is active
    Preview(preview::Preview),
}

impl GrantCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Show(command) => command.run(context).await,
            Self::Update(command) => command.run(context).await,
            Self::Revoke(command) => command.run(context).await,
            Self::Suspend(command) => command.run(context).await,
            Self::Resume(command) => command.run(context).await,
            Self::Invite(command) => command.run(context).await,
            Self::Preview(command) => command.run(context).await,
        }
    }
}

fn grant_sheet(grant: &GrantV1) -> String {
    let limits = &grant.limits;
    let mut fields = vec![
        ("id", grant.id.to_string()),
        ("peer", grant.peer.clone()),
        ("reads as", format!("{} ({})", grant.user.name, grant.user.id)),
        ("status", grant.status.clone()),
        ("version", grant.version.to_string()),
        ("created", minute(grant.created_at)),
        ("activated", minute_or_dash(grant.activated_at)),
        ("expires", minute(grant.expires_at)),
    ];
    if grant.ended_at.is_some() {
        fields.push(("ended", minute_or_dash(grant.ended_at)));
    }
    if grant.status == "pending" {
        fields.push(("invite until", minute_or_dash(grant.invite_expires_at)));
    }
    fields.extend(scope_fields(&grant.scope));
    fields.push((
        "limits",
        format!("{} requests/s, burst {}, {} at once", limits.requests_per_second, limits.burst, limits.concurrent),
    ));
    for certificate in &grant.certificates {
        let ended = match (certificate.revoked_at, certificate.superseded_until) {
            (Some(at), _) => format!(", revoked {}", minute(at)),
            (None, Some(at)) => format!(", superseded, accepted until {}", minute(at)),
            (None, None) => String::new(),
        };
        fields.push(("certificate", format!("{} until {}{ended}", certificate.serial, minute(certificate.not_after))));
    }
    sheet(fields)
}

fn scope_fields(scope: &ScopeV1) -> Vec<(&'static str, String)> {
    let mut fields = vec![("resources", joined(&scope.resources))];
    if !scope.excluded_resources.is_empty() {
        fields.push(("excluded", joined(&scope.excluded_resources)));
    }
    for (resource, filter) in &scope.filters {
        let teams = filter.include_teams.as_ref().map_or_else(
            || "all teams of the subject".to_owned(),
            |teams| match teams.len() {
                0 => "no team".to_owned(),
                _ => format!("teams {}", joined(teams.iter().map(ToString::to_string))),
            },
        );
        let personal = if filter.include_personal { "with" } else { "without" };
        fields.push(("filter", format!("{resource}: {teams}, {personal} personal rows")));
    }
    fields.push(("rows per query", scope.max_rows_per_query.to_string()));
    fields.push(("cache", format!("{} s", scope.cache_max_age)));
    fields
}

/// What the other site's admin has to type.
fn invite_text(invite: &InviteV1) -> String {
    format!(
        "at the other site, before {} UTC, once:\n\n  mosaic federation peer add '{}'\n",
        minute(invite.expires_at),
        invite.invite
    )
}

fn changed(change: &GrantChangedV1) -> Outcome {
    let (grant, receipt) = (&change.grant, &change.receipt);
    let mut text =
        format!("grant {} for {} is {} (version {})\n", grant.id, grant.peer, grant.status, receipt.grant_version);
    text.push_str(&if receipt.effective {
        format!("in effect after {} ms\n", receipt.took_ms)
    } else {
        "this node has not heard of the change yet; it refuses peers until it has\n".to_owned()
    });
    if receipt.certificates_revoked > 0 {
        let published = match receipt.crl_published {
            Some(true) => "published on the revocation list",
            _ => "to be published with the next revocation list",
        };
        let plural = if receipt.certificates_revoked == 1 { "certificate" } else { "certificates" };
        text.push_str(&format!("{} {plural} revoked, {published}\n", receipt.certificates_revoked));
    }
    Outcome::new(change, text)
}
