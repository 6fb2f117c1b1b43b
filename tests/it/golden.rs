//! The bytes on the wire, as files: a change of the protocol is a visible difference in `tests/golden/wire`.
//!
//! Values that differ from run to run are replaced by their kind. Write the files anew with `INSTA_UPDATE=always`.

use serde_json::json;

use crate::harness::asker::Asker;
use crate::harness::node::{Node, id};
use crate::harness::sites;

/// Replaces identifiers, times, tokens and addresses.
fn normal(text: &str) -> String {
    let rules = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
        // As many digits as the moment has: in one of ten it would look different.
        (r#""(grant_expires_at|last_ok_at)":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z""#, r#""$1":"<time>""#),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<time.micros>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----(\\n)?", "<pem>"),
        (r#""(next_cursor|trace_id)":"[^"]+""#, r#""$1":"<opaque>""#),
        (r#""took_ms":\d+"#, r#""took_ms":<n>"#),
    ];
    rules.iter().fold(text.to_owned(), |text, (pattern, with)| {
        regex::Regex::new(pattern).expect("a pattern").replace_all(&text, *with).into_owned()
    })
}

fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, normal(text)));
}

#[tokio::test]
async fn the_answers_of_the_federation_listener_keep_their_bytes() {
    let node = Node::start("work").await;
    node.user("ada").await;
    let ada = node.session("ada").await;
    node.import(&ada, "tasks", &sites::tasks("task", 2, "2026-03-01T12:00:00Z", None)).await;
    let note = json!({ "title": "quote \" slash \\ line \n bell \u{7} é 漢 \u{2028}", "tags": ["a", "b"] });
    ada.post("/api/v1/data/notes", note).await.expect(201);
    let (_, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks", "notes"] })).await;
    let asker = Asker::enroll(&invite).await;

    golden("capabilities", &asker.get("capabilities").await.text());
    let list = asker.post("list/tasks", json!({ "limit": 1 })).await;
    golden("list", &list.text());
    golden("get", &asker.post(&format!("get/tasks/{}", id(&list.json["items"][0])), json!({})).await.text());
    golden("list_escapes", &asker.post("list/notes", json!({})).await.text());
    golden("scope_violation", &asker.post("list/memory", json!({})).await.text());
    golden("not_found", &asker.post("get/tasks/none", json!({})).await.text());
    golden("invalid_request", &asker.post("list/tasks", json!({ "limit": 0 })).await.text());
}

#[tokio::test]
async fn the_answers_to_a_session_keep_their_bytes() {
    let mut sites = sites::joined().await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 2, "2026-03-01T12:00:00Z", None)).await;
    let query = json!({ "verb": "list", "resource": "tasks", "limit": 1 });
    golden("query", &sites.ada_at_home.query(query.clone()).await.text());
    sites.work.kill();
    golden("query_partial", &sites.ada_at_home.query(query).await.text());
    let alone = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    golden("query_failed", &sites.ada_at_home.query(alone).await.text());
}
