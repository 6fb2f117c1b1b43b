//! What an owner decides counts with the very next request, also on a connection that was opened long before, on every replica;
//! and a replica that cannot know what the owner decided says so and serves nothing.

use std::time::{Duration, Instant};

use mosaic::postgres::pool::{DatabaseUrl, PoolOptions};
use mosaic::postgres::testing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::harness::asker::Asker;
use crate::harness::node::Node;
use crate::harness::now;
use crate::harness::sites::{self, items, titles};
use crate::harness::wait::until;
use crate::harness::wire::{Heard, Wire, client_tls};

/// Where the contract puts the end of a revoked grant on every replica.
const ON_EVERY_REPLICA_WITHIN: Duration = Duration::from_secs(1);

struct Owner {
    node: Node,
    team: String,
    grant: String,
    asker: Asker,
}

/// `ada` and her team `crew`, a personal row and a team's row, and a grant with generous limits that is in use.
async fn owner() -> Owner {
    let node = Node::start("work").await;
    node.user("ada").await;
    node.user("bob").await;
    let team = node.team("crew", &["ada", "bob"]).await;
    let (ada, bob) = (node.session("ada").await, node.session("bob").await);
    node.import(&ada, "tasks", &sites::tasks("own", 1, "2026-03-02T12:00:00Z", None)).await;
    node.import(&bob, "tasks", &sites::tasks("team", 1, "2026-03-01T12:00:00Z", Some(&team))).await;
    node.import(&ada, "notes", &[json!({ "title": "a note" })]).await;
    let (grant, invite) = generous_grant(&node, "ada", "home").await;
    let asker = Asker::enroll(&invite).await;
    Owner { node, team, grant, asker }
}

async fn generous_grant(node: &Node, user: &str, peer: &str) -> (String, String) {
    let limits = json!({ "requests_per_second": 10_000, "burst": 10_000, "concurrent": 100 });
    let grant = json!({ "peer": peer, "user": user, "scope": { "resources": ["tasks"] }, "limits": limits });
    let created = node.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&created["grant"]["id"]), text(&created["invite"]["invite"]))
}

impl Owner {
    async fn change(&self, change: &str) {
        let path = format!("/api/admin/v1/grants/{}/{change}", self.grant);
        let changed = self.node.admin().post(&path, json!({})).await.expect(200);
        assert_eq!(changed["receipt"]["effective"], true, "{changed}");
    }

    async fn update(&self, update: Value) {
        self.node.admin().patch(&format!("/api/admin/v1/grants/{}", self.grant), update).await.expect(200);
    }

    async fn last_event(&self) -> Value {
        let log = self.node.admin().get("/api/admin/v1/audit?limit=1").await.expect(200);
        items(&log)[0].clone()
    }
}

#[track_caller]
fn rows(heard: &Heard) -> Vec<String> {
    assert_eq!(heard.status, 200, "{}", heard.json);
    titles(&heard.json)
}

#[track_caller]
fn refused(heard: &Heard, reason: &str) {
    assert_eq!((heard.status, heard.word().as_str()), (403, reason), "{}", heard.json);
    assert_eq!(heard.json.get("items"), None);
}

#[tokio::test]
async fn revoking_ends_the_open_connection_with_its_next_request() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    assert_eq!(rows(&wire.list().await.expect("an answer")), ["own 0", "team 0"]);
    owner.change("revoke").await;
    refused(&wire.list().await.expect("an answer"), "grant_revoked");
    assert!(wire.ends().await, "the connection is closed");
    let event = owner.last_event().await;
    assert_eq!((event["outcome"].as_str(), event["reason"].as_str()), (Some("denied"), Some("grant_revoked")));
    until("no new handshake", || async { owner.asker.wire().await.list().await.err() }).await;
}

#[tokio::test]
async fn suspending_and_resuming_count_with_the_next_request_and_keep_the_connection() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    for _ in 0..3 {
        assert_eq!(rows(&wire.list().await.expect("an answer")).len(), 2);
        owner.change("suspend").await;
        refused(&wire.list().await.expect("an answer"), "grant_suspended");
        owner.change("resume").await;
    }
    assert_eq!(rows(&wire.list().await.expect("an answer")).len(), 2);
}

#[tokio::test]
async fn a_grant_ends_at_its_time_on_the_open_connection() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    let end = now() + time::Duration::seconds(4);
    owner.update(json!({ "expires_at": end.format(&Rfc3339).expect("a date") })).await;
    let mut answered = 0;
    let refusal = loop {
        let asked_at = now();
        let heard = wire.list().await.expect("an answer");
        if heard.status != 200 {
            break heard;
        }
        assert!(asked_at < end, "asked at {asked_at}, over at {end}");
        answered += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(now() >= end && answered > 0, "{answered} answers");
    refused(&refusal, "grant_expired");
    until("the row says so too", || async {
        let grant = owner.node.admin().get(&format!("/api/admin/v1/grants/{}", owner.grant)).await.expect(200);
        (grant["status"] == "expired").then_some(())
    })
    .await;
    let resumed = owner.node.admin().post(&format!("/api/admin/v1/grants/{}/resume", owner.grant), json!({})).await;
    assert_eq!(resumed.error(409).0, "conflict");
}

#[tokio::test]
async fn a_changed_scope_counts_with_the_next_request() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    assert_eq!(rows(&wire.list().await.expect("an answer")), ["own 0", "team 0"]);
    let filter = json!({ "tasks": { "include_teams": [], "include_personal": true } });
    owner.update(json!({ "scope": { "resources": ["tasks"], "filters": filter } })).await;
    assert_eq!(rows(&wire.list().await.expect("an answer")), ["own 0"]);
    owner.update(json!({ "scope": { "resources": ["notes"] } })).await;
    refused(&wire.list().await.expect("an answer"), "scope_violation");
    let notes = wire.post("/api/federation/v1/list/notes", "{}").await.expect("an answer");
    assert_eq!(rows(&notes), ["a note"]);
    owner.update(json!({ "scope": { "resources": ["tasks"], "max_rows_per_query": 1 } })).await;
    let capped = wire.list().await.expect("an answer");
    assert_eq!((rows(&capped), capped.json["_truncated"].clone()), (vec!["own 0".to_owned()], json!(true)));
}

#[tokio::test]
async fn leaving_a_team_takes_its_rows_away_with_the_next_request() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    assert_eq!(rows(&wire.list().await.expect("an answer")), ["own 0", "team 0"]);
    let row = wire.list().await.expect("an answer").json["items"][1]["id"].as_str().expect("an id").to_owned();
    let left = owner.node.admin().delete(&format!("/api/admin/v1/teams/{}/members/ada", owner.team)).await;
    assert_eq!(left.status, 204);
    assert_eq!(rows(&wire.list().await.expect("an answer")), ["own 0"]);
    let gone = wire.post(&format!("/api/federation/v1/get/tasks/{row}"), "{}").await.expect("an answer");
    assert_eq!(gone.status, 404, "{}", gone.json);
}

#[tokio::test]
async fn disabling_a_user_revokes_for_good_and_keeps_rows_and_audit() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    assert_eq!(rows(&wire.list().await.expect("an answer")).len(), 2);
    owner.node.admin().patch("/api/admin/v1/users/ada", json!({ "active": false })).await.expect(200);
    refused(&wire.list().await.expect("an answer"), "grant_revoked");
    owner.node.admin().patch("/api/admin/v1/users/ada", json!({ "active": true })).await.expect(200);
    assert!(
        owner.asker.wire().await.list().await.map_or(true, |heard| heard.status == 403),
        "enabling restores no grant"
    );
    let ada = owner.node.session("ada").await;
    let own = ada.query(json!({ "verb": "list", "resource": "tasks", "source": "local" })).await.expect(200);
    assert_eq!(titles(&own), ["own 0", "team 0"]);
}

#[tokio::test]
async fn deleting_a_user_revokes_and_keeps_rows_and_audit() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    assert_eq!(rows(&wire.list().await.expect("an answer")).len(), 2);
    let deleted = owner.node.admin().delete("/api/admin/v1/users/ada").await;
    assert!(deleted.status.is_success(), "{}", deleted.text());
    refused(&wire.list().await.expect("an answer"), "grant_revoked");
    let database = owner.node.database().connect().await;
    let count = |sql: &'static str| {
        let database = &database;
        async move { database.query_one(sql, &[]).await.expect("a count").get::<_, i64>(0) }
    };
    assert_eq!(count("SELECT count(*) FROM tasks WHERE title = 'own 0'").await, 1);
    assert!(
        count("SELECT count(*) FROM federation_audit_log WHERE action = 'list' AND outcome = 'allowed'").await >= 1
    );
}

#[tokio::test]
async fn revoked_and_expired_are_terminal_in_the_database_itself() {
    let owner = owner().await;
    owner.change("revoke").await;
    let database = owner.node.database().connect().await;
    let grant: uuid::Uuid = owner.grant.parse().expect("an id");
    for status in ["pending", "active", "suspended", "expired"] {
        let sql = "UPDATE grants SET status = $2, ended_at = NULL WHERE id = $1";
        let refused = database.execute(sql, &[&grant, &status]).await.expect_err(status);
        assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::CHECK_VIOLATION), "{status}");
    }
    let deleted = database.execute("DELETE FROM grants WHERE id = $1", &[&grant]).await;
    assert_eq!(deleted.expect_err("deleted").code(), Some(&tokio_postgres::error::SqlState::CHECK_VIOLATION));
    // Not by way of the certificate either.
    database.execute("UPDATE grant_certificates SET revoked_at = NULL", &[]).await.expect("tampered with");
    let mut wire = owner.asker.wire().await;
    assert!(wire.list().await.map_or(true, |heard| heard.status == 403));

    let (other, invite) = generous_grant(&owner.node, "bob", "away").await;
    Asker::enroll(&invite).await;
    let other: uuid::Uuid = other.parse().expect("an id");
    database.execute("UPDATE grants SET status = 'expired' WHERE id = $1", &[&other]).await.expect("expired");
    let refused = database.execute("UPDATE grants SET status = 'active' WHERE id = $1", &[&other]).await;
    assert_eq!(refused.expect_err("active again").code(), Some(&tokio_postgres::error::SqlState::CHECK_VIOLATION));
}

/// A connection of the same certificate to another replica.
async fn wire_to(node: &Node, asker: &Asker) -> Wire {
    Wire::open(&node.address("federation"), client_tls(Some((&asker.certificate, &asker.key())))).await.expect("TLS")
}

/// Three replicas of one site, a grant that is in use, and a connection of its holder to each.
struct Replicas {
    nodes: [Node; 3],
    crew: String,
}

impl Replicas {
    async fn start() -> Self {
        let first = Node::start("work").await;
        let url = first.database().url().clone();
        let (second, third) = (first.replica(&url, ""), first.replica(&url, ""));
        first.user("bob").await;
        let crew = first.team("crew", &["bob"]).await;
        first
            .import(&first.session("bob").await, "tasks", &sites::tasks("team", 1, "2026-03-01T12:00:00Z", Some(&crew)))
            .await;
        Self { nodes: [first, second, third], crew }
    }

    /// A new subject, a member of the crew with a row of its own; its grant, and open connections that were used.
    async fn in_use(&self, subject: &str) -> (String, Vec<Wire>) {
        let first = &self.nodes[0];
        first.user(subject).await;
        first.join(&self.crew, subject).await;
        first
            .import(&first.session(subject).await, "tasks", &sites::tasks("own", 1, "2026-03-02T12:00:00Z", None))
            .await;
        let (grant, invite) = generous_grant(first, subject, &format!("home-{subject}")).await;
        let asker = Asker::enroll(&invite).await;
        let mut wires = Vec::new();
        for replica in &self.nodes {
            until("the replica knows the grant and its subject's team", || async {
                let heard = wire_to(replica, &asker).await.list().await.ok()?;
                (titles(&heard.json) == ["own 0", "team 0"]).then_some(())
            })
            .await;
            let mut wire = wire_to(replica, &asker).await;
            assert_eq!(rows(&wire.list().await.expect("an answer")), ["own 0", "team 0"]);
            wires.push(wire);
        }
        (grant, wires)
    }
}

/// What a holder of a grant is shown: the titles, or the word of the refusal.
fn shown(heard: &Heard) -> Vec<String> {
    if heard.status == 200 { titles(&heard.json) } else { vec![heard.word()] }
}

/// Each decision is made on one replica. From the first answer that knows of it on, no answer of that connection is of before,
/// and all three come to know of it.
#[tokio::test]
async fn every_decision_counts_on_open_connections_of_every_replica() {
    let replicas = Replicas::start().await;
    type Decide = fn(&str, &str, &str) -> (&'static str, String, Value);
    let decisions: [(&str, Decide, &[&str]); 8] = [
        ("suspend", |grant, _, _| ("POST", format!("grants/{grant}/suspend"), json!({})), &["grant_suspended"]),
        ("resume", |grant, _, _| ("POST", format!("grants/{grant}/resume"), json!({})), &["own 0", "team 0"]),
        (
            "narrow",
            |grant, _, _| {
                let filter = json!({ "tasks": { "include_personal": false } });
                ("PATCH", format!("grants/{grant}"), json!({ "scope": { "resources": ["tasks"], "filters": filter } }))
            },
            &["team 0"],
        ),
        (
            "close",
            |grant, _, _| ("PATCH", format!("grants/{grant}"), json!({ "scope": { "resources": ["notes"] } })),
            &["scope_violation"],
        ),
        (
            "open again",
            |grant, _, _| ("PATCH", format!("grants/{grant}"), json!({ "scope": { "resources": ["tasks"] } })),
            &["own 0", "team 0"],
        ),
        ("leave", |_, subject, crew| ("DELETE", format!("teams/{crew}/members/{subject}"), Value::Null), &["own 0"]),
        (
            "disable",
            |_, subject, _| ("PATCH", format!("users/{subject}"), json!({ "active": false })),
            &["grant_revoked"],
        ),
        ("delete", |_, subject, _| ("DELETE", format!("users/{subject}"), Value::Null), &["grant_revoked"]),
    ];
    let (grant, mut wires) = replicas.in_use("ada").await;
    let mut before = vec!["own 0".to_owned(), "team 0".to_owned()];
    for (turn, (what, decide, after)) in decisions.iter().enumerate() {
        // Deleting is terminal, as is disabling: each has a grant of its own.
        let (mut fresh, subject) = if *what == "delete" {
            let (grant, wires) = replicas.in_use("eve").await;
            before = vec!["own 0".to_owned(), "team 0".to_owned()];
            (Some((grant, wires)), "eve")
        } else {
            (None, "ada")
        };
        let (grant, wires) = fresh.as_mut().map_or((&grant, &mut wires), |(grant, wires)| (&*grant, wires));
        let (method, path, body) = decide(grant, subject, &replicas.crew);
        let admin = replicas.nodes[turn % 3].admin();
        let path = format!("/api/admin/v1/{path}");
        let decided = match method {
            "POST" => admin.post(&path, body).await,
            "PATCH" => admin.patch(&path, body).await,
            _ => admin.delete(&path).await,
        };
        assert!(decided.status.is_success(), "{what}: {}", decided.text());
        for (index, wire) in wires.iter_mut().enumerate() {
            let here = index == turn % 3;
            let give_up = Instant::now() + crate::harness::wait::PATIENCE;
            loop {
                let heard = wire.list().await.unwrap_or_else(|error| panic!("{what} on replica {index}: {error}"));
                let seen = shown(&heard);
                if seen == *after {
                    break;
                }
                assert_eq!(seen, before, "{what} on replica {index}: neither before nor after");
                assert!(!here, "{what}: the replica that decided serves what it took away");
                assert!(Instant::now() < give_up, "{what} does not reach replica {index}");
            }
        }
        before = after.iter().map(|word| (*word).to_owned()).collect();
    }
}

#[tokio::test]
async fn three_replicas_refuse_a_revoked_grant_on_open_connections_mostly_within_a_second() {
    let replicas = Replicas::start().await;
    let mut took = Vec::new();
    for round in 0..10 {
        let (grant, wires) = replicas.in_use(&format!("user{round}")).await;
        let revoker = replicas.nodes[round % 3].admin();
        revoker.post(&format!("/api/admin/v1/grants/{grant}/revoke"), json!({})).await.expect(200);
        let revoked_at = Instant::now();
        let refusals = wires.into_iter().map(|wire| refusal_after(wire, revoked_at));
        took.extend(futures_util::future::join_all(refusals).await);
    }
    took.sort();
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    println!("from revoking to the last row: p50 {:?}, p99 {:?}, most {:?} of {}", at(50), at(99), at(100), took.len());
    assert!(at(50) < ON_EVERY_REPLICA_WITHIN, "{took:?}");
}

/// Asks without a pause until the grant is refused: when the last question was asked that still got rows.
async fn refusal_after(mut wire: Wire, revoked_at: Instant) -> Duration {
    let mut last_rows = Duration::ZERO;
    loop {
        let asked = revoked_at.elapsed();
        let heard = wire.list().await.expect("an answer");
        if heard.status != 200 {
            refused(&heard, "grant_revoked");
            return last_rows;
        }
        last_rows = asked;
        assert!(asked < crate::harness::wait::PATIENCE, "still answered {asked:?} after the revocation");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn connect(url: &SecretString) -> tokio_postgres::Client {
    DatabaseUrl::parse(url).expect("a URL").connect(&PoolOptions::default()).await.expect("a connection")
}

/// The replica keeps its pools, so that it could read rows; only its news are cut off.
#[tokio::test]
async fn a_replica_without_its_news_says_503_and_never_serves_what_it_last_knew() {
    let owner = owner().await;
    let mut wire = owner.asker.wire().await;
    assert_eq!(wire.list().await.expect("an answer").status, 200);
    let url = owner.node.database().url().clone();
    let name = owner.node.database().name().to_owned();
    let inside = connect(&url).await;
    let outside = SecretString::from(url.expose_secret().replace(&format!("/{name}"), "/postgres"));
    let outside = connect(&outside).await;

    outside.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await.expect("closed");
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = $1 AND application_name = 'mosaic feed'";
    let ended: i64 = inside.query_one(cut, &[&name]).await.expect("cut").get(0);
    assert_eq!(ended, 1, "one connection for news");
    until("503 instead of rows", || async {
        let heard = owner.asker.wire().await.list().await.expect("an answer");
        (heard.status == 503 && heard.json.get("items").is_none()).then_some(())
    })
    .await;
    inside.execute("UPDATE grants SET status = 'suspended'", &[]).await.expect("suspended behind its back");
    for _ in 0..20 {
        let heard = wire.list().await.expect("an answer");
        assert_eq!((heard.status, heard.json.get("items")), (503, None), "{}", heard.json);
        // Who is answered before the body was read may lose the connection.
        wire = owner.asker.wire().await;
    }
    assert_eq!(owner.node.anonymous().get("/readyz").await.status, 503);

    outside.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.expect("open again");
    let heard = until("the news are back", || async {
        let heard = owner.asker.wire().await.list().await.expect("an answer");
        (heard.status != 503).then_some(heard)
    })
    .await;
    refused(&heard, "grant_suspended");
}

/// A process of the database server that is stopped until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn new(pid: i32) -> Self {
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(pid: i32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "kill -{name} {pid}");
}

/// The connection for news is there but silent, as behind a firewall that forgot it; the pools work.
#[tokio::test]
async fn a_replica_whose_news_fell_silent_refuses_by_the_second_way() {
    let owner = owner().await;
    let database = owner.node.database().connect().await;
    let feed =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mosaic feed'";
    let mut took = Vec::new();
    for _ in 0..3 {
        until("rows again", || async { (owner.asker.wire().await.list().await.ok()?.status == 200).then_some(()) })
            .await;
        let mut wire = owner.asker.wire().await;
        assert_eq!(wire.list().await.expect("an answer").status, 200);
        // One that was stopped before may take its time to end.
        let pid: i32 = until("there is one connection for news", || async {
            let found = database.query(feed, &[]).await.expect("the connections for news");
            (found.len() == 1).then(|| found[0].get(0))
        })
        .await;
        let stopped = Stopped::new(pid);
        database.execute("UPDATE grants SET status = 'suspended'", &[]).await.expect("suspended");
        let (decided, mut last_answered) = (Instant::now(), Duration::ZERO);
        loop {
            let asked = decided.elapsed();
            let heard = wire.list().await.expect("an answer");
            if heard.status != 200 {
                // Unknown at first, and suspended once the news come another way.
                assert!([503, 403].contains(&heard.status), "{}", heard.json);
                assert_eq!(heard.json.get("items"), None, "{}", heard.json);
                break;
            }
            last_answered = asked;
            assert!(asked < Duration::from_secs(20), "still answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        took.push(last_answered);
        drop(stopped);
        database.execute("UPDATE grants SET status = 'active'", &[]).await.expect("active again");
    }
    // A machine that stood still may cost a round, not all of them.
    assert!(took.iter().min() < Some(&ON_EVERY_REPLICA_WITHIN), "the last rows {took:?} after the decisions");
}

#[tokio::test]
async fn a_replica_whose_database_is_frozen_gives_no_rows_and_heals_by_itself() {
    let mut own = testing::own_cluster();
    own.cluster.start().expect("the cluster starts");
    let node = Node::on_url("work", &own.cluster.url("postgres")).await;
    node.user("ada").await;
    node.session("ada").await.post("/api/v1/data/tasks", json!({ "title": "mine" })).await.expect(201);
    let (_, invite) = generous_grant(&node, "ada", "home").await;
    let asker = Asker::enroll(&invite).await;
    let mut wire = asker.wire().await;
    assert_eq!(wire.list().await.expect("an answer").status, 200);

    own.cluster.freeze();
    let frozen = Instant::now();
    let mut unavailable = 0;
    while unavailable < 5 {
        let heard = asker.wire().await.list().await.expect("an answer");
        assert_eq!((heard.status == 200, heard.json.get("items")), (false, None), "{}", heard.json);
        unavailable += usize::from(heard.status == 503);
        assert!(frozen.elapsed() < crate::harness::wait::PATIENCE, "still {}: {}", heard.status, heard.json);
    }
    let heard = wire.list().await.expect("an answer");
    assert_eq!((heard.status, heard.json.get("items")), (503, None), "the open connection: {}", heard.json);

    own.cluster.thaw();
    until("rows again", || async { (wire_to(&node, &asker).await.list().await.ok()?.status == 200).then_some(()) })
        .await;
}
