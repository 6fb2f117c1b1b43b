//! An invite is worth one certificate for one key, whoever redeems it, how often, where and when; and what was secret on the way is
//! in no log.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::X509ReqBuilder;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::harness::api::Answer;
use crate::harness::asker::{self, Asker};
use crate::harness::authority::{GRANT_OID, SUBJECT_OID, identity_value};
use crate::harness::node::Node;
use crate::harness::sites::{self, items};

/// For tests that fail more often than an honest asker does, fifty at once on a machine that may be busy.
const MANY_FAILURES: &str =
    "[limits]\nenroll_failures_per_minute = 1000\npool_wait_ms = 30000\ndatabase_connect_ms = 30000\n";

struct Owner {
    node: Node,
    ada: String,
    grant: String,
    invite: String,
}

async fn owner(more: &str) -> Owner {
    let node = Node::start_with("work", more).await;
    let ada = node.user("ada").await;
    let (grant, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    Owner { node, ada, grant, invite }
}

impl Owner {
    async fn another_invite(&self) -> String {
        let answer = self.node.admin().post(&format!("/api/admin/v1/grants/{}/invite", self.grant), json!({})).await;
        answer.json["invite"].as_str().expect("an invite").to_owned()
    }

    async fn grant(&self) -> Value {
        self.node.admin().get(&format!("/api/admin/v1/grants/{}", self.grant)).await.expect(200)
    }

    async fn events(&self, filter: &str) -> Vec<Value> {
        items(&self.node.admin().get(&format!("/api/admin/v1/audit?limit=500&{filter}")).await.expect(200))
    }
}

/// Sends a CSR with the token of an invite to a node, which may be another replica than the one that the invite names.
async fn redeem(node: &Node, invite: &str, csr: &str) -> Answer {
    let token = asker::open_invite(invite)["token"].as_str().expect("a token").to_owned();
    asker::enroll(&format!("https://{}", node.address("enrollment")), &token, csr).await
}

fn certificates(grant: &Value) -> usize {
    grant["certificates"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn fifty_redemptions_at_once_on_two_replicas_give_one_certificate() {
    let owner = owner(MANY_FAILURES).await;
    let second = owner.node.replica(owner.node.database().url(), MANY_FAILURES);
    let attempts = (0..50).map(|index| {
        let node = if index % 2 == 0 { &owner.node } else { &second };
        let invite = &owner.invite;
        async move { redeem(node, invite, &asker::new_csr().1).await }
    });
    let mut statuses = BTreeMap::new();
    for answer in join_all(attempts).await {
        *statuses.entry(answer.status.as_u16()).or_insert(0) += 1;
        assert!(answer.status == 200 || answer.json.get("certificate").is_none(), "{}", answer.text());
    }
    assert_eq!(statuses.get(&200), Some(&1), "{statuses:?}");
    // 503: a machine too busy for fifty at once; nothing was given then either.
    assert!(statuses.keys().all(|status| [200, 409, 410, 503].contains(status)), "{statuses:?}");
    let refused = statuses.get(&409).unwrap_or(&0) + statuses.get(&410).unwrap_or(&0);
    let grant = owner.grant().await;
    assert_eq!((grant["status"].as_str(), certificates(&grant)), (Some("active"), 1), "{grant}");
    let failed = owner.events("outcome=denied&action=enroll").await;
    assert_eq!(failed.len(), refused);
    for event in failed {
        assert!(
            event["grant_id"].is_null() && event["peer"].is_null() && event["subject_user_id"].is_null(),
            "{event}"
        );
    }
}

#[tokio::test]
async fn a_spent_token_stays_spent_after_a_crash_and_on_another_replica() {
    let mut owner = owner("").await;
    redeem(&owner.node, &owner.invite, &asker::new_csr().1).await.expect(200);
    owner.node.kill();
    owner.node.serve();
    assert_eq!(redeem(&owner.node, &owner.invite, &asker::new_csr().1).await.error(410).0, "gone");
    let replica = owner.node.replica(owner.node.database().url(), "");
    assert_eq!(redeem(&replica, &owner.invite, &asker::new_csr().1).await.error(410).0, "gone");
    let again = owner.node.admin().post(&format!("/api/admin/v1/grants/{}/invite", owner.grant), json!({})).await;
    assert_eq!(again.error(409).0, "conflict", "an active grant is not invited to again");
    assert_eq!(certificates(&owner.grant().await), 1);
}

#[tokio::test]
async fn a_token_ends_with_its_grant_its_time_and_its_subject() {
    let owner = owner(MANY_FAILURES).await;
    let database = owner.node.database().connect().await;
    database.execute("UPDATE enrollment_tokens SET expires_at = now()", &[]).await.expect("expired");
    assert_eq!(redeem(&owner.node, &owner.invite, &asker::new_csr().1).await.error(410).0, "gone");
    let invite = owner.another_invite().await;
    owner.node.admin().post(&format!("/api/admin/v1/grants/{}/revoke", owner.grant), json!({})).await.expect(200);
    assert_eq!(redeem(&owner.node, &invite, &asker::new_csr().1).await.error(410).0, "gone");
    let (_, invite) = sites::grant(&owner.node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    owner.node.admin().patch("/api/admin/v1/users/ada", json!({ "active": false })).await.expect(200);
    assert_eq!(redeem(&owner.node, &invite, &asker::new_csr().1).await.error(410).0, "gone");
    assert_eq!(certificates(&owner.grant().await), 0);
}

#[tokio::test]
async fn a_hostile_request_contributes_its_key_and_nothing_else() {
    let owner = owner("").await;
    let key = KeyPair::generate().expect("a key");
    let stranger = uuid::Uuid::now_v7().to_string();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.distinguished_name.push(DnType::OrganizationName, "Mosaic work CA");
    params.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into().expect("a name")),
        SanType::IpAddress("127.0.0.1".parse().expect("an address")),
    ];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    params.custom_extensions = vec![
        CustomExtension::from_oid_content(&GRANT_OID, identity_value(&stranger)),
        CustomExtension::from_oid_content(&SUBJECT_OID, identity_value(&stranger)),
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 4711], vec![5, 0]),
    ];
    let csr = hostile_csr(&key, &params);
    let enrolled = redeem(&owner.node, &owner.invite, &csr).await.expect(200);

    let pem = enrolled["certificate"].as_str().expect("PEM");
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let (_, certificate) = X509Certificate::from_der(&der).expect("X.509");
    assert_eq!(certificate.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(certificate.subject().to_string(), "CN=home");
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().expect("one EKU").expect("an EKU").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any, "{usage:?}");
    let usage = certificate.key_usage().expect("one").expect("a key usage").value;
    assert!(!usage.key_cert_sign() && !usage.crl_sign());
    assert!(certificate.subject_alternative_name().expect("none twice").is_none());
    let value = |oid: &[u64]| {
        let oid = x509_parser::der_parser::Oid::from(oid).expect("an OID");
        certificate.get_extension_unique(&oid).expect("once").map(|extension| extension.value.to_vec())
    };
    assert_eq!(value(&GRANT_OID), Some(identity_value(&owner.grant)));
    assert_eq!(value(&SUBJECT_OID), Some(identity_value(&owner.ada)));
    assert_eq!(value(&[1, 3, 6, 1, 4, 1, 4711]), None);
}

/// A request with every extension that a certificate could carry; rcgen writes some, OpenSSL would refuse none.
fn hostile_csr(key: &KeyPair, params: &CertificateParams) -> String {
    params.serialize_request(key).expect("a CSR").pem().expect("PEM")
}

fn openssl_csr(key: &PKey<Private>, signer: &PKey<Private>, digest: MessageDigest) -> String {
    let mut request = X509ReqBuilder::new().expect("a request");
    request.set_pubkey(key).expect("a public key");
    request.sign(signer, digest).expect("a signature");
    String::from_utf8(request.build().to_pem().expect("PEM")).expect("ASCII")
}

fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

#[tokio::test]
async fn weak_keys_reused_keys_and_false_signatures_get_no_certificate() {
    let owner = owner(MANY_FAILURES).await;
    let (p256, other) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::X9_62_PRIME256V1));
    let (sha, none) = (MessageDigest::sha256(), MessageDigest::null());
    let rsa = PKey::from_rsa(Rsa::generate(1024).expect("a key")).expect("a key");
    let ed25519 = PKey::generate_ed25519().expect("a key");
    let cases = [
        ("RSA of 1024 bits", openssl_csr(&rsa, &rsa, sha)),
        ("P-224", openssl_csr(&ec(Nid::SECP224R1), &ec(Nid::SECP224R1), sha)),
        ("secp256k1", openssl_csr(&ec(Nid::SECP256K1), &ec(Nid::SECP256K1), sha)),
        ("Ed25519", openssl_csr(&ed25519, &ed25519, none)),
        ("another key's signature", openssl_csr(&p256, &other, sha)),
        ("no request", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned()),
        ("nothing", String::new()),
    ];
    for (what, csr) in &cases {
        let invite = owner.another_invite().await;
        assert_eq!(redeem(&owner.node, &invite, csr).await.error(400).0, "invalid_request", "{what}");
    }
    assert_eq!((owner.grant().await["status"].as_str(), certificates(&owner.grant().await)), (Some("pending"), 0));

    let honest = openssl_csr(&p256, &p256, sha);
    redeem(&owner.node, &owner.another_invite().await, &honest).await.expect(200);
    let (grant, invite) = sites::grant(&owner.node, "away", "ada", json!({ "resources": ["tasks"] })).await;
    assert_eq!(redeem(&owner.node, &invite, &honest).await.error(409).0, "conflict", "a key that is on record");
    let grant = owner.node.admin().get(&format!("/api/admin/v1/grants/{grant}")).await.expect(200);
    assert_eq!((grant["status"].as_str(), certificates(&grant)), (Some("pending"), 0));
    let denied = owner.node.admin().get("/api/admin/v1/audit?action=enroll&outcome=denied&limit=1").await.expect(200);
    assert_eq!(denied["items"][0]["reason"], "key_on_record", "before the authority was asked for anything");
}

#[tokio::test]
async fn five_failures_a_minute_from_one_address_then_429_without_an_event() {
    let owner = owner("").await;
    let wrong = "mosaic_enroll_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let url = format!("https://{}", owner.node.address("enrollment"));
    for _ in 0..5 {
        assert_eq!(asker::enroll(&url, wrong, &asker::new_csr().1).await.error(404).0, "not_found");
    }
    for _ in 0..3 {
        let refused = asker::enroll(&url, wrong, &asker::new_csr().1).await;
        let wait: u64 = refused.headers["retry-after"].to_str().expect("a number").parse().expect("a number");
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(refused.error(429).0, "rate_limited");
    }
    // The right token fares no better from there, and is not spent.
    assert_eq!(redeem(&owner.node, &owner.invite, &asker::new_csr().1).await.error(429).0, "rate_limited");
    assert_eq!(owner.grant().await["status"], "pending");
    assert_eq!(owner.events("outcome=denied").await.len(), 5);
    assert_eq!(asker::fetch_crl(&url).await.status, 200, "the list is served all the same");
}

#[tokio::test]
async fn nothing_secret_is_in_a_log_at_its_finest_level() {
    let trace = "[log]\nfilter = \"trace\"\n[limits]\nenroll_failures_per_minute = 1000\n";
    let (home, work) =
        futures_util::future::join(Node::start_with("home", trace), Node::start_with("work", trace)).await;
    home.user("ada").await;
    work.user("ada").await;
    let (home_token, work_token) = (home.session_token("ada").await, work.session_token("ada").await);
    let (ada_at_home, ada_at_work) = (home.with_token(&home_token), work.with_token(&work_token));
    let canary = |name: &str| format!("canary-{name}-{}", uuid::Uuid::new_v4().simple());
    let (row, filter, bad_row) = (canary("row"), canary("filter"), canary("bad"));
    ada_at_work.post("/api/v1/data/tasks", json!({ "title": row })).await.expect(201);
    ada_at_work.post("/api/v1/data/tasks", json!({ "title": bad_row, "nothing": bad_row })).await.expect(400);

    let (_, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    sites::join(&home, "ada", &invite).await;
    let (_, second) = sites::grant(&work, "away", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&second).await;
    let spent = asker::open_invite(&second)["token"].as_str().expect("a token").to_owned();
    asker::enroll(&format!("https://{}", work.address("enrollment")), &spent, "no request").await.expect(410);
    for query in [
        json!({ "verb": "list", "resource": "tasks" }),
        json!({ "verb": "list", "resource": "tasks", "where": { "status": filter } }),
        json!({ "verb": "list", "resource": "tasks", "where": { "no_such_column": filter } }),
    ] {
        ada_at_home.query(query).await;
    }
    assert_eq!(asker.post("list/tasks", json!({ "where": { "status": row } })).await.status, 200);
    asker.post("list/tasks", json!({ "where": { "status": { "like": filter } } })).await.expect(400);
    home.with_token(&format!("{home_token}x")).query(json!({})).await.expect(401);

    let token = |invite: &str| asker::open_invite(invite)["token"].as_str().expect("a token").to_owned();
    let secret = |node: &Node| std::fs::read_to_string(node.state().join("master.secret")).expect("the master secret");
    let lines = |text: &str| text.lines().find(|line| !line.starts_with('#')).unwrap_or_default().trim().to_owned();
    let key = asker.key();
    let mut secrets = vec![
        row,
        bad_row,
        filter,
        home_token,
        work_token,
        token(&invite),
        token(&second),
        home.admin_token().to_owned(),
        work.admin_token().to_owned(),
        lines(&secret(&home)),
        lines(&secret(&work)),
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &key),
        hex(&key),
    ];
    // A token's random part is the secret, whatever stands before it.
    secrets
        .extend(secrets.clone().iter().filter_map(|text| text.rsplit_once('_').map(|(_, random)| random.to_owned())));
    for node in [&home, &work] {
        let log = node.log();
        assert!(log.contains("TRACE") && log.contains("enroll"), "the log is at its finest: {} bytes", log.len());
        for secret in secrets.iter().filter(|secret| secret.len() > 8) {
            let line = log.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{secret} is in the log of {}", node.site);
        }
        assert!(!log.contains("PRIVATE KEY") && !log.contains("mosaic_enroll_") && !log.contains("mosaic-invite:"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
