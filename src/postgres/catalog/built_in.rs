//! The resources that every site has, declared like an operator's.

use mosaic_actors::domain::catalog::ResourceName;

use super::ResourceConfig;

/// `tasks`, `notes` and `memory`, which sessions write; `credentials` and `api_keys`, which no grant opens.
#[must_use]
pub fn built_in_resources() -> Vec<ResourceConfig> {
    vec![
        resource(
            "tasks",
            &["title", "body", "status", "priority", "due_at", "updated_at"],
            &["status", "priority", "due_at", "updated_at"],
            &["title", "body"],
        ),
        resource("notes", &["title", "body", "tags", "updated_at"], &["title", "updated_at"], &["title", "body"]),
        resource(
            "memory",
            &["kind", "content", "importance", "updated_at"],
            &["kind", "importance", "updated_at"],
            &["content"],
        ),
        sensitive(resource("credentials", &["name", "kind", "hint", "updated_at"], &["name", "kind"], &[])),
        sensitive(resource("api_keys", &["name", "service", "updated_at"], &["name", "service"], &[])),
    ]
}

fn resource(name: &str, columns: &[&str], filterable: &[&str], searchable: &[&str]) -> ResourceConfig {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ResourceConfig {
        name: ResourceName::parse(name).expect("invariant: the built-in names are names"),
        table: name.to_owned(),
        id: "id".to_owned(),
        owner: "owner_id".to_owned(),
        team: Some("team_id".to_owned()),
        order: "created_at".to_owned(),
        columns: owned(columns),
        filterable: owned(filterable),
        searchable: owned(searchable),
        sensitive: false,
        writable: true,
    }
}

fn sensitive(resource: ResourceConfig) -> ResourceConfig {
    ResourceConfig { sensitive: true, writable: false, ..resource }
}
