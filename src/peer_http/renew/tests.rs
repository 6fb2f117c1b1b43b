use std::time::Duration;

use mosaic_actors::ports::peer_transport::PeerDialer;

use super::*;
use crate::clock::SystemClock;
use crate::peer_http::HttpDialer;
use crate::peer_http::testing::{Act, ScriptedPeer, answer, ok_json, sealer};
use crate::pki::link_key::open_link_key;

fn dialer(sealer: &Sealer) -> HttpDialer {
    HttpDialer::new(sealer.clone(), Arc::new(SystemClock), PeerLimits::default())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[actix_rt::test]
async fn a_refused_renewal_keeps_the_reason_and_lying_answers_are_worth_nothing() {
    let forbidden = r#"{"error":{"code":"forbidden","reason":"grant_suspended"}}"#;
    let html = "content-type: text/html\r\n";
    let cases: [(Vec<u8>, FaultKind); 5] = [
        (answer("403 Forbidden", "content-type: application/json\r\n", forbidden), FaultKind::GrantSuspended),
        (
            answer("404 Not Found", "content-type: application/json\r\n", r#"{"error":{"code":"not_found"}}"#),
            FaultKind::Incompatible,
        ),
        (answer("200 OK", html, "<h1>hello</h1>"), FaultKind::BadAnswer),
        (ok_json(r#"{"certificate":"none","chain":[]}"#), FaultKind::BadAnswer),
        (ok_json("{}"), FaultKind::BadAnswer),
    ];
    for (told, expected) in cases {
        let peer = ScriptedPeer::federation(move |_, _| vec![Act::Say(told.clone())]).await;
        let sealer = sealer();
        let fault = dialer(&sealer).renew(&peer.link(&sealer), soon()).await.unwrap_err();
        assert_eq!(fault.kind, expected);
        let sent = peer.requests();
        assert!(sent[0].starts_with("POST /api/federation/v1/renew HTTP/1.1\r\n"), "{}", sent[0]);
        assert!(sent[0].contains("BEGIN CERTIFICATE REQUEST"));
    }
}

#[actix_rt::test]
async fn a_certificate_for_another_key_is_refused() {
    let sealer = sealer();
    let told: Arc<std::sync::Mutex<Vec<u8>>> = Arc::default();
    let script = Arc::clone(&told);
    let peer = ScriptedPeer::federation(move |_, _| vec![Act::Say(script.lock().unwrap().clone())]).await;
    let link = peer.link(&sealer);
    let other = crate::pki::pem::certificate_to_pem(&peer.link(&sealer).credentials.certificate_chain[0]);
    let root = crate::pki::pem::certificate_to_pem(peer.ca.certificate());
    *told.lock().unwrap() = ok_json(&serde_json::json!({ "certificate": other, "chain": [root] }).to_string());
    let fault = dialer(&sealer).renew(&link, soon()).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::BadAnswer, Stage::Parse));
    assert!(open_link_key(&sealer, &link).is_ok(), "the old key is as it was");
}
