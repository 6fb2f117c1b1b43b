//! One question to many sites. The peers are real to the node: enrolled, over mutual TLS; their answers cost next to nothing, so
//! that what is measured is the node that asks.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use crate::Effort;
use crate::case::{Row, Target as Promise};
use crate::driver::{Connection, Target};
use crate::ground::{Cluster, Ground, Node};
use crate::peers::Peers;
use crate::rounds::median;

/// Answers of peers take as long as they do from other places: a few milliseconds to a few dozen.
const FAR: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(25);
const ROWS: usize = 50;

/// The node that asks, a user of it with a link to every peer, and her session.
pub(crate) struct Home {
    pub(crate) node: Node,
    peers: Peers,
    token: String,
    links: RefCell<Vec<String>>,
}

impl Home {
    /// `peers` sites, of which the first `joined` are linked.
    pub(crate) async fn with_peers(
        cluster: &Cluster,
        peers: usize,
        rows: usize,
        delays: RangeInclusive<Duration>,
        joined: usize,
    ) -> Self {
        let database = format!("home_{}", uuid::Uuid::new_v4().simple());
        let node = Node::start("home", &cluster.create(&database).await, None, "");
        node.user("ada").await;
        let token = node.session_token("ada").await;
        let home = Self { node, peers: Peers::start(peers, rows, delays), token, links: RefCell::default() };
        home.join(0..joined).await;
        home
    }

    pub(crate) async fn join(&self, which: Range<usize>) {
        let admin = self.node.admin();
        for index in which {
            let link = json!({ "invite": self.peers.invite(index), "user": "ada", "allow_private": true });
            let link = admin.post("/api/admin/v1/links", &link).await;
            self.links.borrow_mut().push(link["id"].as_str().expect("the link's id").to_owned());
        }
    }

    /// Lets the link ask at once, whatever its breaker says.
    async fn reset_breaker(&self, index: usize) {
        let path = format!("/api/admin/v1/links/{}/reset-breaker", self.links.borrow()[index]);
        self.node.admin().post(&path, &json!({})).await;
    }

    fn question(&self, source: &str, accept: &str) -> Target {
        let body = json!({ "verb": "list", "resource": "tasks", "source": source, "limit": ROWS }).to_string();
        Target::question(self.node.api(), &self.token, accept, &body)
    }

    /// Kibibytes, after every link was used and the node has rested.
    pub(crate) async fn resident_at_rest(&self) -> f64 {
        self.latencies("all", 5).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.node.family().resident_kib() as f64
    }

    /// Milliseconds of so many questions, one after the other. The first one warms up and does not count.
    pub(crate) async fn latencies(&self, source: &str, count: usize) -> Vec<f64> {
        let target = self.question(source, "application/json");
        let mut connection = Connection::open(&target).await.expect("a connection");
        let mut times = Vec::new();
        for number in 0..=count {
            let asked = Instant::now();
            connection.ask(&target.request).await.expect("an answer");
            if number > 0 {
                times.push(asked.elapsed().as_secs_f64() * 1e3);
            }
        }
        times
    }

    /// Milliseconds until so many rows had arrived in a streamed answer.
    async fn arrival(&self, rows: usize) -> f64 {
        let target = self.question("all", "application/x-ndjson");
        let mut connection = Connection::open(&target).await.expect("a connection");
        let pieces = connection.stream(&target.request).await.expect("a streamed answer");
        let arrived = pieces.iter().find(|(_, lines)| *lines >= rows).expect("the rows arrive");
        arrived.0.as_secs_f64() * 1e3
    }

    /// p50 of the peer that answers slowest when it is asked alone.
    async fn slowest_alone(&self, count: usize) -> f64 {
        let slowest = self.peers.len() - 1;
        median(self.latencies(&format!("federated:{}", self.peers.name(slowest)), count).await)
    }
}

/// Healthy peers in growing numbers; with 32 of them what a black hole and slow ones do to the others.
pub(crate) async fn fan_out(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start();
    let count = effort.pick(60, 400);
    let mut rows = Vec::new();
    for peers in [1, 8, 32, 128] {
        let home = Home::with_peers(&cluster, peers, ROWS, FAR, peers).await;
        home.latencies("all", 3).await;
        let (mut all, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            all.extend(home.latencies("all", count / 4).await);
            alone.push(home.slowest_alone(count / 4).await);
        }
        let (all, alone) = (median(all), median(alone));
        let promise = if peers == 32 { Promise::AtMostTheirs(1.15, 1.0) } else { Promise::None };
        let note = format!("p50; peers answer after {} to {} ms", FAR.start().as_millis(), FAR.end().as_millis());
        rows.push(
            Row::beside(format!("fan_out_{peers}"), all, ("the slowest alone", alone), "ms", promise).with_note(note),
        );
        if peers == 32 {
            rows.extend(black_hole(&home, count).await);
        }
    }
    let home = Home::with_peers(&cluster, 32, ROWS, Duration::ZERO..=Duration::ZERO, 32).await;
    let (all, alone) = (median(home.latencies("all", count).await), home.slowest_alone(count).await);
    let note = "p50; peers answer at once: the work of 32 answers on this machine's cores";
    rows.push(Row::beside("fan_out_32_no_delay", all, ("one alone", alone), "ms", Promise::None).with_note(note));
    rows
}

async fn black_hole(home: &Home, count: usize) -> Vec<Row> {
    let last = home.peers.len() - 1;
    // All rows but those of one peer: what a session gets without the one that will fail.
    let others = last * ROWS;
    let mut arrivals = Vec::new();
    home.arrival(others).await;
    for _ in 0..5 {
        arrivals.push(home.arrival(others).await);
    }
    let arrival = median(arrivals);
    let hole = last / 2;
    let slow: Vec<usize> = (0..home.peers.len()).filter(|index| index % 10 == 5).collect();
    for index in &slow {
        home.peers.delay(*index, Some(Duration::from_millis(300)));
    }
    let with_slow = home.arrival(ROWS * (last + 1 - slow.len())).await;
    for index in &slow {
        home.peers.delay(*index, Some(Duration::from_millis(15)));
    }
    home.peers.delay(hole, None);
    let mut before = Vec::new();
    // The breaker opens with the third failure.
    for _ in 0..3 {
        before.push(home.arrival(others).await);
    }
    // Open and healthy in turn, so that both meet the same weather.
    let (mut open, mut healed) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        open.extend(home.latencies("all", count / 2).await);
        home.peers.delay(hole, Some(Duration::from_millis(15)));
        home.reset_breaker(hole).await;
        home.latencies("all", 3).await;
        healed.extend(home.latencies("all", count / 2).await);
        home.peers.delay(hole, None);
        for _ in 0..3 {
            home.arrival(others).await;
        }
    }
    let (open, healed) = (median(open), median(healed));
    let note = "streamed: until every row of the other 31 had arrived";
    vec![
        Row::beside("fan_out_32_slow", with_slow, ("without slow ones", arrival), "ms", Promise::None)
            .with_note("streamed: until every row of the healthy 28 had arrived; the others take 300 ms"),
        Row::beside(
            "fan_out_32_black_hole",
            median(before),
            ("all healthy", arrival),
            "ms",
            Promise::AtMostTheirs(1.05, 1.0),
        )
        .with_note(note),
        Row::beside("fan_out_32_open", open, ("all healthy", healed), "ms", Promise::RatioAtMost(1.05))
            .with_note("p50 once the breaker is open"),
    ]
}

/// Eight real nodes with a database each, beside one Postgres that reaches the same eight databases by `postgres_fdw`.
pub(crate) async fn beside_fdw(effort: Effort) -> Vec<Row> {
    let ground = Ground::with_rows(10_000).await;
    let cluster = &ground.cluster;
    let home = Home::with_peers(cluster, 0, 0, Duration::ZERO..=Duration::ZERO, 0).await;
    let mut owners = Vec::new();
    for index in 0..8 {
        let database = format!("owner_{index}");
        let node = Node::start(&format!("owner-{index}"), &cluster.create(&database).await, None, "");
        let subject = crate::ground::subject(&node).await;
        cluster.fill(&database, &subject, 10_000).await;
        let invite = crate::ground::invite(&node, "home", "ada").await;
        let link = json!({ "invite": invite, "user": "ada", "allow_private": true });
        home.node.admin().post("/api/admin/v1/links", &link).await;
        owners.push((node, subject, database));
    }
    let sources: Vec<_> = owners.iter().map(|(_, subject, database)| (database.as_str(), subject)).collect();
    let fdw = fdw::Foreign::connect(cluster, &sources).await;
    let count = effort.pick(100, 1_000);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    fdw.latencies(5).await;
    home.latencies("all", 5).await;
    for _ in 0..4 {
        ours.extend(home.latencies("all", count / 4).await);
        theirs.extend(fdw.latencies(count / 4).await);
    }
    drop(join_all(owners.into_iter().map(|owner| async move { drop(owner) })).await);
    let row = Row::beside("fan_out_8_fdw", median(ours), ("postgres_fdw", median(theirs)), "ms", Promise::None);
    vec![row.with_note("p50; eight real nodes and their databases; fdw: async_capable, no TLS, no rights, no audit")]
}

mod fdw;
