//! The watch: changes of a grant reach the link by themselves, are acknowledged, and cost nobody anything when they cannot.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::harness::asker::Asker;
use crate::harness::hostile::{Act, Hostile, Play, answer, chunk, chunked_head, rows};
use crate::harness::node::Node;
use crate::harness::sites::{self, Sites, titles};
use crate::harness::wait::{PATIENCE, until};
use crate::harness::wire::Wire;

/// The only link of `home`, as its user sees it.
async fn link(sites: &Sites) -> Value {
    sites.ada_at_home.get("/api/v1/status").await.expect(200)["links"][0].clone()
}

async fn until_link(sites: &Sites, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(what, || async { Some(link(sites).await).filter(|link| holds(link)) }).await
}

async fn change(owner: &Node, grant: &str, change: &str) {
    let answer = owner.admin().post(&format!("/api/admin/v1/grants/{grant}/{change}"), json!({})).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

/// Events of this action at the owner: their reasons, oldest first.
async fn audited(owner: &Node, action: &str) -> Vec<String> {
    let log = owner.admin().get("/api/admin/v1/audit?limit=200").await.expect(200);
    let events = log["items"].as_array().expect("events").iter().rev();
    let reason = |event: &Value| event["reason"].as_str().unwrap_or_default().to_owned();
    events.filter(|event| event["action"] == action).map(reason).collect()
}

#[tokio::test]
async fn a_change_of_the_grant_reaches_the_link_without_a_question_and_is_acknowledged() {
    let sites = sites::joined_with(json!({ "resources": ["tasks"] })).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T12:00:00Z", None)).await;
    let up = until_link(&sites, "the watch is up", |link| link["watch"]["state"] == "up").await;
    assert!(up["watch"]["since"].is_string(), "{up}");

    for (word, state) in [("suspend", "suspended"), ("resume", "active")] {
        let asked = Instant::now();
        change(&sites.work, &sites.grant, word).await;
        until_link(&sites, state, |link| link["state"] == state).await;
        println!("{word}: the link knows {:?} after the admin asked", asked.elapsed());
    }
    let path = format!("/api/admin/v1/grants/{}", sites.grant);
    let wider = json!({ "scope": { "resources": ["tasks", "notes"] } });
    sites.work.admin().patch(&path, wider).await.expect(200);
    until_link(&sites, "the wider scope is known", |link| link["resources"] == json!(["notes", "tasks"])).await;
    let answer = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(titles(&answer), ["work 0"]);

    let asked = Instant::now();
    change(&sites.work, &sites.grant, "revoke").await;
    let ended = until_link(&sites, "the revocation is known", |link| link["state"] == "revoked").await;
    println!("revoke: the link knows {:?} after the admin asked", asked.elapsed());
    assert_eq!(ended["resources"], Value::Null, "what it opened is forgotten: {ended}");
    let receipts = until("the receipts are written", || async {
        let receipts = audited(&sites.work, "receipt").await;
        receipts.last().is_some_and(|last| last == "grant_revoked").then_some(receipts)
    })
    .await;
    assert_eq!(receipts, ["grant_suspended", "grant_active", "grant_changed", "grant_revoked"]);
    let answer = sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks" })).await.expect(200);
    assert_eq!(answer["_sources"]["work"]["error"]["stage"], "admission", "nobody was asked: {answer}");
    until_link(&sites, "nothing is left to watch", |link| link["watch"]["state"] == "off").await;
    let listed = sites.home.cli(&["--api", &sites.home.api_url(), "federation", "status"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("revoked"), "{text}{}", String::from_utf8_lossy(&listed.stderr));
}

#[tokio::test]
async fn a_node_that_stops_ends_its_watches_at_once_and_its_askers_do_not_hold_it_against_it() {
    // Draining waits five minutes for requests; a watch is none of them.
    let mut sites = sites::joined_as(json!({ "resources": ["tasks"] }), "[limits]\ndrain_s = 300\n").await;
    until_link(&sites, "the watch is up", |link| link["watch"]["state"] == "up").await;
    let asked = Instant::now();
    assert!(sites.work.stop().success());
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    let down = until_link(&sites, "the watch is down", |link| link["watch"]["state"] == "down").await;
    assert_eq!((&down["breaker"], &down["state"]), (&json!("closed"), &json!("active")), "{down}");
    assert!(down["watch"]["code"].is_string() && down["watch"]["since"].is_string(), "{down}");
}

#[tokio::test]
async fn an_asker_that_starts_anew_watches_anew() {
    let mut sites = sites::joined().await;
    until_link(&sites, "the watch is up", |link| link["watch"]["state"] == "up").await;
    sites.home.kill();
    change(&sites.work, &sites.grant, "suspend").await;
    sites.home.serve();
    sites.ada_at_home = sites.home.session("ada").await;
    // What it missed is the first thing that it hears.
    until_link(&sites, "the suspension is known", |link| {
        link["state"] == "suspended" && link["watch"]["state"] == "up"
    })
    .await;
    change(&sites.work, &sites.grant, "resume").await;
    until_link(&sites, "the grant is back", |link| link["state"] == "active").await;
}

#[tokio::test]
async fn a_renewed_certificate_goes_on_watching_and_the_old_one_does_not() {
    let sites = sites::joined().await;
    until_link(&sites, "the watch is up", |link| link["watch"]["state"] == "up").await;
    let renewed = sites.home.admin().post(&format!("/api/admin/v1/links/{}/renew", sites.link), json!({})).await;
    renewed.expect(200);
    until_link(&sites, "the watch is up again", |link| link["watch"]["state"] == "up").await;
    change(&sites.work, &sites.grant, "suspend").await;
    until_link(&sites, "the suspension is known", |link| link["state"] == "suspended").await;
}

/// A watch by hand.
struct Watch {
    wire: Wire,
    bytes: Vec<u8>,
}

impl Watch {
    async fn open(asker: &Asker) -> Self {
        let mut wire = asker.wire().await;
        let head = "POST /api/federation/v1/watch HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        wire.send(head).await.expect("the request is sent");
        Self { wire, bytes: Vec::new() }
    }

    /// The next line; nothing when the answer has ended.
    async fn line(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                if line.starts_with(b"{") {
                    return Some(serde_json::from_slice(&line).expect("a line of JSON"));
                }
                if line == b"0\r\n" {
                    return None;
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.wire.stream.read_buf(&mut self.bytes)).await;
            if !matches!(read.expect("the owner says something"), Ok(read) if read > 0) {
                return None;
            }
        }
    }

    async fn event(&mut self) -> Option<String> {
        loop {
            let line = self.line().await?;
            if line["event"] != "heartbeat" {
                return Some(line["event"].as_str().expect("a word").to_owned());
            }
        }
    }
}

/// An owner that is quick about its heartbeats, and a holder who speaks by hand.
async fn holder(more: &str) -> (Node, String, Asker) {
    let work = Node::start_with("work", &format!("[limits]\nwatch_heartbeat_ms = 200\n{more}")).await;
    work.user("ada").await;
    let (grant, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    (work, grant, Asker::enroll(&invite).await)
}

#[tokio::test]
async fn a_watch_says_how_the_grant_stands_and_beats_in_between_and_ends_with_it() {
    let (work, grant, asker) = holder("watch_receipt_ms = 300\n").await;
    let mut watch = Watch::open(&asker).await;
    let first = watch.line().await.expect("the first line");
    assert_eq!((&first["event"], &first["number"]), (&json!("grant_active"), &json!(1)), "{first}");
    assert_eq!(watch.line().await.expect("a heartbeat"), json!({ "event": "heartbeat" }));
    for (word, event) in [("suspend", "grant_suspended"), ("resume", "grant_active"), ("suspend", "grant_suspended")] {
        change(&work, &grant, word).await;
        assert_eq!(watch.event().await.as_deref(), Some(event));
    }
    // Who holds a suspended grant may wait for it to come back, and nothing else.
    let mut second = Watch::open(&asker).await;
    assert_eq!(second.event().await.as_deref(), Some("grant_suspended"));
    assert_eq!(asker.get("capabilities").await.status, 403);
    change(&work, &grant, "revoke").await;
    for watch in [&mut watch, &mut second] {
        assert_eq!(watch.event().await.as_deref(), Some("grant_revoked"));
        // Nobody acknowledges: it ends all the same.
        assert_eq!(watch.line().await, None);
    }
    assert_eq!(audited(&work, "receipt").await, Vec::<String>::new());
    assert_eq!(audited(&work, "watch").await.len(), 2);
}

#[tokio::test]
async fn one_more_watch_of_a_grant_ends_the_oldest_and_takes_no_place_of_its_requests() {
    let (_work, _, asker) = holder("watches_per_grant = 2\ngrant_concurrent = 1\n").await;
    let mut watches = Vec::new();
    for _ in 0..3 {
        let mut watch = Watch::open(&asker).await;
        assert_eq!(watch.event().await.as_deref(), Some("grant_active"));
        watches.push(watch);
    }
    assert_eq!(watches[0].event().await.as_deref(), Some("superseded"));
    assert_eq!(watches[0].line().await, None);
    for watch in &mut watches[1..] {
        assert_eq!(watch.line().await.expect("still there"), json!({ "event": "heartbeat" }));
    }
    assert_eq!(asker.get("capabilities").await.status, 200);
}

#[tokio::test]
async fn a_watch_by_a_grant_that_does_not_count_is_refused_like_any_request() {
    let (work, grant, asker) = holder("").await;
    let mut wire = asker.wire().await;
    assert_eq!(wire.list().await.expect("an answer").status, 200);
    change(&work, &grant, "revoke").await;
    let refused = wire.post("/api/federation/v1/watch", "").await.expect("an answer");
    assert_eq!((refused.status, refused.word().as_str()), (403, "grant_revoked"));
    assert_eq!(audited(&work, "watch").await, ["grant_revoked"]);
}

/// Everything that a peer can do on its watch, and what the link makes of it; its questions are answered all the while.
#[tokio::test]
async fn a_watch_that_misbehaves_costs_itself_and_no_question() {
    let home = Node::start_with("home", "[limits]\nwatch_retry_ms = 50\nwatch_retry_max_ms = 200\n").await;
    home.user("ada").await;
    let ada = home.session("ada").await;
    let lines = || Act::Say(chunked_head("content-type: application/x-ndjson\r\n"));
    let line = |text: &str| Act::Say(chunk(format!("{text}\n").as_bytes()));
    let flood = |text: &str| vec![lines(), Act::Flood(chunk(text.as_bytes()))];
    let active = r#"{"event":"grant_active","number":1}"#;
    let misbehaviour: Vec<(&str, Vec<Act>, &str, &str)> = vec![
        (
            "old",
            vec![Act::Say(answer(
                "405 Method Not Allowed",
                "content-type: application/json\r\n",
                r#"{"error":{"code":"invalid_request"}}"#,
            ))],
            "unsupported",
            "",
        ),
        ("html", vec![Act::Say(answer("200 OK", "content-type: text/html\r\n", "hello"))], "down", "peer_bad_answer"),
        (
            "redirects",
            vec![Act::Say(answer("307 Temporary Redirect", "location: https://127.0.0.1:1/\r\n", ""))],
            "down",
            "peer_bad_answer",
        ),
        ("fails", vec![Act::Say(answer("500 Internal Server Error", "", ""))], "down", "unavailable"),
        ("ends", vec![lines(), line(active), Act::Close], "down", "peer_unreachable"),
        ("breaks", vec![lines(), line(active), Act::Cut], "down", "peer_unreachable"),
        ("babbles", vec![lines(), line("hello")], "down", "peer_bad_answer"),
        ("unnumbered", vec![lines(), line(r#"{"event":"grant_revoked"}"#)], "down", "peer_bad_answer"),
        ("long-lines", flood("xxxxxxxxxxxxxxxx"), "down", "peer_bad_answer"),
        ("floods", flood("{\"event\":\"grant_changed\",\"number\":1}\n"), "down", "peer_bad_answer"),
        ("floods-beats", flood("{\"event\":\"heartbeat\"}\n"), "down", "peer_bad_answer"),
        (
            "new-words",
            vec![lines(), line(active), line(r#"{"event":"grant_painted_blue","colour":"blue"}"#), Act::Stay],
            "up",
            "",
        ),
        ("silent", vec![Act::Stay], "down", "peer_timeout"),
    ];
    let mut peers = Vec::new();
    for (name, acts, state, code) in misbehaviour {
        let hostile = Hostile::start(name).await;
        hostile.play(Play::honest(rows(name, 1)).watched(acts));
        sites::join(&home, "ada", &hostile.invite()).await;
        peers.push((hostile, state, code));
    }
    for (hostile, state, code) in &peers {
        let name = hostile.site.as_str();
        until(&format!("{name} is seen through"), || async {
            let status = ada.get("/api/v1/status").await.expect(200);
            let links = status["links"].as_array().expect("links");
            let watch = links.iter().find(|link| link["peer"] == name).expect("the link")["watch"].clone();
            (watch["state"] == *state && (code.is_empty() || watch["code"] == *code)).then_some(())
        })
        .await;
        assert!(hostile.watches() > 0);
    }
    let answer = ada.query(json!({ "verb": "list", "resource": "tasks", "deadline_ms": 20_000 })).await.expect(200);
    assert_eq!(answer["_partial"], false, "{answer}");
    assert_eq!(titles(&answer).len(), peers.len());
    let status = ada.get("/api/v1/status").await.expect(200);
    for link in status["links"].as_array().expect("links") {
        assert_eq!((&link["breaker"], &link["state"]), (&json!("closed"), &json!("active")), "{link}");
    }
}

/// A peer whose questions fail is asked again as soon as it is heard from, by its watch or by a request of its own.
#[tokio::test]
async fn a_request_of_the_same_site_makes_an_open_breaker_probe_at_once() {
    let home = Node::start_with(
        "home",
        "[limits]\nbreaker_open_s = 3600\nbreaker_open_max_s = 3600\nwatch_retry_ms = 600000\n",
    )
    .await;
    home.user("ada").await;
    let ada = home.session("ada").await;
    let hostile = Hostile::start("work").await;
    sites::join(&home, "ada", &hostile.invite()).await;
    hostile.play(Play::acting(vec![Act::Say(answer("500 Internal Server Error", "", ""))]));
    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    let breaker = || async { ada.get("/api/v1/status").await.expect(200)["links"][0]["breaker"].clone() };
    until("the breaker is open", || async {
        ada.query(query.clone()).await.expect(502);
        (breaker().await == "open").then_some(())
    })
    .await;
    hostile.play(Play::honest(rows("work", 1)));
    // The same site holds a grant here, and uses it.
    let (_, invite) = sites::grant(&home, "work", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    assert_eq!(asker.get("capabilities").await.status, 200);
    until("the breaker closed", || async { (breaker().await == "closed").then_some(()) }).await;
    assert_eq!(titles(&ada.query(query).await.expect(200)), ["work 0"]);
}
