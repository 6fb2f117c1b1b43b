//! The admin API's documents (`/api/admin/v1/`), shared by the server and the CLI.
//!
//! Requests refuse unknown fields. Answers leave out what is absent. Lists are `{"items":[…],"next_cursor"?}`; the cursor goes
//! back as `?cursor=` and is opaque.

use mosaic_actors::domain::identity::{GrantId, LinkId, TeamId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

pub mod audit;
pub mod cursor;
pub mod scope;

use super::link_v1::LinkHealthV1;
pub use audit::{AuditEventNameV1, AuditProblemV1, AuditVerificationV1, CheckpointV1, VerifyAuditV1};
pub use scope::{ScopeV1, TenantFilterV1};

// ---------------------------------------------------------------------------------------------------------------- lists

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageV1<T> {
    pub items: Vec<T>,
    /// Present when there is more: the value of `?cursor=` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What every list takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// From a former page's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Default 50; more than 500 is cut to 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A user or a team by id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedV1 {
    pub id: Uuid,
    pub name: String,
}

// --------------------------------------------------------------------------------------------------------------- people

/// `GET users`, by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UserListParams {
    /// Deleted users too. Default `false`.
    #[serde(default)]
    pub deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUserV1 {
    /// 1 to 63 characters `a-z 0-9 . _ -`, starting with a letter or a digit. Never used again, even after deletion.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUserV1 {
    /// `false` ends the user's sessions and revokes every grant with this subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserV1 {
    pub id: Uuid,
    pub name: String,
    pub display_name: String,
    pub active: bool,
    pub teams: Vec<NamedV1>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<OffsetDateTime>,
}

/// A changed user, and what the change took with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserChangedV1 {
    pub user: UserV1,
    /// Grants that this change revoked.
    pub revoked_grants: Vec<Uuid>,
    /// Whether this replica already decides by the change.
    pub effective: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTeamV1 {
    /// 1 to 63 characters `a-z 0-9 . _ -`, starting with a letter or a digit.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeamV1 {
    pub id: Uuid,
    pub name: String,
    pub members: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMemberV1 {
    /// Id or name of a user.
    pub user: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberV1 {
    pub user: NamedV1,
    #[serde(with = "time::serde::rfc3339")]
    pub added_at: OffsetDateTime,
}

// --------------------------------------------------------------------------------------------------------------- tokens

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKindV1 {
    Session,
    Admin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTokenV1 {
    pub kind: TokenKindV1,
    /// Id or name of the user of a session token; absent for an admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where the token is used, up to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// 60 to 31 536 000 (365 days). Default: 30 days for a session token; an admin token lasts until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenV1 {
    pub id: Uuid,
    pub kind: TokenKindV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<NamedV1>,
    pub label: String,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A new token. Its text is in this answer and nowhere else. Not `Debug`: the text must not reach a log.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedTokenV1 {
    /// The bearer token.
    pub token: String,
    pub record: TokenV1,
}

/// `GET tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenListParams {
    /// Id or name of a user: only his session tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

// --------------------------------------------------------------------------------------------------------------- grants

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerV1 {
    pub id: Uuid,
    pub name: String,
    /// Grants of this peer that are pending, active or suspended.
    pub open_grants: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// How much one grant's holder may ask; over it the answer is 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InboundLimitsV1 {
    /// Sustained; 1 to 100 000.
    pub requests_per_second: u32,
    /// 1 to 1 000 000.
    pub burst: u32,
    /// At the same time; 1 to 10 000.
    pub concurrent: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGrantV1 {
    /// What this site calls the other one; created when it is new.
    pub peer: String,
    /// Id or name of the subject: the local user whose rights bound the grant.
    pub user: String,
    #[schema(value_type = ScopeV1)]
    pub scope: serde_json::Value,
    /// Default: 90 days from now. At most five years.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<InboundLimitsV1>,
    /// Of the invite: 60 to 86 400, default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_lifetime_seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateGrantV1 {
    /// Replaces the whole scope.
    #[schema(value_type = Option<ScopeV1>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<InboundLimitsV1>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantV1 {
    pub id: Uuid,
    pub peer: String,
    /// The subject.
    pub user: NamedV1,
    pub scope: ScopeV1,
    /// `pending`, `active`, `suspended`, `revoked` or `expired`.
    pub status: String,
    /// Grows with every change.
    pub version: i64,
    pub limits: InboundLimitsV1,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<OffsetDateTime>,
    /// Until when the latest invite can be redeemed; absent when there is none.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub invite_expires_at: Option<OffsetDateTime>,
    pub certificates: Vec<CertificateV1>,
}

/// A certificate that this site issued for a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateV1 {
    /// Hexadecimal.
    pub serial: String,
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub superseded_until: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// `POST grants` answers the grant and the invite that turns it into a link.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedGrantV1 {
    pub grant: GrantV1,
    pub invite: InviteV1,
}

/// An invite: shown once, redeemed once. Not `Debug`: it holds a token.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct InviteV1 {
    pub grant_id: Uuid,
    /// `mosaic-invite:…`, to be handed to the other site's admin.
    pub invite: String,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInviteV1 {
    /// 60 to 86 400, default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
}

/// A changed grant, with the receipt of the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantChangedV1 {
    pub grant: GrantV1,
    pub receipt: ReceiptV1,
}

/// What a change has reached by the time its answer leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptV1 {
    /// `revoke`, `suspend`, `resume` or `update`.
    pub change: String,
    pub grant_version: i64,
    /// The site-wide counter of changes that this change raised.
    pub authority_version: i64,
    /// Whether this replica already decides by the change. `false`: it did not hear of it in time, and refuses until it does.
    pub effective: bool,
    /// From the request's arrival to the moment when this replica decided by it.
    pub took_ms: u64,
    /// Certificates put on the revocation list.
    pub certificates_revoked: u32,
    /// Whether the certificate authority published them. `false`: it will with its next list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_published: Option<bool>,
    /// Under which the change stands in the audit log.
    pub request_id: Uuid,
}

/// `GET grants`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantListParams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// `pending`, `active`, `suspended`, `revoked` or `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What a grant would open, had its holder asked now. Nothing is activated and nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewV1 {
    pub grant_id: Uuid,
    pub status: String,
    pub user: NamedV1,
    pub max_rows_per_query: u32,
    pub resources: Vec<PreviewResourceV1>,
    /// Resources of this site that stay closed, and why: `excluded`, `sensitive` or `not_in_scope`.
    pub closed: Vec<ClosedResourceV1>,
    /// What an admin should look at before handing out the invite.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewResourceV1 {
    pub resource: String,
    /// Rows that the holder could read, all pages together.
    pub rows: u64,
    /// Counting stopped here: there are more.
    pub at_least: bool,
    /// The first few, newest first.
    pub first: Vec<PreviewRowV1>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewRowV1 {
    pub id: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_id: Option<Uuid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClosedResourceV1 {
    pub resource: String,
    pub reason: String,
}

// ---------------------------------------------------------------------------------------------------------------- links

/// Not `Debug`: the invite holds a token.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLinkV1 {
    /// `mosaic-invite:…`, from the other site's admin.
    pub invite: String,
    /// Id or name of the local user whom the link belongs to.
    pub user: String,
    /// What this site shall call the peer. Default: what the peer calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Loopback, link-local and metadata addresses may be dialled. Default `false`.
    #[serde(default)]
    pub allow_private: bool,
    /// Ids or names of local teams whose members may use the link too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub share_with: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkV1 {
    pub id: Uuid,
    /// What this site calls the peer.
    pub peer: String,
    /// What the peer calls itself.
    pub site: String,
    pub user: NamedV1,
    /// Ids of teams.
    pub shared_with: Vec<Uuid>,
    /// `pending`, `active`, `degraded`, `suspended`, `revoked` or `expired`.
    pub state: String,
    /// The other site's grant and its user there.
    pub grant_id: Uuid,
    pub subject_user_id: Uuid,
    pub federation_url: String,
    pub allow_private: bool,
    /// Of the client certificate, hexadecimal.
    pub serial: String,
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// As this replica sees it; absent until it has started the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<LinkStatusV1>,
}

/// A link as one replica sees it; read from memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkStatusV1 {
    pub link_id: Uuid,
    pub peer: String,
    /// The local user whom the link belongs to.
    pub user_id: Uuid,
    #[serde(flatten)]
    pub health: LinkHealthV1,
}

/// `POST links/{link}/faults`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InjectFaultV1 {
    pub fault: InjectableFaultV1,
    /// Seconds until it is over by itself.
    pub for_s: u64,
    /// `delay`: how much longer the peer takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// `stall`: bytes of an answer's body that come before the silence. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum InjectableFaultV1 {
    /// The peer takes longer.
    Delay,
    /// It begins its answer and says no more.
    Stall,
    /// It answers 503.
    Error,
    /// The connection is reset.
    Reset,
}

/// `GET links`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LinkListParams {
    /// Id or name of the user whom the links belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

// ---------------------------------------------------------------------------------------------------- audit and status

/// `GET audit`, newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditListParams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// A verb (`list`, `get`, …), `enroll`, or a change of a grant (`create`, `revoke`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `allowed`, `denied` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// From this time on (RFC 3339).
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub from: Option<OffsetDateTime>,
    /// Before this time (RFC 3339).
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub to: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// One event. Never a body, never a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEventV1 {
    pub seq: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub request_id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_user_id: Option<Uuid>,
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Keyed hash of the canonical query, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_hash: Option<String>,
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub rows: i32,
    pub bytes_out: i64,
    pub latency_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    /// How many more refused handshakes like this one were counted only.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: i64,
    /// The writer's lane and the event's number in it; absent from before sealing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
}

fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// `GET status`: this replica, read from memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusV1 {
    pub site: String,
    /// Of the program.
    pub version: String,
    pub authority: AuthorityStatusV1,
    /// Grants that this replica knows, by status.
    pub grants: std::collections::BTreeMap<String, u64>,
    pub links: Vec<LinkStatusV1>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityStatusV1 {
    /// `false`: this replica lost the database's changes and answers peers 503 until it has them again.
    pub fresh: bool,
    /// The change counter that it decides by.
    pub version: i64,
}

impl NamedV1 {
    #[must_use]
    pub fn user(id: UserId, name: impl Into<String>) -> Self {
        Self { id: id.0, name: name.into() }
    }

    #[must_use]
    pub fn team(id: TeamId, name: impl Into<String>) -> Self {
        Self { id: id.0, name: name.into() }
    }
}

impl GrantV1 {
    #[must_use]
    pub fn grant_id(&self) -> GrantId {
        GrantId(self.id)
    }
}

impl LinkV1 {
    #[must_use]
    pub fn link_id(&self) -> LinkId {
        LinkId(self.id)
    }
}
