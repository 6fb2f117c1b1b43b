//! A node of the demo: this program once more, as a process that cannot outlive the demo.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;
use url::Url;

use super::directory::DemoDirectory;
use super::sites;
use crate::cli::gateway::init;
use crate::cli::node::{Node, TokenKind};
use crate::cli::outcome::Failure;
use crate::config::{Config, ConfigArgs, Surroundings};

/// Longest start: making a database cluster on a slow disk.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Longest end: draining, then stopping the database.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Which ports a new site gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// The same in every demo, where they are free: somebody will type them.
    Usual,
    /// Whatever the system gives when the node binds: nobody will type them, and two demos never want the same.
    Any,
}

/// A running node. Its standard input is a pipe whose other end is here: when the demo ends, however it ends, the pipe closes
/// and the node ends itself.
pub(super) struct NodeProcess {
    pub(super) ready: ReadyLine,
    pub(super) config: Config,
    pub(super) config_file: PathBuf,
    pub(super) log_file: PathBuf,
    pub(super) admin_token: String,
    child: Child,
    lifeline: Option<ChildStdin>,
}

/// What a node says when it is ready; empty until then.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ReadyLine {
    pub(super) api_url: String,
    pub(super) federation_url: String,
    pub(super) enrollment_url: String,
}

impl NodeProcess {
    /// Sets the site up if it is new, and starts its node, which takes a while to get ready.
    pub(super) fn launch(
        site: &'static str,
        directory: &DemoDirectory,
        around: &Surroundings,
        ports: Ports,
    ) -> Result<Self, Failure> {
        let dir = directory.site(site);
        // What the caller's shell says about another node is none of this one's business.
        let mut around = around.clone();
        around.environment.retain(|name, _| !name.starts_with("MOSAIC_"));
        let config_file = dir.join("mosaic.toml");
        let (config, admin_token) = set_up(site, &dir, &config_file, &around, ports)?;
        let log_file = dir.join("node.log");
        let mut child = spawn(&config_file, &log_file, &around)?;
        let lifeline = child.stdin.take();
        let ready = ReadyLine { api_url: String::new(), federation_url: String::new(), enrollment_url: String::new() };
        Ok(Self { ready, config, config_file, log_file, admin_token, child, lifeline })
    }

    pub(super) async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let line = timeout(READY_WITHIN, first_line(&mut self.child)).await.unwrap_or_default();
        let ready = line.as_deref().and_then(|line| serde_json::from_str(line).ok());
        let said = || line.as_deref().and_then(refusal).unwrap_or_default();
        self.ready = ready.ok_or_else(|| not_ready(self.config.site.as_str(), &said(), &self.log_file))?;
        Ok(())
    }

    pub(super) fn admin(&self) -> Result<Node, Failure> {
        self.client(TokenKind::Admin, &self.admin_token)
    }

    pub(super) fn session(&self, token: &str) -> Result<Node, Failure> {
        self.client(TokenKind::Session, token)
    }

    fn client(&self, kind: TokenKind, token: &str) -> Result<Node, Failure> {
        let base = Url::parse(&self.ready.api_url).map_err(|e| Failure::failed(e.to_string()))?;
        Node::new(base, kind, token.to_owned(), &[])
    }
}

/// Lets all nodes end by themselves, together, and ends those that do not.
pub(super) async fn stop(nodes: Vec<NodeProcess>) {
    let ending = nodes.into_iter().map(|mut node| async move {
        drop(node.lifeline.take());
        if timeout(END_WITHIN, node.child.wait()).await.is_err() {
            let _ = node.child.kill().await;
        }
    });
    futures_util::future::join_all(ending).await;
}

/// A site's configuration: what is there already, or a new one on free ports of the loopback address.
fn set_up(
    site: &'static str,
    dir: &Path,
    config_file: &Path,
    around: &Surroundings,
    ports: Ports,
) -> Result<(Config, String), Failure> {
    let known = ConfigArgs { config: Some(config_file.to_owned()), ..ConfigArgs::default() };
    if config_file.exists() {
        let made = init::initialise(&known, around)?;
        return Ok((made.config, made.admin_token));
    }
    let [api, federation, enrollment] = match ports {
        Ports::Usual => sites::ports(site).map(free_port),
        Ports::Any => [Ok(0), Ok(0), Ok(0)],
    };
    let address = |port: std::io::Result<u16>| {
        port.map(|port| format!("127.0.0.1:{port}")).map_err(|e| Failure::failed(format!("no free port: {e}")))
    };
    let args = ConfigArgs {
        site: Some(site.to_owned()),
        tier: Some("local".to_owned()),
        state_dir: Some(dir.join("state").display().to_string()),
        api_listen: Some(address(api)?),
        federation_listen: Some(address(federation)?),
        enrollment_listen: Some(address(enrollment)?),
        // Both ends stop together here: there is nobody to finish anything for.
        set: vec!["limits.drain_s=1".to_owned()],
        ..known
    };
    let made = init::initialise(&args, around)?;
    Ok((made.config, made.admin_token))
}

/// The wished-for port if nobody has it, else one that the system gives. Until the node binds it somebody may still take it;
/// then the node says so and the demo ends.
fn free_port(wish: u16) -> std::io::Result<u16> {
    let bound = TcpListener::bind(("127.0.0.1", wish)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    bound.local_addr().map(|address| address.port())
}

fn spawn(config_file: &Path, log_file: &Path, around: &Surroundings) -> Result<Child, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("cannot start a node: {e}"));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_file).map_err(failed)?;
    Command::new(std::env::current_exe().map_err(failed)?)
        .args(["gateway", "serve", "--json", "--until-stdin-ends", "--config"])
        .arg(config_file)
        .env_clear()
        .envs(&around.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C in the terminal is for the demo, which then ends its nodes in order.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(failed)
}

async fn first_line(child: &mut Child) -> Option<String> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    lines.next_line().await.ok().flatten()
}

/// What a node that does not start says instead: the error document of every command.
fn refusal(line: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(line).ok()?;
    document["error"]["message"].as_str().map(|message| format!("{message}\n"))
}

fn not_ready(site: &str, said: &str, log_file: &Path) -> Failure {
    let log = std::fs::read_to_string(log_file).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(12).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Failure::failed(format!("the node {site} did not start: {said}{}", last.join("\n"))).remedy(
        "'mosaic gateway doctor' tells what a node needs; often PostgreSQL is missing: apt-get install -y postgresql",
    )
}
