//! One question to many sites. The peers are real to the node: enrolled, over mutual TLS; their answers cost next to nothing, so
//! that what is measured is the node that asks.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
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
/// Longest wait until new links are watched, or a healed one answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before memory is looked at; longer than [`SHORT_IDLE`].
const REST: Duration = Duration::from_secs(2);
/// A limit that closes what a link asks with as soon as it rests, and not after a minute.
pub(crate) const SHORT_IDLE: &str = "peer_connection_idle_s = 1\n";

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
        Self::with_limits(cluster, peers, rows, delays, joined, "").await
    }

    /// As [`Home::with_peers`], with these lines among the node's limits.
    pub(crate) async fn with_limits(
        cluster: &Cluster,
        peers: usize,
        rows: usize,
        delays: RangeInclusive<Duration>,
        joined: usize,
        limits: &str,
    ) -> Self {
        let database = format!("home_{}", uuid::Uuid::new_v4().simple());
        let node = Node::start("home", &cluster.create(&database).await, None, limits);
        node.user("ada").await;
        let token = node.session_token("ada").await;
        let home = Self { node, peers: Peers::start(peers, rows, delays), token, links: RefCell::default() };
        home.join(0..joined).await;
        home
    }

    /// Links these peers, and waits until each of them is watched: a link at rest has two connections.
    pub(crate) async fn join(&self, which: Range<usize>) {
        for index in which {
            self.link(&self.peers.invite(index)).await;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.peers.watched() < self.links.borrow().len() {
            assert!(Instant::now() < deadline, "only {} peers are watched", self.peers.watched());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn link(&self, invite: &str) {
        let link = json!({ "invite": invite, "user": "ada", "allow_private": true });
        let link = self.node.admin().post("/api/admin/v1/links", &link).await;
        self.links.borrow_mut().push(link["id"].as_str().expect("the link's id").to_owned());
    }

    /// Lets the link ask at once, whatever its breaker says.
    async fn reset_breaker(&self, index: usize) {
        let path = format!("/api/admin/v1/links/{}/reset-breaker", self.links.borrow()[index]);
        self.node.admin().post(&path, &json!({})).await;
    }

    /// The peer that will say nothing: one in the middle, which decides no healthy time.
    fn hole(&self) -> usize {
        self.peers.len() / 2
    }

    /// Has a peer that said nothing answer as before, and asks until it does and its connection is warm again.
    async fn heal(&self, index: usize) {
        self.peers.restore(index);
        self.reset_breaker(index).await;
        let target = self.question(&format!("federated:{}", self.peers.name(index)), "application/json");
        let mut connection = Connection::open(&target).await.expect("a connection");
        let deadline = Instant::now() + PATIENCE;
        // The first question after a reset may be refused while the link probes by itself.
        while connection.answer(&target.request).await.expect("an answer").status != 200 {
            assert!(Instant::now() < deadline, "{} stays away", self.peers.name(index));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.latencies("all", 2).await;
    }

    fn question(&self, source: &str, accept: &str) -> Target {
        let body = json!({ "verb": "list", "resource": "tasks", "source": source, "limit": ROWS }).to_string();
        Target::question(self.node.api(), &self.token, accept, &body)
    }

    /// Kibibytes, after every link was used a moment ago.
    pub(crate) async fn resident_in_use(&self) -> f64 {
        self.latencies("all", 5).await;
        self.resident_at_rest().await
    }

    /// Kibibytes, after the node has rested.
    pub(crate) async fn resident_at_rest(&self) -> f64 {
        tokio::time::sleep(REST).await;
        self.node.family().resident_kib() as f64
    }

    /// Milliseconds of so many questions, one after the other, to sources that are all well. The first one warms up and does not
    /// count.
    pub(crate) async fn latencies(&self, source: &str, count: usize) -> Vec<f64> {
        self.latencies_without(source, count, None).await
    }

    /// As [`Home::latencies`], where one peer must be missing from the answers.
    async fn latencies_without(&self, source: &str, count: usize, lost: Option<&str>) -> Vec<f64> {
        let target = self.question(source, "application/json");
        let mut connection = Connection::open(&target).await.expect("a connection");
        let mut times = Vec::new();
        for number in 0..=count {
            let asked = Instant::now();
            let answer = connection.answer(&target.request).await.expect("an answer");
            let took = asked.elapsed();
            assert_eq!(answer.status, 200, "{}", answer.text());
            if number == 0 || number == count {
                self.check_sources(source, &answer.body, lost);
            }
            if number > 0 {
                times.push(took.as_secs_f64() * 1e3);
            }
        }
        times
    }

    /// Every source has answered, but for the one that must not have.
    fn check_sources(&self, asked: &str, answer: &[u8], lost: Option<&str>) {
        let answer: Value = serde_json::from_slice(answer).expect("JSON");
        let sources = answer["_sources"].as_object().expect("an account of the sources");
        let expected = if asked == "all" { 1 + self.links.borrow().len() } else { 1 };
        assert_eq!(sources.len(), expected, "{}", answer["_sources"]);
        for (name, source) in sources {
            // A page holds the newest rows of all, so that most peers have more; the asker's own node has none.
            let healthy: &[&str] = if name == "local" { &["empty"] } else { &["ok", "truncated"] };
            let status = source["status"].as_str().expect("a status");
            assert_eq!(healthy.contains(&status), lost != Some(name.as_str()), "{name}: {source}");
        }
    }

    /// Milliseconds until every row of the peers but `others` had arrived in a streamed answer.
    async fn arrival(&self, others: &[usize], lost: Option<&str>) -> f64 {
        let target = self.question("all", "application/x-ndjson");
        let mut connection = Connection::open(&target).await.expect("a connection");
        let lines = connection.stream(&target.request).await.expect("a streamed answer");
        let (_, trailer) = lines.last().expect("the account of the sources");
        self.check_sources("all", trailer, lost);
        let others: Vec<_> = others.iter().map(|index| self.peers.name(*index)).collect();
        let counted: Vec<_> = lines.iter().filter(|(_, line)| is_row_of_none(line, &others)).collect();
        assert_eq!(counted.len(), (self.peers.len() - others.len()) * ROWS, "every row, once");
        counted.last().expect("rows").0.as_secs_f64() * 1e3
    }

    /// p50 of the peer that answers slowest when it is asked alone.
    async fn slowest_alone(&self, count: usize) -> f64 {
        let slowest = self.peers.len() - 1;
        median(self.latencies(&format!("federated:{}", self.peers.name(slowest)), count).await)
    }
}

/// Whether a line of a streamed answer is a row, and not of one of these.
fn is_row_of_none(line: &[u8], others: &[&str]) -> bool {
    let line: Value = serde_json::from_slice(line).expect("JSON");
    line["_source"].as_str().is_some_and(|source| !others.contains(&source))
}

/// Healthy peers in growing numbers; with 32 of them what a black hole and slow ones do to the others.
pub(crate) async fn fan_out(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start();
    let count = effort.pick(45, 400);
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
            rows.push(slow(&home).await);
            rows.push(black_hole(&home, effort.pick(10, 30)).await);
            rows.push(open_breaker(&home, count).await);
        }
    }
    let home = Home::with_peers(&cluster, 32, ROWS, Duration::ZERO..=Duration::ZERO, 32).await;
    let (all, alone) = (median(home.latencies("all", count).await), home.slowest_alone(count).await);
    let note = "p50; peers answer at once: the work of 32 answers on this machine's cores";
    rows.push(Row::beside("fan_out_32_no_delay", all, ("one alone", alone), "ms", Promise::None).with_note(note));
    rows
}

/// What peers that are slow do to the others' rows.
async fn slow(home: &Home) -> Row {
    let slow: Vec<usize> = (0..home.peers.len()).filter(|index| index % 10 == 5).collect();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    home.arrival(&slow, None).await;
    for _ in 0..10 {
        without.push(home.arrival(&slow, None).await);
        slow.iter().for_each(|index| home.peers.delay(*index, Some(Duration::from_millis(300))));
        with.push(home.arrival(&slow, None).await);
        slow.iter().for_each(|index| home.peers.restore(*index));
    }
    let note = format!(
        "streamed: until every row of the same {} had arrived, p50; the others take 300 ms",
        home.peers.len() - slow.len()
    );
    Row::beside("fan_out_32_slow", median(with), ("without slow ones", median(without)), "ms", Promise::None)
        .with_note(note)
}

/// What a peer that says nothing does to the others' rows, while its breaker is closed. Both sides wait for the same rows.
async fn black_hole(home: &Home, samples: usize) -> Row {
    let hole = home.hole();
    let (mut healthy, mut holed) = (Vec::new(), Vec::new());
    home.arrival(&[hole], None).await;
    for _ in 0..samples {
        healthy.push(home.arrival(&[hole], None).await);
        home.peers.delay(hole, None);
        holed.push(home.arrival(&[hole], Some(home.peers.name(hole))).await);
        home.heal(hole).await;
    }
    let promise = Promise::AtMostTheirs(1.05, 1.0);
    let row = Row::beside("fan_out_32_black_hole", median(holed), ("all healthy", median(healthy)), "ms", promise);
    row.with_note("streamed: until every row of the same 31 had arrived, p50")
}

/// What a peer costs whose breaker is open. Open and healthy in turn, so that both meet the same weather.
async fn open_breaker(home: &Home, count: usize) -> Row {
    let hole = home.hole();
    let lost = Some(home.peers.name(hole));
    let (mut open, mut healed) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        home.peers.delay(hole, None);
        // The breaker opens with the third failure.
        for _ in 0..3 {
            home.arrival(&[hole], lost).await;
        }
        open.extend(home.latencies_without("all", count / 2, lost).await);
        home.heal(hole).await;
        healed.extend(home.latencies("all", count / 2).await);
    }
    let promise = Promise::RatioAtMost(1.05);
    Row::beside("fan_out_32_open", median(open), ("all healthy", median(healed)), "ms", promise)
        .with_note("p50 once the breaker is open")
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
        home.link(&invite).await;
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
    let note =
        "p50; eight real nodes and their databases; fdw: Append of Async Foreign Scans, no TLS, no rights, no audit";
    vec![row.with_note(note)]
}

mod fdw;
