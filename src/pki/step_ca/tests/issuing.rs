use mosaic_actors::domain::identity::PeerIdentity;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509NameBuilder, X509ReqBuilder};

use super::*;
use crate::pki::csr::verify_csr;
use crate::pki::profile::{check_client_certificate, extended_key_usage};
use crate::tls::peer_client_config;

#[tokio::test]
async fn a_certificate_carries_exactly_what_was_asked_for() {
    let ca = open(SHARED.config()).await;
    let (_, request) = new_request();
    let issued = ca.issue(request.clone()).await.unwrap();
    assert_eq!(check_issued(&issued, &request, &arc()), Ok(()));
    let asked = (whole_second(request.not_before), whole_second(request.not_after));
    assert_eq!((issued.not_before, issued.not_after), asked);
    assert_eq!((issued.chain.len(), issued.chain.last().unwrap().as_slice()), (2, SHARED.root()));
    let identity = check_client_certificate(&issued.certificate, SHARED.root(), now(), &arc()).unwrap();
    assert_eq!(
        identity,
        PeerIdentity { grant: request.grant, subject: request.subject, serial: issued.serial.clone() }
    );
    let parsed = parse_certificate(&issued.certificate).unwrap();
    assert!(parsed.subject_alternative_name().unwrap().is_none(), "a client has no host names");
    let usage = extended_key_usage(&parsed).unwrap().unwrap();
    assert!(usage.client_auth && !usage.server_auth);
    let distribution_points = x509_parser::oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS;
    assert!(parsed.get_extension_unique(&distribution_points).unwrap().is_none());
}

#[tokio::test]
async fn lives_from_a_minute_to_ninety_days_are_signed() {
    let ca = open(SHARED.config()).await;
    for lifetime in [Duration::minutes(1), Duration::days(90)] {
        let (_, request) = new_request();
        let request = ClientRequest { not_after: request.not_before + lifetime, ..request };
        let issued = ca.issue(request).await.unwrap();
        let more = issued.not_after - issued.not_before - lifetime;
        assert!(more == Duration::ZERO || more == Duration::SECOND, "{more}");
    }
}

#[tokio::test]
async fn many_at_once_get_certificates_of_their_own() {
    let ca = open(SHARED.config()).await;
    let issued = futures_util::future::join_all((0..8).map(|_| issue(&ca))).await;
    let serials: std::collections::HashSet<Serial> = issued.into_iter().map(|issued| issued.unwrap().serial).collect();
    assert_eq!(serials.len(), 8);
}

/// RSA, with a common name, host names and an address that are nobody's business.
#[tokio::test]
async fn a_request_contributes_its_key_and_none_of_its_names() {
    let ca = open(SHARED.config()).await;
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "root of all").unwrap();
    let mut builder = X509ReqBuilder::new().unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_pubkey(&key).unwrap();
    let alternatives = SubjectAlternativeName::new()
        .dns("root of all")
        .dns("bank.example")
        .ip("10.0.0.1")
        .email("a@b.example")
        .build(&builder.x509v3_context(None))
        .unwrap();
    let mut extensions = Stack::new().unwrap();
    extensions.push(alternatives).unwrap();
    builder.add_extensions(&extensions).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let csr_pem = String::from_utf8(builder.build().to_pem().unwrap()).unwrap();
    let request = ClientRequest { public_key: verify_csr(&csr_pem).unwrap(), csr_pem, ..new_request().1 };

    let issued = ca.issue(request.clone()).await.unwrap();
    let parsed = parse_certificate(&issued.certificate).unwrap();
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    assert_eq!(parsed.subject().to_string(), "CN=home");
    assert_eq!(parsed.public_key().raw, request.public_key);
}

#[tokio::test]
async fn a_server_certificate_holds_for_its_names_and_for_servers_only() {
    let ca = open(SHARED.config()).await;
    let names = ["work.example".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let server = ca.issue_server(names.to_vec(), now(), Duration::days(7)).await.unwrap();
    assert_eq!((server.chain.len(), server.chain[2].as_slice()), (3, SHARED.root()), "an asker finds the root in it");
    let parsed = parse_certificate(&server.chain[0]).unwrap();
    let usage = extended_key_usage(&parsed).unwrap().unwrap();
    assert!(usage.server_auth && !usage.client_auth);
    assert!(server.not_before < now() - Duration::minutes(4), "a clock that is behind");
    let key = PKey::private_key_from_pkcs8(&server.key).unwrap();
    assert_eq!(key.public_key_to_der().unwrap(), parsed.public_key().raw);
    assert!(matches!(ca.issue_server(vec![], now(), Duration::days(7)).await, Err(CaError::Refused(_))));
    // A listener takes it.
    crate::tls::SwappableIdentity::new().replace(&server).unwrap();
}

/// A certificate that renews where no grant is asked would outlive its grant.
#[tokio::test]
async fn step_ca_does_not_renew_by_itself() {
    let ca = open(SHARED.config()).await;
    let (key, request) = new_request();
    let issued = ca.issue(request).await.unwrap();
    let chain: Vec<Vec<u8>> = std::iter::once(issued.certificate).chain(issued.chain).collect();
    let tls = peer_client_config(SHARED.root(), &chain, &key.pkcs8).unwrap();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    let answer = client.post(ca.inner.api.url("/1.0/renew")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn an_examination_of_a_good_authority_finds_nothing() {
    let found = open(SHARED.config()).await.examine().await;
    assert_eq!((found.reachable, found.provisioner, found.template), (Ok(()), Some(Ok(())), Some(Ok(()))));
    let crl = found.crl.unwrap().unwrap();
    assert_eq!(crl.next_update - crl.this_update, Duration::hours(1));
}

#[tokio::test]
async fn the_root_is_found_by_its_fingerprint_or_in_its_file() {
    assert_eq!(open(SHARED.config()).await.root(), SHARED.root());
    let file = StepCaConfig { root_file: Some(SHARED.directory().join("root_ca.crt")), ..SHARED.config() };
    assert_eq!(open(file).await.root(), SHARED.root());
    let other = StepCaConfig { root_file: Some(SHARED.directory().join("intermediate_ca.crt")), ..SHARED.config() };
    let refused = typed(StepCa::open(other.clone(), arc(), Arc::new(SystemClock)).await.map(|_| ()));
    assert_eq!(refused, StepCaError::RootFile(other.root_file.unwrap()));
}

/// The way of an operator, from nothing: the script, its output, and an arc of his own.
#[tokio::test]
async fn an_authority_made_by_the_init_script_signs_under_the_arc_it_was_told() {
    let server = TestStepCa::start_by_script("work", "1.3.6.1.4.1.4711");
    let arc = ExtensionArc::parse("1.3.6.1.4.1.4711").unwrap();
    let ca = StepCa::open(server.config(), arc.clone(), Arc::new(SystemClock)).await.unwrap();
    let found = ca.examine().await;
    assert_eq!((found.reachable, found.provisioner, found.template), (Ok(()), Some(Ok(())), Some(Ok(()))));
    let (_, request) = new_request();
    let issued = ca.issue(request.clone()).await.unwrap();
    assert_eq!(check_issued(&issued, &request, &arc), Ok(()));
    let crl = ca.revoke(issued.serial.clone(), issued.not_after, now()).await.unwrap();
    assert!(revoked_serials(&crl.der).unwrap().contains(&issued.serial));
}
