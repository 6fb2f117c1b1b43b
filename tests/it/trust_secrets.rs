//! Secrets that are known to the test, in every form that a program would write them in, are nowhere: not in logs at `trace`, answers,
//! metrics, database dumps, files that are not theirs, nor in what the system shows of the process.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use mosaic::postgres::embedded::ServerBinaries;
use mosaic::postgres::pool::{DatabaseUrl, PoolOptions};
use mosaic::postgres::testing;
use mosaic::secrets::{MasterSecret, SealContext};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::harness::asker::{self, Asker};
use crate::harness::node::{Node, id, mosaic};
use crate::harness::search::holds;
use crate::harness::sites;
use crate::harness::wait::until;

const TRACE: &str = "[log]\nfilter = \"trace\"\n[limits]\nenroll_failures_per_minute = 1000\nsecrets_reread_ms = 50\n";

/// A secret and the one file, if any, in which it may be.
struct Canary {
    name: &'static str,
    forms: Vec<Vec<u8>>,
    at_home: Option<PathBuf>,
}

impl Canary {
    /// One that is a text: a token, a password.
    fn text(name: &'static str, text: &str, at_home: Option<PathBuf>) -> Self {
        assert!(text.len() > 12, "{name}");
        // A token's random part is the secret, whatever stands before it.
        let random = text.splitn(3, '_').last().unwrap_or(text);
        let forms = [random.to_owned(), STANDARD_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(text)];
        Self { name, forms: forms.map(String::into_bytes).to_vec(), at_home }
    }

    /// One that is bytes: a key.
    fn bytes(name: &'static str, bytes: &[u8], at_home: Option<PathBuf>) -> Self {
        assert!(bytes.len() >= 32, "{name}");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = bytes.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        // Base64 in PEM is broken into lines.
        let line = |text: String| text[..text.len().min(40)].to_owned().into_bytes();
        let forms = vec![
            bytes.to_vec(),
            line(STANDARD_NO_PAD.encode(bytes)),
            line(URL_SAFE_NO_PAD.encode(bytes)),
            hex.clone().into_bytes(),
            hex.to_uppercase().into_bytes(),
            list.into_bytes(),
        ];
        Self { name, forms, at_home }
    }

    /// A private key: its scalar, which every encoding of it holds.
    fn key(name: &'static str, pkcs8: &[u8]) -> Self {
        let key = openssl::pkey::PKey::private_key_from_pkcs8(pkcs8).expect("PKCS#8");
        let scalar = key.ec_key().expect("an EC key").private_key().to_vec_padded(32).expect("32 bytes");
        Self::bytes(name, &scalar, None)
    }

    fn is_in(&self, haystack: &[u8]) -> bool {
        self.forms.iter().any(|form| holds(haystack, form))
    }
}

fn master_secrets(node: &Node) -> Vec<u8> {
    let text = std::fs::read_to_string(node.state().join("master.secret")).expect("the master secret");
    STANDARD.decode(text.lines().next().expect("a line").trim()).expect("base64")
}

/// The private key of the CA, opened as only the holder of the master secret can.
async fn ca_key(node: &Node, database: &tokio_postgres::Client) -> Vec<u8> {
    let secret = MasterSecret::load(&node.state().join("master.secret")).expect("the master secret");
    let row = database
        .query_one("SELECT encode(sha256(certificate), 'hex'), sealed_key FROM embedded_ca", &[])
        .await
        .expect("the CA");
    let (name, sealed): (String, Vec<u8>) = (row.get(0), row.get(1));
    let context = SealContext { table: "embedded_ca", row: &name, key_version: 1 };
    secret.sealer().open(&context, &sealed).expect("it opens").to_vec()
}

async fn link_key(node: &Node, database: &tokio_postgres::Client) -> Vec<u8> {
    let secret = MasterSecret::load(&node.state().join("master.secret")).expect("the master secret");
    let row = database.query_one("SELECT id::text, key_version, sealed_key FROM links", &[]).await.expect("the link");
    let (name, version, sealed): (String, i32, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
    let context = SealContext { table: "links", row: &name, key_version: version.unsigned_abs() };
    secret.sealer().open(&context, &sealed).expect("it opens").to_vec()
}

async fn connect(url: &SecretString) -> tokio_postgres::Client {
    DatabaseUrl::parse(url).expect("a URL").connect(&PoolOptions::default()).await.expect("a connection")
}

/// A role of its own whose password the test knows to be unique.
async fn with_password(url: &SecretString, password: &str) -> SecretString {
    let role = format!("CREATE ROLE canary LOGIN SUPERUSER PASSWORD '{password}'");
    connect(url).await.batch_execute(&role).await.expect("a role");
    let (_, rest) = url.expose_secret().split_once('@').expect("a URL with a user");
    SecretString::from(format!("postgresql://canary:{password}@{rest}"))
}

#[tokio::test]
async fn secrets_are_in_no_log_answer_metric_dump_or_file_but_their_own() {
    let mut own = testing::own_cluster();
    own.cluster.start().expect("the cluster starts");
    let unique = |what: &str| format!("{what}{}", uuid::Uuid::new_v4().simple());
    let password = unique("password");
    let url = with_password(&own.cluster.url("postgres"), &password).await;
    let home = Node::on_url_with("home", &url, TRACE);
    let work = Node::start_with("work", TRACE).await;
    let (home_database, work_database) = (connect(&url).await, work.database().connect().await);
    let mut heard: Vec<Vec<u8>> = Vec::new();

    home.user("ada").await;
    work.user("ada").await;
    let session = home.session_token("ada").await;
    let short = json!({ "kind": "session", "user": "ada" });
    let revoked = home.admin().post("/api/admin/v1/tokens", short).await.expect(201);
    let gone = home.admin().delete(&format!("/api/admin/v1/tokens/{}", id(&revoked["record"]))).await;
    assert!(gone.status.is_success(), "{}", gone.text());
    let revoked = revoked["token"].as_str().expect("a token").to_owned();
    heard.push(home.with_token(&revoked).query(json!({})).await.bytes);
    let new_admin = json!({ "kind": "admin", "label": "second" });
    let admin = home.admin().post("/api/admin/v1/tokens", new_admin).await.expect(201)["token"].clone();
    let admin = admin.as_str().expect("a token").to_owned();
    let (row, filter) = (unique("row"), unique("filter"));
    work.session("ada").await.post("/api/v1/data/tasks", json!({ "title": row })).await.expect(201);

    let invite = |invite: &str| asker::open_invite(invite)["token"].as_str().expect("a token").to_owned();
    let (_, redeemed) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let link = sites::join(&home, "ada", &redeemed).await;
    let (_, open) = sites::grant(&work, "away", "ada", json!({ "resources": ["tasks"] })).await;
    let (_, spent) = sites::grant(&work, "third", "ada", json!({ "resources": ["tasks"] })).await;
    let third = Asker::enroll(&spent).await;
    let enrollment = format!("https://{}", work.address("enrollment"));
    for csr in ["no request", asker::new_csr().1.as_str()] {
        heard.push(asker::enroll(&enrollment, &invite(&spent), csr).await.bytes);
    }
    let first_key = link_key(&home, &home_database).await;
    home.admin().post(&format!("/api/admin/v1/links/{link}/renew"), json!({})).await.expect(200);
    let old_secret = master_secrets(&home);
    let rotated = home.cli(&["gateway", "rotate-secret"]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    heard.extend([rotated.stdout, rotated.stderr]);

    let at = |node: &Node, file: &str| Some(node.state().join(file));
    let canaries = [
        Canary::bytes("master secret before the rotation", &old_secret, None),
        Canary::bytes("master secret", &master_secrets(&home), at(&home, "master.secret")),
        Canary::bytes("master secret of the owner", &master_secrets(&work), at(&work, "master.secret")),
        Canary::key("CA key", &ca_key(&work, &work_database).await),
        Canary::key("CA key of the asker", &ca_key(&home, &home_database).await),
        Canary::key("link key before the renewal", &first_key),
        Canary::key("link key", &link_key(&home, &home_database).await),
        Canary::text("session token", &session, None),
        Canary::text("revoked session token", &revoked, None),
        Canary::text("first admin token", home.admin_token(), at(&home, "admin.token")),
        Canary::text("first admin token of the owner", work.admin_token(), at(&work, "admin.token")),
        Canary::text("admin token", &admin, None),
        Canary::text("enrolment token", &invite(&redeemed), None),
        Canary::text("open invite's token", &invite(&open), None),
        Canary::text("spent token", &invite(&spent), None),
        Canary::text("database password", &password, Some(home.config_file())),
        Canary::text("filter value", &filter, None),
    ];

    // Questions that work, and errors of every kind, with secrets where secrets are and where they have no business.
    let ada = home.with_token(&session);
    for query in [
        json!({ "verb": "list", "resource": "tasks" }),
        json!({ "verb": "list", "resource": "tasks", "where": { "status": filter } }),
        json!({ "verb": "list", "resource": "tasks", "where": { "no_such_column": filter } }),
        json!({ "verb": "list", "resource": "tasks", "where": { "priority": filter } }),
        json!({ "verb": "list", "resource": "tasks", "cursor": filter }),
    ] {
        let answer = ada.query(query).await;
        if answer.status != 200 {
            // An error names the field, not the value.
            heard.push(answer.bytes);
        }
    }
    heard.push(home.with_token(&format!("{session}x")).query(json!({})).await.bytes);
    let tokens = home.admin().get("/api/admin/v1/tokens?kind=session&limit=50").await;
    heard.push(tokens.bytes);
    heard.push(home.with_token(&admin).get("/api/admin/v1/links").await.bytes);
    heard.push(third.post("list/tasks", json!({ "where": { "status": { "like": filter } } })).await.bytes);
    heard.push(third.post("list/credentials", json!({ "cursor": filter })).await.bytes);
    heard.push(home.admin().post("/api/admin/v1/links", json!({ "invite": open, "user": "nobody" })).await.bytes);
    heard.push(home.admin().post("/api/admin/v1/links", json!({ "invite": format!("{open}x") })).await.bytes);
    for path in ["/metrics", "/healthz", "/readyz", "/openapi.json", "/api/admin/v1/status", "/api/admin/v1/audit"] {
        for node in [&home, &work] {
            heard.push(node.admin().get(path).await.bytes);
        }
    }
    for command in
        [vec!["--help"], vec!["gateway", "rotate-secret", "--help"], vec!["gateway", "doctor"], vec!["token", "list"]]
    {
        let told = home.cli(&command);
        heard.extend([told.stdout, told.stderr]);
    }
    for node in [&home, &work] {
        heard.push(node.process_file("cmdline"));
        if rustix::process::geteuid().is_root() {
            heard.push(node.process_file("environ"));
        } else {
            // Who cannot attach to the process cannot read it either.
            let shown = std::fs::read(format!("/proc/{}/environ", node.pid()));
            assert_eq!(shown.map_err(|error| error.kind()), Err(std::io::ErrorKind::PermissionDenied));
        }
        let limits = String::from_utf8(node.process_file("limits")).expect("text");
        let core: Vec<&str> = limits.lines().find(|line| line.starts_with("Max core file size")).into_iter().collect();
        assert!(core.iter().all(|line| line.split_whitespace().filter(|word| *word == "0").count() == 2), "{core:?}");
        assert_eq!(core.len(), 1);
        let log = node.log();
        assert!(log.contains("TRACE") && log.contains("enroll"), "the log is at its finest: {} bytes", log.len());
        assert!(!log.contains("PRIVATE KEY") && !log.contains("mosaic-invite:"));
        heard.push(log.into_bytes());
    }
    home_database.batch_execute("CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT").await.expect("everything is written");
    let home_dump = dump(url.expose_secret());
    assert!(holds(&home_dump, b"embedded_ca"), "the dump is one");
    heard.extend([home_dump, dump(work.database().url().expose_secret())]);

    for canary in &canaries {
        let place = heard.iter().find(|text| canary.is_in(text));
        assert!(place.is_none(), "{} is in {}", canary.name, String::from_utf8_lossy(place.expect("one")));
    }
    let mut found = Vec::new();
    for place in [home.directory(), work.directory(), own.cluster.root()] {
        each_file(place, &mut |path, bytes| {
            let here = canaries.iter().filter(|canary| canary.is_in(bytes));
            found.extend(here.map(|canary| (canary.name, path.to_owned())));
        });
    }
    let expected = canaries.iter().filter_map(|canary| Some((canary.name, canary.at_home.clone()?)));
    let mut expected: Vec<(&str, PathBuf)> = expected.collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "each where it is kept, and nowhere else");
}

fn dump(url: &str) -> Vec<u8> {
    let program = ServerBinaries::find(None, None, None).expect("PostgreSQL's programs").program("pg_dump");
    let dump = Command::new(program).arg(format!("--dbname={url}")).output().expect("pg_dump runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    dump.stdout
}

fn each_file(place: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else if path.is_file() {
            // What the server removed meanwhile is not there.
            std::fs::read(&path).iter().for_each(|bytes| look(&path, bytes));
        }
    }
}

/// Every command that reads a secret from a file, the configuration or the environment, while it waits for somebody who does not answer.
#[tokio::test]
async fn no_command_that_reads_a_secret_can_leave_a_core_dump() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mosaic.toml");
    let text = format!(
        "site = \"work\"\ntier = \"standalone\"\nstate_dir = \"{}\"\n[postgres]\nurl = \"postgres://mosaic:hunter2@{address}/mosaic\"\n",
        directory.path().join("state").display()
    );
    std::fs::write(&file, text).expect("written");
    let init = mosaic().arg("--config").arg(&file).args(["gateway", "init"]).output().expect("it runs");
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let api = format!("http://{address}");
    let asks_the_node: Vec<Vec<&str>> = vec![
        vec!["federation", "grant", "list"],
        vec!["federation", "peer", "add", "mosaic-invite:none", "--user", "ada"],
        vec!["federation", "audit", "verify"],
        vec!["federation", "status"],
        vec!["user", "list"],
        vec!["team", "list"],
        vec!["token", "list"],
        vec!["token", "create", "--user", "ada"],
        vec!["query", "tasks"],
        vec!["get", "tasks", "0190b0e0-0000-7000-8000-000000000000"],
    ];
    let asks_the_database =
        [vec!["gateway", "serve"], vec!["gateway", "doctor"], vec!["gateway", "rotate-secret"]].to_vec();
    for arguments in asks_the_node.into_iter().chain(asks_the_database) {
        let mut command = mosaic();
        command.arg("--config").arg(&file).args(["--api", &api, "--token", "mosaic_session_none"]).args(&arguments);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let mut process = command.stderr(log).spawn().expect("it starts");
        let ended = until("it asks, or ends", || std::future::ready(process.try_wait().expect("a child's status")));
        let asked = tokio::select! {
            asked = silent.accept() => Some(asked.expect("a connection")),
            _ = ended => None,
        };
        let shown = std::fs::read_to_string(format!("/proc/{}/limits", process.id()));
        process.kill().expect("killed");
        process.wait().expect("gone");
        let told = std::fs::read_to_string(directory.path().join("log")).expect("what it said");
        assert!(asked.is_some(), "{arguments:?} asks nobody: {told}");
        let shown = shown.expect("the limits of a process that waits");
        let core = shown.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{arguments:?}: {core}");
    }
}
