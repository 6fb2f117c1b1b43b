//! What a session can ask of its own node, and what it cannot.

use serde_json::{Value, json};

use crate::harness::node::{Node, id};
use crate::harness::sites::{self, items, titles};
use crate::harness::wait::until;
use crate::harness::wire::Wire;

#[tokio::test]
async fn paging_through_both_sites_gives_every_row_once_and_in_order() {
    let sites = sites::joined().await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 23, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 41, "2026-03-01T12:00:20Z", None)).await;

    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    for page in 0.. {
        assert!(page < 20, "paging does not end");
        let body = json!({ "verb": "list", "resource": "tasks", "limit": 7, "cursor": cursor });
        let answer = sites.ada_at_home.query(body).await.expect(200);
        assert_eq!(answer["_partial"], false, "{answer}");
        seen.extend(items(&answer).iter().map(|row| (row["created_at"].to_string(), row["title"].to_string())));
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
        // A row that arrives while somebody pages is newer than where he stands: it moves nothing.
        sites.ada_at_work.post("/api/v1/data/tasks", json!({ "title": format!("new {page}") })).await.expect(201);
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.reverse();
    assert_eq!(seen, sorted);
    sorted.dedup();
    assert_eq!(sorted.len(), 64);
}

#[tokio::test]
async fn a_row_is_found_wherever_it_is_and_a_missing_one_is_404() {
    let sites = sites::joined().await;
    let there = sites.ada_at_work.post("/api/v1/data/tasks", json!({ "title": "there" })).await.expect(201);
    let get = |id: String| sites.ada_at_home.query(json!({ "verb": "get", "resource": "tasks", "id": id }));

    let found = get(id(&there)).await.expect(200);
    assert_eq!((titles(&found), items(&found)[0]["_source"].clone()), (vec!["there".to_owned()], json!("work")));
    assert_eq!(found["_sources"]["local"]["status"], "empty");

    let missing = get("0190b0e0-0000-7000-8000-000000000000".to_owned()).await.expect(404);
    assert_eq!(missing["error"]["code"], "not_found");
    assert_eq!(missing["_sources"]["work"]["status"], "empty");
}

#[tokio::test]
async fn a_scope_bounds_what_the_other_site_sees_and_denies_the_rest() {
    let sites = sites::joined_with(json!({ "resources": ["tasks"], "max_rows_per_query": 2 })).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 5, "2026-03-01T12:00:00Z", None)).await;
    let query = |resource: &str| sites.ada_at_home.query(json!({ "verb": "list", "resource": resource, "limit": 50 }));

    let capped = query("tasks").await.expect(200);
    assert_eq!(titles(&capped), ["work 0", "work 1"]);
    assert_eq!((capped["_truncated"].clone(), capped["_partial"].clone()), (json!(true), json!(false)));
    assert_eq!(capped["_sources"]["work"]["status"], "truncated");

    let denied = query("notes").await.expect(200);
    assert_eq!(denied["_sources"]["work"]["status"], "denied");
    assert_eq!(denied["_partial"], true);
    assert_eq!(query("credentials").await.expect(200)["_sources"]["work"]["status"], "denied");
}

#[tokio::test]
async fn users_of_one_node_do_not_see_each_others_links_or_rows() {
    let sites = sites::joined().await;
    sites.home.user("bob").await;
    let bob = sites.home.session("bob").await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("canary", 3, "2026-03-01T12:00:00Z", None)).await;
    sites.ada_at_home.post("/api/v1/data/tasks", json!({ "title": "canary at home" })).await.expect(201);

    let all = bob.query(json!({ "verb": "list", "resource": "tasks" })).await;
    assert!(!all.text().contains("canary") && !all.text().contains("work"), "{}", all.text());
    let asked = bob.query(json!({ "verb": "list", "resource": "tasks", "source": "federated:work" })).await;
    let never = bob.query(json!({ "verb": "list", "resource": "tasks", "source": "federated:nowhere" })).await;
    assert_eq!((asked.status, never.status), (400.try_into().unwrap(), 400.try_into().unwrap()));
    assert_eq!(asked.error(400).1.replace("work", "nowhere"), never.error(400).1, "another's link is unknown");
    assert!(!bob.get("/api/v1/status").await.text().contains("work"));

    let page = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks", "limit": 2 })).await.expect(200);
    let stolen = json!({ "verb": "list", "resource": "tasks", "limit": 2, "cursor": page["next_cursor"] });
    assert_eq!(bob.query(stolen).await.error(400).0, "invalid_request");
}

#[tokio::test]
async fn a_link_that_is_shared_with_a_team_works_for_its_members_only() {
    let sites = sites::joined().await;
    let (home, work) = (&sites.home, &sites.work);
    for user in ["bob", "eve"] {
        home.user(user).await;
    }
    home.team("family", &["bob"]).await;
    let (_, invite) = sites::grant(work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let body =
        json!({ "invite": invite, "user": "ada", "peer": "shared", "allow_private": true, "share_with": ["family"] });
    home.admin().post("/api/admin/v1/links", body).await.expect(201);
    work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T12:00:00Z", None)).await;

    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:shared" });
    assert_eq!(titles(&home.session("bob").await.query(query.clone()).await.expect(200)), ["work 0"]);
    assert_eq!(home.session("eve").await.query(query).await.error(400).0, "unknown_source");
}

#[tokio::test]
async fn questions_that_are_malformed_are_told_which_field_is_wrong() {
    let node = Node::start("home").await;
    node.user("ada").await;
    let ada = node.session("ada").await;
    for (body, named) in [
        (json!({ "verb": "list", "resource": "tasks", "limit": 0 }), "limit"),
        (json!({ "verb": "list", "resource": "tasks", "limit": "many" }), "limit"),
        (json!({ "verb": "list", "resource": "tasks", "limti": 5 }), "limti"),
        (json!({ "verb": "fetch", "resource": "tasks" }), "verb"),
        (json!({ "verb": "list", "resource": "no such thing" }), "resource"),
        (json!({ "verb": "list", "resource": "invoices" }), "invoices"),
        (json!({ "verb": "list", "resource": "tasks", "cursor": "AAAAAAAA" }), "cursor"),
        (json!({ "verb": "list", "resource": "tasks", "where": { "nope": 1 } }), "nope"),
        (json!({ "verb": "list", "resource": "tasks", "where": { "priority": "x" } }), "priority"),
        (json!({ "verb": "list", "resource": "tasks", "deadline_ms": 0 }), "deadline_ms"),
        (json!({ "verb": "list", "resource": "tasks", "source": "everywhere" }), "source"),
        (json!({ "verb": "list", "resource": "tasks", "require": "work" }), "require"),
        (json!({ "verb": "get", "resource": "tasks" }), "id"),
    ] {
        let (code, message) = ada.query(body.clone()).await.error(400);
        assert_eq!(code, "invalid_request", "{body}");
        assert!(message.contains(named), "{body}: {message}");
    }
    let oversized = ada.post_text("/api/v1/query", format!(r#"{{"verb":"{}"}}"#, "x".repeat(70_000))).await;
    assert_eq!(oversized.error(413).0, "too_large");
    assert_eq!(ada.post_text("/api/v1/query", "not json").await.error(400).0, "invalid_request");
    assert_eq!(node.anonymous().query(json!({})).await.error(401).0, "unauthorized");
    assert_eq!(node.with_token("mosaic_session_nonsense").query(json!({})).await.error(401).0, "unauthorized");
    assert_eq!(node.admin().query(json!({})).await.error(401).0, "unauthorized", "an admin is no session");
    assert_eq!(ada.get("/api/admin/v1/users").await.error(401).0, "unauthorized", "a session is no admin");
    assert_eq!(ada.get("/api/v1/nothing").await.error(404).0, "not_found");
}

#[tokio::test]
async fn a_session_writes_its_own_rows_and_nobody_elses() {
    let node = Node::start("home").await;
    for user in ["ada", "bob"] {
        node.user(user).await;
    }
    let (ada, bob) = (node.session("ada").await, node.session("bob").await);
    let row = ada.post("/api/v1/data/tasks", json!({ "title": "mine", "priority": 2 })).await.expect(201);
    let path = format!("/api/v1/data/tasks/{}", id(&row));

    assert_eq!(ada.patch(&path, json!({ "status": "done" })).await.expect(200)["status"], "done");
    assert_eq!(bob.patch(&path, json!({ "status": "open" })).await.error(404).0, "not_found");
    assert_eq!(bob.delete(&path).await.error(404).0, "not_found");
    for (body, named) in [
        (json!({ "title": "" }), "title"),
        (json!({ "title": "x", "status": "soon" }), "status"),
        (json!({ "title": "x", "owner_id": row["owner_id"] }), "owner_id"),
        (json!({ "title": "x", "colour": "red" }), "colour"),
        (json!({ "status": "open" }), "title"),
    ] {
        let (code, message) = ada.post("/api/v1/data/tasks", body.clone()).await.error(400);
        assert_eq!(code, "invalid_request", "{body}");
        assert!(message.contains(named), "{body}: {message}");
    }
    let lines = "{\"title\":\"one\"}\n{\"title\":\"two\",\"status\":\"soon\"}\n";
    let (_, message) = ada.post_text("/api/v1/data/tasks:import", lines).await.error(400);
    assert!(message.contains("line 2"), "{message}");
    assert!(ada.delete(&path).await.status.is_success());
    let left = ada.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(items(&left).len(), 0, "a refused import leaves nothing");
}

#[tokio::test]
async fn as_many_imports_as_may_run_and_the_next_is_told_to_come_back() {
    let node = Node::start_with("home", "[limits]\nimports_in_flight = 1\n").await;
    node.user("ada").await;
    let ada = node.session("ada").await;
    let head = format!(
        "POST /api/v1/data/tasks:import HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: 16\r\n\r\n",
        ada.token()
    );
    // A quick import may take the place before the slow one has it: then the slow one is refused, and both try again.
    let (mut slow, refused) = until("the slow import has begun, and a quick one is refused", || async {
        let mut slow = Wire::plain(&node.address("api")).await;
        slow.send(&head).await.expect("the head is sent");
        let answer = ada.post_text("/api/v1/data/tasks:import", "{\"title\":\"quick\"}\n").await;
        (answer.status == 429).then_some((slow, answer))
    })
    .await;
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    assert_eq!(refused.error(429).0, "rate_limited");

    slow.send("{\"title\":\"slow\"}").await.expect("its line is sent");
    until("the place is free again", || async {
        let answer = ada.post_text("/api/v1/data/tasks:import", "{\"title\":\"later\"}\n").await;
        (answer.status == 200).then_some(())
    })
    .await;
    let rows = ada.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert!(titles(&rows).contains(&"slow".to_owned()), "{rows}");
}

#[tokio::test]
async fn an_operator_federates_a_table_that_was_there_before() {
    let owner = Node::start("work").await;
    let database = owner.database().connect().await;
    let ada = owner.user("ada").await;
    let statements = format!(
        "CREATE TABLE invoices (number bigint PRIMARY KEY, issued timestamptz NOT NULL, clerk text NOT NULL, total numeric, paid boolean);
         CREATE INDEX ON invoices (clerk, issued DESC, number DESC);
         INSERT INTO invoices SELECT n, '2026-01-01'::timestamptz + n * interval '1 hour', '{ada}', n * 1.25, n % 2 = 0
         FROM generate_series(1, 12) n"
    );
    database.batch_execute(&statements).await.expect("the operator's own table");
    let mut owner = owner;
    let config = std::fs::read_to_string(owner.config_file()).expect("the configuration");
    let resource = "\n[[resource]]\nname = \"invoices\"\ntable = \"invoices\"\nid = \"number\"\nowner = \"clerk\"\norder = \"issued\"\n\
                    columns = [\"total\", \"paid\"]\nfilterable = [\"paid\"]\n";
    std::fs::write(owner.config_file(), config + resource).expect("written");
    assert!(owner.stop().success());
    owner.serve();

    let home = Node::start("home").await;
    home.user("ada").await;
    let (_, invite) = sites::grant(&owner, "home", "ada", json!({ "resources": ["invoices"] })).await;
    sites::join(&home, "ada", &invite).await;
    let query = json!({ "verb": "list", "resource": "invoices", "source": "federated:work", "where": { "paid": true }, "limit": 4 });
    let answer = home.session("ada").await.query(query).await;
    assert!(answer.text().contains(r#""total":15.00,"#), "digits are kept: {}", answer.text());
    let answer = answer.expect(200);
    let ids: Vec<_> = items(&answer).iter().map(|row| row["id"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(ids, ["12", "10", "8", "6"], "{answer}");
}
