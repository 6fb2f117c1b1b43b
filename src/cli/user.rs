//! `mosaic user …`: the people of this site.

use clap::Subcommand;

use super::context::Context;
use super::lists::{joined, sheet};
use super::outcome::{Failure, Outcome};
use super::times::{minute, minute_or_dash};
use crate::wire::admin_v1::{UserChangedV1, UserV1};

mod add;
mod disable;
mod enable;
mod list;
mod remove;
mod show;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a person
    Add(add::Add),
    /// List people
    List(list::List),
    /// Show one person
    Show(show::Show),
    /// End a person's sessions and revoke every grant that reads as this person
    Disable(disable::Disable),
    /// Let a disabled person in again; revoked grants stay revoked
    Enable(enable::Enable),
    /// Remove a person for good; rows and audit stay
    Remove(remove::Remove),
}

impl UserCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        match self {
            Self::Add(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Show(command) => command.run(context).await,
            Self::Disable(command) => command.run(context).await,
            Self::Enable(command) => command.run(context).await,
            Self::Remove(command) => command.run(context).await,
        }
    }
}

fn state(user: &UserV1) -> &'static str {
    match (user.deleted_at, user.active) {
        (Some(_), _) => "removed",
        (None, true) => "active",
        (None, false) => "disabled",
    }
}

fn user_sheet(user: &UserV1) -> String {
    let mut fields = vec![
        ("id", user.id.to_string()),
        ("name", user.name.clone()),
        ("display name", user.display_name.clone()),
        ("state", state(user).to_owned()),
        ("teams", joined(user.teams.iter().map(|team| &team.name))),
        ("since", minute(user.created_at)),
    ];
    if user.deleted_at.is_some() {
        fields.push(("removed", minute_or_dash(user.deleted_at)));
    }
    sheet(fields)
}

fn changed(change: &UserChangedV1) -> Outcome {
    let mut text = format!("{} is {}\n", change.user.name, state(&change.user));
    for grant in &change.revoked_grants {
        text.push_str(&format!("revoked grant {grant}\n"));
    }
    if !change.effective {
        text.push_str("the node has not heard of the change yet; it refuses peers until it has\n");
    }
    Outcome::new(change, text)
}
