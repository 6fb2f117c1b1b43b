//! The refusal table of the protocol, row by row: who is refused, how, and that zero rows leave.

use serde_json::{Value, json};

use crate::harness::asker::{self, Asker};
use crate::harness::node::Node;
use crate::harness::sites::{self, items};

/// A node with `ada`, ten tasks of hers, and a grant; nobody has enrolled yet.
struct Owner {
    node: Node,
    grant: String,
    invite: String,
}

async fn owner() -> Owner {
    let node = Node::start("work").await;
    node.user("ada").await;
    let ada = node.session("ada").await;
    node.import(&ada, "tasks", &sites::tasks("task", 10, "2026-03-01T12:00:00Z", None)).await;
    let (grant, invite) =
        sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"], "excluded_resources": ["memory"] })).await;
    Owner { node, grant, invite }
}

impl Owner {
    async fn change(&self, change: &str) -> Value {
        self.node.admin().post(&format!("/api/admin/v1/grants/{}/{change}", self.grant), json!({})).await.expect(200)
    }

    /// The reasons of the audited denials, newest first.
    async fn denials(&self) -> Vec<String> {
        let log = self.node.admin().get("/api/admin/v1/audit?outcome=denied&limit=100").await.expect(200);
        items(&log).iter().map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_grant_tells_its_holder_why_it_no_longer_opens_anything() {
    let owner = owner().await;
    let asker = Asker::enroll(&owner.invite).await;
    assert_eq!(items(&asker.post("list/tasks", json!({})).await.expect(200)).len(), 10);

    owner.change("suspend").await;
    let refused = asker.post("list/tasks", json!({})).await.expect(403);
    assert_eq!(
        (refused["error"]["code"].as_str(), refused["error"]["reason"].as_str()),
        (Some("forbidden"), Some("grant_suspended"))
    );

    owner.change("resume").await;
    assert_eq!(items(&asker.post("list/tasks", json!({})).await.expect(200)).len(), 10);

    owner.change("revoke").await;
    let refused = asker.post("list/tasks", json!({})).await.expect(403);
    assert_eq!(refused["error"]["reason"], "grant_revoked");
    assert_eq!(refused.get("items"), None);
    assert_eq!(owner.denials().await, ["grant_revoked", "grant_suspended"]);
}

#[tokio::test]
async fn a_revoked_certificate_opens_no_new_connection() {
    let owner = owner().await;
    let asker = Asker::enroll(&owner.invite).await;
    asker.get("capabilities").await.expect(200);
    owner.change("revoke").await;

    crate::harness::wait::until("the revocation list refuses the certificate", || async {
        asker.reconnected().try_post("list/tasks", "{}".to_owned()).await.err()
    })
    .await;
}

#[tokio::test]
async fn the_four_scope_refusals_have_identical_bytes_but_for_the_request() {
    let owner = owner().await;
    let asker = Asker::enroll(&owner.invite).await;
    let mut bodies = Vec::new();
    for resource in ["no_such_thing", "notes", "memory", "credentials"] {
        let mut refused = asker.post(&format!("list/{resource}"), json!({})).await.expect(403);
        assert_eq!(refused["error"]["code"], "scope_violation", "{resource}");
        refused["error"]["request_id"] = json!("-");
        bodies.push(refused.to_string());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(owner.denials().await, ["sensitive", "excluded", "not_in_scope", "resource_unknown"], "the audit knows");
}

#[tokio::test]
async fn an_absent_row_and_an_invisible_one_answer_alike() {
    let owner = owner().await;
    owner.node.user("bob").await;
    let bob = owner.node.session("bob").await;
    let hidden = bob.post("/api/v1/data/tasks", json!({ "title": "bob's own" })).await.expect(201);
    let asker = Asker::enroll(&owner.invite).await;

    let mut bodies = Vec::new();
    for id in [hidden["id"].as_str().expect("an id"), "0190b0e0-0000-7000-8000-000000000000", "not-a-uuid"] {
        let mut refused = asker.post(&format!("get/tasks/{id}"), json!({})).await.expect(404);
        assert_eq!(refused["error"]["code"], "not_found");
        refused["error"]["request_id"] = json!("-");
        bodies.push(refused.to_string());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(
        !items(&asker.post("list/tasks", json!({})).await.expect(200)).iter().any(|row| row["title"] == "bob's own")
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_or_from_a_foreign_ca_gets_no_answer() {
    let (owner, foreign) = (owner().await, owner().await);
    let asker = Asker::enroll(&owner.invite).await;
    let stranger = Asker::enroll(&foreign.invite).await;

    let strange =
        Asker::with(asker.federation_url.clone(), stranger.certificate.clone(), asker.root.clone(), stranger.key());
    assert!(strange.try_post("list/tasks", "{}".to_owned()).await.is_err(), "a foreign CA's certificate");

    let bare = Asker::without_certificate(asker.federation_url.clone(), asker.root.clone());
    assert!(bare.try_post("list/tasks", "{}".to_owned()).await.is_err(), "no certificate");
    assert_eq!(asker.get("capabilities").await.expect(200)["site"], "work");
}

#[tokio::test]
async fn questions_that_are_malformed_are_refused_with_the_field_that_is_wrong() {
    let owner = owner().await;
    let asker = Asker::enroll(&owner.invite).await;
    for (body, named) in [
        (r#"{"limit":0}"#, "limit"),
        (r#"{"limit":-1}"#, "limit"),
        (r#"{"limit":"ten"}"#, "limit"),
        (r#"{"limti":10}"#, "limti"),
        (r#"{"cursor":"AAAA"}"#, "cursor"),
        (r#"{"where":{"titel":"x"}}"#, "titel"),
        (r#"{"where":{"priority":"high"}}"#, "priority"),
        (r#"{"where":{"priority":{"like":1}}}"#, "like"),
        ("[]", ""),
        ("{", ""),
    ] {
        let (code, message) = asker.try_post("list/tasks", body.to_owned()).await.expect("an answer").error(400);
        assert_eq!(code, "invalid_request", "{body}");
        assert!(message.contains(named), "{body}: {message}");
    }
    let oversized =
        asker.try_post("list/tasks", format!(r#"{{"cursor":"{}"}}"#, "x".repeat(70_000))).await.expect("an answer");
    assert_eq!(oversized.error(413).0, "too_large");
}

#[tokio::test]
async fn a_cursor_is_bound_to_its_grant_resource_and_filter() {
    let owner = owner().await;
    let asker = Asker::enroll(&owner.invite).await;
    let (_, second_invite) = sites::grant(&owner.node, "elsewhere", "ada", json!({ "resources": ["tasks"] })).await;
    let other = Asker::enroll(&second_invite).await;

    let page = asker.post("list/tasks", json!({ "limit": 4 })).await.expect(200);
    assert_eq!((items(&page).len(), page["_truncated"].clone()), (4, json!(true)));
    let cursor = page["next_cursor"].as_str().expect("a cursor").to_owned();

    let rest = asker.post("list/tasks", json!({ "limit": 100, "cursor": cursor })).await.expect(200);
    assert_eq!((items(&rest).len(), rest["_truncated"].clone()), (6, json!(false)));

    assert_eq!(other.post("list/tasks", json!({ "cursor": cursor })).await.error(400).0, "invalid_request");
    let filtered = asker.post("list/tasks", json!({ "cursor": cursor, "where": { "status": "open" } })).await;
    assert_eq!(filtered.error(400).0, "invalid_request");
    let mut altered = cursor.clone().into_bytes();
    altered[3] = if altered[3] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("ASCII");
    assert_eq!(asker.post("list/tasks", json!({ "cursor": altered })).await.error(400).0, "invalid_request");
}

#[tokio::test]
async fn over_its_limit_a_grant_gets_429_and_is_told_when_to_come_back() {
    let node = Node::start("work").await;
    node.user("ada").await;
    let created = node
        .admin()
        .post(
            "/api/admin/v1/grants",
            json!({ "peer": "home", "user": "ada", "scope": { "resources": ["tasks"] },
                    "limits": { "requests_per_second": 1, "burst": 3, "concurrent": 2 } }),
        )
        .await
        .expect(201);
    let asker = Asker::enroll(created["invite"]["invite"].as_str().expect("an invite")).await;

    let mut refused = None;
    for _ in 0..20 {
        let answer = asker.get("capabilities").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let refused = refused.expect("a burst of three does not carry twenty requests");
    assert!(
        refused.headers.contains_key("retry-after") && refused.headers.contains_key("ratelimit-limit"),
        "{:?}",
        refused.headers
    );
    assert_eq!(refused.error(429).0, "rate_limited");
}

#[tokio::test]
async fn an_invite_works_once_and_says_why_it_does_not() {
    let owner = owner().await;
    let invite = asker::open_invite(&owner.invite);
    let (url, token) = (invite["enroll_url"].as_str().expect("a URL"), invite["token"].as_str().expect("a token"));

    assert_eq!(
        asker::enroll(url, "mosaic_enroll_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &asker::new_csr().1)
            .await
            .error(404)
            .0,
        "not_found"
    );
    asker::enroll(url, token, &asker::new_csr().1).await.expect(200);
    assert_eq!(asker::enroll(url, token, &asker::new_csr().1).await.error(410).0, "gone");

    let grant = owner.node.admin().get(&format!("/api/admin/v1/grants/{}", owner.grant)).await.expect(200);
    assert_eq!((grant["status"].as_str(), grant["certificates"].as_array().map(Vec::len)), (Some("active"), Some(1)));
}

#[tokio::test]
async fn a_newer_invite_voids_the_earlier_one() {
    let owner = owner().await;
    let newer = owner.node.admin().post(&format!("/api/admin/v1/grants/{}/invite", owner.grant), json!({})).await;
    assert!(newer.status.is_success(), "{}", newer.text());
    let old = asker::open_invite(&owner.invite);
    let refused =
        asker::enroll(old["enroll_url"].as_str().unwrap(), old["token"].as_str().unwrap(), &asker::new_csr().1).await;
    assert_eq!(refused.error(410).0, "gone");
    Asker::enroll(newer.json["invite"].as_str().expect("an invite")).await.get("capabilities").await.expect(200);
}

#[tokio::test]
async fn a_node_that_cannot_write_its_audit_gives_no_rows() {
    let owner = owner().await;
    let asker = Asker::enroll(&owner.invite).await;
    let database = owner.node.database().connect().await;
    database
        .batch_execute("ALTER TABLE federation_audit_log RENAME TO elsewhere")
        .await
        .expect("the log is taken away");

    let refused = asker.post("list/tasks", json!({})).await;
    assert!(!refused.text().contains("task 0"));
    assert_eq!(refused.error(503).0, "unavailable");
    assert_eq!(asker.get("list/tasks").await.error(503).0, "unavailable", "a refusal has its event too, or is none");

    database.batch_execute("ALTER TABLE elsewhere RENAME TO federation_audit_log").await.expect("the log is back");
    assert_eq!(items(&asker.post("list/tasks", json!({})).await.expect(200)).len(), 10);
}
