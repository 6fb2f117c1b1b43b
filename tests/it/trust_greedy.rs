//! Clients that are slow or want too much, on all three listeners: each is cut or refused, and costs the others nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

use crate::harness::asker::Asker;
use crate::harness::node::Node;
use crate::harness::sites;
use crate::harness::wait::{PATIENCE, until};
use crate::harness::wire::{Wire, client_tls, header};

/// Shorter deadlines, so that the tests need not wait for the usual ones.
const IMPATIENT: &str =
    "[limits]\ntls_handshake_ms = 2000\nrequest_head_ms = 2000\nrequest_body_ms = 2000\nkeep_alive_s = 60\n";

struct Owner {
    node: Node,
    grant: String,
    asker: Asker,
}

async fn owner(more: &str) -> Owner {
    let node = Node::start_with("work", more).await;
    node.user("ada").await;
    let limits = json!({ "requests_per_second": 10_000, "burst": 10_000, "concurrent": 100 });
    let grant = json!({ "peer": "home", "user": "ada", "scope": { "resources": ["tasks"] }, "limits": limits });
    let created = node.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    let asker = Asker::enroll(created["invite"]["invite"].as_str().expect("an invite")).await;
    Owner { grant: created["grant"]["id"].as_str().expect("an id").to_owned(), node, asker }
}

impl Owner {
    /// A connection of the enrolment listener, which asks for no certificate.
    async fn enrolling(&self) -> Wire {
        Wire::open(&self.node.address("enrollment"), client_tls(None)).await.expect("a handshake")
    }

    async fn serves_others(&self) {
        self.asker.reconnected().get("capabilities").await.expect(200);
        assert_eq!(self.node.anonymous().get("/healthz").await.status, 200);
    }
}

/// Waits until the other side closes, and says after how long.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "not closed within {PATIENCE:?}");
    begun.elapsed()
}

#[tokio::test]
async fn a_stalled_handshake_is_cut() {
    let owner = owner(IMPATIENT).await;
    for listener in ["federation", "enrollment"] {
        let mut silent = TcpStream::connect(owner.node.address(listener)).await.expect("a connection");
        let mut babbling = Wire::plain(&owner.node.address(listener)).await;
        babbling.send("\u{16}\u{3}\u{1}").await.expect("the first bytes of a record");
        owner.serves_others().await;
        closed(&mut silent).await;
        closed(&mut babbling.stream).await;
    }
}

#[tokio::test]
async fn a_stalled_head_is_cut_on_every_listener() {
    let owner = owner(IMPATIENT).await;
    let half = "GET /api/federation/v1/capabilities HTTP/1.1\r\nhost: x\r\nx-slow: ";
    let mut api = Wire::plain(&owner.node.address("api")).await;
    api.send(half).await.expect("sent");
    let mut federation = owner.asker.wire().await;
    federation.send(half).await.expect("sent");
    let mut enrollment = owner.enrolling().await;
    enrollment.send(half).await.expect("sent");
    owner.serves_others().await;
    closed(&mut api.stream).await;
    closed(&mut federation.stream).await;
    closed(&mut enrollment.stream).await;
}

#[tokio::test]
async fn a_stalled_body_is_refused_on_every_listener() {
    let owner = owner(IMPATIENT).await;
    let head = |path: &str, token: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 100\r\n\r\n{{")
    };
    let ada = owner.node.session_token("ada").await;
    let mut api = Wire::plain(&owner.node.address("api")).await;
    api.send(&head("/api/v1/query", &ada)).await.expect("sent");
    let mut admin = Wire::plain(&owner.node.address("api")).await;
    admin.send(&head("/api/admin/v1/users", owner.node.admin_token())).await.expect("sent");
    let mut federation = owner.asker.wire().await;
    federation.send(&head("/api/federation/v1/list/tasks", "")).await.expect("sent");
    let mut enrollment = owner.enrolling().await;
    let token = "mosaic_enroll_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    enrollment.send(&head("/api/federation/v1/enroll", token)).await.expect("sent");
    owner.serves_others().await;
    for heard in [api.hear().await, admin.hear().await, federation.hear().await, enrollment.hear().await] {
        let heard = heard.expect("an answer");
        assert_eq!((heard.status, heard.word().as_str()), (400, "invalid_request"), "{}", heard.json);
        assert!(heard.json.to_string().contains("in time"), "{}", heard.json);
    }
}

#[tokio::test]
async fn oversized_bodies_and_heads_are_refused() {
    let owner = owner("").await;
    let declared = "content-length: 70000\r\n\r\n";
    let list = "POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: x\r\n";
    let mut wire = owner.asker.wire().await;
    wire.send(&format!("{list}{declared}")).await.expect("sent");
    assert_eq!(wire.hear().await.expect("an answer").status, 413, "before a byte of it was sent");

    // Without a length, in chunks that never end.
    let mut wire = owner.asker.wire().await;
    wire.send(&format!("{list}transfer-encoding: chunked\r\n\r\n")).await.expect("sent");
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    for _ in 0..17 {
        if wire.send(&chunk).await.is_err() {
            break;
        }
    }
    assert_eq!(wire.hear().await.expect("an answer").status, 413);

    let mut wire = owner.enrolling().await;
    let enroll = "POST /api/federation/v1/enroll HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \
                  mosaic_enroll_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n";
    wire.send(&format!("{enroll}{declared}")).await.expect("sent");
    assert_eq!(wire.hear().await.expect("an answer").status, 413);

    // The doors of sessions and admins.
    let ada = owner.node.session_token("ada").await;
    for (path, token) in [("/api/v1/query", ada.as_str()), ("/api/admin/v1/users", owner.node.admin_token())] {
        let mut wire = Wire::plain(&owner.node.address("api")).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n");
        wire.send(&format!("{head}content-length: 300000\r\n\r\n")).await.expect("sent");
        assert_eq!(wire.hear().await.expect("an answer").status, 413, "{path}, before a byte of it was sent");
    }

    // A head without end, on all three.
    let mut api = Wire::plain(&owner.node.address("api")).await;
    let (mut federation, mut enrollment) = (owner.asker.wire().await, owner.enrolling().await);
    for index in 0..3_000 {
        let line = if index == 0 {
            "GET / HTTP/1.1\r\nhost: x\r\n".to_owned()
        } else {
            format!("x-{index}: {}\r\n", "y".repeat(100))
        };
        let sent =
            [api.send(&line).await.is_ok(), federation.send(&line).await.is_ok(), enrollment.send(&line).await.is_ok()];
        if sent == [false; 3] {
            break;
        }
    }
    for heard in [api.hear().await, federation.hear().await, enrollment.hear().await] {
        assert!(heard.as_ref().map_or(true, |heard| (400..500).contains(&heard.status)), "{heard:?}");
    }
    owner.serves_others().await;
}

#[tokio::test]
async fn two_ways_to_frame_a_body_are_not_both_believed() {
    let owner = owner("").await;
    let list = "POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: x\r\n";
    let hidden = "POST /api/federation/v1/list/notes HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    for framing in [
        "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 2\r\ncontent-length: 40\r\n\r\n{}",
        "content-length: +2\r\n\r\n{}",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ] {
        let mut wire = owner.asker.wire().await;
        wire.send(&format!("{list}{framing}{hidden}")).await.expect("sent");
        let heard = wire.hear().await;
        assert!(heard.as_ref().map_or(true, |heard| heard.status == 400), "{framing:?}: {heard:?}");
    }
    let log = owner.node.admin().get("/api/admin/v1/audit?limit=100&resource=notes").await;
    let log = if log.status == 200 { log.json } else { Value::Null };
    assert!(!log.to_string().contains("\"notes\""), "a hidden request was served: {log}");
}

#[tokio::test]
async fn the_decision_comes_before_the_body() {
    let owner = owner("").await;
    let unsent = "content-length: 60000\r\n\r\n";
    let mut wire = owner.asker.wire().await;
    wire.send(&format!("POST /api/federation/v1/list/credentials HTTP/1.1\r\nhost: x\r\n{unsent}"))
        .await
        .expect("sent");
    assert_eq!(wire.hear().await.expect("an answer").word(), "scope_violation");

    let mut wire = owner.asker.wire().await;
    wire.list().await.expect("the connection is open");
    owner.node.admin().post(&format!("/api/admin/v1/grants/{}/revoke", owner.grant), json!({})).await.expect(200);
    wire.send(&format!("POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: x\r\n{unsent}")).await.expect("sent");
    assert_eq!(wire.hear().await.expect("an answer").word(), "grant_revoked");
    assert!(wire.ends().await);

    let mut api = Wire::plain(&owner.node.address("api")).await;
    api.send(&format!("POST /api/v1/query HTTP/1.1\r\nhost: x\r\nauthorization: Bearer nobody\r\n{unsent}"))
        .await
        .expect("sent");
    assert_eq!(api.hear().await.expect("an answer").status, 401);
    let mut api = Wire::plain(&owner.node.address("api")).await;
    api.send(&format!("POST /api/admin/v1/users HTTP/1.1\r\nhost: x\r\n{unsent}")).await.expect("sent");
    assert_eq!(api.hear().await.expect("an answer").status, 401);
    let mut enrollment = owner.enrolling().await;
    enrollment.send(&format!("POST /api/federation/v1/enroll HTTP/1.1\r\nhost: x\r\n{unsent}")).await.expect("sent");
    assert_eq!(enrollment.hear().await.expect("an answer").status, 401);
}

#[tokio::test]
async fn connections_beyond_the_allowed_wait_and_are_served_when_there_is_room() {
    let more = "[limits]\nworkers = 1\nfederation_connections = 4\nenroll_connections = 4\napi_connections = 40\n";
    let owner = owner(more).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut wire = owner.asker.wire().await;
        wire.list().await.expect("an answer");
        held.push(wire);
    }
    // The kernel takes the fifth, but nobody answers its hello.
    let fifth = tokio::time::timeout(Duration::from_millis(1_500), owner.asker.wire()).await;
    assert!(fifth.is_err(), "a fifth connection is served");
    // Those who are in are served meanwhile, and so is everybody on the other doors.
    assert_eq!(held[0].list().await.expect("an answer").status, 200);
    assert_eq!(owner.node.anonymous().get("/healthz").await.status, 200);
    held.pop();
    until("there is room again", || async {
        let opening = tokio::time::timeout(Duration::from_secs(2), async { owner.asker.wire().await.list().await });
        (opening.await.ok()?.ok()?.status == 200).then_some(())
    })
    .await;
    drop(held);

    // The same on the enrolment door: whoever idles there for long is cut by the deadline for a head.
    let mut idle = Vec::new();
    for _ in 0..6 {
        idle.push(TcpStream::connect(owner.node.address("enrollment")).await.expect("a connection"));
    }
    let (_, invite) = sites::grant(&owner.node, "away", "ada", json!({ "resources": ["tasks"] })).await;
    Asker::enroll(&invite).await;
}

#[tokio::test]
async fn a_client_that_asks_and_asks_and_reads_nothing_is_cut_on_every_listener() {
    let owner = owner("[limits]\nwrite_stall_ms = 1500\nkeep_alive_s = 300\n").await;
    let asks = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(64);
    let mut api = Wire::plain(&owner.node.address("api")).await;
    let mut federation = owner.asker.wire().await;
    let mut enrollment = owner.enrolling().await;
    let (openapi, capabilities, crl) =
        (asks("/openapi.json"), asks("/api/federation/v1/capabilities"), asks("/api/federation/v1/crl"));
    let ends = futures_util::future::join3(
        until_it_is_cut(&mut api, &openapi),
        until_it_is_cut(&mut federation, &capabilities),
        until_it_is_cut(&mut enrollment, &crl),
    );
    tokio::time::timeout(4 * PATIENCE, ends).await.expect("every one of them is cut");
    owner.serves_others().await;
}

/// Sends for as long as the other side takes it; a full window makes it wait, and a cut connection is an error.
async fn until_it_is_cut<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(wire: &mut Wire<S>, text: &str) {
    while wire.send(text).await.is_ok() {}
}

#[tokio::test]
async fn sessions_beyond_the_allowed_wait_and_are_served_when_there_is_room() {
    let owner = owner("[limits]\nworkers = 1\napi_connections = 4\nkeep_alive_s = 300\n").await;
    let ask = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held = Vec::new();
    while held.len() < 4 {
        let mut wire = Wire::plain(&owner.node.address("api")).await;
        wire.send(ask).await.expect("sent");
        // The set-up's own connections may still be open: whoever is not served is behind them.
        match tokio::time::timeout(Duration::from_secs(5), wire.hear()).await {
            Ok(heard) => {
                assert_eq!(heard.expect("an answer").status, 200);
                held.push(wire);
            }
            Err(_) => break,
        }
    }
    let mut beyond = Wire::plain(&owner.node.address("api")).await;
    beyond.send(ask).await.expect("sent");
    let answered = tokio::time::timeout(Duration::from_millis(1_500), beyond.hear()).await;
    assert!(answered.is_err(), "one more than allowed is served");
    // Peers do not notice: each door has room of its own.
    owner.asker.reconnected().get("capabilities").await.expect(200);
    drop(held);
    assert_eq!(beyond.hear().await.expect("an answer").status, 200, "now there is room");
}

/// An answered question on a connection of the enrolment listener that stays open; `None` when nobody takes the connection.
async fn served_at_enrolment(owner: &Owner) -> Option<Wire> {
    let asking = async {
        let mut wire = owner.enrolling().await;
        wire.send("GET /api/federation/v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let heard = wire.hear().await.expect("an answer");
        assert_eq!((heard.status, header(&heard.head, "connection")), (404, None), "{}", heard.head);
        wire
    };
    tokio::time::timeout(Duration::from_secs(2), asking).await.ok()
}

#[tokio::test]
async fn enrolments_beyond_the_allowed_wait_and_are_served_when_there_is_room() {
    let owner = owner("[limits]\nenroll_connections = 4\nkeep_alive_s = 300\n").await;
    let mut held = Vec::new();
    // The set-up's own connection may still be open: whoever is not served is behind it.
    while let Some(wire) = served_at_enrolment(&owner).await {
        held.push(wire);
        assert!(held.len() <= 4, "one more than allowed is served");
    }
    assert!(!held.is_empty());
    owner.serves_others().await;
    drop(held);
    until("there is room again", || served_at_enrolment(&owner)).await;
}

/// Strangers can ask the enrolment listener, and there are few connections to it.
#[tokio::test]
async fn a_chunked_body_without_end_holds_no_connection_of_any_listener() {
    let owner = owner("").await;
    let ada = owner.node.session_token("ada").await;
    let endless = |head: &str| format!("{head} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n");
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let enrolls = "mosaic_enroll_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let watch = "POST /api/federation/v1/watch";
    let mut watching = owner.asker.wire().await;
    watching.send(&format!("{}\r\n", endless(watch))).await.expect("sent");
    until_heard(&mut watching, "grant_active").await;
    // One that sent what is no acknowledgement, so that its body is read no more.
    let mut babbling = owner.asker.wire().await;
    babbling.send(&format!("{}\r\n4\r\nxxx\n\r\n", endless(watch))).await.expect("sent");
    until_heard(&mut babbling, "grant_active").await;

    let api = |head: &str, token: &str| ("api", format!("{}{}", endless(head), bearer(token)));
    let asked = [
        api("GET /healthz", "nobody"),
        api("GET /nowhere", "nobody"),
        api("GET /api/v1/status", &ada),
        api("POST /api/v1/query", "nobody"),
        api("POST /api/admin/v1/users", "nobody"),
        api("GET /api/admin/v1/grants", owner.node.admin_token()),
        ("federation", endless("GET /api/federation/v1/capabilities")),
        ("federation", endless("POST /api/federation/v1/list/credentials")),
        ("federation", endless("GET /nowhere")),
        ("enrollment", endless("GET /api/federation/v1/crl")),
        ("enrollment", endless("POST /api/federation/v1/enroll")),
        ("enrollment", format!("{}{}", endless("POST /api/federation/v1/enroll"), bearer("nothing"))),
        ("enrollment", format!("{}{}", endless("GET /api/federation/v1/crl"), bearer(enrolls))),
    ];
    let mut wires = Vec::new();
    for (listener, head) in asked {
        let head = format!("{head}\r\n");
        let stream: Box<dyn AsyncRead + Unpin> = if listener == "api" {
            let mut wire = Wire::plain(&owner.node.address("api")).await;
            wire.send(&head).await.expect("sent");
            Box::new(wire.stream)
        } else {
            let mut wire = if listener == "federation" { owner.asker.wire().await } else { owner.enrolling().await };
            wire.send(&head).await.expect("sent");
            Box::new(wire.stream)
        };
        wires.push((head, stream));
    }
    for (head, stream) in &mut wires {
        assert!(is_closed(stream).await, "still open: {head}");
    }
    let mut late = owner.asker.wire().await;
    late.list().await.expect("the connection is open");
    owner.node.admin().post(&format!("/api/admin/v1/grants/{}/revoke", owner.grant), json!({})).await.expect(200);
    late.send(&format!("{}\r\n", endless(watch))).await.expect("sent");
    for (what, wire) in [("refused", &mut late), ("ended", &mut watching), ("babbling", &mut babbling)] {
        assert!(is_closed(&mut wire.stream).await, "still open: a watch, {what}");
    }
}

async fn until_heard(wire: &mut Wire, word: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(word) {
        let read = tokio::time::timeout(PATIENCE, wire.stream.read_buf(&mut heard)).await;
        assert!(matches!(read, Ok(Ok(read)) if read > 0), "{word} was not said");
    }
}

/// Whether the other side closes although we never do.
async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_chunked_body_that_is_read_to_its_end_keeps_the_connection() {
    let owner = owner("").await;
    let mut wire = owner.asker.wire().await;
    let list = "POST /api/federation/v1/list/tasks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    for _ in 0..3 {
        wire.send(&format!("{list}2\r\n{{}}\r\n")).await.expect("sent");
        wire.send("0\r\n\r\n").await.expect("sent");
        assert_eq!(wire.hear().await.expect("an answer on the same connection").status, 200);
    }
    // Two at once.
    wire.send(&format!("{list}2\r\n{{}}\r\n0\r\n\r\n").repeat(2)).await.expect("sent");
    for _ in 0..2 {
        assert_eq!(wire.hear().await.expect("an answer on the same connection").status, 200);
    }
}
