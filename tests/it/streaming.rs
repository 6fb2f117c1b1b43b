//! `Accept: application/x-ndjson`: rows as they arrive, the account of all sources last.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::api::Api;
use crate::harness::hostile::{self, Hostile, Play};
use crate::harness::node::{Node, mosaic};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_gives_a_streamed_answer_to_its_end() {
    let more = "[limits]\npeer_budget_ms = 60000\npeer_first_byte_ms = 60000\ndrain_s = 60\n";
    let sites = sites::joined_as(json!({ "resources": ["tasks"] }), more).await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 1, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T13:00:00Z", None)).await;
    let holder = hold_tasks(&sites.work).await;
    let mut lines = Lines::of(&sites.home, &sites.ada_at_home, &list()).await;
    assert_eq!(lines.next().await.expect("a row")["title"], "home 0");
    let (mut home, api) = (sites.home, sites.ada_at_home);
    let stopping = tokio::task::spawn_blocking(move || home.stop());
    // The API accepts nobody any more: it drains.
    until("the node drains", || async { api.reaches().await.is_err().then_some(()) }).await;
    holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    assert_eq!(lines.next().await.expect("a row")["title"], "work 0");
    assert_eq!(lines.next().await.expect("a trailer")["_partial"], false);
    assert!(stopping.await.expect("no panic").success());
}

/// Whether the kernel has this connection from the first address to the second. (One that was given up is not told to the other side.)
fn is_connected(ends: &(String, String)) -> bool {
    let port = |address: &str| address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let (from, to): (u16, u16) = (port(&ends.0), port(&ends.1));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells its connections");
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ends_in =
            |field: usize, port: u16| fields.get(field).is_some_and(|text| text.ends_with(&format!(":{port:04X}")));
        ends_in(1, from) && ends_in(2, to)
    })
}

/// Sources are asked once for a page each; what a reader does not take stays at that, and then it is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_holds_a_page_of_each_source_at_most_and_is_cut() {
    const PEERS: usize = 8;
    let home =
        Node::start_with("home", "[limits]\nwrite_stall_ms = 1000\npeer_budget_ms = 25000\npeer_first_byte_ms = 25000\npeer_idle_ms = 25000\nwatch_retry_ms = 600000\n")
            .await;
    home.user("ada").await;
    let ada = home.session("ada").await;
    let mut peers = Vec::new();
    for index in 0..PEERS {
        let peer = Hostile::start(&format!("big-{index}")).await;
        sites::join(&home, "ada", &peer.invite()).await;
        // 3 MiB in a page, and more behind it.
        let rows = (0..400).map(|age| hostile::row(&uuid::Uuid::new_v4().to_string(), &"x".repeat(15 * 1024), age));
        peer.play(Play::honest(rows.collect()));
        peers.push(peer);
    }
    let query = json!({ "verb": "list", "resource": "tasks", "limit": 200, "deadline_ms": 30_000 });
    let whole = ada.query(query.clone()).await.expect(200);
    assert_eq!(whole["_partial"], false, "{}", whole["_sources"]);
    drop(whole);
    let (before, said) = (home.peak_memory_kib(), peers.iter().map(Hostile::said).sum::<u64>());

    let mut reader = TcpStream::connect(home.address("api")).await.expect("the api listener accepts");
    let body = query.to_string();
    let head = format!(
        "POST /api/v1/query HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\naccept: application/x-ndjson\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        ada.token(),
        body.len()
    );
    reader.write_all(head.as_bytes()).await.expect("the request is sent");
    let ends = (home.address("api"), reader.local_addr().expect("its address").to_string());
    until("its rows wait to be read", || async { is_connected(&ends).then_some(()) }).await;
    until("the reader is cut", || async { (!is_connected(&ends)).then_some(()) }).await;
    let asked_for = peers.iter().map(Hostile::said).sum::<u64>() - said;
    assert!(asked_for < PEERS as u64 * 4 * 1024 * 1024, "{asked_for} bytes: a page of each, and no more");
    let grown = home.peak_memory_kib().saturating_sub(before);
    println!("{} KiB were waiting to be read; the peak of memory grew by {grown} KiB", asked_for / 1024);
    assert!(grown < 2 * PEERS as u64 * 4 * 1024, "the peak of memory grew by {grown} KiB");
    // What the kernels held is still to be read; the account of the sources never came.
    let mut rest = Vec::new();
    let _cut = reader.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("_sources"));
}

#[tokio::test]
async fn the_command_line_prints_rows_as_they_arrive() {
    let more = "[limits]\npeer_budget_ms = 60000\npeer_first_byte_ms = 60000\n";
    let sites = sites::joined_as(json!({ "resources": ["tasks"] }), more).await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 1, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T13:00:00Z", None)).await;
    for (flag, is_json) in [("--stream", false), ("--ndjson", true)] {
        let holder = hold_tasks(&sites.work).await;
        let mut command = mosaic();
        command.args(["--api", &sites.home.api_url(), "--token", sites.ada_at_home.token(), "query", "tasks", flag]);
        command.args(["--deadline-ms", "30000"]).stdout(std::process::Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().expect("the command runs");
        let mut lines = tokio::io::BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next_line().await.expect("output").expect("a line");
        assert!(first.contains("home 0"), "{first}");
        // It was there while the other site had not answered.
        holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
        let second = lines.next_line().await.expect("output").expect("a line");
        assert!(second.contains("work 0"), "{second}");
        let mut rest = String::new();
        while let Some(line) = lines.next_line().await.expect("output") {
            rest.push_str(&line);
        }
        assert!(child.wait().await.expect("it ends").success());
        if is_json {
            assert_eq!(serde_json::from_str::<Value>(&first).expect("JSON")["_source"], "local");
            assert_eq!(serde_json::from_str::<Value>(&rest).expect("JSON")["_sources"]["work"]["rows"], 1);
        } else {
            assert!(rest.contains("work") && rest.contains("2 rows"), "{rest}");
        }
    }
    let nobody = sites.home.cli(&[
        "--api",
        &sites.home.api_url(),
        "--token",
        sites.ada_at_home.token(),
        "query",
        "tasks",
        "--ndjson",
        "--source",
        "nobody",
    ]);
    assert!(!nobody.status.success());
}
