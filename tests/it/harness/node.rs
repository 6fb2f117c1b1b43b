use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use mosaic::postgres::testing::TestDatabase;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::api::Api;
use super::authority::Authority;
use super::wait::PATIENCE;
use crate::network::Space;

/// One node as a process of its own, tier `standalone`, with a database of its own. Dropping it kills the process.
pub(crate) struct Node {
    pub(crate) site: String,
    tier: &'static str,
    database: Option<TestDatabase>,
    directory: TempDir,
    process: Option<Child>,
    ready: Value,
    admin_token: String,
    /// The network namespace that its process runs in.
    space: Option<String>,
}

/// What a node is started with.
struct Setup<'a> {
    url: &'a SecretString,
    tier: &'static str,
    more: &'a str,
    database: Option<TestDatabase>,
    authority: Option<&'a Authority>,
    /// The state directory of the node whose replica this one is.
    secrets: Option<&'a Path>,
    /// Where its process runs, when that is not this machine's own network.
    space: Option<&'a Space>,
}

impl<'a> Setup<'a> {
    fn on(url: &'a SecretString) -> Self {
        Self { url, tier: "standalone", more: "", database: None, authority: None, secrets: None, space: None }
    }
}

/// Where this machine's programs are.
#[allow(clippy::disallowed_methods, reason = "a child's environment is made here")]
pub(crate) fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The built binary.
pub(crate) fn mosaic() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mosaic"));
    command.env_clear().env("PATH", search_path());
    command
}

impl Node {
    /// Starts a node whose configuration is the usual one.
    pub(crate) async fn start(site: &str) -> Self {
        Self::start_with(site, "").await
    }

    /// Starts a node with more configuration behind the usual one.
    pub(crate) async fn start_with(site: &str, more: &str) -> Self {
        let database = TestDatabase::empty().await;
        let url = database.url().clone();
        Self::set_up(site, Setup { more, database: Some(database), ..Setup::on(&url) })
    }

    /// Starts a node inside a network namespace, on ports that it has again when it starts anew.
    pub(crate) async fn start_inside(site: &str, space: &Space, more: &str) -> Self {
        let database = TestDatabase::empty().await;
        let url = database.url().clone();
        Self::set_up(site, Setup { more, database: Some(database), space: Some(space), ..Setup::on(&url) })
    }

    /// Starts a node whose CA is the test's own, so that the test can sign whatever it likes with the genuine root.
    pub(crate) async fn start_with_ca(site: &str, authority: &Authority, more: &str) -> Self {
        let database = TestDatabase::empty().await;
        let url = database.url().clone();
        Self::set_up(site, Setup { more, database: Some(database), authority: Some(authority), ..Setup::on(&url) })
    }

    /// Starts a node on the database of `url`: a cluster of the test's own, to stop and freeze.
    pub(crate) async fn on_url(site: &str, url: &SecretString) -> Self {
        Self::on_url_with(site, url, "")
    }

    /// As [`Node::on_url`], with more configuration.
    pub(crate) fn on_url_with(site: &str, url: &SecretString, more: &str) -> Self {
        Self::set_up(site, Setup { more, ..Setup::on(url) })
    }

    /// Starts a node of tier `federated` on a database with pgvector.
    pub(crate) fn federated(site: &str, url: &SecretString, more: &str) -> Self {
        Self::set_up(site, Setup { more, tier: "federated", ..Setup::on(url) })
    }

    /// Starts another replica of this node: the same database, master secret and admin.
    pub(crate) fn replica(&self, url: &SecretString, more: &str) -> Self {
        Self::set_up(&self.site, Setup { more, tier: self.tier, secrets: Some(&self.state()), ..Setup::on(url) })
    }

    fn set_up(site: &str, setup: Setup<'_>) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the node");
        let (address, ports) = match setup.space {
            None => ("127.0.0.1", [0; 3]),
            Some(space) => (space.address.as_str(), [8640, 8643, 8644]),
        };
        let [api, federation, enrollment] = ports.map(|port| format!("{address}:{port}"));
        // A table can be opened only once: `federation.key = value` stands in the one that is here.
        let (of_federation, more): (Vec<&str>, Vec<&str>) =
            setup.more.lines().partition(|line| line.starts_with("federation."));
        let of_federation: String =
            of_federation.iter().map(|line| format!("{}\n", &line["federation.".len()..])).collect();
        let config = format!(
            "site = \"{site}\"\ntier = \"{tier}\"\nstate_dir = \"{state}\"\n\n\
             [api]\nlisten = \"{api}\"\n\n[federation]\nlisten = \"{federation}\"\n{of_federation}\n\
             [enrollment]\nlisten = \"{enrollment}\"\n\n[postgres]\nurl = \"{url}\"\n\n{more}\n",
            tier = setup.tier,
            state = directory.path().join("state").display(),
            url = setup.url.expose_secret(),
            more = more.join("\n"),
        );
        std::fs::write(directory.path().join("mosaic.toml"), config).expect("the configuration is written");
        let mut node = Self {
            site: site.to_owned(),
            tier: setup.tier,
            database: setup.database,
            directory,
            process: None,
            ready: Value::Null,
            admin_token: String::new(),
            space: setup.space.map(|space| space.name.clone()),
        };
        if let Some(of) = setup.secrets {
            std::fs::create_dir(node.state()).expect("the state directory");
            for secret in ["master.secret", "admin.token"] {
                std::fs::copy(of.join(secret), node.state().join(secret)).expect("the site's secret");
            }
        }
        node.init(setup.authority);
        node.admin_token =
            std::fs::read_to_string(node.state().join("admin.token")).expect("the first admin token").trim().to_owned();
        node.serve();
        node
    }

    fn init(&self, authority: Option<&Authority>) {
        let mut arguments = vec!["gateway".to_owned(), "init".to_owned()];
        if let Some(authority) = authority {
            for (flag, text) in [("--ca-cert", &authority.certificate_pem), ("--ca-key", &authority.key_pem)] {
                let file = self.directory().join(format!("given{flag}.pem"));
                std::fs::write(&file, text).expect("a file for the CA");
                arguments.extend([flag.to_owned(), file.display().to_string()]);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let init = self.cli(&arguments);
        assert!(init.status.success(), "gateway init: {}", String::from_utf8_lossy(&init.stderr));
    }

    /// Starts the process and waits until it says that it is ready.
    pub(crate) fn serve(&mut self) {
        self.serve_with(&[]);
    }

    /// As [`Node::serve`], with flags.
    pub(crate) fn serve_with(&mut self, flags: &[&str]) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut process = self
            .program()
            .args(["--config".as_ref(), self.config_file().as_os_str()])
            .args(["--json", "gateway", "serve"])
            .args(flags)
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
        let line =
            told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the node did not get ready:\n{}", self.log()));
        self.ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a ready line: {line}\n{}", self.log()));
        self.process = Some(process);
    }

    /// The built binary, where this node runs. (`ip netns exec` becomes what it starts, so a signal reaches the node.)
    fn program(&self) -> Command {
        let Some(space) = &self.space else { return mosaic() };
        let mut command = Command::new("ip");
        command.env_clear().env("PATH", search_path());
        command.args(["netns", "exec", space, env!("CARGO_BIN_EXE_mosaic")]);
        command
    }

    /// Ends the process without warning, as a power cut does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the node is killed");
            process.wait().expect("the node is gone");
        }
    }

    /// Waits until the process was killed, by itself: it reached the crash point that it was started with.
    pub(crate) async fn crashes(&mut self) {
        let mut process = self.process.take().expect("a running node");
        let status = super::wait::until("the node reaches its crash point", || {
            std::future::ready(process.try_wait().expect("a child's status"))
        });
        let status = status.await;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    }

    /// Asks the process to stop, and waits for its exit.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        self.ask_to_stop();
        self.exit()
    }

    /// Asks the process to stop, and does not wait for it.
    pub(crate) fn ask_to_stop(&self) {
        signal(self.process.as_ref().expect("a running node"), "TERM");
    }

    /// Waits for the exit of a process that was asked to stop.
    pub(crate) fn exit(&mut self) -> std::process::ExitStatus {
        self.process.take().expect("a running node").wait().expect("the node is gone")
    }

    /// The exit of a process that was asked to stop, as soon as there is one; a test that waits in vain fails.
    pub(crate) async fn ends(&mut self) -> std::process::ExitStatus {
        let process = self.process.as_mut().expect("a running node");
        let ended =
            super::wait::until("the node ends", || std::future::ready(process.try_wait().expect("a child's status")));
        let status = ended.await;
        self.process = None;
        status
    }

    /// Freezes the process: it accepts nothing and answers nothing, but its sockets stay.
    pub(crate) fn freeze(&self) {
        signal(self.process.as_ref().expect("a running node"), "STOP");
    }

    pub(crate) fn thaw(&self) {
        signal(self.process.as_ref().expect("a running node"), "CONT");
    }

    /// A file about the running process: `cmdline`, `environ`, `limits` (proc(5)).
    pub(crate) fn process_file(&self, name: &str) -> Vec<u8> {
        let id = self.process.as_ref().expect("a running node").id();
        std::fs::read(format!("/proc/{id}/{name}")).expect("a file of the running process")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running node").id()
    }

    /// Most memory that the process ever had resident, in KiB (`VmHWM` of proc(5)).
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that the process has resident, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// A line of proc(5)'s `status`.
    fn memory(&self, name: &str) -> u64 {
        let id = self.process.as_ref().expect("a running node").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// The node's database in the cluster of this test run.
    pub(crate) fn database(&self) -> &TestDatabase {
        self.database.as_ref().expect("a node on the shared cluster")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("mosaic.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What the process has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// `http://127.0.0.1:…` of the `api` listener.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}", self.address("api"))
    }

    /// The bound address of a listener: `api`, `federation`, `enrollment`.
    pub(crate) fn address(&self, listener: &str) -> String {
        self.ready[listener].as_str().unwrap_or_else(|| panic!("no {listener} in {}", self.ready)).to_owned()
    }

    pub(crate) fn anonymous(&self) -> Api {
        Api::new(&self.api_url(), None)
    }

    pub(crate) fn admin(&self) -> Api {
        Api::new(&self.api_url(), Some(&self.admin_token))
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    pub(crate) fn with_token(&self, token: &str) -> Api {
        Api::new(&self.api_url(), Some(token))
    }

    /// Runs a command of this node's CLI to its end.
    pub(crate) fn cli(&self, arguments: &[&str]) -> std::process::Output {
        mosaic()
            .arg("--config")
            .arg(self.config_file())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the command runs")
    }

    /// Adds a user; its id.
    pub(crate) async fn user(&self, name: &str) -> String {
        let user = self.admin().post("/api/admin/v1/users", json!({ "name": name })).await.expect(201);
        id(&user)
    }

    /// Adds a team with members; its id.
    pub(crate) async fn team(&self, name: &str, members: &[&str]) -> String {
        let team = id(&self.admin().post("/api/admin/v1/teams", json!({ "name": name })).await.expect(201));
        for member in members {
            self.join(&team, member).await;
        }
        team
    }

    /// Adds a member to a team.
    pub(crate) async fn join(&self, team: &str, user: &str) {
        let answer = self.admin().post(&format!("/api/admin/v1/teams/{team}/members"), json!({ "user": user })).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }

    /// A client with a new session token of this user.
    pub(crate) async fn session(&self, user: &str) -> Api {
        self.with_token(&self.session_token(user).await)
    }

    /// A new session token of this user.
    pub(crate) async fn session_token(&self, user: &str) -> String {
        let created =
            self.admin().post("/api/admin/v1/tokens", json!({ "kind": "session", "user": user })).await.expect(201);
        created["token"].as_str().expect("the token, shown once").to_owned()
    }

    /// Adds rows for a user, as its session does.
    pub(crate) async fn import(&self, session: &Api, resource: &str, rows: &[Value]) {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let answer = session.post_text(&format!("/api/v1/data/{resource}:import"), lines).await;
        assert!(answer.status.is_success(), "{}: {}", self.site, answer.text());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of {}:\n{}", self.site, self.log());
        }
        if let Some(process) = &mut self.process {
            let _already_gone = process.kill();
            let _already_gone = process.wait();
        }
    }
}

/// `id` of a document.
#[track_caller]
pub(crate) fn id(document: &Value) -> String {
    document["id"].as_str().unwrap_or_else(|| panic!("no id in {document}")).to_owned()
}

fn signal(process: &Child, name: &str) {
    let status =
        Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status().expect("kill runs");
    assert!(status.success(), "kill -{name}");
}
