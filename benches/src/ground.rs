//! What the cases stand on: a durable Postgres, a node on it, a holder of a grant, and an nginx that shows the same certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use mosaic::pki::ca_material::CaMaterial;
use mosaic_actors::domain::identity::SiteName;
use rustls::ClientConfig;
use serde_json::json;
use time::OffsetDateTime;

mod api;
mod audit;
mod cluster;
mod holder;
mod nginx;
mod node;
mod process;

pub(crate) use cluster::Cluster;
pub(crate) use holder::{Holder, revocation_list};
pub(crate) use nginx::Nginx;
pub(crate) use node::{Node, use_node};

use self::audit::Audit;
use crate::driver::{Connection, Target};

/// The owner site that most cases ask.
pub(crate) struct Ground {
    // Dropped in this order: the node before its database.
    pub(crate) node: Node,
    pub(crate) ca: CaMaterial,
    pub(crate) holder: Holder,
    pub(crate) subject: Subject,
    audit: Audit,
    pub(crate) cluster: Cluster,
}

/// Whose rows are read.
pub(crate) struct Subject {
    pub(crate) id: String,
    pub(crate) teams: Vec<String>,
}

/// Every session of a peer may ask as fast as it can: what is measured is the node, not its limits.
pub(crate) fn unlimited() -> serde_json::Value {
    json!({ "requests_per_second": 100_000, "burst": 1_000_000, "concurrent": 10_000 })
}

impl Ground {
    /// A node `work` with user `ada` in two teams, `rows` tasks (half hers, half her teams'), and a holder of a grant on them.
    pub(crate) async fn with_rows(rows: u64) -> Self {
        let cluster = Cluster::start();
        let url = cluster.create("work").await;
        let ca = ca("work");
        let node = Node::start("work", &url, Some(&ca), "");
        let subject = subject(&node).await;
        cluster.fill("work", &subject, rows).await;
        let holder =
            Holder::enroll(&node, "home", "ada", json!({ "resources": ["tasks"], "max_rows_per_query": 200 })).await;
        let audit = Audit::new(cluster.connect("work").await);
        Self { node, ca, holder, subject, audit, cluster }
    }

    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        self.holder.tls()
    }

    /// Waits until the node has sealed every audit event.
    pub(crate) async fn settle(&self) {
        self.audit.sealed().await;
    }

    pub(crate) fn capabilities(&self) -> Target {
        Target::new(self.node.federation(), &self.tls(), CAPABILITIES, None)
    }

    pub(crate) fn list(&self, rows: u32) -> Target {
        Target::new(self.node.federation(), &self.tls(), LIST, Some(&json!({ "limit": rows }).to_string()))
    }

    /// The body that the node answers with.
    pub(crate) async fn body_of(&self, target: &Target) -> Vec<u8> {
        let mut connection = Connection::open(target).await.expect("a connection");
        let answer = connection.answer(&target.request).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.body.to_vec()
    }
}

pub(crate) const CAPABILITIES: &str = "/api/federation/v1/capabilities";
pub(crate) const LIST: &str = "/api/federation/v1/list/tasks";

/// A new root.
pub(crate) fn ca(site: &str) -> CaMaterial {
    CaMaterial::generate(&SiteName::parse(site).expect("a site's name"), now()).expect("a root")
}

pub(crate) fn now() -> OffsetDateTime {
    #[expect(clippy::disallowed_methods, reason = "certificates of the bench begin now")]
    OffsetDateTime::now_utc()
}

/// A port that nobody has.
pub(crate) fn free_address() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("its address")
}

/// User `ada` in two teams.
pub(crate) async fn subject(node: &Node) -> Subject {
    subject_named(node, "ada").await
}

pub(crate) async fn subject_named(node: &Node, name: &str) -> Subject {
    let admin = node.admin();
    let id = node.user(name).await;
    let mut teams = Vec::new();
    for team in ["platform", "garden"] {
        let team = admin.post("/api/admin/v1/teams", &json!({ "name": format!("{team}-of-{name}") })).await;
        let team = team["id"].as_str().expect("the team's id").to_owned();
        admin.post(&format!("/api/admin/v1/teams/{team}/members"), &json!({ "user": name })).await;
        teams.push(team);
    }
    Subject { id, teams }
}

/// An invite for a grant on `user`'s tasks.
pub(crate) async fn invite(node: &Node, peer: &str, user: &str) -> String {
    let body = json!({ "peer": peer, "user": user, "scope": { "resources": ["tasks"] }, "limits": unlimited() });
    let created = node.admin().post("/api/admin/v1/grants", &body).await;
    created["invite"]["invite"].as_str().expect("an invite").to_owned()
}
