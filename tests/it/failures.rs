//! Each dependency stopped, frozen, or lying: what a session sees, and that it heals by itself.

use std::time::Duration;

use mosaic::postgres::pool::{DatabaseUrl, PoolOptions};
use mosaic::postgres::testing;
use serde_json::json;

use crate::harness::asker::Asker;
use crate::harness::node::{Node, mosaic};
use crate::harness::sites::{self, items, titles};
use crate::harness::wait::until;

#[tokio::test]
async fn a_stopped_peer_is_a_labelled_gap_and_local_rows_arrive() {
    let mut sites = sites::joined().await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 3, "2026-03-01T12:00:00Z", None)).await;
    assert!(sites.work.stop().success());

    let answer = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(titles(&answer), ["home 0", "home 1", "home 2"]);
    assert_eq!(answer["_partial"], true);
    let work = &answer["_sources"]["work"];
    assert_eq!((work["status"].as_str(), work["rows"].as_u64()), (Some("unreachable"), Some(0)), "{work}");
    assert_eq!(work["error"]["retryable"], true);
    assert_eq!(answer["_notices"], json!([{ "code": "federation_offline", "peer": "work" }]));

    let again = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(again["_notices"], json!([]), "a session is told once");
}

/// Before, an answer would lack them without a word.
#[tokio::test]
async fn a_node_that_starts_is_ready_when_it_knows_its_links() {
    let mut sites = sites::joined().await;
    sites.home.stop();
    let (holder, watch) = (sites.home.database().connect().await, sites.home.database().connect().await);
    holder.batch_execute("BEGIN; LOCK TABLE link_teams IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
    let mut home = sites.home;
    let mut starting = tokio::task::spawn_blocking(move || {
        home.serve();
        home
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("it waits for its links", || async {
        let count: i64 = watch.query_one(waiting, &[]).await.expect("a count").get(0);
        (count > 0).then_some(())
    })
    .await;
    // As long as the lock is held it never is; without the rule it would be within this time.
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut starting).await.is_err());
    holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    let home = starting.await.expect("it starts");
    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    let answer = home.session("ada").await.query(query).await.expect(200);
    assert_eq!(answer["_sources"]["work"]["status"], "empty", "{answer}");
}

#[tokio::test]
async fn a_failed_source_alone_is_502_with_the_same_body() {
    let mut sites = sites::joined().await;
    sites.work.kill();
    let query = |body| sites.ada_at_home.query(body);

    let alone = query(json!({ "verb": "list", "resource": "tasks", "source": "federated:work" })).await.expect(502);
    assert_eq!(alone["_sources"]["work"]["status"], "unreachable");
    assert_eq!((items(&alone).len(), alone["_partial"].clone()), (0, json!(true)));

    let required = query(json!({ "verb": "list", "resource": "tasks", "require": ["work"] })).await.expect(502);
    assert_eq!(required["_sources"]["local"]["status"], "empty");

    let unknown = query(json!({ "verb": "list", "resource": "tasks", "source": "federated:elsewhere" })).await;
    assert_eq!(unknown.error(400).0, "unknown_source");
}

#[tokio::test]
async fn a_frozen_peer_costs_its_own_deadline_and_is_504_when_asked_alone() {
    let sites = sites::joined().await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 1, "2026-03-01T12:00:00Z", None)).await;
    sites.work.freeze();

    let answer =
        sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks", "deadline_ms": 3_000 })).await.expect(200);
    assert_eq!(titles(&answer), ["home 0"]);
    assert_eq!(answer["_sources"]["work"]["status"], "timed_out");

    let alone = json!({ "verb": "list", "resource": "tasks", "source": "federated:work", "deadline_ms": 700 });
    let alone = sites.ada_at_home.query(alone).await.expect(504);
    assert_eq!(alone["_sources"]["work"]["status"], "timed_out");

    sites.work.thaw();
    until("the peer answers again", || async {
        let answer = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
        (answer["_sources"]["work"]["status"] == "empty").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stopped_database_is_503_everywhere_and_heals_by_itself() {
    let mut own = testing::own_cluster();
    own.cluster.start().expect("the cluster starts");
    let node = Node::on_url("work", &own.cluster.url("postgres")).await;
    node.user("ada").await;
    let ada = node.session("ada").await;
    ada.post("/api/v1/data/tasks", json!({ "title": "mine" })).await.expect(201);
    let (_, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    asker.post("list/tasks", json!({})).await.expect(200);

    own.cluster.stop();
    let session = ada.query(json!({ "verb": "list", "resource": "tasks" })).await;
    assert_eq!(session.error(503).0, "unavailable");
    assert_eq!(node.admin().get("/api/admin/v1/users").await.error(503).0, "unavailable");
    let refused = asker.post("list/tasks", json!({})).await;
    assert!(!refused.text().contains("mine"));
    assert_eq!(refused.error(503).0, "unavailable");
    assert_eq!(node.anonymous().get("/healthz").await.status, 200);
    until("readiness names the database", || async {
        let ready = node.anonymous().get("/readyz").await;
        (ready.status == 503 && ready.text().contains("database") && ready.text().contains("grants")).then_some(())
    })
    .await;

    own.cluster.start().expect("the cluster starts again");
    until("peers are answered again", || async {
        (asker.post("list/tasks", json!({})).await.status == 200).then_some(())
    })
    .await;
    let healed = ada.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(titles(&healed), ["mine"]);
    assert_eq!(node.anonymous().get("/readyz").await.status, 200);
}

/// Nothing that a stopping node waits for may wait for the database without a bound: a request under way, the last events of the
/// log, the last seal, the record of this replica.
#[tokio::test]
async fn a_node_whose_database_is_frozen_stops_all_the_same_and_says_what_it_left() {
    let mut own = testing::own_cluster();
    own.cluster.start().expect("the cluster starts");
    let mut node =
        Node::on_url_with("work", &own.cluster.url("postgres"), "[limits]\ndrain_s = 1\ndatabase_connect_ms = 20000\n");
    node.user("ada").await;
    let (_, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    asker.post("list/tasks", json!({})).await.expect(200);
    let mut under_way = asker.wire().await;
    let url = DatabaseUrl::parse(&own.cluster.url("postgres")).expect("a URL");
    let locks = url.connect(&PoolOptions::default()).await.expect("a connection");
    locks.batch_execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    under_way
        .send("POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: x\r\nx-mosaic-deadline-ms: 30000\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .expect("sent");
    let watches = url.connect(&PoolOptions::default()).await.expect("a connection");
    until("the question waits in the database", || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        (watches.query_one(sql, &[]).await.expect("a count").get::<_, i64>(0) > 0).then_some(())
    })
    .await;

    own.cluster.freeze();
    node.ask_to_stop();
    let status = node.ends().await;
    assert!(status.success(), "{status}");
    let log = node.log();
    for said in [
        "what is still under way is cut requests=1",
        "the last seal of the audit log took too long",
        "mosaic::run: stopped",
    ] {
        assert!(log.contains(said), "'{said}' is missing in:\n{log}");
    }
    assert!(under_way.hear().await.is_err(), "no answer without rows and event");
    own.cluster.thaw();
}

#[tokio::test]
async fn a_node_that_was_killed_comes_back_with_its_links_and_grants() {
    let mut sites = sites::joined().await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 2, "2026-03-01T12:00:00Z", None)).await;
    sites.home.kill();
    sites.home.serve();
    let token_survives = sites.home.session("ada").await;
    let answer = token_survives.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(titles(&answer), ["work 0", "work 1"]);
}

#[tokio::test]
async fn every_problem_of_a_configuration_is_told_at_once_and_nothing_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mosaic.toml");
    let text = "site = \"Not A Name\"\ntier = \"cloud\"\n\n[api]\nlisten = \"nowhere\"\n\n[limits]\npage_cap = 0\nno_such_limit = 1\n";
    std::fs::write(&file, text).expect("written");
    let output = mosaic().arg("--config").arg(&file).args(["gateway", "serve"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for key in ["site", "tier", "api.listen", "limits.page_cap", "no_such_limit"] {
        assert!(told.contains(key), "{key} is missing in:\n{told}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let node = Node::start("work").await;
    let config = std::fs::read_to_string(node.config_file()).expect("the configuration");
    let moved = config.replacen("127.0.0.1:0", &address, 1).replace("/state\"", "/other-state\"");
    let file = node.directory().join("other.toml");
    std::fs::write(&file, moved).expect("written");
    let init = mosaic().arg("--config").arg(&file).args(["gateway", "init"]).output().expect("it runs");
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let output = mosaic().arg("--config").arg(&file).args(["gateway", "serve"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains(&address) && told.contains("api.listen"), "{told}");
}

#[tokio::test]
async fn a_database_that_is_not_there_ends_the_start_with_a_remedy_and_no_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mosaic.toml");
    let text = format!(
        "site = \"work\"\ntier = \"standalone\"\nstate_dir = \"{}\"\n[postgres]\nurl = \"postgres://mosaic:hunter2@127.0.0.1:1/mosaic\"\n",
        directory.path().join("state").display()
    );
    std::fs::write(&file, text).expect("written");
    let run = |arguments: &[&str]| mosaic().arg("--config").arg(&file).args(arguments).output().expect("it runs");
    assert!(run(&["gateway", "init"]).status.success());
    for arguments in [&["gateway", "serve"] as &[&str], &["gateway", "doctor"], &["gateway", "doctor", "--json"]] {
        let output = run(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("database"), "{arguments:?}: {told}");
        assert!(!told.contains("hunter2"), "{arguments:?}: {told}");
    }
}
