//! What a grant covers. A scope can only narrow what its subject may read anyway.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, ResourceName};
use super::identity::TeamId;

/// A valid scope: resources are known and not excluded, filters name covered resources, caps are in range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub resources: BTreeSet<ResourceName>,
    pub excluded_resources: BTreeSet<ResourceName>,
    pub filters: BTreeMap<ResourceName, TenantFilter>,
    pub max_rows_per_query: u32,
    pub cache_max_age_seconds: u32,
}

/// Narrows one resource by team. A row with a team passes if its team is included; a row without one if personal rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantFilter {
    /// `None`: all the subject's teams; empty: no team.
    pub include_teams: Option<BTreeSet<TeamId>>,
    pub include_personal: bool,
}

/// A scope as somebody wrote it, before it is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeDraft {
    pub resources: Vec<String>,
    pub excluded_resources: Vec<String>,
    /// Resource name, `include_teams`, `include_personal`.
    pub filters: Vec<(String, Option<Vec<TeamId>>, Option<bool>)>,
    pub max_rows_per_query: Option<i64>,
    pub cache_max_age: Option<i64>,
}

/// What is wrong with a scope, and in which field of the document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scope.{field}: {message}")]
pub struct ScopeError {
    pub field: String,
    pub message: String,
}

/// `max_rows_per_query`: the default keeps one answer small enough to render; the maximum keeps it below the peer's byte cap.
pub const MAX_ROWS_DEFAULT: u32 = 100;
pub const MAX_ROWS_LIMIT: u32 = 10_000;
/// `cache_max_age` in seconds: short, because revocation must not wait for a cache.
pub const CACHE_MAX_AGE_DEFAULT: u32 = 30;
pub const CACHE_MAX_AGE_LIMIT: u32 = 300;
/// Most teams that one filter may name; more is a scope that nobody can review.
pub const FILTER_TEAMS_LIMIT: usize = 1_000;

impl Scope {
    /// Checks a draft against the catalog and the teams that exist.
    pub fn check(
        draft: &ScopeDraft,
        catalog: &Catalog,
        team_exists: impl Fn(TeamId) -> bool,
    ) -> Result<Self, ScopeError> {
        let resources = resource_names("resources", &draft.resources)?;
        if resources.is_empty() {
            return Err(error(
                "resources",
                "names no resource; list at least one, because an empty list means nothing is readable",
            ));
        }
        if let Some(name) = resources.iter().find(|name| !catalog.is_grantable(name)) {
            return Err(error(
                "resources",
                format!("'{name}' is not a resource that can be granted; see the catalog for those that can"),
            ));
        }
        let excluded_resources = resource_names("excluded_resources", &draft.excluded_resources)?;
        if let Some(name) = excluded_resources.iter().find(|name| catalog.get(name).is_none()) {
            return Err(error("excluded_resources", format!("'{name}' is not a resource of this site")));
        }
        if let Some(name) = resources.intersection(&excluded_resources).next() {
            return Err(error(
                "excluded_resources",
                format!("'{name}' is also in 'resources'; name it in one of the two"),
            ));
        }
        Ok(Self {
            filters: filters(draft, &resources, team_exists)?,
            max_rows_per_query: in_range(
                "max_rows_per_query",
                draft.max_rows_per_query,
                MAX_ROWS_DEFAULT,
                1..=MAX_ROWS_LIMIT,
            )?,
            cache_max_age_seconds: in_range(
                "cache_max_age",
                draft.cache_max_age,
                CACHE_MAX_AGE_DEFAULT,
                0..=CACHE_MAX_AGE_LIMIT,
            )?,
            resources,
            excluded_resources,
        })
    }

    /// Whether the scope lists the resource and does not exclude it.
    #[must_use]
    pub fn covers(&self, resource: &ResourceName) -> bool {
        self.resources.contains(resource) && !self.excluded_resources.contains(resource)
    }
}

fn filters(
    draft: &ScopeDraft,
    resources: &BTreeSet<ResourceName>,
    team_exists: impl Fn(TeamId) -> bool,
) -> Result<BTreeMap<ResourceName, TenantFilter>, ScopeError> {
    let mut filters = BTreeMap::new();
    for (name, teams, personal) in &draft.filters {
        let field = format!("filters.{name}");
        let Some(resource) = ResourceName::parse(name).ok().filter(|name| resources.contains(name)) else {
            return Err(error(field, "filters a resource that is not in 'resources'"));
        };
        let include_teams = match teams {
            None => None,
            Some(teams) if teams.len() > FILTER_TEAMS_LIMIT => {
                return Err(error(
                    format!("{field}.include_teams"),
                    format!("names more than {FILTER_TEAMS_LIMIT} teams"),
                ));
            }
            Some(teams) => {
                if let Some(team) = teams.iter().find(|team| !team_exists(**team)) {
                    return Err(error(format!("{field}.include_teams"), format!("team {team} does not exist")));
                }
                Some(teams.iter().copied().collect())
            }
        };
        let filter = TenantFilter { include_teams, include_personal: personal.unwrap_or(true) };
        if filters.insert(resource, filter).is_some() {
            return Err(error(field, "is given twice"));
        }
    }
    Ok(filters)
}

fn resource_names(field: &str, names: &[String]) -> Result<BTreeSet<ResourceName>, ScopeError> {
    names
        .iter()
        .map(|name| ResourceName::parse(name).map_err(|e| error(field, format!("'{}': {e}", name.escape_debug()))))
        .collect()
}

fn in_range(
    field: &str,
    value: Option<i64>,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, ScopeError> {
    let Some(value) = value else { return Ok(default) };
    u32::try_from(value)
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| error(field, format!("is {value}; allowed are {} to {}", range.start(), range.end())))
}

fn error(field: impl Into<String>, message: impl Into<String>) -> ScopeError {
    ScopeError { field: field.into(), message: message.into() }
}
