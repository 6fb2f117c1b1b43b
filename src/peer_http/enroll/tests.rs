//! An owner that lies. The honest one is met in `enrollment_api`.

use serde_json::{Value, json};

use super::*;
use crate::clock::SystemClock;
use crate::peer_http::testing::{Act, ScriptedPeer, answer, ok_json};
use crate::pki::authority::ClientRequest;
use crate::pki::ca_material::CaMaterial;
use crate::pki::csr::verify_csr;
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::pem::{certificate_to_pem, chain_to_pem};
use crate::secrets::{Token, sha256};

fn client() -> EnrollmentClient {
    EnrollmentClient::new(Arc::new(SystemClock), PeerLimits::default())
}

fn invite(peer: &ScriptedPeer) -> Invite {
    let url: url::Url = peer.url.parse().unwrap();
    Invite {
        site: SiteName::parse("work").unwrap(),
        enroll_url: url.clone(),
        federation_url: url,
        ca_sha256: sha256(peer.ca.certificate()),
        token: Token::generate(Token::ENROLL),
        expires_at: SystemClock.now() + time::Duration::minutes(5),
    }
}

/// An enrolment answer for `public_key`, signed by `ca`.
fn certified(ca: &CaMaterial, public_key: Vec<u8>) -> Value {
    let request = ClientRequest {
        public_key,
        csr_pem: String::new(),
        grant: GrantId::new(),
        subject: UserId::new(),
        peer: SiteName::parse("home").unwrap(),
        not_before: SystemClock.now(),
        not_after: SystemClock.now() + time::Duration::hours(1),
    };
    let issued = ca.issue(&request, &ExtensionArc::default()).unwrap();
    json!({"certificate": certificate_to_pem(&issued.certificate), "chain": chain_to_pem(&issued.chain),
           "grant_id": request.grant.to_string(), "subject_user_id": request.subject.to_string(), "site": "work"})
}

async fn fault_of(bytes: Vec<u8>) -> Fault {
    let peer = ScriptedPeer::enrollment(move |_, _| vec![Act::Say(bytes.clone())]).await;
    client().enroll(&invite(&peer), true).await.err().unwrap()
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused() {
    let honest = certified(&CaMaterial::generate(&SiteName::parse("work").unwrap(), SystemClock.now()).unwrap(), key());
    let mut renamed = honest.clone();
    renamed["site"] = json!("elsewhere");
    let mut shouting = honest.clone();
    shouting["grant_id"] = json!(honest["grant_id"].as_str().unwrap().to_uppercase());
    let bytes = [
        ok_json("{}"),
        ok_json("[]"),
        ok_json(&"[".repeat(10_000)),
        ok_json(&renamed.to_string()),
        ok_json(&shouting.to_string()),
        answer("200 OK", "content-type: text/html\r\n", &honest.to_string()),
        answer("302 Found", "location: https://evil.example/\r\n", ""),
    ];
    for bytes in bytes {
        assert_eq!(fault_of(bytes).await.kind, FaultKind::BadAnswer);
    }
}

#[tokio::test]
async fn a_certificate_for_another_key_or_of_another_ca_is_refused() {
    let other = CaMaterial::generate(&SiteName::parse("work").unwrap(), SystemClock.now()).unwrap();
    let fault = fault_of(ok_json(&certified(&other, key()).to_string())).await;
    assert_eq!(fault.message.as_deref(), Some("the other site issued a certificate that cannot be used"));
}

#[tokio::test]
async fn refusals_tell_a_person_what_to_do_and_nothing_of_the_peers_words() {
    for (status, kind) in [
        ("404 Not Found", FaultKind::NotFound),
        ("410 Gone", FaultKind::Gone),
        ("409 Conflict", FaultKind::Conflict),
        ("429 Too Many Requests", FaultKind::RateLimited),
        ("503 Service Unavailable", FaultKind::Unavailable),
    ] {
        let body = r#"{"error":{"code":"x","message":"<script>visit evil.example</script>"}}"#;
        let fault = fault_of(answer(status, "content-type: application/json\r\n", body)).await;
        assert_eq!(fault.kind, kind);
        assert!(!fault.message.unwrap().contains("evil"), "{status}");
    }
}

#[tokio::test]
async fn the_request_carries_the_token_and_a_fresh_key_each_time() {
    let peer = ScriptedPeer::enrollment(|_, _| vec![Act::Say(ok_json("{}"))]).await;
    let invite = invite(&peer);
    for _ in 0..2 {
        assert!(client().enroll(&invite, true).await.is_err());
    }
    let keys: Vec<_> = peer
        .requests()
        .iter()
        .map(|request| {
            assert!(request.contains(&format!("authorization: Bearer {}\r\n", invite.token.expose())));
            let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
            verify_csr(body["csr"].as_str().unwrap()).unwrap()
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
}

fn key() -> Vec<u8> {
    new_key_and_csr().unwrap().public_key
}
