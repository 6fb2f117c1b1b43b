//! What the demo tells: people get commands to try, programs get one JSON object.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::directory::DemoDirectory;
use super::process::NodeProcess;
use crate::cli::node::{Node, TokenKind};
use crate::cli::outcome::Failure;
use crate::postgres::embedded;

/// The whole demo. It holds tokens: the file it is kept in is readable by its owner only.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) dir: PathBuf,
    pub(super) nodes: BTreeMap<String, NodeReport>,
    pub(super) grants: Vec<GrantReport>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct NodeReport {
    pub(super) site: String,
    /// `http://host:port`.
    pub(super) api: String,
    pub(super) federation: String,
    pub(super) enrollment: String,
    pub(super) config: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) admin_token: String,
    /// Ids by name.
    pub(super) teams: BTreeMap<String, Uuid>,
    pub(super) users: BTreeMap<String, PersonReport>,
    pub(super) rows: u64,
    /// Of the running database; only told, never kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) database_url: Option<String>,
    /// The site's CA, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca_certificate: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct PersonReport {
    pub(super) id: Uuid,
    pub(super) display_name: String,
    pub(super) teams: Vec<String>,
    pub(super) session_token: String,
}

/// `owner` lets `peer` read.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct GrantReport {
    pub(super) id: Uuid,
    pub(super) owner: String,
    pub(super) peer: String,
    /// The link at the peer.
    pub(super) link_id: Uuid,
    pub(super) scope: Value,
}

impl NodeReport {
    pub(super) fn new(
        node: &NodeProcess,
        teams: BTreeMap<String, Uuid>,
        users: BTreeMap<String, PersonReport>,
        rows: u64,
    ) -> Self {
        let mut report = Self {
            site: node.config.site.to_string(),
            api: String::new(),
            federation: String::new(),
            enrollment: String::new(),
            config: node.config_file.clone(),
            state_dir: node.config.state_dir.clone(),
            log: node.log_file.clone(),
            admin_token: node.admin_token.clone(),
            teams,
            users,
            rows,
            database_url: None,
            ca_certificate: None,
        };
        report.move_to(node);
        report
    }

    fn move_to(&mut self, node: &NodeProcess) {
        let address = |url: &str| url.trim_end_matches('/').to_owned();
        self.api = address(&node.ready.api_url);
        self.federation = address(&node.ready.federation_url);
        self.enrollment = address(&node.ready.enrollment_url);
    }

    /// The API as one of the site's people.
    pub(super) fn session(&self, user: &str) -> Result<Node, Failure> {
        let person = self.users.get(user).ok_or_else(|| Failure::failed(format!("there is no '{user}' here")))?;
        let base = Url::parse(&self.api).map_err(|e| Failure::failed(e.to_string()))?;
        Node::new(base, TokenKind::Session, person.session_token.clone(), &[])
    }
}

impl Report {
    pub(super) fn new(directory: &DemoDirectory, nodes: Vec<NodeReport>, grants: Vec<GrantReport>) -> Self {
        let nodes = nodes.into_iter().map(|node| (node.site.clone(), node)).collect();
        Self { dir: directory.path().to_owned(), nodes, grants }
    }

    /// The same demo, started again.
    pub(super) fn at(mut self, nodes: &[NodeProcess]) -> Self {
        for node in nodes {
            if let Some(report) = self.nodes.get_mut(node.config.site.as_str()) {
                report.move_to(node);
            }
        }
        self
    }

    pub(super) fn node(&self, site: &str) -> Result<&NodeReport, Failure> {
        self.nodes.get(site).ok_or_else(|| Failure::failed(format!("there is no site '{site}'")))
    }

    /// With what only a running node can tell: where its database is, and its CA.
    pub(super) async fn for_programs(&self, nodes: &[NodeProcess]) -> Result<Self, Failure> {
        let mut whole = self.clone();
        for node in nodes {
            let Some(report) = whole.nodes.get_mut(node.config.site.as_str()) else { continue };
            let url = embedded::url_of_running(&node.config.state_dir);
            report.ca_certificate = match &url {
                Some(url) => super::authority::certificate(url, &node.config.limits).await?,
                None => None,
            };
            report.database_url = url.map(|url| url.expose_secret().to_owned());
        }
        Ok(whole)
    }

    /// Addresses, tokens, and what to type.
    pub(super) fn text(&self, directory: &DemoDirectory) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("invariant: writing to a String cannot fail");
        line("\nboth nodes are up; Ctrl-C ends them".to_owned());
        for node in self.nodes.values() {
            line(format!("\n{}  ({} rows, {} people)", node.site, node.rows, node.users.len()));
            line(format!("  api            {}", node.api));
            line(format!("  federation     {}", node.federation));
            line(format!("  enrollment     {}", node.enrollment));
            line(format!("  configuration  {}", node.config.display()));
            line(format!("  admin token    {}", node.admin_token));
            for (name, person) in &node.users {
                line(format!("  session token  {}  ({name}: {})", person.session_token, person.teams.join(", ")));
            }
        }
        line("\ntry, in another terminal:".to_owned());
        for command in self.commands() {
            line(format!("  {command}"));
        }
        if !directory.is_temporary() {
            line(format!("\nall of it stays in {}", directory.path().display()));
        }
        text
    }

    fn commands(&self) -> Vec<String> {
        let program = std::env::current_exe().map_or_else(|_| "mosaic".to_owned(), |path| path.display().to_string());
        let at = |site: &str| {
            let config = self.nodes.get(site).map(|node| node.config.display().to_string()).unwrap_or_default();
            format!("{program} --config {config}")
        };
        let (home, work) = (at("home"), at("work"));
        let mut commands = vec![
            format!("{home} query tasks --source all --where status=open"),
            format!("{home} query notes --source work --limit 5"),
            format!("{work} query tasks --source home"),
            format!("{home} federation status"),
            format!("{work} federation audit list --limit 10"),
            format!("{work} federation grant list"),
        ];
        if let Some(grant) = self.grants.iter().find(|grant| grant.owner == "work") {
            commands.push(format!("{work} federation grant revoke {}   # then query again at home", grant.id));
        }
        if let Some((node, ada)) = self.nodes.get("home").and_then(|node| Some((node, node.users.get("ada")?))) {
            commands.push(format!(
                "curl -s {}/api/v1/query -H 'authorization: Bearer {}' -d '{{\"verb\":\"list\",\"resource\":\"tasks\",\"limit\":3}}'",
                node.api,
                ada.session_token
            ));
        }
        commands
    }
}
