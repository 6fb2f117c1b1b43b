//! The scope document: parsed by hand, so that every refusal names the field that is wrong.

use std::collections::BTreeMap;

use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::identity::TeamId;
use mosaic_actors::domain::scope::{Scope, ScopeDraft, ScopeError, TenantFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// What a grant covers, as it is written and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeV1 {
    /// At least one; each known and not sensitive.
    pub resources: Vec<String>,
    /// Stay closed whatever is added to `resources` later.
    #[serde(default)]
    pub excluded_resources: Vec<String>,
    /// By resource. None for a resource: all that the subject may read.
    #[serde(default)]
    pub filters: BTreeMap<String, TenantFilterV1>,
    /// 1 to 10 000, default 100.
    #[serde(default = "default_max_rows")]
    pub max_rows_per_query: u32,
    /// Seconds, 0 to 300, default 30.
    #[serde(default = "default_cache_max_age")]
    pub cache_max_age: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantFilterV1 {
    /// Ids of teams. Absent: all the subject's teams; `[]`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_teams: Option<Vec<Uuid>>,
    /// Default `true`.
    #[serde(default = "default_include_personal")]
    pub include_personal: bool,
}

fn default_max_rows() -> u32 {
    mosaic_actors::domain::scope::MAX_ROWS_DEFAULT
}

fn default_cache_max_age() -> u32 {
    mosaic_actors::domain::scope::CACHE_MAX_AGE_DEFAULT
}

fn default_include_personal() -> bool {
    true
}

/// Reads a scope document into a draft; [`Scope::check`] then compares it with the catalog. The error's field is a path within
/// the document (`filters.tasks.include_teams`), empty for the document itself.
pub fn parse_scope(document: &Value) -> Result<ScopeDraft, ScopeError> {
    let object = document.as_object().ok_or_else(|| error("", "is not an object"))?;
    let mut draft = ScopeDraft::default();
    for (name, value) in object {
        match name.as_str() {
            "resources" => draft.resources = texts("resources", value)?,
            "excluded_resources" => draft.excluded_resources = texts("excluded_resources", value)?,
            "filters" => draft.filters = filters(value)?,
            "max_rows_per_query" => draft.max_rows_per_query = integer("max_rows_per_query", value)?,
            "cache_max_age" => draft.cache_max_age = integer("cache_max_age", value)?,
            unknown => {
                return Err(error(
                    unknown.escape_debug().to_string(),
                    "is not a field of a scope; there are resources, excluded_resources, filters, max_rows_per_query, cache_max_age",
                ));
            }
        }
    }
    if !object.contains_key("resources") {
        return Err(error("resources", "is missing; list at least one resource"));
    }
    Ok(draft)
}

/// Resource, `include_teams`, `include_personal`: as [`ScopeDraft`] has them.
type FilterDraft = (String, Option<Vec<TeamId>>, Option<bool>);

fn filters(value: &Value) -> Result<Vec<FilterDraft>, ScopeError> {
    let object = value.as_object().ok_or_else(|| error("filters", "is not an object of filters by resource"))?;
    object.iter().map(|(resource, filter)| tenant_filter(resource, filter)).collect()
}

fn tenant_filter(resource: &str, filter: &Value) -> Result<FilterDraft, ScopeError> {
    let path = format!("filters.{}", resource.escape_debug());
    let object = filter.as_object().ok_or_else(|| error(&path, "is not an object"))?;
    let (mut teams, mut personal) = (None, None);
    for (name, value) in object {
        match name.as_str() {
            "include_teams" => teams = Some(team_ids(&format!("{path}.include_teams"), value)?),
            "include_personal" => {
                let field = format!("{path}.include_personal");
                personal = Some(value.as_bool().ok_or_else(|| error(field, "is neither true nor false"))?);
            }
            unknown => {
                let field = format!("{path}.{}", unknown.escape_debug());
                return Err(error(field, "is not a field of a filter; there are include_teams and include_personal"));
            }
        }
    }
    Ok((resource.to_owned(), teams, personal))
}

fn team_ids(field: &str, value: &Value) -> Result<Vec<TeamId>, ScopeError> {
    texts(field, value)?
        .iter()
        .map(|text| {
            text.parse().map_err(|_| error(field, format!("'{}' is not the id of a team", text.escape_debug())))
        })
        .collect()
}

fn texts(field: &str, value: &Value) -> Result<Vec<String>, ScopeError> {
    let list = value.as_array().ok_or_else(|| error(field, "is not a list of texts"))?;
    list.iter()
        .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| error(field, "holds something that is not a text")))
        .collect()
}

fn integer(field: &str, value: &Value) -> Result<Option<i64>, ScopeError> {
    value.as_i64().map(Some).ok_or_else(|| error(field, "is not a whole number"))
}

fn error(field: impl Into<String>, message: impl Into<String>) -> ScopeError {
    ScopeError { field: field.into(), message: message.into() }
}

impl From<&Scope> for ScopeV1 {
    fn from(scope: &Scope) -> Self {
        let names = |names: &std::collections::BTreeSet<ResourceName>| names.iter().map(ToString::to_string).collect();
        Self {
            resources: names(&scope.resources),
            excluded_resources: names(&scope.excluded_resources),
            filters: scope.filters.iter().map(|(name, filter)| (name.to_string(), filter.into())).collect(),
            max_rows_per_query: scope.max_rows_per_query,
            cache_max_age: scope.cache_max_age_seconds,
        }
    }
}

impl From<&TenantFilter> for TenantFilterV1 {
    fn from(filter: &TenantFilter) -> Self {
        Self {
            include_teams: filter.include_teams.as_ref().map(|teams| teams.iter().map(|team| team.0).collect()),
            include_personal: filter.include_personal,
        }
    }
}

impl ScopeV1 {
    /// A stored scope as the decision needs it. `None` when a name in it is none: then nothing of it may be trusted.
    #[must_use]
    pub fn to_scope(&self) -> Option<Scope> {
        let names = |names: &[String]| names.iter().map(|name| ResourceName::parse(name).ok()).collect::<Option<_>>();
        let filters =
            self.filters.iter().map(|(name, filter)| Some((ResourceName::parse(name).ok()?, filter.to_filter())));
        Some(Scope {
            resources: names(&self.resources)?,
            excluded_resources: names(&self.excluded_resources)?,
            filters: filters.collect::<Option<_>>()?,
            max_rows_per_query: self.max_rows_per_query,
            cache_max_age_seconds: self.cache_max_age,
        })
    }
}

impl TenantFilterV1 {
    fn to_filter(&self) -> TenantFilter {
        TenantFilter {
            include_teams: self.include_teams.as_ref().map(|teams| teams.iter().copied().map(TeamId).collect()),
            include_personal: self.include_personal,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field_of(document: Value) -> String {
        parse_scope(&document).expect_err("a bad scope").field
    }

    #[test]
    fn every_bad_field_is_named() {
        let good = json!(["tasks"]);
        assert_eq!(field_of(json!([])), "");
        assert_eq!(field_of(json!({})), "resources");
        assert_eq!(field_of(json!({"resources": "tasks"})), "resources");
        assert_eq!(field_of(json!({"resources": [1]})), "resources");
        assert_eq!(field_of(json!({"resources": good, "excluded_resources": null})), "excluded_resources");
        assert_eq!(field_of(json!({"resources": good, "max_rows_per_query": "many"})), "max_rows_per_query");
        assert_eq!(field_of(json!({"resources": good, "max_rows_per_query": 1.5})), "max_rows_per_query");
        assert_eq!(field_of(json!({"resources": good, "cache_max_age": null})), "cache_max_age");
        assert_eq!(field_of(json!({"resources": good, "ttl": 3})), "ttl");
        assert_eq!(field_of(json!({"resources": good, "filters": []})), "filters");
        assert_eq!(field_of(json!({"resources": good, "filters": {"tasks": 1}})), "filters.tasks");
        assert_eq!(field_of(json!({"resources": good, "filters": {"tasks": {"teams": []}}})), "filters.tasks.teams");
        assert_eq!(
            field_of(json!({"resources": good, "filters": {"tasks": {"include_teams": ["platform"]}}})),
            "filters.tasks.include_teams"
        );
        assert_eq!(
            field_of(json!({"resources": good, "filters": {"tasks": {"include_personal": "no"}}})),
            "filters.tasks.include_personal"
        );
    }

    #[test]
    fn a_scope_survives_being_stored() {
        let team = TeamId::new();
        let scope = Scope {
            resources: [ResourceName::parse("tasks").unwrap(), ResourceName::parse("notes").unwrap()].into(),
            excluded_resources: [ResourceName::parse("credentials").unwrap()].into(),
            filters: [
                (
                    ResourceName::parse("tasks").unwrap(),
                    TenantFilter { include_teams: Some([team].into()), include_personal: false },
                ),
                (ResourceName::parse("notes").unwrap(), TenantFilter { include_teams: None, include_personal: true }),
            ]
            .into(),
            max_rows_per_query: 7,
            cache_max_age_seconds: 0,
        };
        let stored = serde_json::to_value(ScopeV1::from(&scope)).unwrap();
        let read: ScopeV1 = serde_json::from_value(stored).unwrap();
        assert_eq!(read.to_scope(), Some(scope));
    }
}
