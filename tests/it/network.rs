//! What only a network can do to two nodes: swallow packets, vanish, come back. The owner runs in a network namespace of its own, behind
//! a virtual cable; that needs root, iproute2 and nftables. Where the machine does not allow it, the test says so and passes.

use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::api::Api;
use crate::harness::node::{Node, search_path};
use crate::harness::sites::{self, titles};
use crate::harness::wait::until;

/// A network of two machines: this one, and the namespace. Dropping it takes it away.
pub(crate) struct Space {
    pub(crate) name: String,
    cable: String,
    /// The namespace's end.
    pub(crate) address: String,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).env("PATH", search_path()).env("LC_ALL", "C").output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

impl Space {
    /// Lays the cable, or says why this machine does not let it be laid.
    fn lay() -> Result<Self, String> {
        let id = std::process::id();
        // A /30 of 198.18.0.0/15, which is set aside for tests (RFC 2544), by the process's number.
        let (name, cable) = (format!("mosaic-{id}"), format!("ms{id}"));
        let third = id / 64 % 256;
        let [here, there] = [1, 2].map(|host| format!("198.18.{third}.{}", id % 64 * 4 + host));
        run("ip", &["netns", "add", &name])?;
        let space = Self { name: name.clone(), cable: cable.clone(), address: there.clone() };
        let inner = format!("{cable}i");
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", &inner, "netns", &name])?;
        run("ip", &["addr", "add", &format!("{here}/30"), "dev", &cable])?;
        run("ip", &["link", "set", &cable, "up"])?;
        space.inside(&["ip", "addr", "add", &format!("{there}/30"), "dev", &inner])?;
        space.inside(&["ip", "link", "set", &inner, "up"])?;
        space.inside(&["ip", "link", "set", "lo", "up"])?;
        // Tried once, so that a machine without it is told apart from a test that fails.
        space.swallow()?;
        space.pass()?;
        Ok(space)
    }

    fn inside(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["netns", "exec", &self.name], arguments].concat())
    }

    /// A firewall drops every packet in and out: nobody is told anything.
    fn swallow(&self) -> Result<(), String> {
        let chain =
            |hook| format!("add chain inet mosaic {hook} {{ type filter hook {hook} priority 0; policy drop; }}");
        self.inside(&["nft", &format!("add table inet mosaic; {}; {}", chain("input"), chain("output"))])
    }

    fn pass(&self) -> Result<(), String> {
        self.inside(&["nft", "delete table inet mosaic"])
    }

    /// The cable is pulled, or put back.
    fn cable(&self, state: &str) -> Result<(), String> {
        run("ip", &["link", "set", &self.cable, state])
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // The cable goes with the namespace. Should that fail, the next run has another number.
        let _left_behind = run("ip", &["netns", "del", &self.name]);
    }
}

fn laid() -> Option<Space> {
    match Space::lay() {
        Ok(space) => Some(space),
        Err(why) => {
            // Past the test harness, which keeps what passing tests print.
            let _lost = writeln!(std::io::stderr(), "SKIPPED: network::* need root, iproute2 and nftables: {why}");
            None
        }
    }
}

struct Stage {
    space: Space,
    home: Node,
    work: Node,
    ada: Api,
}

/// Quick to notice, so that the test is; a breaker that would stay open for an hour if nobody were heard from.
const QUICK: &str = "[limits]\npeer_keepalive_ms = 1000\npeer_unacknowledged_ms = 2000\nwatch_retry_ms = 100\nwatch_retry_max_ms = 500\n\
                     breaker_open_s = 3600\nbreaker_open_max_s = 3600\nwatch_heartbeat_ms = 1000\n";

async fn stage(space: Space) -> Stage {
    let (home, work) =
        futures_util::future::join(Node::start_with("home", QUICK), Node::start_inside("work", &space, QUICK)).await;
    home.user("ada").await;
    work.user("ada").await;
    let (ada, at_work) = (home.session("ada").await, work.session("ada").await);
    home.import(&ada, "tasks", &sites::tasks("home", 1, "2026-03-01T12:00:00Z", None)).await;
    work.import(&at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T11:00:00Z", None)).await;
    let (_, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    sites::join(&home, "ada", &invite).await;
    let stage = Stage { space, home, work, ada };
    stage.healed("at first").await;
    stage
}

impl Stage {
    async fn link(&self) -> Value {
        self.ada.get("/api/v1/status").await.expect(200)["links"][0].clone()
    }

    async fn list(&self) -> Value {
        self.ada.query(json!({ "verb": "list", "resource": "tasks", "deadline_ms": 10_000 })).await.expect(200)
    }

    /// The watch is up, and a question has both sites' rows.
    async fn healed(&self, when: &str) {
        until(&format!("{when}: the watch is up and everybody answers"), || async {
            let answer = self.list().await;
            let whole = titles(&answer) == ["home 0", "work 0"];
            (whole && self.link().await["watch"]["state"] == "up").then_some(())
        })
        .await;
    }

    /// Local rows come, the peer's do not, and the reason is one of these.
    async fn lost(&self, statuses: &[&str]) {
        let answer = self.list().await;
        assert_eq!(titles(&answer), ["home 0"], "{answer}");
        assert!(statuses.iter().any(|status| answer["_sources"]["work"]["status"] == *status), "{answer}");
    }

    /// Nobody asks anything, and still the watch is known to be down.
    async fn noticed(&self, what: &str) {
        let began = Instant::now();
        until(&format!("{what} is noticed without a question"), || async {
            (self.link().await["watch"]["state"] == "down").then_some(())
        })
        .await;
        println!("{what}: noticed after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_network_that_swallows_breaks_or_loses_a_peer_is_noticed_costs_only_its_rows_and_heals() {
    let Some(space) = laid() else { return };
    let mut stage = stage(space).await;

    // A firewall drops everything: first a connection that was open, then new ones, then nobody is asked any more.
    stage.space.swallow().expect("the firewall");
    stage.noticed("a black hole").await;
    for _ in 0..3 {
        stage.lost(&["timed_out", "breaker_open"]).await;
    }
    stage.lost(&["breaker_open"]).await;
    stage.space.pass().expect("the firewall is gone");
    // The breaker would stay open for an hour: that the peer is heard from is what heals.
    stage.healed("behind the black hole").await;

    // The cable is pulled.
    stage.space.cable("down").expect("the cable is pulled");
    stage.noticed("a partition").await;
    stage.lost(&["unreachable", "timed_out", "breaker_open"]).await;
    stage.space.cable("up").expect("the cable is back");
    stage.healed("behind the partition").await;

    // The peer's machine vanishes: its process dies and no packet tells. Half-open connections stay behind.
    stage.space.swallow().expect("the firewall");
    stage.work.kill();
    stage.noticed("a machine that vanished").await;
    stage.space.pass().expect("the firewall is gone");
    stage.work.serve();
    stage.healed("behind the lost machine").await;
    drop(stage.home);
}
