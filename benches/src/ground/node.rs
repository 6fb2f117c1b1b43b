use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use mosaic::pki::ca_material::CaMaterial;
use mosaic::pki::pem::certificate_to_pem;
use mosaic::postgres::testing::TemporaryDirectory;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::api::Api;
use super::process::{bound_to_us, signal};
use crate::cpu::Family;

/// Longest wait for a start or a stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Events are sealed so often that every round pays for the seals of its own events: at the default of ten seconds a round would
/// pay for another one's, or for none.
const LIMITS: &str = "[limits]\naudit_seal_ms = 200\n";

/// One node: the release build as a process of its own, tier `standalone`, every limit but that of [`LIMITS`] at its default.
pub(crate) struct Node {
    site: String,
    directory: TemporaryDirectory,
    process: Option<Child>,
    ready: Value,
    admin_token: String,
    /// From the spawn to the line that says ready.
    pub(crate) start_time: Duration,
}

static NODE: OnceLock<PathBuf> = OnceLock::new();

/// Measures this build of the node.
pub(crate) fn use_node(binary: PathBuf) {
    NODE.get_or_init(|| binary);
}

/// The binary beside this one, unless another was named: both are built with the same profile.
fn mosaic() -> PathBuf {
    if let Some(named) = NODE.get() {
        return named.clone();
    }
    let own = std::env::current_exe().expect("our own path");
    own.with_file_name("mosaic")
}

impl Node {
    /// Starts a node on the database of `url`, with its own CA or this one.
    pub(crate) fn start(site: &str, url: &str, ca: Option<&CaMaterial>, more: &str) -> Self {
        let mut node = Self::configured(site, url, more);
        let mut arguments = vec!["gateway".to_owned(), "init".to_owned()];
        if let Some(ca) = ca {
            let key = pem("PRIVATE KEY", &ca.key_pkcs8());
            for (flag, text) in [("--ca-cert", certificate_to_pem(ca.certificate())), ("--ca-key", key)] {
                let file = node.directory.path().join(format!("given{flag}.pem"));
                std::fs::write(&file, text).expect("a file for the CA");
                arguments.extend([flag.to_owned(), file.display().to_string()]);
            }
        }
        node.run(&arguments);
        node.begin();
        node
    }

    /// Another replica of this node's site: the same database and secrets.
    pub(crate) fn replica(&self, url: &str) -> Self {
        let mut replica = Self::configured(&self.site, url, "");
        std::fs::create_dir(replica.state()).expect("the state directory");
        for secret in ["master.secret", "admin.token"] {
            std::fs::copy(self.state().join(secret), replica.state().join(secret)).expect("the site's secret");
        }
        replica.run(&["gateway".to_owned(), "init".to_owned()]);
        replica.begin();
        replica
    }

    fn configured(site: &str, url: &str, more: &str) -> Self {
        let directory = TemporaryDirectory::new();
        let config = format!(
            "site = \"{site}\"\ntier = \"standalone\"\nstate_dir = \"{}\"\n\n[api]\nlisten = \"127.0.0.1:0\"\n\n\
             [federation]\nlisten = \"127.0.0.1:0\"\n\n[enrollment]\nlisten = \"127.0.0.1:0\"\n\n[postgres]\nurl = \"{url}\"\n\n{LIMITS}{more}",
            directory.path().join("state").display()
        );
        std::fs::write(directory.path().join("mosaic.toml"), config).expect("the configuration is written");
        Self {
            site: site.to_owned(),
            directory,
            process: None,
            ready: Value::Null,
            admin_token: String::new(),
            start_time: Duration::ZERO,
        }
    }

    fn run(&self, arguments: &[String]) {
        let output =
            Command::new(mosaic()).arg("--config").arg(self.config()).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the process and waits until it says that it is ready.
    pub(crate) fn begin(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).expect("a log file");
        let started = Instant::now();
        let mut process = bound_to_us(&mosaic())
            .arg("--config")
            .arg(self.config())
            .args(["--json", "gateway", "serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the node starts");
        let output = BufReader::new(process.stdout.take().expect("the node's output"));
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _unheard_once_ready = tell.send(line);
            }
        });
        let line = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the node is not ready:\n{}", self.log()));
        self.start_time = started.elapsed();
        self.ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a ready line: {line}\n{}", self.log()));
        self.process = Some(process);
        let token = std::fs::read_to_string(self.state().join("admin.token")).expect("the first admin token");
        token.trim().clone_into(&mut self.admin_token);
    }

    /// Asks the process to end, and waits for it.
    pub(crate) fn end(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        signal(&process, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("mosaic.toml")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn family(&self) -> Family {
        Family(self.process.as_ref().expect("a running node").id())
    }

    fn address(&self, listener: &str) -> SocketAddr {
        let text = self.ready[listener].as_str().unwrap_or_else(|| panic!("no {listener} in {}", self.ready));
        text.parse().expect("an address")
    }

    pub(crate) fn federation(&self) -> SocketAddr {
        self.address("federation")
    }

    pub(crate) fn enrollment(&self) -> SocketAddr {
        self.address("enrollment")
    }

    pub(crate) fn admin(&self) -> Api {
        Api::new(&self.api_url(), &self.admin_token)
    }

    pub(crate) fn api(&self) -> SocketAddr {
        self.address("api")
    }

    fn api_url(&self) -> String {
        format!("http://{}", self.address("api"))
    }

    /// Adds a user; its id.
    pub(crate) async fn user(&self, name: &str) -> String {
        let user = self.admin().post("/api/admin/v1/users", &json!({ "name": name })).await;
        user["id"].as_str().expect("the user's id").to_owned()
    }

    /// A new session token of a user.
    pub(crate) async fn session_token(&self, user: &str) -> String {
        let created = self.admin().post("/api/admin/v1/tokens", &json!({ "kind": "session", "user": user })).await;
        created["token"].as_str().expect("the token, shown once").to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of {}:\n{}", self.site, self.log());
        }
        self.end();
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("ASCII"));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
