use mosaic_actors::domain::identity::{GrantId, UserId};

use super::*;
use crate::pki::authority::ClientRequest;
use crate::pki::csr::new_key_and_csr;
use crate::pki::pem::{certificate_to_pem, chain_to_pem};
use crate::pki::testing::{ca, client, now, request_for};

fn arc() -> ExtensionArc {
    ExtensionArc::default()
}

#[test]
fn what_was_asked_for_passes() {
    let client = client(&ca("work"));
    assert_eq!(check_issued(&client.issued, &client.request, &arc()), Ok(()));
}

#[test]
fn each_difference_to_what_was_asked_is_named() {
    let client = client(&ca("work"));
    let (issued, asked) = (client.issued, client.request);
    let check = |request: &ClientRequest| check_issued(&issued, request, &arc());
    assert_eq!(check(&ClientRequest { grant: GrantId::new(), ..asked.clone() }), Err(Mismatch::Grant));
    assert_eq!(check(&ClientRequest { subject: UserId::new(), ..asked.clone() }), Err(Mismatch::Subject));
    let other_key = new_key_and_csr().unwrap().public_key;
    assert_eq!(check(&ClientRequest { public_key: other_key, ..asked.clone() }), Err(Mismatch::PublicKey));
    let shorter = asked.not_after - Duration::seconds(2);
    assert_eq!(check(&ClientRequest { not_after: shorter, ..asked.clone() }), Err(Mismatch::Lifetime));
    let longer = asked.not_after + Duration::minutes(6);
    assert_eq!(check(&ClientRequest { not_after: longer, ..asked.clone() }), Err(Mismatch::Lifetime));
    let earlier = asked.not_before - Duration::minutes(2);
    assert_eq!(check(&ClientRequest { not_before: earlier, ..asked.clone() }), Err(Mismatch::Lifetime));
}

#[test]
fn a_report_that_differs_from_its_certificate_is_refused() {
    let client = client(&ca("work"));
    let (issued, asked) = (client.issued, client.request);
    let check = |issued: &IssuedCertificate| check_issued(issued, &asked, &arc());
    let serial = Serial::from_bytes(&[9]).unwrap();
    assert_eq!(check(&IssuedCertificate { serial, ..issued.clone() }), Err(Mismatch::Serial));
    let not_after = issued.not_after - Duration::seconds(1);
    assert_eq!(check(&IssuedCertificate { not_after, ..issued.clone() }), Err(Mismatch::Lifetime));
    let foreign = ca("work").certificate().to_vec();
    assert_eq!(check(&IssuedCertificate { chain: vec![foreign], ..issued.clone() }), Err(Mismatch::Chain));
    assert_eq!(check(&IssuedCertificate { chain: vec![], ..issued.clone() }), Err(Mismatch::Chain));
    let other_arc = ExtensionArc::parse("1.3.6.1.4.1.4711").unwrap();
    assert_eq!(check_issued(&issued, &asked, &other_arc), Err(Mismatch::Profile(ProfileError::Missing("grant"))));
}

#[test]
fn an_asker_keeps_only_a_certificate_for_its_key_and_its_root() {
    let ca = ca("work");
    let key = new_key_and_csr().unwrap();
    let issued = ca.issue(&request_for(&key), &arc()).unwrap();
    let (pem, chain) = (certificate_to_pem(&issued.certificate), chain_to_pem(&issued.chain));
    let check = |root: &[u8], public_key: &[u8], at| check_received(&pem, &chain, root, public_key, at);

    assert_eq!(
        check(ca.certificate(), &key.public_key, now()),
        Ok(Received {
            chain: vec![issued.certificate.clone()],
            serial: issued.serial.clone(),
            not_before: issued.not_before,
            not_after: issued.not_after,
        })
    );
    let behind = now() - Duration::minutes(3);
    assert!(check(ca.certificate(), &key.public_key, behind).is_ok(), "a clock that is behind");
    let late = issued.not_after;
    assert_eq!(check(ca.certificate(), &key.public_key, late), Err(ReceivedError::Expired));
    let other = new_key_and_csr().unwrap().public_key;
    assert_eq!(check(ca.certificate(), &other, now()), Err(Mismatch::PublicKey.into()));
    let foreign = crate::pki::testing::ca("work");
    assert_eq!(check(foreign.certificate(), &key.public_key, now()), Err(Mismatch::Chain.into()));
    let long = vec![certificate_to_pem(ca.certificate()); CHAIN_LIMIT + 1];
    assert_eq!(check_received(&pem, &long, ca.certificate(), &key.public_key, now()), Err(ReceivedError::ChainTooLong));
    assert!(matches!(
        check_received("nonsense", &chain, ca.certificate(), &key.public_key, now()),
        Err(ReceivedError::Pem(_))
    ));
}

/// webpki takes a certificate without any extended key usage for any use.
#[test]
fn an_asker_keeps_no_certificate_that_names_no_use() {
    let ca = ca("work");
    let ca_key = rcgen::KeyPair::try_from(ca.key_pkcs8().as_slice()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&ca.certificate().into(), ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let public_key = rcgen::PublicKeyData::subject_public_key_info(&key);
    let received = |usages: Vec<rcgen::ExtendedKeyUsagePurpose>| {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::hours(1);
        params.extended_key_usages = usages;
        let pem = certificate_to_pem(params.signed_by(&key, &issuer).unwrap().der());
        check_received(&pem, &[], ca.certificate(), &public_key, now())
    };
    assert!(received(vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]).is_ok());
    for usages in [vec![], vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]] {
        assert_eq!(received(usages), Err(Mismatch::Profile(ProfileError::NotForClients).into()));
    }
}
