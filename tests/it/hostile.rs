//! A dead, slow or lying peer costs nobody else anything: every way to misbehave that we know, against a real node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::api::Answer;
use crate::harness::hostile::{
    A_DAY, Act, Authority, Door, Hostile, Passport, Play, answer, chunk, chunked_head, list_of, ok, row, rows,
};
use crate::harness::node::Node;
use crate::harness::sites::{self, Sites, items};
use crate::harness::wait::until;

mod cases;
mod enrolment;
mod truncation;

/// How much longer than its deadline an answer may take on a machine that many tests share. It only bounds a failure.
const SLACK: Duration = Duration::from_secs(4);
/// By how much all the misbehaviour at once may raise the node's peak of memory: seven peers fill their cap of 4 MiB at the
/// same time, and a buffer that grows is held twice for a moment.
const MEMORY_GROWTH_KIB: u64 = 64 * 1024;

/// All peers send at once, and some of them 4 MiB: on a machine without a free core that takes longer than the usual 3 s. And nobody
/// tries to watch meanwhile, so that connections can be counted.
const ALONE: &str = "[limits]\npeer_budget_ms = 15000\npool_wait_ms = 30000\ndatabase_connect_ms = 30000\nwatch_retry_ms = 600000\nwatch_retry_max_ms = 3600000\n";

/// One way to misbehave, and what a session is told of it.
struct Case {
    /// Also the name of the peer.
    name: &'static str,
    play: Play,
    told: Told,
}

/// The entry in `_sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    status: &'static str,
    /// `code` and `stage` of a source that failed; stages joined by `|` where the kernel decides.
    error: Option<(&'static str, &'static str)>,
    rows: u64,
    /// Whether the breaker counts it as a failure.
    counts: bool,
    /// Whether the link remembers it, so that the next question is answered without a call.
    remembered: bool,
}

impl Told {
    fn rows(rows: u64) -> Self {
        Self { status: if rows == 0 { "empty" } else { "ok" }, error: None, rows, counts: false, remembered: false }
    }

    fn failure(status: &'static str, code: &'static str, stage: &'static str) -> Self {
        Self { status, error: Some((code, stage)), rows: 0, counts: true, remembered: false }
    }

    fn refusal(status: &'static str, code: &'static str, stage: &'static str) -> Self {
        Self { counts: false, ..Self::failure(status, code, stage) }
    }

    fn remembered(self) -> Self {
        Self { remembered: true, ..self }
    }

    /// What the second question is told.
    fn again(&self) -> Self {
        let error = self.error.map(|(code, stage)| (code, if self.remembered { "admission" } else { stage }));
        Self { error, ..self.clone() }
    }

    /// What is wrong with this entry of `_sources`.
    fn problem(&self, name: &str, source: &Value) -> Option<String> {
        let error = &source["error"];
        let right = source["status"] == self.status
            && source["rows"] == self.rows
            && match self.error {
                None => error.is_null(),
                Some((code, stages)) => error["code"] == code && stages.split('|').any(|stage| error["stage"] == stage),
            };
        (!right).then(|| format!("{name}: expected {self:?}, got {source}"))
    }

    #[track_caller]
    fn check(&self, name: &str, source: &Value) {
        assert_eq!(self.problem(name, source), None);
    }
}

/// A port of this machine that nobody may be sent to.
struct Trap {
    port: u16,
    caught: Arc<AtomicU64>,
}

impl Trap {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let caught = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&caught);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, caught }
    }
}

/// Enrols `home` with a hostile site, for `ada`: the link's id.
async fn link(home: &Node, hostile: &Hostile) -> String {
    sites::join(home, "ada", &hostile.invite()).await
}

/// Waits until `home` knows what these peers can do: from then on it calls them only when it is asked.
async fn capabilities_known(sites: &Sites, names: &[&str]) {
    until("the capabilities of all links are known", || async {
        let status = sites.ada_at_home.get("/api/v1/status").await.expect(200);
        let links = status["links"].as_array().expect("links");
        let known = |name: &&str| {
            links
                .iter()
                .any(|link| link["peer"] == **name && link["resources"].as_array().is_some_and(|r| !r.is_empty()))
        };
        names.iter().all(known).then_some(())
    })
    .await;
}

fn list(source: &str) -> Value {
    json!({ "verb": "list", "resource": "tasks", "source": source, "limit": 200, "deadline_ms": 20_000 })
}

/// The rows of each source in an answer, by title, in their order.
fn by_source(answer: &Value) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in items(answer) {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        found.entry(text("_source")).or_default().push(text("title"));
    }
    found
}

fn titles(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix} {index}")).collect()
}

/// The status of an answer for which only this source was asked.
fn status_alone(told: &Told) -> u16 {
    match (told.status, told.error) {
        (_, None) => 200,
        ("timed_out", _) => 504,
        _ => 502,
    }
}

/// Runs all of it, a few at a time: how a node behaves with more than it can do is another test.
async fn at_ease<T>(work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures_util::stream::iter(work).buffered(16).collect().await
}

/// Both real nodes with rows, and one link per case, each peer still honest.
async fn stage(cases: &[Case], local_ids: &mut Vec<String>) -> (Sites, Vec<(Hostile, String)>) {
    let sites = sites::joined_as(json!({ "resources": ["tasks", "notes"] }), ALONE).await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 20, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 20, "2026-03-01T11:30:00Z", None)).await;
    let own = sites.ada_at_home.query(list("local")).await.expect(200);
    local_ids.extend(items(&own).iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
    let enrolled = cases.iter().map(|case| async {
        let hostile = Hostile::start(case.name).await;
        let id = link(&sites.home, &hostile).await;
        (hostile, id)
    });
    let peers = at_ease(enrolled).await;
    let mut names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    names.push("work");
    capabilities_known(&sites, &names).await;
    (sites, peers)
}

/// All peers misbehave at once in one question; then each is asked alone, until its breaker opens; then each is healed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_to_misbehave_costs_other_sources_a_row_or_the_answer_its_deadline() {
    let trap = Trap::set().await;
    let local_ids: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let cases = cases::all(trap.port, &local_ids);
    let mut ids = Vec::new();
    let (sites, peers) = stage(&cases, &mut ids).await;
    *local_ids.lock().expect("no panic") = ids;
    let before = sites.home.peak_memory_kib();
    for (case, (hostile, _)) in cases.iter().zip(&peers) {
        hostile.play(case.play.clone());
    }

    let asked = Instant::now();
    let answer = sites.ada_at_home.query(list("all")).await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(20) + SLACK, "{:?}", asked.elapsed());
    let found = by_source(&answer);
    assert_eq!(found["local"], titles("home", 20));
    assert_eq!(found["work"], titles("work", 20));
    assert_eq!((answer["_partial"].clone(), answer["_truncated"].clone()), (json!(true), json!(false)));
    let problems = cases.iter().filter_map(|case| case.told.problem(case.name, &answer["_sources"][case.name]));
    assert_eq!(problems.collect::<Vec<_>>(), Vec::<String>::new());
    for case in &cases {
        assert_eq!(found.get(case.name).map_or(0, Vec::len) as u64, case.told.rows, "{}", case.name);
    }
    let grown = sites.home.peak_memory_kib().saturating_sub(before);
    assert!(grown < MEMORY_GROWTH_KIB, "the peak of memory grew by {grown} KiB");

    // The second failure. Who said 429 is not asked again before its time.
    at_ease(cases.iter().zip(&peers).map(|(case, (hostile, _))| async {
        let requests = hostile.requests().len();
        let alone = sites.ada_at_home.query(list(&format!("federated:{}", case.name))).await;
        let alone = alone.expect(status_alone(&case.told));
        case.told.again().check(case.name, &alone["_sources"][case.name]);
        assert_eq!(alone["_partial"], case.told.error.is_some(), "{}", case.name);
        assert!(!case.told.remembered || hostile.requests().len() == requests, "{} was asked again", case.name);
    }))
    .await;

    // The third opens the breaker of those whose failures count, and of no other. After that nothing goes out.
    at_ease(cases.iter().zip(&peers).map(|(case, (hostile, _))| async {
        let source = format!("federated:{}", case.name);
        let third = sites.ada_at_home.query(list(&source)).await;
        let breaker = if case.told.counts { "open" } else { "closed" };
        assert_eq!(third.json["_sources"][case.name]["breaker"], breaker, "{}: {}", case.name, third.text());
        if case.told.counts {
            let connections = hostile.connections();
            let refused = sites.ada_at_home.query(list(&source)).await.expect(502);
            Told::failure("breaker_open", "breaker_open", "admission")
                .check(case.name, &refused["_sources"][case.name]);
            assert_eq!(hostile.connections(), connections, "{}: an open breaker dials nobody", case.name);
        }
    }))
    .await;

    heal(&sites, &cases, &peers).await;
    assert_eq!(trap.caught.load(Ordering::SeqCst), 0, "a redirect was followed");
}

/// Every peer tells the truth again: after `reset-breaker` each is back, with its rows.
async fn heal(sites: &Sites, cases: &[Case], peers: &[(Hostile, String)]) {
    for (hostile, _) in peers {
        hostile.play(Play::honest(rows(&hostile.site, 1)));
    }
    at_ease(peers.iter().map(|(_, id)| async move {
        let reset = sites.home.admin().post(&format!("/api/admin/v1/links/{id}/reset-breaker"), json!({})).await;
        assert!(reset.status.is_success(), "{}", reset.text());
    }))
    .await;
    let answer = until("every peer answers again", || async {
        let answer = sites.ada_at_home.query(list("all")).await.expect(200);
        (answer["_partial"] == false).then_some(answer)
    })
    .await;
    let found = by_source(&answer);
    for case in cases {
        assert_eq!(found[case.name], titles(case.name, 1));
        assert_eq!(answer["_sources"][case.name]["breaker"], "closed");
    }
}

/// What a peer could send although nobody would read on.
#[tokio::test]
async fn an_endless_answer_is_hung_up_on_at_its_cap() {
    let sites = sites::joined().await;
    let hostile = Hostile::start("endless").await;
    link(&sites.home, &hostile).await;
    capabilities_known(&sites, &["endless"]).await;
    let before = sites.home.peak_memory_kib();
    hostile.play(Play::acting(vec![
        Act::Say(chunked_head("content-type: application/json\r\n")),
        Act::Flood(chunk(&[b' '; 65_536])),
    ]));
    for _ in 0..2 {
        let said = hostile.said();
        let answer = sites.ada_at_home.query(list("federated:endless")).await.expect(502);
        Told::failure("error", "peer_bad_answer", "body").check("endless", &answer["_sources"]["endless"]);
        // The cap, and what both kernels hold on the way.
        assert!(hostile.said() - said < 24 * 1024 * 1024, "{} bytes", hostile.said() - said);
    }
    let grown = sites.home.peak_memory_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "the peak of memory grew by {grown} KiB");
}

/// A second answer that nobody asked for, sent behind the first on the same connection, must not become the answer of the next
/// question.
#[tokio::test]
async fn an_answer_to_nothing_is_never_taken_for_the_next_questions() {
    let sites = sites::joined().await;
    let hostile = Hostile::start("eager").await;
    link(&sites.home, &hostile).await;
    capabilities_known(&sites, &["eager"]).await;
    let both = |asked: &str| [list_of(&rows(asked, 1)), list_of(&rows("planted", 1))].concat();
    hostile.play(Play::replying(move |asked| {
        let name = if asked.path.ends_with("/tasks") { "tasks" } else { "notes" };
        vec![Act::Say(both(name))]
    }));
    for resource in ["tasks", "notes", "tasks", "notes", "tasks", "notes"] {
        let query = json!({ "verb": "list", "resource": resource, "source": "federated:eager" });
        let answer = sites.ada_at_home.query(query).await.expect(200);
        assert_eq!(by_source(&answer)["eager"], titles(resource, 1));
    }
}

/// Never so slow that a pause is too long: the peer's whole budget ends it, and the others' rows are there.
#[tokio::test]
async fn a_body_that_drips_costs_its_peers_budget_and_no_more() {
    let sites = sites::joined_as(json!({ "resources": ["tasks"] }), "[limits]\npeer_budget_ms = 2000\n").await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 3, "2026-03-01T12:00:00Z", None)).await;
    let hostile = Hostile::start("drips").await;
    link(&sites.home, &hostile).await;
    capabilities_known(&sites, &["drips", "work"]).await;
    let answer = list_of(&rows("dripped", 3));
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let (head, body) = (answer[..head].to_vec(), answer[head..].to_vec());
    hostile.play(Play::acting(vec![Act::Say(head), Act::Drip(body, Duration::from_millis(500))]));
    let asked = Instant::now();
    let answer = sites.ada_at_home.query(list("all")).await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", asked.elapsed());
    // On a machine without a free core the end of the budget is noticed before the body's.
    Told::failure("timed_out", "peer_timeout", "body|admission").check("drips", &answer["_sources"]["drips"]);
    assert_eq!(by_source(&answer)["local"], titles("home", 3));
}

/// `get` and its answers: another row than the one asked, none, several.
#[tokio::test]
async fn another_row_than_the_one_asked_for_is_no_answer() {
    let sites = sites::joined().await;
    let hostile = Hostile::start("other-row").await;
    link(&sites.home, &hostile).await;
    capabilities_known(&sites, &["other-row"]).await;
    let asked = uuid::Uuid::new_v4().to_string();
    let other = row(&uuid::Uuid::new_v4().to_string(), "other", 0);
    let bodies = [
        json!({ "item": other }),
        json!({ "item": null }),
        json!({ "item": [row(&asked, "right", 0)] }),
        json!({ "items": [row(&asked, "right", 0)] }),
        json!([{ "item": row(&asked, "right", 0) }]),
    ];
    for body in bodies {
        let honest_so_that_failures_are_not_in_a_row = Play::honest(vec![row(&asked, "right", 0)]);
        hostile.play(honest_so_that_failures_are_not_in_a_row);
        let get = json!({ "verb": "get", "resource": "tasks", "id": asked, "source": "federated:other-row" });
        let answer = sites.ada_at_home.query(get.clone()).await.expect(200);
        assert_eq!(by_source(&answer)["other-row"], ["right"]);
        hostile.play(Play::acting(vec![Act::Say(ok(&body.to_string()))]));
        let answer = sites.ada_at_home.query(get).await.expect(502);
        Told::failure("error", "peer_bad_answer", "parse").check("other-row", &answer["_sources"]["other-row"]);
        assert_eq!(items(&answer), Vec::<Value>::new());
    }
}
