use serde_json::{Value, json};

use super::api::Api;
use super::node::Node;

/// Site `work`, which owns rows, and site `home`, whose user holds a link to it.
pub(crate) struct Sites {
    pub(crate) home: Node,
    pub(crate) work: Node,
    /// `ada`'s session at home, over whose link the rows of `work` come.
    pub(crate) ada_at_home: Api,
    /// `ada`'s session at work: the grant's subject.
    pub(crate) ada_at_work: Api,
    pub(crate) grant: String,
    pub(crate) link: String,
}

/// Both nodes, one user `ada` on each, a grant at work for `tasks` and `notes`, and the link at home. No rows yet.
pub(crate) async fn joined() -> Sites {
    joined_with(json!({ "resources": ["tasks", "notes"] })).await
}

/// As [`joined`], with another scope.
pub(crate) async fn joined_with(scope: Value) -> Sites {
    joined_as(scope, "").await
}

/// As [`joined_with`], both nodes with more configuration.
pub(crate) async fn joined_as(scope: Value, more: &str) -> Sites {
    let (home, work) = futures_util::future::join(Node::start_with("home", more), Node::start_with("work", more)).await;
    home.user("ada").await;
    work.user("ada").await;
    let (ada_at_home, ada_at_work) = (home.session("ada").await, work.session("ada").await);
    let (grant, invite) = grant(&work, "home", "ada", scope).await;
    let link = join(&home, "ada", &invite).await;
    Sites { home, work, ada_at_home, ada_at_work, grant, link }
}

/// Creates a grant: its id and its invite.
pub(crate) async fn grant(owner: &Node, peer: &str, user: &str, scope: Value) -> (String, String) {
    let created = owner
        .admin()
        .post("/api/admin/v1/grants", json!({ "peer": peer, "user": user, "scope": scope }))
        .await
        .expect(201);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&created["grant"]["id"]), text(&created["invite"]["invite"]))
}

/// Enrols with an invite: the link's id.
pub(crate) async fn join(asker: &Node, user: &str, invite: &str) -> String {
    let link = asker
        .admin()
        .post("/api/admin/v1/links", json!({ "invite": invite, "user": user, "allow_private": true }))
        .await
        .expect(201);
    super::node::id(&link)
}

/// Rows of one kind of resource, oldest last, one minute apart, titled `{prefix} 0`, `{prefix} 1`, …
pub(crate) fn tasks(prefix: &str, count: usize, newest: &str, team: Option<&str>) -> Vec<Value> {
    let newest = time::OffsetDateTime::parse(newest, &time::format_description::well_known::Rfc3339).expect("a date");
    (0..count)
        .map(|index| {
            let at = newest - time::Duration::minutes(i64::try_from(index).expect("few rows"));
            let at = at.format(&time::format_description::well_known::Rfc3339).expect("a date");
            json!({ "title": format!("{prefix} {index}"), "team_id": team, "created_at": at })
        })
        .collect()
}

/// The titles of an answer's items.
pub(crate) fn titles(answer: &Value) -> Vec<String> {
    items(answer).iter().map(|item| item["title"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The items of an answer.
pub(crate) fn items(answer: &Value) -> Vec<Value> {
    answer["items"].as_array().unwrap_or_else(|| panic!("no items in {answer}")).clone()
}
