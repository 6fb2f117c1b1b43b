//! The table that decides about a peer's request. Pure: the time and everything known are parameters.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::domain::catalog::{Catalog, ResourceName};
use crate::domain::fault::FaultKind;
use crate::domain::grant::{Grant, GrantStatus};
use crate::domain::identity::PeerIdentity;
use crate::domain::query::{OwnRows, ReadRight, Verb, Visibility};

#[cfg(test)]
mod tests;

/// What a peer wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessRequest<'a> {
    pub verb: Verb,
    /// As it stands in the path; `None` only for `capabilities`.
    pub resource: Option<&'a str>,
}

/// The request may go on.
#[derive(Debug, Clone)]
pub struct Permit {
    pub grant: Arc<Grant>,
    /// For every verb that reads rows.
    pub right: Option<ReadRight>,
}

/// The request ends here.
#[derive(Debug, Clone)]
pub struct Denial {
    pub reason: DenyReason,
    /// For the audit event, when it is known.
    pub grant: Option<Arc<Grant>>,
}

/// Why, in the order in which it is checked. Who is not the holder learns nothing about the grant: that is why status comes
/// after identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyReason {
    StateUnknown,
    NoSuchGrant,
    SubjectMismatch,
    SerialNotCurrent,
    GrantPending,
    GrantSuspended,
    GrantRevoked,
    GrantExpired,
    SubjectInactive,
    ResourceUnknown,
    Sensitive,
    NotInScope,
    Excluded,
}

impl DenyReason {
    /// For the audit log and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StateUnknown => "state_unknown",
            Self::NoSuchGrant => "no_such_grant",
            Self::SubjectMismatch => "subject_mismatch",
            Self::SerialNotCurrent => "serial_not_current",
            Self::GrantPending => "grant_pending",
            Self::GrantSuspended => "grant_suspended",
            Self::GrantRevoked => "grant_revoked",
            Self::GrantExpired => "grant_expired",
            Self::SubjectInactive => "subject_inactive",
            Self::ResourceUnknown => "resource_unknown",
            Self::Sensitive => "sensitive",
            Self::NotInScope => "not_in_scope",
            Self::Excluded => "excluded",
        }
    }

    /// What the peer is told: several reasons share one kind, so that it cannot tell them apart.
    #[must_use]
    pub fn kind(self) -> FaultKind {
        match self {
            Self::StateUnknown => FaultKind::Unavailable,
            Self::NoSuchGrant | Self::SubjectMismatch | Self::SerialNotCurrent | Self::SubjectInactive => {
                FaultKind::Forbidden
            }
            Self::GrantPending => FaultKind::GrantPending,
            Self::GrantSuspended => FaultKind::GrantSuspended,
            Self::GrantRevoked => FaultKind::GrantRevoked,
            Self::GrantExpired => FaultKind::GrantExpired,
            Self::ResourceUnknown | Self::Sensitive | Self::NotInScope | Self::Excluded => FaultKind::ScopeViolation,
        }
    }
}

/// A grant's rights, worked out once per version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CompiledGrant {
    rights: HashMap<ResourceName, ReadRight>,
}

impl CompiledGrant {
    /// One right per resource that the scope covers and the catalog lets out.
    pub(crate) fn new(grant: &Grant, catalog: &Catalog) -> Self {
        let Some(max_rows) = NonZeroU32::new(grant.scope.max_rows_per_query) else {
            return Self { rights: HashMap::new() };
        };
        let open = |name: &&ResourceName| grant.scope.covers(name) && catalog.is_grantable(name);
        let right = |name: &ResourceName| ReadRight {
            subject: grant.subject,
            resource: name.clone(),
            visibility: compile_visibility(grant, name),
            max_rows,
        };
        Self { rights: grant.scope.resources.iter().filter(open).map(|name| (name.clone(), right(name))).collect() }
    }
}

/// Which rows of `resource` the grant shows: the subject's native rights, narrowed by the resource's filter.
///
/// Native: own rows, whatever their team, and rows of own teams. A filter lets a row with a team pass if its team is included
/// (absent list: the subject's teams) and a row without one if personal rows are (trust.md, "Rights").
#[must_use]
pub fn compile_visibility(grant: &Grant, resource: &ResourceName) -> Visibility {
    let Some(filter) = grant.scope.filters.get(resource) else {
        return Visibility { own: OwnRows::All, teams: grant.subject_teams.clone(), own_in_teams: Vec::new() };
    };
    let own = if filter.include_personal { OwnRows::Personal } else { OwnRows::None };
    let Some(included) = &filter.include_teams else {
        return Visibility { own, teams: grant.subject_teams.clone(), own_in_teams: Vec::new() };
    };
    let (teams, own_in_teams) = included.iter().copied().partition(|team| grant.subject_teams.contains(team));
    Visibility { own, teams, own_in_teams }
}

/// What an active grant of this content would let its holder read: for a preview by an admin, who asks without a certificate.
pub fn preview_right(grant: &Grant, catalog: &Catalog, resource: &str) -> Result<ReadRight, DenyReason> {
    let request = AccessRequest { verb: Verb::List, resource: Some(resource) };
    let right = decide_access(grant, &CompiledGrant::new(grant, catalog), catalog, request)?;
    right.ok_or(DenyReason::NotInScope)
}

/// Whether the certificate's holder may use the grant at all.
pub(crate) fn decide_grant(grant: &Grant, identity: &PeerIdentity, now: OffsetDateTime) -> Result<(), DenyReason> {
    if grant.subject != identity.subject {
        return Err(DenyReason::SubjectMismatch);
    }
    if !grant.accepts(&identity.serial, now) {
        return Err(DenyReason::SerialNotCurrent);
    }
    match grant.status_at(now) {
        GrantStatus::Pending => Err(DenyReason::GrantPending),
        GrantStatus::Suspended => Err(DenyReason::GrantSuspended),
        GrantStatus::Revoked => Err(DenyReason::GrantRevoked),
        GrantStatus::Expired => Err(DenyReason::GrantExpired),
        GrantStatus::Active if !grant.subject_active => Err(DenyReason::SubjectInactive),
        GrantStatus::Active => Ok(()),
    }
}

/// Whether an allowed holder may do this, and with which right.
pub(crate) fn decide_access(
    grant: &Grant,
    compiled: &CompiledGrant,
    catalog: &Catalog,
    request: AccessRequest<'_>,
) -> Result<Option<ReadRight>, DenyReason> {
    if request.verb == Verb::Capabilities {
        return Ok(None);
    }
    let name = request.resource.and_then(|text| ResourceName::parse(text).ok()).ok_or(DenyReason::ResourceUnknown)?;
    let resource = catalog.get(&name).ok_or(DenyReason::ResourceUnknown)?;
    if resource.sensitive {
        return Err(DenyReason::Sensitive);
    }
    // A valid scope never lists what it excludes; naming the exclusion tells the operator more than "not in scope".
    if grant.scope.excluded_resources.contains(&name) {
        return Err(DenyReason::Excluded);
    }
    compiled.rights.get(&name).cloned().map(Some).ok_or(DenyReason::NotInScope)
}
