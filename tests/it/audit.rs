//! The audit log of a running node: sealed, verified, and never behind what was answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use mosaic::postgres::audit::{AuditKeys, AuditStore, Lookback};
use mosaic::secrets::MasterSecret;
use mosaic_actors::domain::audit::{AuditAction, AuditEvent, AuditOutcome};
use mosaic_actors::domain::identity::{RequestId, SiteName};
use mosaic_actors::ports::audit_log::AuditLog as _;
use serde_json::{Value, json};

use crate::harness::asker::Asker;
use crate::harness::authority::{Authority, client_certificate};
use crate::harness::node::Node;
use crate::harness::now;
use crate::harness::sites::{self, items};
use crate::harness::wait::until;
use crate::harness::wire::{Wire, client_tls, header};

/// Sealing all the time, so that nobody waits for it.
const EAGER: &str = "[limits]\naudit_seal_ms = 100\n";

struct Owner {
    node: Node,
    grant: String,
    asker: Asker,
}

async fn owner(more: &str) -> Owner {
    of(Node::start_with("work", more).await).await
}

/// `ada` with three tasks and a grant with generous limits that is in use.
async fn of(node: Node) -> Owner {
    node.user("ada").await;
    let ada = node.session("ada").await;
    node.import(&ada, "tasks", &sites::tasks("task", 3, "2026-03-01T12:00:00Z", None)).await;
    let limits = json!({ "requests_per_second": 100_000, "burst": 100_000, "concurrent": 1_000 });
    let grant = json!({ "peer": "home", "user": "ada", "scope": { "resources": ["tasks"] }, "limits": limits });
    let created = node.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    let asker = Asker::enroll(created["invite"]["invite"].as_str().expect("an invite")).await;
    Owner { grant: created["grant"]["id"].as_str().expect("an id").to_owned(), node, asker }
}

impl Owner {
    fn cli(&self, arguments: &[&str]) -> std::process::Output {
        let api = self.node.api_url();
        self.node.cli(&[&["--api", &api], arguments].concat())
    }

    async fn verify(&self) -> Value {
        self.node.admin().get("/api/admin/v1/audit/verify").await.expect(200)
    }

    /// Waits until everything is under seal.
    async fn sealed(&self) -> Value {
        until("everything is sealed", || async {
            let found = self.verify().await;
            assert_eq!(found["ok"], true, "{found}");
            (found["unsealed"] == 0 && found["sealed"] != 0).then_some(found)
        })
        .await
    }
}

#[tokio::test]
async fn verify_names_the_first_bad_event_and_exits_1() {
    let owner = owner(EAGER).await;
    for _ in 0..5 {
        owner.asker.post("list/tasks", json!({})).await.expect(200);
    }
    let found = owner.sealed().await;
    // Three events of the grant's making (create, invite, enroll) or so, and five lists.
    assert!(found["sealed"].as_u64() >= Some(7), "{found}");
    let kept = owner.node.directory().join("kept.json");
    let kept = kept.to_str().expect("a path");
    let saved = owner.cli(&["federation", "audit", "verify", "--save", kept]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let told = String::from_utf8_lossy(&saved.stdout).into_owned();
    assert!(told.starts_with("every event is as it was written\n"), "{told}");

    let database = owner.node.database().connect().await;
    let sql = "UPDATE federation_audit_log SET rows = 0 WHERE seq = (SELECT max(seq) FROM federation_audit_log \
               WHERE action = 'list') RETURNING request_id, number";
    let altered = database.query_one(sql, &[]).await.expect("altered");
    let (request, number): (uuid::Uuid, i64) = (altered.get(0), altered.get(1));
    let bad = owner.cli(&["--json", "federation", "audit", "verify", "--checkpoint", kept]);
    assert_eq!(bad.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    assert_eq!((found["ok"].clone(), found["problem"]["kind"].clone()), (json!(false), json!("altered")), "{found}");
    let event = &found["problem"]["event"];
    assert_eq!((event["request_id"].clone(), event["number"].clone()), (json!(request.to_string()), json!(number)));
    let told = owner.cli(&["federation", "audit", "verify"]);
    assert_eq!(told.status.code(), Some(1));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.starts_with("NOT as it was written: altered event number"), "{told}");

    let misused = owner.cli(&["federation", "audit", "verify", "--checkpoint", "/dev/null"]);
    assert_eq!(misused.status.code(), Some(2));
}

#[tokio::test]
async fn a_tail_that_is_cut_with_its_seals_is_missed_also_after_a_restart_and_by_a_kept_checkpoint() {
    let mut owner = owner(EAGER).await;
    owner.asker.post("list/tasks", json!({})).await.expect(200);
    owner.sealed().await;
    let kept = owner.node.directory().join("kept.json");
    let kept = kept.to_str().expect("a path");
    let printed = owner.cli(&["federation", "audit", "checkpoint", "--save", kept]);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    assert!(owner.node.stop().success());

    let database = owner.node.database().connect().await;
    database
        .batch_execute(
            "DELETE FROM federation_audit_log WHERE action = 'list';
             DELETE FROM audit_seals WHERE lane <> (SELECT lane FROM audit_change_lane) AND position > 1",
        )
        .await
        .expect("the tail is cut");
    owner.node.serve();
    let found = owner.verify().await;
    assert_eq!(found["ok"], false, "the node's own state directory knows: {found}");
    assert!(["cut", "seal"].contains(&found["problem"]["kind"].as_str().expect("a kind")), "{found}");

    // It grows over the cut, and past it: what is kept is not taken back for that.
    let own = owner.node.state().join("audit.checkpoint");
    let before = std::fs::read_to_string(&own).expect("what is kept");
    let position = serde_json::from_str::<Value>(&before).expect("JSON")["position"].as_i64().expect("a position");
    let asker = Asker::with(
        format!("https://{}", owner.node.address("federation")),
        owner.asker.certificate.clone(),
        owner.asker.root.clone(),
        owner.asker.key(),
    );
    until("seals over the cut", || async {
        asker.post("list/tasks", json!({})).await.expect(200);
        let newest: i64 = database.query_one("SELECT max(position) FROM audit_seals", &[]).await.expect("seals").get(0);
        (newest >= position + 2).then_some(())
    })
    .await;
    until("the node says so", || async {
        let metrics = owner.node.anonymous().get("/metrics").await.text();
        let rounds = metrics.lines().find_map(|line| line.strip_prefix("mosaic_audit_disowned_total "));
        rounds.and_then(|rounds| rounds.parse::<f64>().ok()).filter(|rounds| *rounds >= 2.0)
    })
    .await;
    let found = owner.verify().await;
    assert_eq!(found["ok"], false, "{found}");
    assert!(["cut", "seal"].contains(&found["problem"]["kind"].as_str().expect("a kind")), "{found}");
    assert_eq!(std::fs::read_to_string(&own).expect("what is kept"), before, "left as it was");
    std::fs::write(&own, "").expect("emptied");
    assert_eq!(owner.verify().await["problem"]["kind"], "cut", "an empty file is not nothing kept");

    std::fs::remove_file(owner.node.state().join("audit.checkpoint")).expect("the node's own checkpoint");
    let bad = owner.cli(&["federation", "audit", "verify", "--checkpoint", kept]);
    assert_eq!(bad.status.code(), Some(1), "{}", String::from_utf8_lossy(&bad.stdout));
}

/// What somebody with the database alone writes in place of the log: a whole and well-formed one, under a secret of his own.
async fn forge_the_whole_log(node: &Node) {
    let database = node.database().connect().await;
    let empty = "DELETE FROM federation_audit_log; DELETE FROM audit_seals;
                 UPDATE audit_change_lane SET lane = gen_random_uuid(), next = 1";
    database.batch_execute(empty).await.expect("as if nothing had ever been written");
    let site = SiteName::parse("work").expect("a name");
    let keys = AuditKeys::new(&MasterSecret::generate().expect("his own secret"), &site);
    let his = AuditStore::new(node.database().pool(), keys);
    let harmless = |_| AuditEvent::bare(now(), RequestId::new(), AuditAction::List, AuditOutcome::Allowed);
    his.append((0..5).map(harmless).collect()).await.expect("forged events");
    his.sealer(16).seal(now(), Lookback::All).await.expect("forged seals").expect("a round");
    let found = his.verify(&[]).await.expect("verified");
    assert_eq!((found.problem, found.sealed, found.unsealed), (None, 5, 0), "a forgery without a fault of its own");
}

#[tokio::test]
async fn a_log_that_was_forged_from_its_first_event_on_is_named_after_a_restart_also_without_a_kept_checkpoint() {
    let mut owner = owner(EAGER).await;
    owner.asker.post("list/tasks", json!({})).await.expect(200);
    owner.sealed().await;
    let database = owner.node.database().connect().await;
    let genuine = database.query_one("SELECT key_id FROM audit_seals LIMIT 1", &[]).await.expect("a seal");
    let genuine: Vec<u8> = genuine.get(0);
    let own = owner.node.state().join("audit.checkpoint");
    until("the node keeps a checkpoint", || std::future::ready(own.exists().then_some(()))).await;
    assert!(owner.node.stop().success());
    forge_the_whole_log(&owner.node).await;

    owner.node.serve();
    let told = |owner: &Owner| {
        let bad = owner.cli(&["--json", "federation", "audit", "verify"]);
        assert_eq!(bad.status.code(), Some(1), "{}", String::from_utf8_lossy(&bad.stdout));
        let found: Value = serde_json::from_slice(&bad.stdout).expect("JSON");
        assert_eq!(found["ok"], false, "{found}");
        found["problem"].clone()
    };
    let stranger = json!({ "kind": "seal", "seal": 1, "detail": "it is signed with a key that is not this site's" });
    assert_eq!(told(&owner), stranger, "with what this node kept");

    assert!(owner.node.stop().success());
    std::fs::remove_file(&own).expect("what was kept is gone");
    owner.node.serve();
    assert_eq!(told(&owner), stranger, "with the master secret alone");

    // Nor does it help to write the name of the site's own key on everything.
    assert!(owner.node.stop().success());
    for table in ["federation_audit_log", "audit_seals"] {
        database.execute(&format!("UPDATE {table} SET key_id = $1"), &[&genuine]).await.expect("renamed");
    }
    owner.node.serve();
    assert_eq!(told(&owner), stranger, "under the site's own key's name");
    assert!(!own.exists(), "the node takes no forged chain for its own");
}

/// Lists again and again until the node is gone; the ids of the requests that were answered with rows.
async fn answered(owner: &Owner, tls: Arc<rustls::ClientConfig>) -> Vec<String> {
    let mut ids = Vec::new();
    let Ok(mut wire) = Wire::open_shared(&owner.node.address("federation"), tls).await else { return ids };
    while let Ok(heard) = wire.list().await {
        assert!([200, 503].contains(&heard.status), "{}", heard.json);
        if heard.status == 200 {
            ids.push(header(&heard.head, "x-request-id").expect("an id").to_owned());
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_no_answered_request_lacks_its_event() {
    let mut owner = owner(EAGER).await;
    let tls = Arc::new(client_tls(Some((&owner.asker.certificate, &owner.asker.key()))));
    let mut all = BTreeSet::new();
    for round in 0..3 {
        let load = futures_util::future::join_all((0..24).map(|_| answered(&owner, Arc::clone(&tls))));
        let database = owner.node.database().connect().await;
        let enough = 300 * (round + 1);
        let kill = async {
            until("requests are being answered", || async {
                let sql = "SELECT count(*) FROM federation_audit_log WHERE action = 'list'";
                let count: i64 = database.query_one(sql, &[]).await.expect("a count").get(0);
                (count > enough).then_some(())
            })
            .await;
            let pid = owner.node.pid().to_string();
            let sent = tokio::process::Command::new("kill").args(["-9", &pid]).status().await;
            assert!(sent.expect("kill runs").success());
        };
        let (ids, ()) = futures_util::future::join(load, kill).await;
        all.extend(ids.into_iter().flatten());
        owner.node.kill();
        owner.node.serve();
    }
    assert!(all.len() > 300, "{} answers", all.len());
    let database = owner.node.database().connect().await;
    let rows = database
        .query("SELECT request_id FROM federation_audit_log WHERE action = 'list' AND outcome = 'allowed'", &[])
        .await
        .expect("the log");
    let written: BTreeSet<String> = rows.iter().map(|row| row.get::<_, uuid::Uuid>(0).to_string()).collect();
    let lost: Vec<&String> = all.difference(&written).collect();
    assert!(lost.is_empty(), "{} of {} answers have no event: {lost:?}", lost.len(), all.len());
    let found = owner.sealed().await;
    assert!(found["sealed"].as_u64() >= Some(all.len() as u64), "{found}");
}

/// A log that cannot be written: no rows until it can.
#[tokio::test]
async fn without_the_right_to_insert_and_in_a_read_only_database_there_are_no_rows_and_both_heal() {
    let node = Node::start_with("work", EAGER).await;
    let owner = of(node).await;
    let database = owner.node.database().connect().await;
    let name = owner.node.database().name().to_owned();
    let refused = async || {
        let refused = owner.asker.post("list/tasks", json!({})).await;
        assert!(!refused.text().contains("task 0"), "{}", refused.text());
        refused.status == 503
    };
    let rows =
        async || owner.asker.post("list/tasks", json!({})).await.json["items"].as_array().map(Vec::len) == Some(3);

    // The pool's connections are superuser's: they become somebody who may not insert.
    database
        .batch_execute(&format!(
            "CREATE ROLE no_insert_{name};
             GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO no_insert_{name};
             ALTER DATABASE {name} SET role TO no_insert_{name}"
        ))
        .await
        .expect("the right is taken away");
    owner.node.database().cut_connections().await;
    until("503 instead of rows", || async { refused().await.then_some(()) }).await;
    assert!(!rows().await);
    let admin = owner.node.database().connect().await;
    admin
        .batch_execute(&format!("SET ROLE NONE; ALTER DATABASE {name} RESET role; GRANT INSERT ON ALL TABLES IN SCHEMA public TO no_insert_{name}"))
        .await
        .expect("the right is back");
    until("rows again", || async { rows().await.then_some(()) }).await;

    admin.batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only TO on")).await.expect("set");
    owner.node.database().cut_connections().await;
    until("503 instead of rows", || async { refused().await.then_some(()) }).await;
    assert!(!rows().await);
    let admin = owner.node.database().connect().await;
    admin
        .batch_execute(&format!("BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT"))
        .await
        .expect("reset");
    owner.node.database().cut_connections().await;
    until("rows again", || async { rows().await.then_some(()) }).await;
    until("the log is whole", || async {
        let found = owner.node.admin().get("/api/admin/v1/audit/verify").await;
        (found.json["ok"] == true).then_some(())
    })
    .await;
    assert!(!owner.grant.is_empty());
    let log = owner.node.admin().get("/api/admin/v1/audit?action=list&outcome=allowed&limit=500").await.expect(200);
    assert!(items(&log).iter().all(|event| event["rows"] == 3), "{log}");
}

/// Prepends a line to the configuration and starts the node again.
fn reconfigured(node: &mut Node, line: &str) {
    assert!(node.stop().success());
    let config = std::fs::read_to_string(node.config_file()).expect("the configuration");
    std::fs::write(node.config_file(), format!("{line}\n{config}")).expect("the configuration is written");
    node.serve();
}

#[tokio::test]
async fn relaxed_answers_without_its_log_with_a_bound_and_a_count_and_denies_nothing_without_it() {
    let mut owner = owner("[limits]\naudit_batch = 4\naudit_queue = 4\naudit_seal_ms = 100\n").await;
    reconfigured(&mut owner.node, "audit = \"relaxed\"");
    let asker = Asker::with(
        format!("https://{}", owner.node.address("federation")),
        owner.asker.certificate.clone(),
        owner.asker.root.clone(),
        owner.asker.key(),
    );
    let database = owner.node.database().connect().await;
    database.batch_execute("ALTER TABLE federation_audit_log RENAME TO elsewhere").await.expect("taken away");
    for _ in 0..10 {
        assert_eq!(items(&asker.post("list/tasks", json!({})).await.expect(200)).len(), 3);
    }
    assert_eq!(asker.post("list/notes", json!({})).await.error(503).0, "unavailable", "a denial is strict");
    let suspend = format!("/api/admin/v1/grants/{}/suspend", owner.grant);
    assert!(!owner.node.admin().post(&suspend, json!({})).await.status.is_success(), "a change too");
    let metrics = owner.node.anonymous().get("/metrics").await.text();
    assert!(metrics.contains("mosaic_audit_dropped 6") && metrics.contains("mosaic_audit_waiting 4"), "{metrics}");

    database.batch_execute("ALTER TABLE elsewhere RENAME TO federation_audit_log").await.expect("back");
    until("what was queued is written", || async {
        let log = owner.node.admin().get("/api/admin/v1/audit?action=list&outcome=allowed").await.expect(200);
        (items(&log).len() == 4).then_some(())
    })
    .await;
    asker.post("list/notes", json!({})).await.error(403);
    let found = until("everything is sealed", || async {
        let found = owner.verify().await;
        (found["unsealed"] == 0).then_some(found)
    })
    .await;
    assert_eq!(found["ok"], true, "{found}");
}

/// Text that would steer a terminal, end a line of a log, or end a text in C.
const HOSTILE: &str = "x\r\nINFO forged: line\u{1b}[31m\u{1b}]0;title\u{7}\u{0}\u{9b}2J\u{202e}";

#[tokio::test]
async fn hostile_text_stays_harmless_in_log_audit_and_terminal() {
    let authority = Authority::new("the test's own root");
    let owner = of(Node::start_with_ca("work", &authority, "[log]\nfilter = \"trace\"\n").await).await;
    let encoded: String = HOSTILE.bytes().map(|byte| format!("%{byte:02x}")).collect();

    // In paths and headers: as they may be sent, and as they may not.
    let mut said = Vec::new();
    for request in [
        format!("POST /api/federation/v1/list/{encoded} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"),
        format!("POST /api/federation/v1/get/tasks/{encoded} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"),
        format!("GET /{encoded}?{encoded}={encoded} HTTP/1.1\r\nhost: x\r\n\r\n"),
        "GET /\u{1b}[31m HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: x\r\ntraceparent: \u{1b}[31m\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        "POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: \u{9b}2J\r\nx-mosaic-deadline-ms: 1\u{85}\r\nuser-agent: \u{202e}\u{1b}\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        format!("POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n{{\"where\":{{\"title\":\"{:<17}\"}}}}     ", "\u{1b}[31m\r\n"),
    ] {
        let mut wire = owner.asker.wire().await;
        wire.send(&request).await.expect("sent");
        said.push(wire.hear().await.map(|heard| heard.json.to_string()).unwrap_or_default());
    }
    // In names of certificates: of a holder, and of somebody who is refused.
    let key = rcgen::KeyPair::generate().expect("a key");
    for name in [HOSTILE, "\u{1b}[31m"] {
        let mut params = client_certificate(&owner.grant, "0190b0e0-0000-7000-8000-000000000000", &[7; 16]);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        for signer in [&authority, &Authority::new(name)] {
            let certificate = signer.sign(&params, &key);
            let tls = client_tls(Some((&certificate, &key.serialize_der())));
            let heard = async { Wire::open(&owner.node.address("federation"), tls).await?.list().await }.await;
            said.push(heard.map(|heard| heard.json.to_string()).unwrap_or_default());
        }
    }
    // And in the log's own table, by somebody who can write there.
    let database = owner.node.database().connect().await;
    let sql = "INSERT INTO federation_audit_log (at, request_id, peer, action, resource, outcome, reason, digest) \
               VALUES (now(), gen_random_uuid(), $1, $1, $1, 'denied', $1, '')";
    database.execute(sql, &[&HOSTILE.replace('\0', "")]).await.expect("a forged event");

    let harmful = |text: &str| text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    let log = owner.node.log();
    assert_eq!(harmful(&log), None, "in the log");
    assert!(log.lines().all(|line| !line.trim_start().starts_with("INFO forged")), "a line of the log is another's");
    for answer in &said {
        assert_eq!(harmful(answer), None, "{answer:?}");
    }
    let listed = owner.cli(&["federation", "audit", "list", "--limit", "100"]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    assert_eq!(harmful(&listed), None, "{listed:?}");
    assert!(listed.contains("forged: line"), "the forged event is shown: {listed}");
    let verified = owner.cli(&["--json", "federation", "audit", "verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert_eq!(harmful(&String::from_utf8(verified.stdout).expect("UTF-8")), None);
    let strange = "SELECT count(*) FROM federation_audit_log WHERE digest <> '' AND (resource ~ '[[:cntrl:]]' OR peer ~ '[[:cntrl:]]')";
    assert_eq!(database.query_one(strange, &[]).await.expect("a count").get::<_, i64>(0), 0);
}
