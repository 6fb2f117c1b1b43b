//! The small answers of the session API: who am I, which links do I have, which row did I write.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::wire::link_v1::LinkHealthV1;

/// `GET /api/v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhoamiBody {
    /// The node's own site.
    pub site: String,
    pub user: NamedBody,
    pub teams: Vec<NamedBody>,
    /// What this session can name as `resource`, in order.
    pub resources: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NamedBody {
    pub id: Uuid,
    pub name: String,
}

/// `GET /api/v1/status`: this user's links, from memory; nothing is dialled for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusBody {
    pub site: String,
    pub links: Vec<LinkBody>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkBody {
    pub peer: String,
    /// The link is the caller's own; otherwise a team shares it.
    pub own: bool,
    #[serde(flatten)]
    pub health: LinkHealthV1,
    /// What the peer says that this link may read; empty until it was asked once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub grant_expires_at: Option<OffsetDateTime>,
}

/// `POST /api/v1/data/{resource}:import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportedBody {
    /// Rows written: all lines.
    pub rows: u64,
}
