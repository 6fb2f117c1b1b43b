use clap::Args;

use super::link_sheet;
use crate::cli::context::Context;
use crate::cli::node::{Node, Path};
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::{CreateLinkV1, LinkV1, PageV1, UserV1};
use crate::wire::session_v1::WhoamiBody;

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// mosaic-invite:… from the other site's admin
    invite: String,
    /// Who may ask over this link: name or id of a user here. Default: the user of the saved session token, or the only user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// What this site shall call the peer. Default: what it calls itself
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// A team (name or id) whose members may ask too; repeat for more
    #[arg(long = "share-with", value_name = "TEAM")]
    share_with: Vec<String>,
    /// The peer may have a loopback, link-local or metadata address
    #[arg(long)]
    allow_private: bool,
}

impl Add {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let node = context.admin()?;
        let user = match self.user {
            Some(user) => user,
            None => only_user(context, &node).await?,
        };
        let body = CreateLinkV1 {
            invite: self.invite,
            user,
            peer: self.name,
            allow_private: self.allow_private,
            share_with: self.share_with,
        };
        let link: Result<LinkV1, Failure> = node.post(&Path::admin(["links"]), &body).await;
        let link = link.map_err(|failure| advise(failure, body.allow_private))?;
        let text = format!("{}\ntry: mosaic query tasks --source federated:{}\n", link_sheet(&link), link.peer);
        Ok(Outcome::new(&link, text))
    }
}

/// The API speaks of its own field; here it is an option.
fn advise(failure: Failure, allow_private: bool) -> Failure {
    match &failure {
        Failure::Refused(refusal) if !allow_private && refusal.message.contains("allow_private") => failure.remedy(
            "if that is meant, as on one machine or in one house, say --allow-private; the invite is still good",
        ),
        Failure::Refused(refusal) if refusal.message.contains("share_with") && refusal.message.contains("authority") => failure
            .remedy("ask the other site's admin whether its authority is new; then repeat --share-with <team> for each team that shall ask"),
        _ => failure,
    }
}

/// Whom the link is for when nobody says: there must be no doubt.
async fn only_user(context: &Context, node: &Node) -> Result<String, Failure> {
    if let Ok(session) = context.session() {
        let me: Result<WhoamiBody, Failure> = session.get(&Path::session(["whoami"])).await;
        if let Ok(me) = me {
            return Ok(me.user.id.to_string());
        }
    }
    let users: PageV1<UserV1> = node.get(&Path::admin(["users"]).with("limit", Some(200))).await?;
    let mut active = users.items.into_iter().filter(|user| user.active && user.deleted_at.is_none());
    match (active.next(), active.next(), users.next_cursor) {
        (Some(user), None, None) => Ok(user.id.to_string()),
        (None, ..) => Err(Failure::misused("there is no user whom the link could belong to")
            .remedy("add one with 'mosaic user add <name>'")),
        _ => Err(Failure::misused("whose link shall it be?").remedy("say it with --user <name>")),
    }
}
