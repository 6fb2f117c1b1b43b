//! `links`: this site's side of other sites' grants.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{LinkId, SiteName, TeamId, UserId};
use mosaic_actors::domain::link::{Link, LinkState};

use super::lookup::{no_such_link, not_found, peer_name};
use super::paging::{self, PageSize};
use super::{Services, views};
use crate::http::{ApiError, json, parse_json, parse_query};
use crate::peer_http::Enrolled;
use crate::pki::invite::Invite;
use crate::postgres::links::{LinkPage, NewLink, Standing};
use crate::postgres::people::IdOrName;
use crate::wire::admin_v1::cursor::{decode_time_and_id, encode_time_and_id};
use crate::wire::admin_v1::{CreateLinkV1, LinkListParams, LinkV1, PageV1};

/// Links, newest first, each with its status on this replica.
#[utoipa::path(get, path = "/api/admin/v1/links", tag = "admin: links", params(LinkListParams),
    responses((status = 200, body = PageV1<LinkV1>)), security(("admin_token" = [])))]
pub async fn list(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let params: LinkListParams = parse_query(&request)?;
    let size = PageSize::of(params.limit, &services.limits)?;
    let after = params.cursor.as_deref().map(decode_time_and_id).transpose()?;
    let peer = params.peer.as_deref().map(peer_name).transpose()?;
    let owner = match &params.user {
        None => None,
        Some(text) => {
            let user = services.people.user(&IdOrName::parse(text)).await?;
            Some(user.ok_or_else(|| not_found("user: no such user on this site"))?.id)
        }
    };
    let links = services.links.list(&LinkPage { owner, peer, after, limit: size.rows() }).await?;
    let page = size.page(
        links,
        |link| encode_time_and_id(link.created_at, link.id.0),
        |link| {
            let status = services.registry.status(link.id);
            views::link(link, status.as_deref())
        },
    );
    Ok(paging::answer(&page)?)
}

/// Redeems an invite: makes a key, enrols at the other site, stores the link, starts it. A link of the same user and name that has
/// ended (revoked, expired, or with a certificate past its end) is replaced; the teams it was shared with stay unless others are named.
/// When the invite is of another certificate authority than the ended link, they have to be named anew: anybody can call himself as a peer.
#[utoipa::path(post, path = "/api/admin/v1/links", tag = "admin: links", request_body = CreateLinkV1,
    responses((status = 201, body = LinkV1), (status = 409, description = "The user has a link of this name that has not ended, or that was shared with teams and was of another certificate authority"),
        (status = 410, description = "The invite was used or has expired"),
        (status = 503, description = "The other site cannot be reached, or this one's database: the message says whether the invite is still good")),
    security(("admin_token" = [])))]
pub async fn create(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: CreateLinkV1 = parse_json(&services.body(&request, payload).await?)?;
    let invite = Invite::parse(&body.invite).map_err(|error| Fault::invalid(format!("invite: {error}")))?;
    let order = services.order(&body, &invite).await?;
    let enrolled = services.enrollment_client.enroll(&invite, body.allow_private).await.map_err(enrolment_fault)?;
    let replaced = order.replaces;
    let link = services.store(order, enrolled, body.allow_private).await?;
    // The ended one first, so that no session ever sees both.
    replaced.into_iter().for_each(|ended| services.registry.link_changed(ended));
    services.registry.link_changed(link);
    services.registry.wait_for(link, services.reach_deadline()).await;
    let record = services.links.get(link).await?.ok_or_else(no_such_link)?;
    let status = services.registry.status(link);
    Ok(json(StatusCode::CREATED, &views::link(record, status.as_deref()))?)
}

/// Whose the link shall be and what it shall be called.
struct Order {
    owner: UserId,
    peer: SiteName,
    shared_with: Vec<TeamId>,
    /// The link of this name that has ended.
    replaces: Option<LinkId>,
}

impl Services {
    /// Everything that can be wrong on this side is found before the token is spent on the other.
    async fn order(&self, body: &CreateLinkV1, invite: &Invite) -> Result<Order, Fault> {
        if self.master_secrets.is_retired(self.sealer.sealing()).await? {
            return Err(Fault::new(FaultKind::Unavailable, Stage::Request).with_message(
                "this replica has not learned yet which master secret seals and could not keep the link's key; the invite is still good: \
                 try again in a moment, or see what 'mosaic gateway doctor' says here",
            ));
        }
        let owner = self.user_in_body("user", &body.user).await?.id;
        let shared_with = self.teams_in_body("share_with", &body.share_with).await?;
        let peer = body.peer.as_deref().map_or_else(|| Ok(invite.site.clone()), peer_name)?;
        let replaces = match self.links.standing(owner, &peer).await? {
            None => None,
            // The invite's name is its issuer's word; only the root says that it is the peer whom the teams were meant for.
            Some(Standing { ended: true, shared: true, root_sha256, .. })
                if shared_with.is_empty() && root_sha256 != invite.ca_sha256 =>
            {
                return Err(Fault::new(FaultKind::Conflict, Stage::Request).with_message(format!(
                    "the link named '{peer}' has ended and was shared with teams, but this invite is of another certificate authority: if that is \
                     meant, name the teams anew with 'share_with', or remove the ended link first to share with none; the invite is still good"
                )));
            }
            Some(Standing { link, ended: true, .. }) => Some(link),
            Some(Standing { ended: false, .. }) => {
                return Err(Fault::new(FaultKind::Conflict, Stage::Request).with_message(format!(
                    "this user already has a link named '{peer}' that has not ended as far as this site knows; remove it first, or give the \
                     new one another name with 'peer'"
                )));
            }
        };
        Ok(Order { owner, peer, shared_with, replaces })
    }

    async fn store(&self, order: Order, enrolled: Enrolled, allow_private: bool) -> Result<LinkId, Fault> {
        let id = LinkId::new();
        let credentials = enrolled.credentials(id, &self.sealer);
        let link = Link {
            id,
            peer: order.peer,
            owner: order.owner,
            shared_with: order.shared_with,
            state: LinkState::Active,
            grant: enrolled.grant,
            federation_url: enrolled.federation_url.into(),
            allow_private,
            credentials,
            created_at: self.clock.now(),
        };
        let grant = link.grant;
        let new = NewLink {
            link,
            site: enrolled.site.to_string(),
            subject: enrolled.subject,
            enroll_url: enrolled.enroll_url,
        };
        let stored = match order.replaces {
            None => self.links.insert(&new).await,
            Some(ended) => self.links.replace(ended, &new).await,
        };
        stored.map_err(|fault| {
            tracing::error!(%grant, %fault, "enrolled, but the link could not be stored; ask the other site to revoke the grant");
            fault.with_message(format!(
                "the invite is spent, but the link could not be stored: ask the other site to revoke grant {grant} and for a new invite"
            ))
        })?;
        Ok(id)
    }
}

/// The other site's refusals, as this site's admin can act on them: none of them means that this request lacked credentials.
fn enrolment_fault(fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::NotFound | FaultKind::Unauthorized | FaultKind::Forbidden => {
            Fault { kind: FaultKind::Gone, ..fault }
        }
        // An address that may not be dialled stays so however often it is tried: the request has to change.
        FaultKind::Unreachable if !fault.retryable => Fault { kind: FaultKind::InvalidRequest, ..fault },
        _ => fault,
    }
}
