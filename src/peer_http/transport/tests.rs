use std::num::NonZeroU32;
use std::time::Duration;

use mosaic_actors::domain::identity::RequestId;
use mosaic_actors::domain::query::RowId;
use mosaic_actors::ports::peer_transport::PeerDialer;
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemClock;
use crate::peer_http::dialer::HttpDialer;
use crate::peer_http::testing::{Act, ScriptedPeer, answer, ok_json, sealer};

const ROWS: &str = r#"{"items":[{"id":"a","created_at":"2026-11-01T10:00:00Z","_source":"local"}],"_truncated":false}"#;

/// Short enough for tests, long enough for a handshake on a busy machine.
fn limits() -> PeerLimits {
    PeerLimits {
        first_byte: Duration::from_secs(2),
        idle: Duration::from_secs(1),
        answer_bytes: 64 * 1024,
        ..PeerLimits::default()
    }
}

fn transport_to(peer: &ScriptedPeer) -> Arc<dyn PeerTransport> {
    let sealer = sealer();
    HttpDialer::new(sealer.clone(), Arc::new(SystemClock), limits()).transport(&peer.link(&sealer)).unwrap()
}

fn ask(question: PeerQuestion) -> PeerAsk {
    PeerAsk {
        question,
        deadline: Instant::now() + Duration::from_secs(5),
        request: RequestId::new(),
        traceparent: None,
        injected: None,
    }
}

fn list() -> PeerAsk {
    ask(PeerQuestion::List {
        resource: ResourceName::parse("tasks").unwrap(),
        limit: NonZeroU32::new(2).unwrap(),
        cursor: Some("c\"1".into()),
        filter: Some(Bytes::from_static(br#"{"status":"open"}"#)),
    })
}

async fn list_fault(acts: Vec<Act>) -> (FaultKind, Stage) {
    let peer = ScriptedPeer::federation(move |_, _| acts.clone()).await;
    let fault = transport_to(&peer).ask(list()).await.unwrap_err();
    (fault.kind, fault.stage)
}

#[tokio::test]
async fn a_list_travels_as_the_protocol_says_and_its_rows_come_back_under_the_pinned_name() {
    let peer = ScriptedPeer::federation(|_, _| vec![Act::Say(ok_json(ROWS))]).await;
    let mut question = list();
    question.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    let PeerAnswer::Rows { page, next_cursor } = transport_to(&peer).ask(question).await.unwrap() else {
        panic!("a list is answered with rows")
    };
    assert_eq!(&page.json[..], br#"{"id":"a","created_at":"2026-11-01T10:00:00Z","_source":"work"}"#);
    assert_eq!((page.more, next_cursor), (false, None));
    let request = &peer.requests()[0];
    assert!(request.starts_with("POST /api/federation/v1/list/tasks HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(r#"{"limit":2,"cursor":"c\"1","where":{"status":"open"}}"#), "{request}");
    assert!(request.contains("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"));
    let deadline = request.lines().find_map(|line| line.strip_prefix("x-mosaic-deadline-ms: ")).unwrap();
    assert!((1..=5_000).contains(&deadline.parse::<u64>().unwrap()));
}

#[tokio::test]
async fn a_get_names_its_row_in_one_path_segment() {
    let body = r#"{"item":{"id":"a/b ä","created_at":"2026-11-01T10:00:00Z"}}"#;
    let peer = ScriptedPeer::federation(|_, _| vec![Act::Say(ok_json(body))]).await;
    let resource = ResourceName::parse("tasks").unwrap();
    let question = PeerQuestion::Get { resource, id: RowId::parse("a/b ä").unwrap() };
    let answer = transport_to(&peer).ask(ask(question)).await.unwrap();
    assert!(matches!(answer, PeerAnswer::Item(page) if page.rows.len() == 1));
    assert!(peer.requests()[0].starts_with("POST /api/federation/v1/get/tasks/a%2Fb%20%C3%A4 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn capabilities_of_another_protocol_are_incompatible() {
    let newer = r#"{"protocol":2,"all":"different"}"#;
    let peer = ScriptedPeer::federation(|_, _| vec![Act::Say(ok_json(newer))]).await;
    let fault = transport_to(&peer).ask(ask(PeerQuestion::Capabilities)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Incompatible);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let peer = ScriptedPeer::federation(|connection, _| {
        assert_eq!(connection, 0, "the first connection serves all");
        vec![Act::Say(ok_json(ROWS))]
    })
    .await;
    let transport = transport_to(&peer);
    for _ in 0..3 {
        transport.ask(list()).await.unwrap();
    }
    assert_eq!(peer.requests().len(), 3);
}

#[tokio::test]
async fn a_connection_that_lies_idle_for_too_long_is_closed_without_another_question() {
    let peer = ScriptedPeer::federation(|_, _| vec![Act::Say(ok_json(ROWS))]).await;
    let (sealer, limits) = (sealer(), PeerLimits { idle_max: Duration::from_millis(50), ..limits() });
    let dialer = HttpDialer::new(sealer.clone(), Arc::new(SystemClock), limits);
    let transport = dialer.transport(&peer.link(&sealer)).unwrap();
    for questions in 1..=2 {
        transport.ask(list()).await.unwrap();
        let closed = async {
            while peer.ended() < questions {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), closed).await.expect("the asker closes first");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_was_dead_before_any_byte_is_replaced_once() {
    let peer = ScriptedPeer::federation(|connection, request| match (connection, request) {
        (0, 1) => vec![Act::Cut],
        _ => vec![Act::Say(ok_json(ROWS))],
    })
    .await;
    let transport = transport_to(&peer);
    transport.ask(list()).await.unwrap();
    transport.ask(list()).await.unwrap();
    assert_eq!(peer.requests().len(), 3, "asked, asked in vain, asked again");
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_not_tried_again() {
    assert_eq!(list_fault(vec![Act::Cut]).await, (FaultKind::Unreachable, Stage::FirstByte));
    let peer = ScriptedPeer::federation(|_, _| vec![Act::Close]).await;
    assert!(transport_to(&peer).ask(list()).await.is_err());
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_peer_that_stays_silent_times_out_at_the_first_byte() {
    assert_eq!(list_fault(vec![Act::Stay]).await, (FaultKind::TimedOut, Stage::FirstByte));
    let half_head = Act::Say(b"HTTP/1.1 200 OK\r\ncontent-".to_vec());
    assert_eq!(list_fault(vec![half_head, Act::Stay]).await, (FaultKind::TimedOut, Stage::FirstByte));
}

#[tokio::test]
async fn a_head_that_drips_is_as_slow_as_silence() {
    let drip = Act::Drip(ok_json(ROWS), Duration::from_millis(50));
    assert_eq!(list_fault(vec![drip]).await, (FaultKind::TimedOut, Stage::FirstByte));
}

#[tokio::test]
async fn a_body_that_stops_times_out_between_bytes_and_one_that_drips_at_the_deadline() {
    let part = ok_json(ROWS)[..80].to_vec();
    assert_eq!(list_fault(vec![Act::Say(part), Act::Stay]).await, (FaultKind::TimedOut, Stage::Body));
    let whole = ok_json(ROWS);
    let peer = ScriptedPeer::federation(move |_, _| {
        let cut = whole.len() - ROWS.len();
        vec![Act::Say(whole[..cut].to_vec()), Act::Drip(whole[cut..].to_vec(), Duration::from_millis(100))]
    })
    .await;
    let mut question = list();
    question.deadline = Instant::now() + Duration::from_secs(4);
    let fault = transport_to(&peer).ask(question).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::TimedOut, Stage::Body));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_discarded_as_a_whole() {
    let whole = ok_json(ROWS);
    let cut = whole[..whole.len() - 1].to_vec();
    assert_eq!(list_fault(vec![Act::Say(cut.clone()), Act::Cut]).await, (FaultKind::Unreachable, Stage::Body));
    assert_eq!(list_fault(vec![Act::Say(cut), Act::Close]).await, (FaultKind::Unreachable, Stage::Body));
    // Without a length the end of TLS is the end of the body: it must be a proper one.
    let open_ended = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{ROWS}").into_bytes();
    let truncated = vec![Act::Say(open_ended), Act::Cut];
    assert_eq!(list_fault(truncated).await, (FaultKind::Unreachable, Stage::Body));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_announced_or_not() {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n".to_vec();
    assert_eq!(list_fault(vec![Act::Say(announced), Act::Stay]).await, (FaultKind::BadAnswer, Stage::Body));
    let mut chunked =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..80 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b' '; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(list_fault(vec![Act::Say(chunked), Act::Stay]).await, (FaultKind::BadAnswer, Stage::Body));
}

#[tokio::test]
async fn what_is_not_an_answer_of_this_protocol_is_a_bad_answer() {
    let redirect = answer("302 Found", "location: https://evil.example/\r\n", "");
    let html = answer("200 OK", "content-type: text/html\r\n", ROWS);
    let zipped = answer("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", ROWS);
    let wide = answer("200 OK", &format!("x-pad: {}\r\n", "x".repeat(40_000)), ROWS);
    let many = answer("200 OK", &"x-many: 1\r\n".repeat(100), ROWS);
    for bytes in [redirect, html, zipped, wide, many, b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec()] {
        let (kind, _) = list_fault(vec![Act::Say(bytes.clone()), Act::Stay]).await;
        assert_eq!(kind, FaultKind::BadAnswer, "{}", String::from_utf8_lossy(&bytes[..40.min(bytes.len())]));
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let peer = ScriptedPeer::federation(|_, _| {
        vec![Act::Say(answer("307 Temporary Redirect", "location: /api/federation/v1/list/notes\r\n", ""))]
    })
    .await;
    assert!(transport_to(&peer).ask(list()).await.is_err());
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_server_error_is_unavailable_whatever_its_body() {
    let bytes = answer("502 Bad Gateway", "content-type: text/html\r\nretry-after: 3\r\n", "<h1>oops</h1>");
    let peer = ScriptedPeer::federation(move |_, _| vec![Act::Say(bytes.clone())]).await;
    let fault = transport_to(&peer).ask(list()).await.unwrap_err();
    assert_eq!((fault.kind, fault.retry_after), (FaultKind::Unavailable, Some(Duration::from_secs(3))));
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_in_the_handshake() {
    let (peer, other) = (ScriptedPeer::federation(|_, _| vec![]).await, ScriptedPeer::federation(|_, _| vec![]).await);
    let sealer = sealer();
    let mut link = peer.link(&sealer);
    link.federation_url = other.url.as_str().into();
    let transport = HttpDialer::new(sealer, Arc::new(SystemClock), limits()).transport(&link).unwrap();
    let fault = transport.ask(list()).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::Unreachable, Stage::Tls));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_the_peer_refuses_finds_it_unreachable() {
    let (peer, other) = (ScriptedPeer::federation(|_, _| vec![]).await, ScriptedPeer::federation(|_, _| vec![]).await);
    let sealer = sealer();
    let mut link = peer.link(&sealer);
    link.credentials.pinned_root = other.ca.certificate().to_vec();
    link.federation_url = other.url.as_str().into();
    let transport = HttpDialer::new(sealer, Arc::new(SystemClock), limits()).transport(&link).unwrap();
    assert_eq!(transport.ask(list()).await.unwrap_err().kind, FaultKind::Unreachable);
}

#[tokio::test]
async fn a_client_whose_certificate_was_revoked_hears_it_from_the_handshake() {
    let peer = ScriptedPeer::federation(|_, _| vec![]).await;
    let sealer = sealer();
    let link = peer.link(&sealer);
    peer.revoke(&link);
    let transport = HttpDialer::new(sealer, Arc::new(SystemClock), limits()).transport(&link).unwrap();
    // Whether the alert or the closed socket is met first is chance: it must be heard either way.
    for _ in 0..20 {
        let fault = transport.ask(list()).await.unwrap_err();
        assert_eq!((fault.kind, fault.stage, fault.retryable), (FaultKind::GrantRevoked, Stage::Tls, false));
    }
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn a_host_that_accepts_and_shakes_no_hands_times_out_in_tls() {
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = ScriptedPeer::federation(|_, _| vec![]).await;
    let sealer = sealer();
    let mut link = peer.link(&sealer);
    link.federation_url = format!("https://localhost:{}", hole.local_addr().unwrap().port()).into();
    let short = PeerLimits { tls: Duration::from_millis(200), ..limits() };
    let transport = HttpDialer::new(sealer, Arc::new(SystemClock), short).transport(&link).unwrap();
    let fault = transport.ask(list()).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::TimedOut, Stage::Tls));
}

#[tokio::test]
async fn a_closed_port_is_unreachable_at_connect() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let peer = ScriptedPeer::federation(|_, _| vec![]).await;
    let sealer = sealer();
    let mut link = peer.link(&sealer);
    link.federation_url = format!("https://127.0.0.1:{port}").into();
    let transport = HttpDialer::new(sealer, Arc::new(SystemClock), limits()).transport(&link).unwrap();
    let fault = transport.ask(list()).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::Unreachable, Stage::Connect));
}

#[tokio::test]
async fn an_expired_certificate_is_not_even_tried() {
    let peer = ScriptedPeer::federation(|_, _| vec![]).await;
    let sealer = sealer();
    let link = peer.link_until(&sealer, SystemClock.now() - time::Duration::seconds(1));
    let transport = HttpDialer::new(sealer, Arc::new(SystemClock), limits()).transport(&link).unwrap();
    let fault = transport.ask(list()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::CertificateExpired);
}

#[tokio::test]
async fn a_private_address_needs_allow_private() {
    let peer = ScriptedPeer::federation(|_, _| vec![Act::Say(ok_json(ROWS))]).await;
    let sealer = sealer();
    let mut link = peer.link(&sealer);
    link.allow_private = false;
    let transport = HttpDialer::new(sealer, Arc::new(SystemClock), limits()).transport(&link).unwrap();
    let fault = transport.ask(list()).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::Unreachable, Stage::Resolve));
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn a_link_whose_key_does_not_open_has_no_transport() {
    let peer = ScriptedPeer::federation(|_, _| vec![]).await;
    let link = peer.link(&sealer());
    let fault = HttpDialer::new(sealer(), Arc::new(SystemClock), limits()).transport(&link).map(|_| ()).unwrap_err();
    assert_eq!((fault.kind, fault.retryable), (FaultKind::Internal, false));
}

#[tokio::test]
async fn a_dropped_question_closes_its_connection() {
    let listener = ScriptedPeer::federation(|_, _| vec![Act::Stay]).await;
    let transport = transport_to(&listener);
    let question = transport.ask(list());
    assert!(tokio::time::timeout(Duration::from_millis(100), question).await.is_err());
    // The next question dials anew: nothing half-used is left in the pool.
    let fault = transport.ask(list()).await.unwrap_err();
    assert_eq!(fault.stage, Stage::FirstByte);
}
