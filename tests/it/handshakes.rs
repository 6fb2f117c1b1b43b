//! Handshakes that TLS refuses: each is in the audit log, and however many there are, the log stays small and others are served.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use time::Duration;

use crate::harness::asker::Asker;
use crate::harness::authority::{Authority, client_certificate};
use crate::harness::node::Node;
use crate::harness::now;
use crate::harness::sites::{self, items};
use crate::harness::wait::until;
use crate::harness::wire::{Wire, client_tls};

struct Owner {
    node: Node,
    authority: Authority,
    key: KeyPair,
    grant: String,
    asker: Asker,
}

async fn owner(more: &str) -> Owner {
    let authority = Authority::new("the test's own root");
    let node = Node::start_with_ca("work", &authority, more).await;
    node.user("ada").await;
    let (grant, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    Owner { node, authority, key: KeyPair::generate().expect("a key"), grant, asker }
}

impl Owner {
    /// A certificate of this serial that is fine but for what `bend` does.
    fn certificate(&self, serial: u8, bend: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        self.signed_by(&self.authority, serial, bend)
    }

    fn signed_by(
        &self,
        authority: &Authority,
        serial: u8,
        bend: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let subject = "0190b0e0-0000-7000-8000-000000000000";
        let mut params = client_certificate(&self.grant, subject, &[serial; 16]);
        bend(&mut params);
        authority.sign(&params, &self.key)
    }

    /// Tries to say something; whether there was an answer.
    async fn answers(&self, certificate: Option<&CertificateDer<'static>>) -> bool {
        let key = self.key.serialize_der();
        let tls = client_tls(certificate.map(|certificate| (certificate, key.as_slice())));
        let heard = async { Wire::open(&self.node.address("federation"), tls).await?.list().await };
        heard.await.is_ok()
    }

    /// The audited handshakes, oldest first.
    async fn handshakes(&self) -> Vec<Value> {
        let log = self.node.admin().get("/api/admin/v1/audit?action=handshake&limit=500").await.expect(200);
        let mut events = items(&log);
        events.reverse();
        events
    }

    /// Waits for the `count`th handshake in the log.
    async fn handshake(&self, count: usize) -> Value {
        until("the handshake is in the log", || async {
            let events = self.handshakes().await;
            assert!(events.len() <= count, "one refusal, one event: {events:?}");
            (events.len() == count).then(|| events[count - 1].clone())
        })
        .await
    }
}

#[tokio::test]
async fn every_refusal_by_tls_is_one_event_with_its_reason_and_serial() {
    let owner = owner("[limits]\nhandshake_events_per_address = 1000\ntls_handshake_ms = 2000\n").await;
    let foreign = Authority::new("the test's own root");
    let cases: Vec<(&str, Option<CertificateDer<'static>>)> = vec![
        ("no_certificate", None),
        ("unknown_ca", Some(owner.signed_by(&foreign, 0x11, |_| {}))),
        (
            "certificate_expired",
            Some(owner.certificate(0x12, |params| params.not_after = now() - Duration::minutes(1))),
        ),
        (
            "certificate_not_yet_valid",
            Some(owner.certificate(0x13, |params| params.not_before = now() + Duration::minutes(10))),
        ),
        (
            "not_a_client_certificate",
            Some(owner.certificate(0x14, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
        ),
        (
            "not_a_client_certificate",
            Some(owner.certificate(0x15, |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained))),
        ),
    ];
    for (at, (reason, certificate)) in cases.iter().enumerate() {
        assert!(!owner.answers(certificate.as_ref()).await, "{reason}");
        let event = owner.handshake(at + 1).await;
        let serial = certificate.as_ref().map(|_| format!("{:02x}", 0x10 + at).repeat(16));
        assert_eq!(
            (event["reason"].as_str(), event["outcome"].as_str(), event["serial"].as_str()),
            (Some(*reason), Some("denied"), serial.as_deref()),
            "{event}"
        );
        assert_eq!((event["remote_addr"].as_str(), event.get("grant_id")), (Some("127.0.0.1"), None), "{event}");
    }

    let revoked = owner.asker.certificate.clone();
    owner.node.admin().post(&format!("/api/admin/v1/grants/{}/revoke", owner.grant), json!({})).await.expect(200);
    let key = owner.asker.key();
    let event = until("the revocation list refuses the certificate", || async {
        let tls = client_tls(Some((&revoked, &key)));
        let heard = async { Wire::open(&owner.node.address("federation"), tls).await?.list().await }.await;
        if heard.is_ok() {
            return None;
        }
        Some(owner.handshake(cases.len() + 1).await)
    })
    .await;
    assert_eq!(event["reason"], "certificate_revoked", "{event}");
    assert_eq!(event["serial"].as_str().map(str::len), Some(32).filter(|_| true), "{event}");

    let mut plain = Wire::plain(&owner.node.address("federation")).await;
    plain.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    assert!(plain.ends().await);
    assert_eq!(owner.handshake(cases.len() + 2).await["reason"], "tls_protocol");

    let mut silent = Wire::plain(&owner.node.address("federation")).await;
    assert!(silent.ends().await);
    assert_eq!(owner.handshake(cases.len() + 3).await["reason"], "handshake_timeout");

    // Who leaves by himself was not refused.
    drop(Wire::plain(&owner.node.address("federation")).await);
    let told = owner.node.admin().get("/api/admin/v1/audit/verify").await.expect(200);
    assert_eq!(told["ok"], true, "{told}");
    assert_eq!(owner.handshakes().await.len(), cases.len() + 3);
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_few_events_and_a_count() {
    let limits = "[limits]\nhandshake_events_per_address = 3\nhandshake_window_s = 2\n";
    let owner = owner(limits).await;
    for _ in 0..40 {
        assert!(!owner.answers(None).await);
    }
    let events = until("every refusal is written down or counted", || async {
        let events = owner.handshakes().await;
        let counted: i64 = events.iter().map(|event| event["suppressed"].as_i64().unwrap_or(0)).sum();
        let written = events.iter().filter(|event| event["reason"] == "no_certificate").count();
        assert!(counted + written as i64 <= 40, "{events:?}");
        (counted + written as i64 == 40).then_some(events)
    })
    .await;
    let counts: Vec<&Value> = events.iter().filter(|event| event["reason"] == "suppressed").collect();
    assert!(!counts.is_empty() && counts.iter().all(|event| event["remote_addr"] == "127.0.0.1"), "{events:?}");
    owner.asker.get("capabilities").await.expect(200);
    let metrics = owner.node.anonymous().get("/metrics").await.text();
    assert!(metrics.contains(r#"mosaic_handshakes_refused_total{reason="no_certificate"} 40"#), "{metrics}");

    let listed =
        owner.node.cli(&["--api", &owner.node.api_url(), "federation", "audit", "list", "--action", "handshake"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("SUPPRESSED") && listed.contains("no_certificate"), "{listed}");
}

#[tokio::test]
async fn a_count_that_is_not_written_yet_is_written_when_the_node_stops() {
    let mut owner = owner("[limits]\nhandshake_events_per_address = 1\nhandshake_window_s = 3600\n").await;
    for _ in 0..5 {
        assert!(!owner.answers(None).await);
    }
    owner.handshake(1).await;
    assert!(owner.node.stop().success());
    let database = owner.node.database().connect().await;
    let sql = "SELECT suppressed FROM federation_audit_log WHERE reason = 'suppressed'";
    assert_eq!(database.query_one(sql, &[]).await.expect("one count").get::<_, i64>(0), 4);
}

#[tokio::test]
async fn who_copied_a_certificate_leaves_its_serial_also_behind_a_flood_of_strangers() {
    let owner = owner("[limits]\nhandshake_events = 1\nhandshake_window_s = 3600\n").await;
    for _ in 0..5 {
        assert!(!owner.answers(None).await);
    }
    owner.handshake(1).await;
    let copied = owner.certificate(0x21, |_| {});
    let thiefs = KeyPair::generate().expect("a key").serialize_der();
    let tls = client_tls(Some((&copied, &thiefs)));
    let heard = async { Wire::open(&owner.node.address("federation"), tls).await?.list().await }.await;
    assert!(heard.is_err(), "without its key");
    let event = owner.handshake(2).await;
    assert_eq!(
        (event["reason"].as_str(), event["serial"].as_str()),
        (Some("not_the_holder"), Some("21".repeat(16).as_str())),
        "{event}"
    );
}

#[tokio::test]
async fn counts_that_the_log_does_not_take_are_written_once_it_does() {
    let owner = owner("[limits]\nhandshake_events_per_address = 1\nhandshake_window_s = 1\n").await;
    let database = owner.node.database().connect().await;
    database.batch_execute("ALTER TABLE federation_audit_log RENAME TO elsewhere").await.expect("taken away");
    for _ in 0..5 {
        assert!(!owner.answers(None).await);
    }
    until("a count was tried in vain, again and again", || async {
        let metrics = owner.node.anonymous().get("/metrics").await.text();
        let failed = metrics.lines().find_map(|line| line.strip_prefix("mosaic_audit_failed "));
        failed.and_then(|failed| failed.parse::<f64>().ok()).filter(|failed| *failed >= 4.0)
    })
    .await;
    database.batch_execute("ALTER TABLE elsewhere RENAME TO federation_audit_log").await.expect("given back");
    until("nothing is lost", || async {
        let events = owner.handshakes().await;
        let counted: i64 = events.iter().map(|event| event["suppressed"].as_i64().unwrap_or(0)).sum();
        let written = events.iter().filter(|event| event["reason"] == "no_certificate").count();
        (counted + written as i64 == 5).then_some(())
    })
    .await;
}
