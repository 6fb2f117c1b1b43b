//! Records and snapshots as the documents of the API.

use mosaic_actors::peer_link::LinkStatus;

use crate::link_health::link_health;
use crate::pki::pem::to_hex;
use crate::postgres::audit::AuditRecord;
use crate::postgres::grants::{CertificateRecord, GrantRecord, PeerRecord};
use crate::postgres::links::LinkRecord;
use crate::postgres::people::{MemberRecord, TeamRecord, UserRecord};
use crate::postgres::sessions::TokenRecord;
use crate::wire::admin_v1::{
    AuditEventV1, CertificateV1, GrantV1, InboundLimitsV1, LinkStatusV1, LinkV1, MemberV1, NamedV1, PeerV1, ScopeV1,
    TeamV1, TokenKindV1, TokenV1, UserV1,
};

pub(super) fn user(record: UserRecord) -> UserV1 {
    UserV1 {
        id: record.id.0,
        name: record.name,
        display_name: record.display_name,
        active: record.active,
        teams: record.teams.into_iter().map(|(id, name)| NamedV1::team(id, name)).collect(),
        created_at: record.created_at,
        deleted_at: record.deleted_at,
    }
}

pub(super) fn team(record: TeamRecord) -> TeamV1 {
    TeamV1 { id: record.id.0, name: record.name, members: record.members, created_at: record.created_at }
}

pub(super) fn member(record: MemberRecord) -> MemberV1 {
    MemberV1 { user: NamedV1::user(record.user, record.name), added_at: record.added_at }
}

pub(super) fn token(record: TokenRecord) -> TokenV1 {
    let kind = if record.user.is_some() { TokenKindV1::Session } else { TokenKindV1::Admin };
    TokenV1 {
        id: record.id,
        kind,
        user: record.user.map(|(id, name)| NamedV1::user(id, name)),
        label: record.label,
        expires_at: record.expires_at,
        revoked_at: record.revoked_at,
        created_at: record.created_at,
    }
}

pub(super) fn peer(record: PeerRecord) -> PeerV1 {
    PeerV1 { id: record.id, name: record.name, open_grants: record.open_grants, created_at: record.created_at }
}

pub(super) fn grant(record: GrantRecord) -> GrantV1 {
    GrantV1 {
        id: record.id.0,
        peer: record.peer,
        user: NamedV1::user(record.subject, record.subject_name),
        scope: ScopeV1::from(&record.scope),
        status: record.status.as_str().to_owned(),
        version: record.version,
        limits: InboundLimitsV1 {
            requests_per_second: record.limits.requests_per_second,
            burst: record.limits.burst,
            concurrent: record.limits.concurrent,
        },
        expires_at: record.expires_at,
        created_at: record.created_at,
        activated_at: record.activated_at,
        ended_at: record.ended_at,
        invite_expires_at: record.invite_expires_at,
        certificates: record.certificates.into_iter().map(certificate).collect(),
    }
}

fn certificate(record: CertificateRecord) -> CertificateV1 {
    CertificateV1 {
        serial: record.serial.to_string(),
        not_before: record.not_before,
        not_after: record.not_after,
        superseded_until: record.superseded_until,
        revoked_at: record.revoked_at,
    }
}

pub(super) fn link(record: LinkRecord, status: Option<&LinkStatus>) -> LinkV1 {
    LinkV1 {
        id: record.id.0,
        peer: record.peer,
        site: record.site,
        user: NamedV1::user(record.owner, record.owner_name),
        shared_with: record.shared_with.into_iter().map(|team| team.0).collect(),
        state: record.state.as_str().to_owned(),
        grant_id: record.grant.0,
        subject_user_id: record.subject.0,
        federation_url: record.federation_url,
        allow_private: record.allow_private,
        serial: to_hex(&record.serial),
        not_before: record.not_before,
        not_after: record.not_after,
        created_at: record.created_at,
        status: status.map(link_status),
    }
}

/// A link's status, read from memory.
#[must_use]
pub fn link_status(status: &LinkStatus) -> LinkStatusV1 {
    LinkStatusV1 {
        link_id: status.link.0,
        peer: status.peer.to_string(),
        user_id: status.owner.0,
        health: link_health(status),
    }
}

pub(super) fn audit_event(record: AuditRecord) -> AuditEventV1 {
    AuditEventV1 {
        seq: record.seq,
        at: record.at,
        request_id: record.request,
        peer: record.peer,
        grant_id: record.grant.map(|grant| grant.0),
        grant_version: record.grant_version,
        subject_user_id: record.subject.map(|subject| subject.0),
        action: record.action,
        resource: record.resource,
        query_hash: record.query_hash.as_deref().map(to_hex),
        outcome: record.outcome,
        reason: record.reason,
        rows: record.rows,
        bytes_out: record.bytes_out,
        latency_us: record.latency_us,
        serial: record.serial.as_deref().map(to_hex),
        remote_addr: record.remote.map(|address| address.to_string()),
        suppressed: record.suppressed,
        lane: record.lane,
        number: record.number,
    }
}
