//! The admin's side: people, grants and their transitions, and what the node tells about itself.

use serde_json::{Value, json};

use crate::harness::asker::{Asker, fetch_crl};
use crate::harness::node::{Node, id};
use crate::harness::sites::{self, items};

const NOBODY: &str = "0190b0e0-0000-7000-8000-000000000000";

#[tokio::test]
async fn a_grant_that_cannot_be_is_refused_with_the_field_that_is_wrong() {
    let node = Node::start("work").await;
    node.user("ada").await;
    let admin = node.admin();
    let grant = |scope: Value| json!({ "peer": "home", "user": "ada", "scope": scope });
    for (body, named) in [
        (grant(json!({ "resources": [] })), "scope.resources"),
        (grant(json!({ "resources": ["invoices"] })), "scope.resources"),
        (grant(json!({ "resources": ["credentials"] })), "scope.resources"),
        (grant(json!({ "resources": ["tasks"], "excluded_resources": ["tasks"] })), "scope.excluded_resources"),
        (grant(json!({ "resources": ["tasks"], "filters": { "notes": {} } })), "scope.filters.notes"),
        (
            grant(json!({ "resources": ["tasks"], "filters": { "tasks": { "include_teams": [NOBODY] } } })),
            "include_teams",
        ),
        (grant(json!({ "resources": ["tasks"], "max_rows_per_query": 0 })), "scope.max_rows_per_query"),
        (grant(json!({ "resources": ["tasks"], "cache_max_age": 301 })), "scope.cache_max_age"),
        (grant(json!({ "resources": ["tasks"], "max_rows": 5 })), "max_rows"),
        (json!({ "peer": "Not A Name", "user": "ada", "scope": { "resources": ["tasks"] } }), "peer"),
        (json!({ "peer": "home", "user": "nobody", "scope": { "resources": ["tasks"] } }), "nobody"),
    ] {
        let (code, message) = admin.post("/api/admin/v1/grants", body.clone()).await.error(400);
        assert_eq!(code, "invalid_request", "{body}");
        assert!(message.contains(named), "{body}: {message}");
    }
    for path in ["users", "grants", "links", "teams"] {
        assert_eq!(admin.get(&format!("/api/admin/v1/{path}/{NOBODY}")).await.error(404).0, "not_found", "{path}");
    }
    assert_eq!(items(&admin.get("/api/admin/v1/grants").await.expect(200)).len(), 0);
}

#[tokio::test]
async fn illegal_transitions_of_a_grant_are_409_and_revoked_is_for_ever() {
    let node = Node::start("work").await;
    node.user("ada").await;
    let (grant, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let change = |change: &str| {
        let (admin, path) = (node.admin(), format!("/api/admin/v1/grants/{grant}/{change}"));
        async move { admin.post(&path, json!({})).await }
    };
    assert_eq!(change("suspend").await.error(409).0, "conflict", "pending");
    Asker::enroll(&invite).await;
    assert_eq!(change("resume").await.error(409).0, "conflict", "active");
    assert_eq!(change("suspend").await.expect(200)["grant"]["status"], "suspended");
    assert_eq!(change("suspend").await.error(409).0, "conflict", "suspended");
    assert_eq!(change("revoke").await.expect(200)["grant"]["status"], "revoked");
    for again in ["revoke", "resume", "suspend", "invite"] {
        assert_eq!(change(again).await.error(409).0, "conflict", "{again}");
    }
    let by_hand = node.database().connect().await.execute("UPDATE grants SET status = 'active'", &[]).await;
    assert!(by_hand.is_err(), "the database itself refuses");
}

#[tokio::test]
async fn deleting_a_user_takes_back_what_others_read_as_that_user() {
    let node = Node::start("work").await;
    let ada = node.user("ada").await;
    let session = node.session("ada").await;
    session.post("/api/v1/data/tasks", json!({ "title": "mine" })).await.expect(201);
    let (grant, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    asker.post("list/tasks", json!({})).await.expect(200);

    let deleted = node.admin().delete(&format!("/api/admin/v1/users/{ada}")).await.expect(200);
    assert_eq!(deleted["revoked_grants"], json!([grant]));
    assert_eq!(asker.post("list/tasks", json!({})).await.expect(403)["error"]["reason"], "grant_revoked");
    assert_eq!(session.query(json!({ "verb": "list", "resource": "tasks" })).await.error(401).0, "unauthorized");
    let rows = node.database().connect().await.query_one("SELECT count(*) FROM tasks", &[]).await.expect("a count");
    assert_eq!(rows.get::<_, i64>(0), 1, "rows stay");
}

#[tokio::test]
async fn a_preview_tells_what_a_grant_would_open_before_anybody_enrols() {
    let node = Node::start("work").await;
    node.user("ada").await;
    let ada = node.session("ada").await;
    node.import(&ada, "tasks", &sites::tasks("task", 3, "2026-03-01T12:00:00Z", None)).await;
    let (grant, _) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let preview = node.admin().get(&format!("/api/admin/v1/grants/{grant}/preview")).await.expect(200);
    assert_eq!(preview["resources"][0]["resource"], "tasks");
    assert_eq!(preview["resources"][0]["rows"], 3);
    assert_eq!(preview["status"], "pending");
}

#[tokio::test]
async fn the_node_describes_its_api_and_counts_what_it_does() {
    let node = Node::start("work").await;
    let anonymous = node.anonymous();
    let document = anonymous.get("/openapi.json").await.expect(200);
    for path in ["/api/v1/query", "/api/admin/v1/grants", "/api/federation/v1/list/{resource}", "/healthz"] {
        assert!(document["paths"][path].is_object(), "{path} is not described");
    }
    assert_eq!(anonymous.get("/healthz").await.status, 200);
    assert_eq!(anonymous.get("/readyz").await.expect(200)["ready"], true);
    let metrics = anonymous.get("/metrics").await.text();
    for metric in
        ["mosaic_request_duration_seconds_count", "mosaic_authority_fresh 1", "mosaic_crl_next_update_seconds"]
    {
        assert!(metrics.contains(metric), "{metric} is not in\n{metrics}");
    }
    let answer = anonymous.get("/healthz").await;
    assert!(answer.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn the_revocation_list_is_published_and_its_number_grows() {
    let node = Node::start("work").await;
    node.user("ada").await;
    let (grant, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    let enroll_url = format!("https://{}", node.address("enrollment"));
    let number = |answer: crate::harness::api::Answer| {
        assert_eq!(answer.status, 200);
        mosaic::pki::crl::verify_crl(&answer.bytes, &asker.root)
            .expect("signed by the root that enrolment pinned")
            .number
    };
    let before = number(fetch_crl(&enroll_url).await);
    node.admin().post(&format!("/api/admin/v1/grants/{grant}/revoke"), json!({})).await.expect(200);
    crate::harness::wait::until("a newer list", || async {
        (number(fetch_crl(&enroll_url).await) > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_removed_link_is_gone_at_once_and_its_name_is_free_again() {
    let sites = sites::joined().await;
    let (home, admin) = (&sites.home, sites.home.admin());
    assert!(admin.delete(&format!("/api/admin/v1/links/{}", sites.link)).await.status.is_success());
    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    assert_eq!(sites.ada_at_home.query(query.clone()).await.error(400).0, "unknown_source");

    let taken = sites::grant(&sites.work, "home", "ada", json!({ "resources": ["tasks"] })).await.1;
    sites::join(home, "ada", &taken).await;
    sites.ada_at_home.query(query).await.expect(200);
    let again = sites::grant(&sites.work, "home", "ada", json!({ "resources": ["tasks"] })).await.1;
    let body = json!({ "invite": again, "user": "ada", "allow_private": true });
    assert_eq!(admin.post("/api/admin/v1/links", body).await.error(409).0, "conflict");
    let body = json!({ "invite": again, "user": "ada", "peer": "work-2" });
    assert_eq!(
        admin.post("/api/admin/v1/links", body).await.error(400).0,
        "invalid_request",
        "loopback needs allow_private"
    );
    for wrong in ["", "mosaic-invite:", "mosaic-invite:AAAA", "hello"] {
        let body = json!({ "invite": wrong, "user": "ada" });
        assert_eq!(admin.post("/api/admin/v1/links", body).await.error(400).0, "invalid_request", "{wrong:?}");
    }
    assert_eq!(id(&admin.get("/api/admin/v1/links").await.expect(200)["items"][0]).len(), 36);
}
