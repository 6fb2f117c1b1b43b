//! `Accept: application/x-ndjson`: rows as they arrive, the account of all sources last.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::api::Api;
use crate::harness::node::Node;
use crate::harness::sites::{self, Sites};
use crate::harness::wait::{PATIENCE, until};

/// The lines of a streamed answer, read as they come.
struct Lines {
    response: reqwest::Response,
    rest: Vec<u8>,
}

impl Lines {
    async fn ask(node: &Node, session: &Api, body: &Value) -> reqwest::Response {
        let request = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = request.post(format!("{}/api/v1/query", node.api_url())).bearer_auth(session.token());
        let request = request.header("accept", "application/x-ndjson").header("content-type", "application/json");
        request.body(body.to_string()).send().await.expect("the api listener answers")
    }

    async fn of(node: &Node, session: &Api, body: &Value) -> Self {
        let response = Self::ask(node, session, body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Self { response, rest: Vec::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a line of JSON"));
            }
            let piece = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("in time");
            match piece.expect("a whole body") {
                Some(piece) => self.rest.extend_from_slice(&piece),
                None => {
                    assert!(self.rest.is_empty(), "the last line ends");
                    return None;
                }
            }
        }
    }

    /// Rows, and the trailer behind them.
    async fn all(mut self) -> (Vec<Value>, Value) {
        let mut lines = Vec::new();
        while let Some(line) = self.next().await {
            lines.push(line);
        }
        let trailer = lines.pop().expect("a trailer");
        assert!(trailer["_sources"].is_object(), "{trailer}");
        (lines, trailer)
    }
}

async fn filled() -> Sites {
    let sites = sites::joined().await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 12, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 17, "2026-03-01T11:55:00Z", None)).await;
    sites
}

fn list() -> Value {
    json!({ "verb": "list", "resource": "tasks", "deadline_ms": 30_000 })
}

async fn hold_tasks(node: &Node) -> tokio_postgres::Client {
    let holder = node.database().connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
    holder
}

#[tokio::test]
async fn local_rows_come_at_once_a_peers_on_arrival_and_the_account_last() {
    let more = "[limits]\npeer_budget_ms = 60000\npeer_first_byte_ms = 60000\n";
    let sites = sites::joined_as(json!({ "resources": ["tasks"] }), more).await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 2, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 2, "2026-03-01T13:00:00Z", None)).await;
    let holder = hold_tasks(&sites.work).await;
    let mut lines = Lines::of(&sites.home, &sites.ada_at_home, &list()).await;
    for title in ["home 0", "home 1"] {
        let row = lines.next().await.expect("a row");
        assert_eq!((&row["title"], &row["_source"]), (&json!(title), &json!("local")));
    }
    // Only now may the other site answer.
    holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    for title in ["work 0", "work 1"] {
        let row = lines.next().await.expect("a row");
        assert_eq!((&row["title"], &row["_source"]), (&json!(title), &json!("work")));
    }
    let trailer = lines.next().await.expect("a trailer");
    assert_eq!(lines.next().await, None);
    assert_eq!((&trailer["_partial"], &trailer["_truncated"]), (&json!(false), &json!(false)));
    assert_eq!(trailer["_sources"]["local"]["rows"], 2);
    assert_eq!(trailer["_sources"]["work"]["status"], "ok");
    assert_eq!(
        (&trailer["items"], &trailer["next_cursor"], &trailer["error"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_streamed_listing_gives_every_row_once_whatever_its_pages() {
    let sites = filled().await;
    let mut found = BTreeSet::new();
    let mut query = list();
    query["limit"] = json!(5);
    let mut streamed = true;
    loop {
        // Every second page is an ordinary one: both kinds continue each other.
        let (rows, account) = if streamed {
            Lines::of(&sites.home, &sites.ada_at_home, &query).await.all().await
        } else {
            let page = sites.ada_at_home.query(query.clone()).await.expect(200);
            (sites::items(&page), page)
        };
        streamed = !streamed;
        assert_eq!(account["_partial"], false);
        for row in rows {
            let title = row["title"].as_str().expect("a title").to_owned();
            assert!(found.insert(title), "twice: {row}");
        }
        let Some(cursor) = account["next_cursor"].as_str() else { break };
        query["cursor"] = json!(cursor);
    }
    assert_eq!(found.len(), 12 + 17);
}

#[tokio::test]
async fn a_stream_without_a_row_keeps_the_status_of_its_failure_and_one_with_rows_says_it_last() {
    let mut sites = filled().await;
    let get = |id: &str| json!({ "verb": "get", "resource": "tasks", "id": id });
    let own = sites.ada_at_home.query(list()).await.expect(200);
    let id = own["items"][0]["id"].as_str().expect("an id").to_owned();
    let (rows, trailer) = Lines::of(&sites.home, &sites.ada_at_home, &get(&id)).await.all().await;
    assert_eq!((rows.len(), &rows[0]["id"], &trailer["error"]), (1, &json!(id), &Value::Null));
    let absent = uuid::Uuid::new_v4().to_string();
    assert_eq!(Lines::ask(&sites.home, &sites.ada_at_home, &get(&absent)).await.status(), 404);

    sites.work.kill();
    let mut alone = list();
    alone["source"] = json!("federated:work");
    let failed = Lines::ask(&sites.home, &sites.ada_at_home, &alone).await;
    assert_eq!(
        (failed.status().as_u16(), failed.headers()["content-type"].as_bytes()),
        (502, b"application/json".as_slice())
    );
    let failed: Value = serde_json::from_slice(&failed.bytes().await.expect("a body")).expect("JSON");
    assert_eq!((&failed["_sources"]["work"]["status"], &failed["items"]), (&json!("unreachable"), &json!([])));

    let mut required = list();
    required["require"] = json!(["work"]);
    let (rows, trailer) = Lines::of(&sites.home, &sites.ada_at_home, &required).await.all().await;
    assert_eq!(rows.len(), 12);
    assert_eq!((&trailer["error"]["code"], &trailer["_partial"]), (&json!("sources_failed"), &json!(true)));

    let mut unknown = list();
    unknown["source"] = json!("federated:elsewhere");
    assert_eq!(Lines::ask(&sites.home, &sites.ada_at_home, &unknown).await.status(), 400);
}

#[tokio::test]
async fn leaving_in_the_middle_of_a_stream_ends_the_statement_at_the_peer() {
    let more = "[limits]\npeer_budget_ms = 60000\npeer_first_byte_ms = 60000\n";
    let sites = sites::joined_as(json!({ "resources": ["tasks"] }), more).await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 1, "2026-03-01T12:00:00Z", None)).await;
    let (holder, observer) = (hold_tasks(&sites.work).await, sites.work.database().connect().await);
    let waits = || async {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        observer.query_one(sql, &[]).await.expect("the activity is read").get::<_, i64>(0)
    };
    let mut lines = Lines::of(&sites.home, &sites.ada_at_home, &list()).await;
    assert_eq!(lines.next().await.expect("a row")["title"], "home 0");
    until("the peer's statement waits", || async { (waits().await == 1).then_some(()) }).await;
    drop(lines);
    until("the peer's statement is gone", || async { (waits().await == 0).then_some(()) }).await;
    drop(holder);
}
