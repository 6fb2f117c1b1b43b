//! A client that leaves ends the work that it asked for, here and on the other site, down to the database.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::api::Api;
use crate::harness::node::Node;
use crate::harness::sites::{self, Sites, titles};
use crate::harness::wait::{PATIENCE, until};

/// A session's request of which only the socket is left to wait for.
async fn ask(node: &Node, session: &Api, body: &Value) -> TcpStream {
    let address = node.address("api");
    let mut stream = TcpStream::connect(&address).await.expect("the api listener accepts");
    let body = body.to_string();
    let head = format!(
        "POST /api/v1/query HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        session.token(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("the request is sent");
    stream
}

/// Statements of a node's own that wait for a lock.
async fn waiting(observer: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()";
    observer.query_one(sql, &[]).await.expect("the activity is read").get(0)
}

async fn until_waiting(node: &Node, observer: &tokio_postgres::Client, count: i64) {
    let what = format!("{count} statements of {} wait", node.site);
    until(&what, || async { (waiting(observer).await == count).then_some(()) }).await;
}

/// Holds the rows of a node until the returned connection is told `ROLLBACK`.
async fn hold_tasks(node: &Node) -> tokio_postgres::Client {
    let holder = node.database().connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
    holder
}

/// The statements run with a timeout of 60 s here: only a cancellation can end them before a test gives up.
const PATIENT: &str = "[limits]\nrequest_deadline_max_ms = 120000\npeer_budget_ms = 60000\npeer_first_byte_ms = 60000\n\
                       peer_idle_ms = 60000\n";

/// Two sites with one task each, whose nodes wait long.
async fn filled() -> Sites {
    let sites = sites::joined_as(json!({ "resources": ["tasks", "notes"] }), PATIENT).await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 1, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T11:00:00Z", None)).await;
    sites
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_statements_of_both_nodes() {
    let sites = filled().await;
    let (at_home, at_work) = (sites.home.database().connect().await, sites.work.database().connect().await);
    let (hold_home, hold_work) = (hold_tasks(&sites.home).await, hold_tasks(&sites.work).await);
    for verb in [
        json!({ "verb": "list", "resource": "tasks", "deadline_ms": 60_000 }),
        json!({ "verb": "get", "resource": "tasks", "id": uuid::Uuid::new_v4(), "deadline_ms": 60_000 }),
    ] {
        let mut clients = Vec::new();
        for count in 1..=3 {
            clients.push(ask(&sites.home, &sites.ada_at_home, &verb).await);
            until_waiting(&sites.home, &at_home, count).await;
            until_waiting(&sites.work, &at_work, count).await;
        }
        drop(clients.pop());
        until_waiting(&sites.home, &at_home, 2).await;
        until_waiting(&sites.work, &at_work, 2).await;
        drop(clients);
        until_waiting(&sites.home, &at_home, 0).await;
        until_waiting(&sites.work, &at_work, 0).await;
    }
    for holder in [hold_home, hold_work] {
        holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    }
    let status = sites.ada_at_home.get("/api/v1/status").await.expect(200);
    assert_eq!(
        (&status["links"][0]["breaker"], &status["links"][0]["in_flight"]),
        (&json!("closed"), &json!(0)),
        "{status}"
    );
    let answer = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(titles(&answer), ["home 0", "work 0"]);
}

#[tokio::test]
async fn a_deadline_ends_the_statements_of_both_nodes() {
    let sites = filled().await;
    let (at_home, at_work) = (sites.home.database().connect().await, sites.work.database().connect().await);
    let hold_work = hold_tasks(&sites.work).await;
    let list = json!({ "verb": "list", "resource": "tasks", "deadline_ms": 4_000 });
    let answer = sites.ada_at_home.query(list.clone()).await.expect(200);
    assert_eq!(titles(&answer), ["home 0"]);
    // The other node's own deadline, which is the same, may be over a moment before this one's.
    let work = &answer["_sources"]["work"];
    assert!(work["status"] == "timed_out" || work["error"]["code"] == "unavailable", "{answer}");
    until_waiting(&sites.work, &at_work, 0).await;

    let hold_home = hold_tasks(&sites.home).await;
    let answer = sites.ada_at_home.query(list).await;
    assert!([502, 504].contains(&answer.status.as_u16()), "{}", answer.text());
    let answer = answer.json;
    assert_eq!(answer["_sources"]["local"]["status"], "timed_out", "{answer}");
    assert_eq!(answer["_sources"]["local"]["error"]["stage"], "database", "{answer}");
    until_waiting(&sites.home, &at_home, 0).await;
    until_waiting(&sites.work, &at_work, 0).await;
    drop((hold_home, hold_work));
}

/// A client that only stops reading has not left.
#[tokio::test]
async fn a_client_that_only_waits_gets_its_answer() {
    let sites = filled().await;
    let at_work = sites.work.database().connect().await;
    let hold_work = hold_tasks(&sites.work).await;
    let list = json!({ "verb": "list", "resource": "tasks", "deadline_ms": 10_000 });
    let client = ask(&sites.home, &sites.ada_at_home, &list).await;
    until_waiting(&sites.work, &at_work, 1).await;
    hold_work.batch_execute("ROLLBACK").await.expect("the lock is given back");
    let answer = whole_answer(client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("work 0"), "{answer}");
}

/// What a query is answered, to its end.
async fn whole_answer(mut client: TcpStream) -> String {
    let mut answer = String::new();
    let reading = async {
        let mut piece = [0; 4096];
        while !answer.contains("trace_id") {
            let read = client.read(&mut piece).await.expect("the answer comes");
            assert_ne!(read, 0, "the node hung up: {answer}");
            answer.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer");
    answer
}

/// A stop, as a service manager or a rolling update does it: here while both the asking and the owning node have the question
/// under way.
#[tokio::test]
async fn a_node_that_is_asked_to_stop_answers_what_it_has_begun_and_takes_nothing_new() {
    let mut sites = filled().await;
    let at_work = sites.work.database().connect().await;
    let hold_work = hold_tasks(&sites.work).await;
    let list = json!({ "verb": "list", "resource": "tasks", "deadline_ms": 60_000 });
    let client = ask(&sites.home, &sites.ada_at_home, &list).await;
    until_waiting(&sites.work, &at_work, 1).await;

    sites.home.ask_to_stop();
    sites.work.ask_to_stop();
    let address = sites.home.address("api");
    until("no new connection is answered", || async {
        let mut late = TcpStream::connect(&address).await.ok()?;
        late.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.ok()?;
        let silence = tokio::time::timeout(Duration::from_millis(300), late.read(&mut [0; 64])).await;
        (!matches!(silence, Ok(Ok(1..)))).then_some(())
    })
    .await;
    hold_work.batch_execute("ROLLBACK").await.expect("the lock is given back");
    let answer = whole_answer(client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("work 0"), "{answer}");
    assert!(sites.home.exit().success() && sites.work.exit().success());
}
