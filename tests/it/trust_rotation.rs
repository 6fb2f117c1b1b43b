//! Rotation of the master secret while nodes run: no question fails, every replica follows, and a crash at any step is mended by
//! running the command again. What is sealed opens in its own place and nowhere else.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::asker::Asker;
use crate::harness::node::Node;
use crate::harness::sites::{self, Sites, titles};
use crate::harness::wait::until;

/// Replicas look often, links ask again soon, and neither the grant nor a slow machine limits the test.
const QUICK: &str = "[limits]\nsecrets_reread_ms = 50\nbreaker_open_s = 1\nbreaker_open_max_s = 1\n\
                     grant_requests_per_second = 10000\ngrant_burst = 10000\ngrant_concurrent = 100\n\
                     peer_connect_ms = 20000\npeer_tls_ms = 20000\ntls_handshake_ms = 20000\npeer_first_byte_ms = 20000\n\
                     peer_budget_ms = 20000\npool_wait_ms = 20000\ndatabase_connect_ms = 20000\nauthority_answer_ms = 10000\n";

async fn joined() -> Sites {
    let sites = sites::joined_as(json!({ "resources": ["tasks"] }), QUICK).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 5, "2026-03-01T12:00:00Z", None)).await;
    sites
}

fn question() -> Value {
    json!({ "verb": "list", "resource": "tasks", "source": "federated:work", "deadline_ms": 20_000 })
}

fn rotate(node: &Node, more: &[&str]) -> Output {
    let mut arguments = vec!["--json", "gateway", "rotate-secret"];
    arguments.extend(more);
    node.cli(&arguments)
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn secret_of(state: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(state.join("master.secret")).expect("the master secret");
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Key ids of everything that is sealed, as hexadecimal digits; each once.
async fn key_ids(node: &Node) -> Vec<String> {
    let sql = "SELECT DISTINCT encode(substring(sealed_key FROM 2 FOR 8), 'hex')
               FROM (SELECT sealed_key FROM links UNION ALL SELECT sealed_key FROM embedded_ca) AS sealed";
    let rows = node.database().connect().await.query(sql, &[]).await.expect("what is sealed");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The holder of a grant of this site, who asks this replica, once that has heard of the grant.
async fn asker_of(node: &Node, replica: &Node) -> Asker {
    node.user("ada").await;
    let (_, invite) = sites::grant(node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let mut asker = Asker::enroll(&invite).await;
    asker.federation_url = format!("https://{}", replica.address("federation"));
    until("the replica answers", || async { (asker.post("list/tasks", json!({})).await.status == 200).then_some(()) })
        .await;
    asker
}

/// What each process that is on record knows, the one that started first before the others.
async fn known(node: &Node) -> Vec<Vec<String>> {
    let sql = "SELECT ARRAY(SELECT encode(id, 'hex') FROM unnest(secrets) AS id) FROM replicas ORDER BY started_at, id";
    let rows = node.database().connect().await.query(sql, &[]).await.expect("the replicas");
    rows.iter().map(|row| row.get(0)).collect()
}

/// What `gateway doctor` says about rotations, and with which remedy.
fn doctor(node: &Node) -> Option<(String, String)> {
    let told = node.cli(&["--json", "gateway", "doctor"]);
    let report: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let probe =
        report["probes"].as_array().expect("probes").iter().find(|probe| probe["name"] == "master secret rotation")?;
    assert_eq!(probe["status"], "yellow", "{report}");
    let text = |what: &str| probe[what].as_str().expect("a text").to_owned();
    Some((text("detail"), text("remedy")))
}

/// Asks without a pause until it is told to stop; how many answers there were.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    asking: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(sites: &Sites) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let asking = (0..3)
            .map(|_| {
                let (ada, stop, answered) = (sites.ada_at_home.clone(), Arc::clone(&stop), Arc::clone(&answered));
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        let answer = ada.query(question()).await.expect(200);
                        assert_eq!(answer["_sources"]["work"]["status"], "ok", "{answer}");
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self { stop, answered, asking }
    }

    async fn some_more(&self) {
        let before = self.answered.load(Ordering::SeqCst);
        let more = || self.answered.load(Ordering::SeqCst) > before + 10;
        until("more answers", || async { (more() || self.asking.iter().any(|task| task.is_finished())).then_some(()) })
            .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.asking {
            task.await.expect("no question failed");
        }
    }
}

#[tokio::test]
async fn a_rotation_under_load_fails_no_question_and_waits_for_every_replica() {
    let mut sites = joined().await;
    let replica = sites.home.replica(sites.home.database().url(), QUICK);
    let before = (secret_of(&sites.home.state()), key_ids(&sites.home).await);
    let first = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks", "limit": 2 })).await.expect(200);
    let next = |cursor: &Value| json!({ "verb": "list", "resource": "tasks", "limit": 2, "cursor": cursor });
    let load = Load::on(&sites);
    done(&rotate(&sites.work, &[]));
    load.some_more().await;

    // The replica has a file of its own, as on another machine: it is named, and nothing is switched yet.
    let refused = rotate(&sites.home, &["--wait", "1"]);
    let told: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told["error"]["message"].as_str().is_some_and(|text| text.contains("do not know master secret")), "{told}");
    assert!(told["error"]["remedy"].as_str().is_some_and(|text| text.contains("copy master_secret_file")), "{told}");
    assert_eq!(key_ids(&sites.home).await, before.1);
    let listed = secret_of(&sites.home.state());
    assert_eq!((listed.len(), &listed[1..]), (2, before.0.as_slice()), "the new one stands before the old one");

    std::fs::copy(sites.home.state().join("master.secret"), replica.state().join("master.secret")).expect("copied");
    let rotated = done(&rotate(&sites.home, &[]));
    assert_eq!((&rotated["resealed"], &rotated["resumed"]), (&json!(2), &json!(true)), "the CA's key and the link's");
    assert_eq!(rotated["retired"], json!(before.1));
    assert_eq!(key_ids(&sites.home).await, [rotated["sealing"].as_str().expect("an id")]);
    assert_eq!(secret_of(&sites.home.state()), listed[..1]);
    // Running processes forget the old one, and questions go on.
    let only_new = json!([[rotated["sealing"]], [rotated["sealing"]]]);
    for site in [&sites.home, &sites.work] {
        let new = key_ids(site).await;
        let all = || async { known(site).await.iter().all(|ids| *ids == new).then_some(()) };
        until("every process has forgotten the old secret", all).await;
    }
    assert_eq!(json!(known(&sites.home).await), only_new);
    load.some_more().await;
    load.end().await;

    // The other replica opens what this one sealed. What was handed out before is 400, and nothing else, everywhere.
    for node in [&sites.home, &replica] {
        let ada = node.session("ada").await;
        assert_eq!(ada.query(next(&first["next_cursor"])).await.error(400).0, "invalid_request");
        let page = ada.query(json!({ "verb": "list", "resource": "tasks", "limit": 2 })).await.expect(200);
        let page = ada.query(next(&page["next_cursor"])).await.expect(200);
        let whole = (vec!["work 2".to_owned(), "work 3".to_owned()], json!(false));
        assert_eq!((titles(&page), page["_partial"].clone()), whole, "{page}");
    }
    let renew = format!("/api/admin/v1/links/{}/renew", sites.link);
    replica.admin().post(&renew, json!({})).await.expect(200);
    assert_eq!(key_ids(&sites.home).await, [rotated["sealing"].as_str().expect("an id")], "it seals with the new one");

    sites.home.kill();
    sites.home.serve();
    let ada = sites.home.session("ada").await;
    assert_eq!(ada.query(question()).await.expect(200)["_sources"]["work"]["status"], "ok");
    for node in [&sites.home, &sites.work] {
        assert!(!node.log().contains(&before.0[0]) && !node.log().contains(&listed[0]), "a secret is in the log");
    }
}

#[tokio::test]
async fn a_rotation_that_is_killed_at_any_step_is_finished_by_running_it_again() {
    let mut sites = joined().await;
    for point in mosaic::crash_points::POINTS.iter().filter(|point| point.starts_with("rotation.")) {
        let before = key_ids(&sites.home).await;
        let killed = rotate(&sites.home, &["--set", &format!("test.crash_at={point}")]);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9), "{point}: {killed:?}");

        let after_last_step = *point == "rotation.file_cleaned";
        let told = doctor(&sites.home);
        let says_how =
            told.as_ref().is_some_and(|(_, remedy)| remedy.contains("run 'mosaic gateway rotate-secret' again"));
        assert_ne!(says_how, after_last_step, "{point}: {told:?}");
        let answer = sites.home.session("ada").await.query(question()).await.expect(200);
        assert_eq!(answer["_sources"]["work"]["status"], "ok", "{point}: the node that runs: {answer}");
        sites.home.stop();
        sites.home.serve();
        let ada = sites.home.session("ada").await;
        assert_eq!(ada.query(question()).await.expect(200)["_sources"]["work"]["status"], "ok", "{point}");

        if !after_last_step {
            let rotated = done(&rotate(&sites.home, &[]));
            assert_eq!(rotated["resumed"], true, "{point}: the one that was begun is finished, not another begun");
        }
        let after = key_ids(&sites.home).await;
        assert_eq!((after.len(), secret_of(&sites.home.state()).len()), (1, 1), "{point}: {after:?}");
        assert_ne!(after, before, "{point}");
        let renewed = sites.home.admin().post(&format!("/api/admin/v1/links/{}/renew", sites.link), json!({})).await;
        renewed.expect(200);
        assert_eq!(key_ids(&sites.home).await, after, "{point}: what runs seals with the new one");
    }
}

#[tokio::test]
async fn a_secret_from_the_environment_is_rotated_by_hand_and_the_command_says_how() {
    let node = Node::start_with("home", QUICK).await;
    let old = secret_of(&node.state()).remove(0);
    let with = |value: &str| {
        crate::harness::node::mosaic()
            .env("MOSAIC_MASTER_SECRET", value)
            .args(["--config".as_ref(), node.config_file().as_os_str()])
            .args(["--json", "gateway", "rotate-secret"])
            .output()
            .expect("the command runs")
    };
    let refused = with(&old);
    let told: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told["error"]["remedy"].as_str().is_some_and(|text| text.contains("openssl rand -base64 32")), "{told}");

    let new = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 32]);
    let both = format!("{new}\n{old}\n");
    std::fs::write(node.state().join("master.secret"), &both).expect("what the operator gives the node");
    let rotated = done(&with(&both));
    assert_eq!((&rotated["resealed"], &rotated["left_to_remove"]), (&json!(1), &json!(true)));
    let again = done(&with(&both));
    assert_eq!((&again["resealed"], &again["sealing"]), (&json!(0), &rotated["sealing"]), "nothing is begun anew");

    // A replica with the old secret alone does not start, and says what it lacks.
    std::fs::write(node.state().join("master.secret"), format!("{old}\n")).expect("the old file");
    let start = node.cli(&["--json", "gateway", "serve"]);
    let told = String::from_utf8_lossy(&start.stdout).into_owned();
    assert_eq!(start.status.code(), Some(1), "{told}");
    assert!(told.contains("another master secret"), "{told}");
    assert!(told.contains("copy it from a machine where a replica runs"), "{told}");
    assert!(!told.contains(&old), "{told}");
}

#[tokio::test]
async fn a_retired_secret_that_a_file_still_lists_is_named_and_not_learned_again() {
    let node = Node::start_with("home", QUICK).await;
    let mut replica = node.replica(node.database().url(), QUICK);
    let old = secret_of(&node.state()).remove(0);
    assert_eq!(rotate(&node, &["--wait", "1"]).status.code(), Some(1), "the replica lacks the new one");
    std::fs::copy(node.state().join("master.secret"), replica.state().join("master.secret")).expect("copied");
    let rotated = done(&rotate(&node, &[]));
    let (new, retired) = (rotated["sealing"].as_str().expect("an id"), rotated["retired"][0].as_str().expect("an id"));
    assert_eq!(secret_of(&replica.state()).len(), 2, "nobody cleaned this file");

    until("both forget it", || async { known(&node).await.iter().all(|ids| *ids == [new]).then_some(()) }).await;
    let told = || async { replica.log().contains("master_secret_file lists retired secrets").then_some(()) };
    until("the replica says so", told).await;
    let (detail, remedy) = doctor(&replica).expect("the doctor names it");
    assert!(detail.contains(retired) && remedy.contains("rotate-secret"), "{detail}: {remedy}");
    assert_eq!(doctor(&node), None);
    replica.kill();
    assert_eq!(replica.log().matches("master_secret_file lists retired secrets").count(), 1, "once for a process");
    replica.serve();
    assert_eq!(known(&node).await.last().expect("the replica"), &[new], "nor when it starts");
    assert!(!replica.log().contains(&old), "a secret is in the log");

    let cleaned = done(&rotate(&replica, &[]));
    assert_eq!(
        (&cleaned["sealing"], &cleaned["resumed"]),
        (&rotated["sealing"], &json!(true)),
        "nothing is begun anew"
    );
    assert_eq!(secret_of(&replica.state()), secret_of(&node.state()));
    assert_eq!(doctor(&replica), None);
}

#[tokio::test]
async fn a_replica_that_slept_through_a_rotation_writes_nothing_that_nobody_can_seal() {
    let node = Node::start_with("work", QUICK).await;
    // It looks by itself, and seals, too late to be of help.
    let slow = "[limits]\nsecrets_reread_ms = 10000\naudit_seal_ms = 60000\n";
    let replica = node.replica(node.database().url(), slow);
    let asker = asker_of(&node, &replica).await;
    let old = key_ids(&node).await.remove(0);

    replica.freeze();
    let database = node.database().connect().await;
    let gone = "UPDATE replicas SET alive_until = now() WHERE alive_until > now() + interval '30 seconds'";
    assert_eq!(database.execute(gone, &[]).await.expect("as if it had slept for long"), 1);
    let rotated = done(&rotate(&node, &[]));
    assert_eq!(rotated["retired"], json!([old]));
    let last = "SELECT max(seq) FROM federation_audit_all";
    let last: i64 = database.query_one(last, &[]).await.expect("the last event").get(0);
    std::fs::copy(node.state().join("master.secret"), replica.state().join("master.secret")).expect("copied");
    replica.thaw();

    // Nothing leaves without an event that can be sealed; and then all works, without a restart.
    let asked = || async {
        let answer = asker.post("list/tasks", json!({})).await;
        assert!([200, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        (answer.status == 200).then_some(())
    };
    until("the replica answers", asked).await;
    sites::grant(&replica, "away", "ada", json!({ "resources": ["tasks"] })).await;
    let since = "SELECT DISTINCT encode(key_id, 'hex') FROM federation_audit_all WHERE seq > $1";
    let since: Vec<String> =
        database.query(since, &[&last]).await.expect("events since").iter().map(|row| row.get(0)).collect();
    assert_eq!(since, [rotated["sealing"].as_str().expect("an id")]);
    for node in [&node, &replica] {
        let verified = node.cli(&["--api", &node.api_url(), "--json", "federation", "audit", "verify"]);
        assert_eq!(done(&verified)["problem"], Value::Null);
    }
}

#[tokio::test]
async fn a_replica_that_lacks_the_new_secret_is_not_ready_until_it_is_copied_there() {
    let node = Node::start_with("work", QUICK).await;
    let replica = node.replica(node.database().url(), QUICK);
    let asker = asker_of(&node, &replica).await;

    replica.freeze();
    let database = node.database().connect().await;
    let gone = "DELETE FROM replicas WHERE id = (SELECT id FROM replicas ORDER BY started_at DESC, id DESC LIMIT 1)";
    assert_eq!(database.execute(gone, &[]).await.expect("as if it had slept for long"), 1);
    done(&rotate(&node, &[]));
    replica.thaw();

    let ready = || async { replica.anonymous().get("/readyz").await };
    let names = |text: String| text.contains("\"master_secret\"");
    until("it is not ready", || async { (ready().await.status == 503).then_some(()) }).await;
    assert!(names(ready().await.text()), "{}", ready().await.text());
    for _ in 0..10 {
        assert_eq!(asker.post("list/tasks", json!({})).await.status, 503);
    }
    // It could not keep the key of a link either, and says so before the other site takes the invite for spent.
    let away = Node::start_with("away", QUICK).await;
    away.user("eve").await;
    let (_, invite) = sites::grant(&away, "work", "eve", json!({ "resources": ["tasks"] })).await;
    let add = json!({ "invite": invite, "user": "ada", "allow_private": true });
    let (code, message) = replica.admin().post("/api/admin/v1/links", add.clone()).await.error(503);
    assert!(code == "unavailable" && message.contains("the invite is still good"), "{code}: {message}");
    node.admin().post("/api/admin/v1/links", add).await.expect(201);
    let lacks = "seals with a master secret that this replica does not have";
    until("it says what it lacks", || async { replica.log().contains(lacks).then_some(()) }).await;
    assert_eq!(replica.log().matches("that this process seals with is retired").count(), 1, "once, not per request");

    std::fs::copy(node.state().join("master.secret"), replica.state().join("master.secret")).expect("copied");
    until("it is ready", || async { (ready().await.status == 200).then_some(()) }).await;
    assert_eq!(asker.post("list/tasks", json!({})).await.status, 200);
    assert_eq!(replica.log().matches(lacks).count(), 1);
}

#[tokio::test]
async fn a_secret_that_is_in_use_and_not_listed_is_asked_for_and_no_other_is_begun() {
    let node = Node::start_with("home", QUICK).await;
    let killed = rotate(&node, &["--set", "test.crash_at=rotation.switched"]);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9), "{killed:?}");
    let both = secret_of(&node.state());
    let file = node.state().join("master.secret");
    std::fs::write(&file, format!("{}\n", both[0])).expect("a line is removed too early");

    let (detail, remedy) = doctor(&node).expect("the doctor says what is missing");
    assert!(detail.contains("not in what is configured here") && remedy.contains("put its line back"), "{detail}");
    let refused = rotate(&node, &[]);
    let told: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told["error"]["message"].as_str().is_some_and(|text| text.contains("is still in use")), "{told}");
    assert_eq!(secret_of(&node.state()), both[..1], "nothing was begun");

    std::fs::write(&file, format!("{}\n{}\n", both[0], both[1])).expect("its line is back");
    assert_eq!(done(&rotate(&node, &[]))["resumed"], true);
    assert_eq!((secret_of(&node.state()), doctor(&node)), (both[..1].to_vec(), None));
}

#[tokio::test]
async fn a_rotation_beside_another_changes_nothing_and_what_a_crash_left_beside_the_file_is_replaced() {
    let node = Node::start_with("home", QUICK).await;
    let (before, left) = (secret_of(&node.state()), node.state().join("master.secret.new"));
    std::fs::write(&left, "half a line").expect("what a crash left");
    let another = node.database().connect().await;
    let lock = "SELECT pg_advisory_lock(x'736563726574'::bigint)";
    another.execute(lock, &[]).await.expect("the lock of a rotation");
    let refused = rotate(&node, &[]);
    let told = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("another rotation of this site is under way"), "{told}");
    assert_eq!((secret_of(&node.state()), left.exists()), (before.clone(), true), "the file is the other's");
    another.execute("SELECT pg_advisory_unlock_all()", &[]).await.expect("the other one ends");

    done(&rotate(&node, &[]));
    let after = secret_of(&node.state());
    assert!(after.len() == 1 && after != before && !left.exists());
}

#[tokio::test]
async fn a_sealed_key_that_was_moved_or_altered_opens_nothing_and_is_not_sealed_anew() {
    let mut sites = joined().await;
    let (_, invite) = sites::grant(&sites.work, "away", "ada", json!({ "resources": ["tasks"] })).await;
    let add = json!({ "invite": invite, "user": "ada", "allow_private": true, "peer": "second" });
    sites.home.admin().post("/api/admin/v1/links", add).await.expect(201);
    let database = sites.home.database().connect().await;
    let swap = "UPDATE links SET sealed_key = (SELECT o.sealed_key FROM links o WHERE o.id <> links.id)";
    let flip = "UPDATE links SET sealed_key = set_byte(sealed_key, 40, get_byte(sealed_key, 40) # 1)";
    for (what, attack, undo) in [
        ("swapped", swap, swap),
        ("flipped", flip, flip),
        (
            "of another version",
            "UPDATE links SET key_version = key_version + 1",
            "UPDATE links SET key_version = key_version - 1",
        ),
    ] {
        database.execute(attack, &[]).await.expect(what);
        sites.home.kill();
        sites.home.serve();
        let ada = sites.home.session("ada").await;
        for source in ["federated:work", "federated:second"] {
            let answer = ada.query(json!({ "verb": "list", "resource": "tasks", "source": source })).await;
            assert_eq!(answer.status, 502, "{what}: {}", answer.text());
            assert!(answer.json["items"].as_array().is_some_and(Vec::is_empty), "{what}");
        }
        let refused = rotate(&sites.home, &[]);
        let told = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{what}: {told}");
        assert!(told.contains("of links does not open"), "{what}: {told}");
        database.execute(undo, &[]).await.expect(what);
    }
    sites.home.kill();
    sites.home.serve();
    done(&rotate(&sites.home, &[]));
    let ada = sites.home.session("ada").await;
    assert_eq!(ada.query(question()).await.expect(200)["_sources"]["work"]["status"], "ok");

    // The link's key in the place of the CA's: the node does not start with it.
    let moved = "UPDATE embedded_ca SET sealed_key = (SELECT sealed_key FROM links LIMIT 1)";
    database.execute(moved, &[]).await.expect("moved");
    sites.home.kill();
    let start = sites.home.cli(&["--json", "gateway", "serve"]);
    let told = String::from_utf8_lossy(&start.stdout).into_owned();
    assert_eq!(start.status.code(), Some(1), "{told}");
    assert!(told.contains("altered, or belongs to another row"), "{told}");
}

#[tokio::test]
async fn a_rotation_behind_a_crash_leaves_an_audit_log_that_the_new_secret_alone_verifies() {
    let slow = "[limits]\nsecrets_reread_ms = 50\naudit_seal_ms = 60000\n";
    let mut node = Node::start_with("home", slow).await;
    node.user("ada").await;
    sites::grant(&node, "work", "ada", json!({ "resources": ["tasks"] })).await;
    node.kill();
    let rotated = done(&rotate(&node, &[]));
    assert_eq!(rotated["audit_unsealable"], false);
    node.serve();
    let verify = |node: &Node| done(&node.cli(&["--api", &node.api_url(), "--json", "federation", "audit", "verify"]));
    let idle = verify(&node);
    assert!(idle["by_seal_alone"].as_u64().is_some_and(|events| events > 0), "{idle}");
    sites::grant(&node, "away", "ada", json!({ "resources": ["tasks"] })).await;
    verify(&node);
    node.stop();
    node.serve();
    let sealed = verify(&node);
    assert_eq!(sealed["unsealed"], 0, "the lane of changes goes on: {sealed}");
}
