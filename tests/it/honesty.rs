//! An empty answer never looks healthy when it is not: a product of faults, verbs, selections and requirements against a model
//! of the rule (protocol.md, "Session query").

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::api::{Answer, Api};
use crate::harness::hostile::{Act, Door, Hostile, Play, answer, list_of, ok, row, rows};
use crate::harness::node::Node;
use crate::harness::sites::{self, items};
use crate::harness::wait::until;

/// The row that is asked for by `get`.
const WANTED: &str = "0198f3c0-0000-7000-8000-00000000abcd";

/// How one source behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Empty,
    HasRows,
    Refuses,
    Fails,
    Babbles,
    Limits,
    Denies,
    BreaksOff,
    Silent,
}

const QUICK: [Mood; 8] = [
    Mood::Empty,
    Mood::HasRows,
    Mood::Refuses,
    Mood::Fails,
    Mood::Babbles,
    Mood::Limits,
    Mood::Denies,
    Mood::BreaksOff,
];

impl Mood {
    fn answers(self) -> bool {
        matches!(self, Self::Empty | Self::HasRows)
    }

    fn play(self) -> Play {
        let whole = list_of(&rows("r", 3));
        match self {
            Self::Empty => Play::honest(Vec::new()),
            Self::HasRows => Play::honest(vec![row(WANTED, "wanted", 0)]),
            Self::Refuses => Play::honest(Vec::new()).behind(Door::Refuse),
            Self::Fails => says(answer("500 Internal Server Error", "", "")),
            Self::Babbles => says(ok("{\"items\":")),
            Self::Limits => says(answer("429 Too Many Requests", "retry-after: 0\r\n", "")),
            Self::Denies => {
                let body = r#"{"error":{"code":"forbidden","message":"m","request_id":"r"}}"#;
                says(answer("403 Forbidden", "content-type: application/json\r\n", body))
            }
            Self::BreaksOff => Play::acting(vec![Act::Say(whole[..whole.len() - 10].to_vec()), Act::Cut]),
            Self::Silent => Play::acting(vec![Act::Stay]),
        }
    }
}

fn says(bytes: Vec<u8>) -> Play {
    Play::acting(vec![Act::Say(bytes)])
}

/// A question about these two peers and the local rows.
#[derive(Debug, Clone)]
struct Ask {
    verb: &'static str,
    source: &'static str,
    require: Vec<&'static str>,
}

fn asks() -> Vec<Ask> {
    let selections: [(&str, &[&str]); 8] = [
        ("all", &[]),
        ("all", &["a"]),
        ("all", &["b"]),
        ("all", &["a", "b"]),
        ("all", &["local"]),
        ("federated:a", &[]),
        ("federated:b", &["b"]),
        ("local", &[]),
    ];
    let of = |verb| selections.map(|(source, require)| Ask { verb, source, require: require.to_vec() });
    of("list").into_iter().chain(of("get")).collect()
}

impl Ask {
    fn body(&self, deadline_ms: u64) -> Value {
        let mut body = json!({ "verb": self.verb, "resource": "tasks", "source": self.source, "require": self.require,
                               "deadline_ms": deadline_ms });
        if self.verb == "get" {
            body["id"] = json!(WANTED);
        }
        body
    }

    fn requested(&self) -> Vec<&'static str> {
        match self.source {
            "all" => vec!["local", "a", "b"],
            "local" => vec!["local"],
            peer => vec![peer.trim_start_matches("federated:")],
        }
    }

    /// What the rule says about an answer to this. Of one that was streamed and had rows the status was told before its end was known:
    /// there the last line has the error.
    fn check(&self, mood_of: impl Fn(&str) -> Mood, answer: &Answer, streamed: bool) {
        let requested = self.requested();
        let failed: Vec<&str> = requested.iter().copied().filter(|source| !mood_of(source).answers()).collect();
        let required: Vec<&str> = failed.iter().copied().filter(|source| self.require.contains(source)).collect();
        let blamed = if failed.len() == requested.len() { &failed } else { &required };
        let found = requested.iter().any(|source| mood_of(source) == Mood::HasRows);
        let status = match blamed.as_slice() {
            [] if self.verb == "get" && !found && failed.is_empty() => 404,
            [] => 200,
            blamed if blamed.iter().all(|source| mood_of(source) == Mood::Silent) => 504,
            _ => 502,
        };
        let moods: Vec<_> = requested.iter().map(|source| (*source, mood_of(source))).collect();
        let context = format!("{self:?} {moods:?} streamed: {streamed}: {}", answer.text());
        let head = if streamed && found { 200 } else { status };
        assert_eq!(answer.status.as_u16(), head, "{context}");
        assert_eq!(answer.json["_partial"], !failed.is_empty(), "{context}");
        assert_eq!(answer.json["error"].is_object(), status != 200, "{context}");
        assert_eq!(items(&answer.json).is_empty(), !found, "{context}");
        let named: BTreeSet<&str> =
            answer.json["_sources"].as_object().expect("sources").keys().map(String::as_str).collect();
        assert_eq!(named, requested.iter().copied().collect(), "{context}");
        for source in &requested {
            let entry = &answer.json["_sources"][*source];
            assert_eq!(entry["error"].is_object(), failed.contains(source), "{context}");
            let healthy =
                ["ok", "empty", "truncated", "cached"].contains(&entry["status"].as_str().unwrap_or_default());
            assert_eq!(healthy, !failed.contains(source), "{context}");
            assert_eq!(entry["status"] == "timed_out", mood_of(source) == Mood::Silent, "{context}");
        }
    }
}

/// A node without rows that never gives up on a peer, and two peers.
async fn stage() -> (Node, Api, Hostile, Hostile) {
    // Thirty questions at once may wait for a connection as long as a busy machine takes.
    let more = "[limits]\nbreaker_failures = 100\nbreaker_calls = 1000\nbreaker_window_s = 1\npool_wait_ms = 30000\ndatabase_connect_ms = 30000\n";
    let home = Node::start_with("home", more).await;
    home.user("ada").await;
    let ada = home.session("ada").await;
    let (a, b) = (Hostile::start("a").await, Hostile::start("b").await);
    for peer in [&a, &b] {
        sites::join(&home, "ada", &peer.invite()).await;
    }
    (home, ada, a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_never_looks_healthy_when_it_is_not() {
    let (home, ada, a, b) = stage().await;
    let quick = QUICK.iter().flat_map(|left| QUICK.map(|right| (*left, right)));
    let slow = [Mood::Empty, Mood::HasRows, Mood::Refuses, Mood::Silent];
    let slow = slow.iter().flat_map(|mood| [(*mood, Mood::Silent), (Mood::Silent, *mood)]);
    let combinations: Vec<(Mood, Mood)> = quick.chain(slow).collect();
    assert!(combinations.len() >= 50);
    for (left, right) in combinations {
        // Both well first: failures never come in so long a row that the breaker opens.
        for peer in [&a, &b] {
            peer.play(Mood::Empty.play());
        }
        until("both peers are well", || async {
            let answer = ada.query(json!({ "verb": "list", "resource": "tasks" })).await;
            (answer.json["_partial"] == false).then_some(())
        })
        .await;
        a.play(left.play());
        b.play(right.play());
        let silent = left == Mood::Silent || right == Mood::Silent;
        let deadline_ms = if silent { 1_500 } else { 10_000 };
        let mood_of = |source: &str| match source {
            "a" => left,
            "b" => right,
            _ => Mood::Empty,
        };
        for streamed in [false, true] {
            join_all(asks().into_iter().map(|ask| {
                let (ada, body) = (&ada, ask.body(deadline_ms));
                async move {
                    let answer = if streamed { ada.stream_whole(body).await } else { ada.query(body).await };
                    ask.check(mood_of, &answer, streamed);
                }
            }))
            .await;
        }
    }

    local_rows_that_do_not_come(&home, &ada, &a, &b).await;
}

/// The same when the local rows are what is missing.
async fn local_rows_that_do_not_come(home: &Node, ada: &Api, a: &Hostile, b: &Hostile) {
    let holder = home.database().connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
    for (left, right) in [(Mood::Empty, Mood::Empty), (Mood::HasRows, Mood::Fails), (Mood::Refuses, Mood::Silent)] {
        a.play(left.play());
        b.play(right.play());
        let mood_of = |source: &str| match source {
            "a" => left,
            "b" => right,
            _ => Mood::Silent,
        };
        join_all(asks().into_iter().map(|ask| async move {
            ask.check(mood_of, &ada.query(ask.body(1_500)).await, false);
            ask.check(mood_of, &ada.stream_whole(ask.body(1_500)).await, true);
        }))
        .await;
    }
    holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
}
