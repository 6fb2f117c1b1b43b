//! Foreign rows live in memory and nowhere else: unique texts in the owner's rows, thousands of federated questions on the asking
//! node, failing ones included, then a search of everything that the asking node could have written.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::StreamExt;
use mosaic::postgres::embedded::ServerBinaries;
use mosaic::postgres::pool::{DatabaseUrl, PoolOptions};
use mosaic::postgres::testing;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::harness::api::Api;
use crate::harness::node::Node;
use crate::harness::search::holds;
use crate::harness::setting;
use crate::harness::sites::{self, items};

/// How many questions; `MOSAIC_TEST_QUERIES` sets another number.
fn queries() -> usize {
    setting("MOSAIC_TEST_QUERIES").map_or(2_000, |queries| usize::try_from(queries).expect("a count"))
}

fn canary(name: &str) -> String {
    format!("canary-{name}-{}", uuid::Uuid::new_v4().simple())
}

/// What of the other site must be nowhere here: texts of rows, and their ids as the database would write them.
struct Canaries {
    texts: Vec<String>,
    ids: Vec<uuid::Uuid>,
}

impl Canaries {
    fn needles(&self) -> Vec<Vec<u8>> {
        let texts = self.texts.iter().map(|text| text.clone().into_bytes());
        let ids = self.ids.iter().flat_map(|id| [id.to_string().into_bytes(), id.as_bytes().to_vec()]);
        texts.chain(ids).collect()
    }
}

#[tokio::test]
async fn no_foreign_row_is_written_anywhere_on_the_asking_side() {
    let mut own = testing::own_cluster();
    own.cluster.start().expect("the cluster starts");
    let url = own.cluster.url("postgres");
    let home = Node::on_url_with("home", &url, "[log]\nfilter = \"trace\"\n");
    let mut work = Node::start("work").await;
    home.user("ada").await;
    let ada = home.session("ada").await;
    let local = canary("local");
    ada.post("/api/v1/data/tasks", json!({ "title": local })).await.expect(201);
    let canaries = linked_rows(&home, &work).await;
    link_to_a_site_that_is_gone(&home).await;

    let seen = ask(&ada, queries()).await;
    assert!(canaries.texts.iter().all(|text| seen.contains(text)), "the rows did arrive");
    fail_in_every_way(&ada, &mut work).await;

    let database = DatabaseUrl::parse(&url).expect("a URL").connect(&PoolOptions::default()).await.expect("connected");
    database.batch_execute("CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT").await.expect("everything is written");
    let dump = dump(url.expose_secret());
    let data = own.cluster.root().to_owned();
    let node = home.directory().to_owned();
    assert!(holds(&dump, local.as_bytes()), "the search finds a local row in the dump");
    assert!(!found_in(&data.join("data/base"), &[local.clone().into_bytes()]).is_empty(), "and in the tables");
    assert!(!found_in(&data.join("data/pg_wal"), &[local.clone().into_bytes()]).is_empty(), "and in the WAL");
    assert!(home.log().contains("TRACE"), "the log is at its finest");

    let needles = canaries.needles();
    assert!(needles.iter().all(|needle| !holds(&dump, needle)), "in the dump");
    for place in [&data, &node] {
        assert_eq!(found_in(place, &needles), Vec::<PathBuf>::new());
    }
    assert!(!holds(home.log().as_bytes(), local.as_bytes()), "nor is any row in the log");
}

/// Rows at `work` that come to `home` over ada's link.
async fn linked_rows(home: &Node, work: &Node) -> Canaries {
    work.user("ada").await;
    let at_work = work.session("ada").await;
    let mut canaries = Canaries { texts: Vec::new(), ids: Vec::new() };
    for index in 0..20 {
        let (title, body) = (canary(&format!("title{index}")), canary(&format!("body{index}")));
        let row = at_work.post("/api/v1/data/tasks", json!({ "title": title, "body": body })).await.expect(201);
        canaries.ids.push(row["id"].as_str().expect("an id").parse().expect("a UUID"));
        canaries.texts.extend([title, body]);
    }
    let limits = json!({ "requests_per_second": 100_000, "burst": 100_000, "concurrent": 100 });
    let scope = json!({ "resources": ["tasks"] });
    let grant = json!({ "peer": "home", "user": "ada", "scope": scope, "limits": limits });
    let created = work.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    sites::join(home, "ada", created["invite"]["invite"].as_str().expect("an invite")).await;
    canaries
}

/// Whoever requires its rows gets those of the other sites with a failure.
async fn link_to_a_site_that_is_gone(home: &Node) {
    let mut gone = Node::start("gone").await;
    gone.user("ada").await;
    let (_, invite) = sites::grant(&gone, "home", "ada", json!({ "resources": ["tasks"] })).await;
    sites::join(home, "ada", &invite).await;
    gone.kill();
}

/// Pages, single rows, filters, bad questions; returns everything that was seen.
async fn ask(ada: &Api, count: usize) -> String {
    let first = ada.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    let ids: Vec<Value> = items(&first).into_iter().map(|row| row["id"].clone()).collect();
    let cursor = ada.query(json!({ "verb": "list", "resource": "tasks", "limit": 3 })).await.expect(200);
    let cursor = cursor["next_cursor"].clone();
    let question = |turn: usize| match turn % 7 {
        0 => json!({ "verb": "list", "resource": "tasks" }),
        1 => json!({ "verb": "list", "resource": "tasks", "source": "federated:work", "limit": 1 + turn % 20 }),
        2 => json!({ "verb": "get", "resource": "tasks", "id": ids[turn % ids.len()] }),
        3 => json!({ "verb": "list", "resource": "tasks", "limit": 3, "cursor": cursor }),
        4 => json!({ "verb": "list", "resource": "tasks", "where": { "status": "open" }, "explain": true }),
        // A part arrives, and the whole is a failure.
        5 => json!({ "verb": "list", "resource": "tasks", "require": ["gone"] }),
        _ => json!({ "verb": "list", "resource": "tasks", "cursor": "AAAA", "where": { "status": 7 } }),
    };
    futures_util::stream::iter(0..count)
        .map(|turn| {
            let question = question(turn);
            // Every second one streamed.
            async move { if turn % 2 == 0 { ada.query(question).await } else { ada.stream(question).await } }
        })
        .buffer_unordered(8)
        .for_each(|answer| async move {
            assert!([200, 400, 502, 504].contains(&answer.status.as_u16()), "{}", answer.text());
        })
        .await;
    first.to_string()
}

/// Deadlines that pass while rows are on their way, and a peer that dies in the middle.
async fn fail_in_every_way(ada: &Api, work: &mut Node) {
    for deadline in 1..60 {
        ada.query(json!({ "verb": "list", "resource": "tasks", "deadline_ms": deadline })).await;
        ada.stream(json!({ "verb": "list", "resource": "tasks", "deadline_ms": deadline })).await;
    }
    let asking = futures_util::future::join_all((0..40).map(|turn| async move {
        let question = json!({ "verb": "list", "resource": "tasks" });
        if turn % 2 == 0 { ada.query(question).await } else { ada.stream(question).await }
    }));
    let killing = async {
        tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        work.kill();
    };
    futures_util::future::join(asking, killing).await;
}

fn dump(url: &str) -> Vec<u8> {
    let program = ServerBinaries::find(None, None, None).expect("PostgreSQL's programs").program("pg_dump");
    let dump = Command::new(program).arg(format!("--dbname={url}")).output().expect("pg_dump runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    // The binary columns are written in hexadecimal; ids are texts in a dump.
    dump.stdout
}

/// The files below `place` that hold any of the needles.
fn found_in(place: &Path, needles: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).expect("a readable file");
            if needles.iter().any(|needle| holds(&bytes, needle)) {
                found.push(path);
            }
        }
    }
    found
}
