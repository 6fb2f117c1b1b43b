//! Documents of `audit/verify` and `audit/checkpoint`.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// The end of the chain of seals, signed: to be kept outside of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointV1 {
    pub site: String,
    /// Of the newest seal.
    pub position: i64,
    /// Events under seal up to there.
    pub events: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// SHA-256 of the seal, hexadecimal as everything below.
    pub seal: String,
    /// Names the master secret.
    pub key: String,
    /// Ed25519.
    pub public_key: String,
    pub signature: String,
}

/// `POST audit/verify`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyAuditV1 {
    /// What was kept: the chain must go through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointV1>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerificationV1 {
    pub ok: bool,
    /// Events under seal that are as they were written.
    pub sealed: u64,
    /// Events that wait for their seal and are as they were written.
    pub unsealed: u64,
    /// Events from before there was sealing: as they were when it began.
    pub before_sealing: u64,
    /// Of the sealed ones, those whose digest only a master secret that is gone could check: their seal vouches for them.
    pub by_seal_alone: u64,
    pub seals: u64,
    /// The end of the chain as far as it was followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<CheckpointV1>,
    /// The first thing that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<AuditProblemV1>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditProblemV1 {
    /// `altered`, `missing`, `inserted`, `moved`, `cut` or `seal`.
    pub kind: String,
    pub detail: String,
    /// Position of the seal that it came to light with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<AuditEventNameV1>,
}

/// What is known of an event: one that is gone has a place only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEventNameV1 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub at: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Uuid>,
}
