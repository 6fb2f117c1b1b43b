//! Names for ids: people type names, the API's paths take ids.

use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::node::{Node, Path};
use super::outcome::Failure;
use crate::wire::admin_v1::{LinkV1, PageV1, TeamV1, UserV1};

/// Most pages looked through for a name; at 200 a page, more than a site has people.
const PAGES_MAX: usize = 500;

/// The user of this id or name.
pub(crate) async fn user(node: &Node, text: &str) -> Result<UserV1, Failure> {
    let same = |user: &UserV1| user.name == text || user.id.to_string() == text;
    find(node, "users", same).await?.ok_or_else(|| unknown("user", text, "mosaic user list"))
}

pub(crate) async fn user_id(node: &Node, text: &str) -> Result<Uuid, Failure> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => user(node, text).await.map(|user| user.id),
    }
}

/// The team of this id or name.
pub(crate) async fn team_id(node: &Node, text: &str) -> Result<Uuid, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let team: Option<TeamV1> = find(node, "teams", |team: &TeamV1| team.name == text).await?;
    team.map(|team| team.id).ok_or_else(|| unknown("team", text, "mosaic team list"))
}

/// The link of this id or, when there is only one, to a peer of this name.
pub(crate) async fn link(node: &Node, text: &str, user: Option<&str>) -> Result<LinkV1, Failure> {
    let mut matching: Vec<LinkV1> = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let path = Path::admin(["links"]).with("limit", Some(200)).with("user", user).with("cursor", cursor.as_deref());
        let page: PageV1<LinkV1> = node.get(&path).await?;
        matching.extend(page.items.into_iter().filter(|link| link.peer == text || link.id.to_string() == text));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    match matching.len() {
        0 => Err(unknown("link to a peer", text, "mosaic federation peer list")),
        1 => Ok(matching.remove(0)),
        _ => Err(Failure::misused(format!("several users have a link to '{text}'"))
            .remedy("say whose with --user, or give the link's id from 'mosaic federation peer list'")),
    }
}

/// Replaces the names in a scope's `include_teams` with ids. Whatever else is wrong with the document the node says better.
pub(crate) async fn scope_teams(node: &Node, scope: &mut Value) -> Result<(), Failure> {
    let Some(filters) = scope.get_mut("filters").and_then(Value::as_object_mut) else { return Ok(()) };
    for filter in filters.values_mut() {
        let Some(teams) = filter.get_mut("include_teams").and_then(Value::as_array_mut) else { continue };
        for team in teams {
            if let Some(name) = team.as_str().filter(|text| text.parse::<Uuid>().is_err()) {
                *team = team_id(node, name).await?.to_string().into();
            }
        }
    }
    Ok(())
}

async fn find<T: DeserializeOwned>(node: &Node, list: &str, same: impl Fn(&T) -> bool) -> Result<Option<T>, Failure> {
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let path = Path::admin([list]).with("limit", Some(200)).with("cursor", cursor.as_deref());
        let page: PageV1<T> = node.get(&path).await?;
        if let Some(found) = page.items.into_iter().find(|item| same(item)) {
            return Ok(Some(found));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(None)
}

fn unknown(what: &str, name: &str, list: &str) -> Failure {
    Failure::failed(format!("there is no {what} '{name}'")).remedy(format!("'{list}' shows what there is"))
}
