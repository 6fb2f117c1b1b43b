//! Certificates that a thief, a careless CA or another holder could bring: each is signed by the genuine root, with a serial on
//! the record of a real grant, over real TLS. Whatever is wrong with it, it gets a TLS alert or a refusal, and never a row.

use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use time::Duration;

use crate::harness::asker::Asker;
use crate::harness::authority::{
    Authority, client_certificate, grant_extension, identity_value, subject_extension, tagged,
};
use crate::harness::node::Node;
use crate::harness::now;
use crate::harness::sites::{self, items};
use crate::harness::wait::until;
use crate::harness::wire::{Heard, Wire, client_tls, header};

/// On the record of ada's grant, and in every certificate that does not say otherwise.
const ON_RECORD: [u8; 16] = [0x17; 16];

/// A node whose root the test holds, with ada's grant, which an honest enrolment made active.
struct Owner {
    node: Node,
    authority: Authority,
    key: KeyPair,
    ada: Holder,
    bob: Holder,
}

struct Holder {
    user: String,
    grant: String,
}

async fn owner() -> Owner {
    let authority = Authority::new("the test's own root");
    let node = Node::start_with_ca("work", &authority, "").await;
    let ada = holder(&node, "ada").await;
    let bob = holder(&node, "bob").await;
    let owner = Owner { node, authority, key: KeyPair::generate().expect("a key"), ada, bob };
    owner.put_on_record(&owner.ada.grant, &ON_RECORD).await;
    until("the serial on record counts", || async {
        (owner.ask(&owner.good()).await == Outcome::Rows(vec!["ada's".to_owned()])).then_some(())
    })
    .await;
    owner
}

async fn holder(node: &Node, name: &str) -> Holder {
    let user = node.user(name).await;
    let session = node.session(name).await;
    session.post("/api/v1/data/tasks", json!({ "title": format!("{name}'s") })).await.expect(201);
    let limits = json!({ "requests_per_second": 10_000, "burst": 10_000, "concurrent": 100 });
    let grant = json!({ "peer": "home", "user": name, "scope": { "resources": ["tasks"] }, "limits": limits });
    let created = node.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    Asker::enroll(created["invite"]["invite"].as_str().expect("an invite")).await;
    Holder { user, grant: created["grant"]["id"].as_str().expect("an id").to_owned() }
}

/// What is wrong with a certificate.
type Bend<'a> = Box<dyn FnOnce(&mut CertificateParams) + 'a>;

/// What came of one request.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Alert,
    Refused(u16, String),
    Rows(Vec<String>),
}

impl Owner {
    fn good(&self) -> CertificateParams {
        client_certificate(&self.ada.grant, &self.ada.user, &ON_RECORD)
    }

    fn bent(&self, bend: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
        let mut params = self.good();
        bend(&mut params);
        params
    }

    fn sign(&self, params: &CertificateParams) -> CertificateDer<'static> {
        self.authority.sign(params, &self.key)
    }

    async fn put_on_record(&self, grant: &str, serial: &[u8]) {
        let key: Vec<u8> = (0..32).map(|_| rand_byte()).collect();
        let (from, to) = (now() - Duration::hours(1), now() + Duration::days(1));
        let grant: uuid::Uuid = grant.parse().expect("an id");
        let statement = "INSERT INTO grant_certificates (serial, grant_id, public_key_sha256, not_before, not_after) \
                         VALUES ($1, $2, $3, $4, $5)";
        let client = self.node.database().connect().await;
        client.execute(statement, &[&serial, &grant, &key, &from, &to]).await.expect("a serial on record");
    }

    async fn wire(&self, certificate: &CertificateDer<'static>, key: &KeyPair) -> std::io::Result<Wire> {
        let tls = client_tls(Some((certificate, &key.serialize_der())));
        Wire::open(&self.node.address("federation"), tls).await
    }

    async fn ask(&self, params: &CertificateParams) -> Outcome {
        self.ask_with(params, &self.key, "").await
    }

    async fn ask_with(&self, params: &CertificateParams, key: &KeyPair, headers: &str) -> Outcome {
        let certificate = self.authority.sign(params, key);
        let heard = async {
            let mut wire = self.wire(&certificate, key).await?;
            let path = "/api/federation/v1/list/tasks";
            wire.send(&format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: 2\r\n\r\n{{}}")).await?;
            wire.hear().await
        };
        match heard.await {
            Err(_) => Outcome::Alert,
            Ok(heard) => outcome(&heard),
        }
    }

    /// Reasons of the audited refusals of requests, oldest first.
    async fn refusals(&self) -> Vec<String> {
        let log = self.node.admin().get("/api/admin/v1/audit?outcome=denied&limit=500").await.expect(200);
        let requests = items(&log).into_iter().filter(|event| event["action"] != "handshake");
        let reasons = requests.map(|event| event["reason"].as_str().unwrap_or_default().to_owned());
        let mut reasons: Vec<String> = reasons.collect();
        reasons.reverse();
        reasons
    }
}

fn outcome(heard: &Heard) -> Outcome {
    match &heard.json["items"] {
        Value::Array(_) => Outcome::Rows(sites::titles(&heard.json)),
        _ => Outcome::Refused(heard.status, heard.word()),
    }
}

fn rand_byte() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0]
}

fn refused(status: u16, word: &str) -> Outcome {
    Outcome::Refused(status, word.to_owned())
}

#[tokio::test]
async fn a_certificate_whose_identity_is_not_exact_is_401_with_its_true_reason_in_the_audit() {
    let owner = owner().await;
    let before = owner.refusals().await.len();
    let other = |value: Vec<u8>| grant_extension(&value);
    let grant = owner.ada.grant.as_str();
    let mut trailing = identity_value(grant);
    trailing.push(0);
    let mut inner = grant.as_bytes().to_vec();
    inner.push(0);
    let long_form = [&[0x0c, 0x81, 36][..], grant.as_bytes()].concat();
    let simple = grant.replace('-', "");
    let bent: Vec<(&str, Bend<'_>)> = vec![
        ("identity_missing", Box::new(|p| drop(p.custom_extensions.remove(0)))),
        ("identity_missing", Box::new(|p| drop(p.custom_extensions.remove(1)))),
        ("identity_missing", Box::new(|p| p.custom_extensions.clear())),
        ("certificate_extensions", Box::new(|p| p.custom_extensions.push(p.custom_extensions[0].clone()))),
        ("certificate_extensions", Box::new(|p| p.custom_extensions.push(p.custom_extensions[1].clone()))),
        (
            "certificate_extensions",
            Box::new(|p| p.custom_extensions.insert(0, grant_extension(&identity_value(&owner.bob.grant)))),
        ),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(trailing))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(tagged(0x0c, &inner)))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(tagged(0x13, grant.as_bytes())))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(tagged(0x16, grant.as_bytes())))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(tagged(0x2c, grant.as_bytes())))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(long_form))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(identity_value(&grant.to_uppercase())))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(identity_value(&simple)))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(identity_value(&format!("{{{grant}}}"))))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(grant.as_bytes().to_vec()))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[0] = other(Vec::new()))),
        ("identity_malformed", Box::new(|p| p.custom_extensions[1] = subject_extension(&identity_value("ada")))),
        ("certificate_not_for_clients", Box::new(|p| p.extended_key_usages.clear())),
        ("certificate_may_sign", Box::new(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("certificate_may_sign", Box::new(|p| p.key_usages.push(KeyUsagePurpose::CrlSign))),
        ("certificate_serial", Box::new(|p| p.serial_number = Some(SerialNumber::from_slice(&[0])))),
        ("certificate_serial", Box::new(|p| p.serial_number = Some(SerialNumber::from_slice(&[0x17; 21])))),
    ];
    let (mut expected, mut let_through) = (Vec::new(), Vec::new());
    for (index, (reason, bend)) in bent.into_iter().enumerate() {
        let outcome = owner.ask(&owner.bent(bend)).await;
        if outcome != refused(401, "unauthorized") {
            let_through.push((index, reason, outcome));
        }
        expected.push(reason);
    }
    assert_eq!(let_through, []);
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    assert_eq!(owner.ask_with(&owner.good(), &ed25519, "").await, refused(401, "unauthorized"));
    expected.push("certificate_weak_key");
    assert_eq!(owner.refusals().await[before..], expected, "one refusal is one audit event");
    assert_eq!(owner.ask(&owner.good()).await, Outcome::Rows(vec!["ada's".to_owned()]));
}

#[tokio::test]
async fn a_certificate_that_is_not_a_clients_gets_a_tls_alert() {
    let owner = owner().await;
    let before = owner.refusals().await.len();
    let now = now();
    let critical = |extension: &CustomExtension| {
        let mut critical = extension.clone();
        critical.set_criticality(true);
        critical
    };
    let bent: Vec<(&str, Bend<'_>)> = vec![
        ("serverAuth", Box::new(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        ("a CA's", Box::new(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("expired", Box::new(move |p| p.not_after = now - Duration::minutes(1))),
        ("not valid yet", Box::new(move |p| p.not_before = now + Duration::minutes(10))),
        ("unknown critical extension", Box::new(move |p| p.custom_extensions[0] = critical(&p.custom_extensions[0]))),
    ];
    for (what, bend) in bent {
        assert_eq!(owner.ask(&owner.bent(bend)).await, Outcome::Alert, "{what}");
    }
    let namesake = Authority::new("the test's own root");
    let forged = namesake.sign(&owner.good(), &owner.key);
    let heard = async { owner.wire(&forged, &owner.key).await?.list().await };
    assert!(heard.await.is_err(), "another CA of the same name");
    assert_eq!(owner.refusals().await.len(), before, "no handler ran");
}

#[tokio::test]
async fn an_rsa_key_below_2048_bits_opens_nothing() {
    let owner = owner().await;
    for (bits, answered) in [(2048, true), (1024, false)] {
        let key = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(bits).expect("a key")).expect("a key");
        let spki = key.public_key_to_der().expect("DER");
        let public = rcgen::SubjectPublicKeyInfo::from_der(&spki).expect("a public key");
        let certificate = owner.authority.sign(&owner.good(), &public);
        let address = owner.node.address("federation");
        let exchange = tokio::task::spawn_blocking(move || is_answered(&address, &certificate, &key));
        assert_eq!(exchange.await.expect("it ran"), answered, "{bits} bits");
    }
}

/// Whether a client with this key is answered at all. OpenSSL, because rustls does not sign with such keys.
fn is_answered(
    address: &str,
    certificate: &CertificateDer<'static>,
    key: &openssl::pkey::PKey<openssl::pkey::Private>,
) -> bool {
    use std::io::{Read, Write};

    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a connector");
    builder.set_security_level(0);
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_certificate(&openssl::x509::X509::from_der(certificate).expect("X.509")).expect("a certificate");
    builder.set_private_key(key).expect("a key");
    let tcp = std::net::TcpStream::connect(address).expect("a connection");
    let Ok(mut stream) = builder.build().connect("localhost", tcp) else { return false };
    let mut answer = Vec::new();
    let asked =
        stream.write_all(b"GET /api/federation/v1/capabilities HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    asked.is_ok() && stream.read_to_end(&mut answer).is_ok() && !answer.is_empty()
}

#[tokio::test]
async fn ids_that_do_not_belong_together_are_403_with_one_fixed_text() {
    let owner = owner().await;
    let before = owner.refusals().await.len();
    let (ada, bob, nobody) = (&owner.ada, &owner.bob, uuid::Uuid::now_v7().to_string());
    let cases = [
        ("serial_not_current", client_certificate(&ada.grant, &ada.user, &[0x18; 16])),
        ("serial_not_current", client_certificate(&bob.grant, &bob.user, &ON_RECORD)),
        ("subject_mismatch", client_certificate(&ada.grant, &bob.user, &ON_RECORD)),
        ("subject_mismatch", client_certificate(&bob.grant, &ada.user, &ON_RECORD)),
        ("subject_mismatch", client_certificate(&ada.grant, &nobody, &ON_RECORD)),
        ("no_such_grant", client_certificate(&nobody, &ada.user, &ON_RECORD)),
    ];
    let mut bodies = Vec::new();
    for (reason, params) in &cases {
        let mut wire = owner.wire(&owner.sign(params), &owner.key).await.expect("a handshake");
        let mut heard = wire.list().await.expect("an answer");
        assert_eq!((heard.status, heard.json.get("items")), (403, None), "{reason}");
        heard.json["error"]["request_id"] = json!("-");
        bodies.push(heard.json.to_string());
        assert!(wire.ends().await, "{reason}: the connection is closed");
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(owner.refusals().await[before..], cases.map(|(reason, _)| reason));
}

#[tokio::test]
async fn a_serial_that_was_revoked_or_replaced_on_record_is_refused_on_the_open_connection() {
    let owner = owner().await;
    let mut wire = owner.wire(&owner.sign(&owner.good()), &owner.key).await.expect("a handshake");
    assert_eq!(wire.list().await.expect("an answer").status, 200);
    let database = owner.node.database().connect().await;
    let replace = "UPDATE grant_certificates SET superseded_until = now() WHERE serial = $1";
    database.execute(replace, &[&ON_RECORD.as_slice()]).await.expect("replaced");
    until("the replaced serial is refused", || async {
        (owner.ask(&owner.good()).await == refused(403, "forbidden")).then_some(())
    })
    .await;
    assert_eq!(wire.list().await.expect("an answer").status, 403);
}

#[tokio::test]
async fn names_and_headers_decide_nothing() {
    let owner = owner().await;
    let bob = client_certificate(&owner.bob.grant, &owner.bob.user, &ON_RECORD);
    let named = owner.bent(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, owner.bob.user.as_str());
        params.distinguished_name.push(DnType::OrganizationName, owner.bob.grant.as_str());
        params.subject_alt_names = vec![
            SanType::DnsName("bob.work".try_into().expect("a name")),
            SanType::URI(format!("urn:uuid:{}", owner.bob.grant).try_into().expect("a URI")),
            SanType::Rfc822Name("bob@work.example".try_into().expect("an address")),
        ];
    });
    let pem = openssl::x509::X509::from_der(&owner.sign(&bob)).and_then(|x509| x509.to_pem()).expect("PEM");
    let pem: String = url::form_urlencoded::byte_serialize(&pem).collect();
    let headers = format!(
        "x-forwarded-client-cert: Cert=\"{pem}\";Subject=\"CN=bob\"\r\nx-ssl-client-cert: {pem}\r\n\
         x-grant-id: {}\r\nx-subject-user-id: {}\r\nx-forwarded-for: 203.0.113.9\r\nforwarded: for=203.0.113.9\r\n\
         authorization: Bearer {}\r\n",
        owner.bob.grant,
        owner.bob.user,
        owner.node.admin_token(),
    );
    let rows = owner.ask_with(&named, &owner.key, &headers).await;
    assert_eq!(rows, Outcome::Rows(vec!["ada's".to_owned()]));
    let log = owner.node.admin().get("/api/admin/v1/audit?limit=1").await.expect(200);
    let event = &items(&log)[0];
    assert_eq!(event["grant_id"], json!(owner.ada.grant), "{event}");
    assert!(!log.to_string().contains("203.0.113.9"), "a header is no address: {log}");
}

/// Counts what a server gives a client to resume with.
#[derive(Debug, Default)]
struct Tickets(Mutex<usize>);

impl rustls::client::ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::NamedGroup) {}

    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::client::Tls12ClientSessionValue) {
        *self.0.lock().expect("a lock") += 1;
    }

    fn tls12_session(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        _: rustls::client::Tls13ClientSessionValue,
    ) {
        *self.0.lock().expect("a lock") += 1;
    }

    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        None
    }
}

#[tokio::test]
async fn no_session_can_be_resumed_in_either_version_of_tls() {
    let mut owner = owner().await;
    owner.node.stop();
    let config = std::fs::read_to_string(owner.node.config_file()).expect("the configuration");
    let config = config.replace("[federation]\n", "[federation]\ntls12 = true\n");
    std::fs::write(owner.node.config_file(), config).expect("written");
    owner.node.serve();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let certificate = owner.sign(&owner.good());
        let tickets = Arc::new(Tickets::default());
        let mut tls = tls_of(version, Some((&certificate, &owner.key)));
        tls.resumption = rustls::client::Resumption::store(Arc::clone(&tickets) as _)
            .tls12_resumption(rustls::client::Tls12Resumption::SessionIdOrTickets);
        tls.enable_early_data = true;
        let tls = Arc::new(tls);
        for _ in 0..3 {
            let mut wire = Wire::open_shared(&owner.node.address("federation"), Arc::clone(&tls)).await.expect("TLS");
            assert_eq!(wire.list().await.expect("an answer").status, 200);
            let connection = wire.stream.get_ref().1;
            assert_eq!(connection.protocol_version(), Some(version.version));
            assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
            assert!(!connection.is_early_data_accepted());
        }
        assert_eq!(*tickets.0.lock().expect("a lock"), 0, "{version:?}");
    }
}

fn tls_of(
    version: &'static rustls::SupportedProtocolVersion,
    identity: Option<(&CertificateDer<'static>, &KeyPair)>,
) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(crate::harness::asker::TrustAnyone(provider)));
    match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
            builder.with_client_auth_cert(vec![certificate.clone()], key.into()).expect("key and certificate match")
        }
    }
}

#[tokio::test]
async fn tls_12_is_not_spoken_unless_configured() {
    let owner = owner().await;
    let certificate = owner.sign(&owner.good());
    for listener in ["federation", "enrollment"] {
        let identity = (listener == "federation").then_some((&certificate, &owner.key));
        let spoken = tls_of(&rustls::version::TLS13, identity);
        assert!(Wire::open(&owner.node.address(listener), spoken).await.is_ok(), "{listener}");
        let tls = tls_of(&rustls::version::TLS12, identity);
        assert!(Wire::open(&owner.node.address(listener), tls).await.is_err(), "{listener}");
    }
}

#[tokio::test]
async fn http_2_is_neither_offered_nor_understood() {
    let owner = owner().await;
    let certificate = owner.sign(&owner.good());
    for (offer, want) in [
        (vec![b"h2".to_vec(), b"http/1.1".to_vec()], Some(b"http/1.1".to_vec())),
        (vec![b"h2".to_vec()], None),
        (vec![b"h2c".to_vec(), b"spdy/3".to_vec()], None),
    ] {
        let mut tls = client_tls(Some((&certificate, &owner.key.serialize_der())));
        tls.alpn_protocols = offer.clone();
        let agreed = Wire::open(&owner.node.address("federation"), tls).await;
        let agreed = agreed.ok().and_then(|wire| wire.stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec));
        assert_eq!(agreed, want, "{offer:?}");
    }
    let mut wire = owner.wire(&certificate, &owner.key).await.expect("a handshake");
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    let heard = wire.hear().await;
    assert!(heard.as_ref().map_or(true, |heard| heard.status >= 400), "{heard:?}");
    let mut wire = owner.wire(&certificate, &owner.key).await.expect("a handshake");
    wire.send(
        "GET /api/federation/v1/capabilities HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\n\
         upgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    )
    .await
    .expect("sent");
    let heard = wire.hear().await.expect("an answer");
    assert_eq!((heard.status, header(&heard.head, "upgrade")), (200, None), "{}", heard.head);
}

/// Every way to write an id but the one is refused: a few hundred over the wire; ten thousand run beside the parser.
#[tokio::test]
async fn mutated_identity_values_open_nothing() {
    let owner = owner().await;
    let good = identity_value(&owner.ada.grant);
    let mut seed = 0x9e37_79b9_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("small") % below
    };
    for case in 0..300 {
        let mut value = good.clone();
        for _ in 0..=random(3) {
            let (at, byte) = (random(value.len()), u8::try_from(random(256)).expect("a byte"));
            match random(4) {
                0 => value[at] = byte,
                1 => value.insert(at, byte),
                2 if value.len() > 1 => drop(value.remove(at)),
                _ => value[at] ^= 1 << random(8),
            }
        }
        if value == good {
            continue;
        }
        let mutated = owner.bent(|params| params.custom_extensions[0] = grant_extension(&value));
        match owner.ask(&mutated).await {
            Outcome::Refused(401, _) => {}
            // Still an id, but another one.
            Outcome::Refused(403, _) => assert_eq!(value.len(), good.len(), "case {case}: {value:02x?}"),
            other => panic!("case {case}: {value:02x?}: {other:?}"),
        }
    }
    assert_eq!(owner.ask(&owner.good()).await, Outcome::Rows(vec!["ada's".to_owned()]));
}

#[tokio::test]
async fn an_imported_root_is_taken_over_at_the_first_start_and_its_key_file_is_gone() {
    let authority = Authority::new("an operator's root");
    let mut node = Node::start_with_ca("work", &authority, "").await;
    for file in ["ca-import.pem", "ca-import.key"] {
        assert!(!node.state().join(file).exists(), "{file} is still there");
    }
    node.user("ada").await;
    let (_, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    assert_eq!(asker.root, authority.root());

    // Another root later is refused, loudly: every asker pinned the first.
    node.stop();
    let other = Authority::new("another root");
    for (name, text) in [("ca-import.pem", &other.certificate_pem), ("ca-import.key", &other.key_pem)] {
        std::fs::write(node.state().join(name), text).expect("written");
    }
    let start = node.cli(&["gateway", "serve"]);
    let told = String::from_utf8_lossy(&start.stderr).into_owned();
    assert!(start.status.code() == Some(1) && told.contains("CA"), "{told}");
    assert!(!told.contains("PRIVATE KEY"), "{told}");
    for file in ["ca-import.pem", "ca-import.key"] {
        std::fs::remove_file(node.state().join(file)).expect("removed");
    }
    node.serve();
    let known = until("the asker is known", || async {
        let answer = asker_at(&node, &asker).get("capabilities").await;
        (answer.status == 200).then_some(answer.json)
    });
    assert_eq!(known.await["site"], "work");
}

/// The same certificate towards the address that a restarted node got.
fn asker_at(node: &Node, asker: &Asker) -> Asker {
    let url = format!("https://{}", node.address("federation"));
    Asker::with(url, asker.certificate.clone(), asker.root.clone(), asker.key())
}
