use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints as Constraints, KeyUsage};
use openssl::x509::{X509, X509Name};

use super::*;
use crate::pki::crl::{CrlError, revoked_serials, verify_crl};
use crate::pki::embedded_ca::DEFAULT_CRL_LIFETIME;
use crate::pki::issued::check_issued;
use crate::pki::testing::{ca, client, now};

fn ec_key() -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap()
}

fn pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

/// A root made by OpenSSL, as an operator's own would be.
struct ForeignRoot {
    key: PKey<Private>,
    ca: bool,
    usage: Option<KeyUsage>,
    /// Seconds before now when it began.
    age: i64,
    days: i64,
}

impl ForeignRoot {
    fn with(key: PKey<Private>) -> Self {
        let mut usage = KeyUsage::new();
        usage.critical().key_cert_sign().crl_sign();
        Self { key, ca: true, usage: Some(usage), age: 60 * 86_400, days: 30 }
    }

    fn certificate(&self) -> String {
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("C", "CH").unwrap();
        name.append_entry_by_text("O", "Bärn & Co").unwrap();
        name.append_entry_by_text("CN", "Operator's Root").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&self.key).unwrap();
        let second = |seconds: i64| Asn1Time::from_unix(now().unix_timestamp() + seconds).unwrap();
        builder.set_not_before(&second(-self.age)).unwrap();
        builder.set_not_after(&second(self.days * 86_400)).unwrap();
        if self.ca {
            builder.append_extension(Constraints::new().critical().ca().build().unwrap()).unwrap();
        }
        if let Some(usage) = &self.usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
    }

    fn import(&self) -> Result<CaMaterial, CaError> {
        CaMaterial::import(&self.certificate(), &pem(&self.key), now())
    }
}

fn reason(result: Result<CaMaterial, CaError>) -> String {
    match result {
        Err(CaError::Unusable(reason)) => reason.into(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("was imported"),
    }
}

#[test]
fn two_sites_of_one_name_have_roots_of_different_names() {
    let (one, other) = (ca("work"), ca("work"));
    let name = |ca: &CaMaterial| X509::from_der(ca.certificate()).unwrap().subject_name().to_der().unwrap();
    assert_ne!(name(&one), name(&other));
}

#[test]
fn a_client_certificate_has_no_distribution_point_and_only_non_critical_identities() {
    let ca = ca("work");
    let issued = client(&ca).issued;
    let parsed = parse_certificate(&issued.certificate).unwrap();
    let identities: Vec<_> =
        parsed.extensions().iter().filter(|e| e.oid.to_id_string().starts_with("1.3.6.1.4.1.99999.")).collect();
    assert_eq!(identities.len(), 2);
    assert!(identities.iter().all(|extension| !extension.critical));
    assert!(!parsed.extensions().iter().any(|e| e.oid.to_id_string() == "2.5.29.31"), "distribution point");
    assert_eq!(parsed.raw_serial(), issued.serial.as_bytes());
    let root = X509::from_der(ca.certificate()).unwrap();
    assert!(X509::from_der(&issued.certificate).unwrap().verify(&root.public_key().unwrap()).unwrap());
}

#[test]
fn serial_numbers_differ_and_keep_their_length() {
    let ca = ca("work");
    let serials: std::collections::HashSet<_> = (0..50).map(|_| client(&ca).issued.serial).collect();
    assert_eq!(serials.len(), 50);
    assert!(serials.iter().all(|serial| serial.as_bytes().len() == SERIAL_BYTES));
}

#[test]
fn a_life_that_ends_before_it_starts_or_after_the_root_is_refused() {
    let ca = ca("work");
    let good = client(&ca).request;
    let backwards = ClientRequest { not_after: good.not_before, ..good.clone() };
    assert!(matches!(ca.issue(&backwards, &ExtensionArc::default()), Err(CaError::Refused(_))));
    // Less than a second is no life: X.509 has no fractions, and what would be certified ends as it begins.
    let begins = whole_second(good.not_before) + Duration::milliseconds(100);
    let short = ClientRequest { not_before: begins, not_after: begins + Duration::milliseconds(800), ..good.clone() };
    assert!(matches!(ca.issue(&short, &ExtensionArc::default()), Err(CaError::Refused(_))));
    // Nor is one that is over before the root begins.
    let before = now() - Duration::days(30);
    let early = ClientRequest { not_before: before, not_after: before + Duration::days(1), ..good.clone() };
    assert!(matches!(ca.issue(&early, &ExtensionArc::default()), Err(CaError::Refused(_))));
    let too_long = ClientRequest { not_after: now() + ROOT_LIFETIME + Duration::days(1), ..good.clone() };
    assert!(matches!(ca.issue(&too_long, &ExtensionArc::default()), Err(CaError::Refused(_))));
    let garbage = ClientRequest { public_key: vec![1, 2, 3], ..good };
    assert!(matches!(ca.issue(&garbage, &ExtensionArc::default()), Err(CaError::Refused(_))));
}

#[test]
fn rsa_and_p384_keys_are_certified_too() {
    let ca = ca("work");
    let p384 = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP384R1).unwrap()).unwrap();
    for key in [PKey::from_ec_key(p384).unwrap(), PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()] {
        let request = ClientRequest { public_key: key.public_key_to_der().unwrap(), ..client(&ca).request };
        let issued = ca.issue(&request, &ExtensionArc::default()).unwrap();
        assert_eq!(check_issued(&issued, &request, &ExtensionArc::default()), Ok(()));
    }
}

#[test]
fn a_server_certificate_begins_before_now_and_ends_with_the_root_at_the_latest() {
    let ca = ca("work");
    let now = now();
    let server = ca.issue_server(&["localhost".into(), "127.0.0.1".into()], now, Duration::days(30)).unwrap();
    assert_eq!(server.not_before, whole_second(now - BACKDATE));
    assert_eq!(server.not_after, whole_second(now + Duration::days(30)));
    assert_eq!(server.chain.len(), 2);
    assert_eq!(server.chain[1], ca.certificate());
    let eternal = ca.issue_server(&["localhost".into()], now, Duration::days(36_500)).unwrap();
    assert_eq!(eternal.not_after, ca.not_after);
    assert!(matches!(ca.issue_server(&[], now, Duration::days(1)), Err(CaError::Refused(_))));
    let after_the_root = ca.not_after + Duration::seconds(1);
    for (at, lifetime) in [(after_the_root, Duration::days(1)), (now, Duration::ZERO), (now, -Duration::HOUR)] {
        assert!(matches!(ca.issue_server(&["localhost".into()], at, lifetime), Err(CaError::Refused(_))), "{lifetime}");
    }
    assert!(matches!(ca.issue_server(&["bäd name".into()], now, Duration::days(1)), Err(CaError::Refused(_))));
}

#[test]
fn a_revocation_list_names_what_it_was_given_and_belongs_to_its_root() {
    let (work, other) = (ca("work"), ca("other"));
    let serial = client(&work).issued.serial;
    let revocation = Revocation { serial: serial.clone(), revoked_at: now(), not_after: now() };
    let crl = work.sign_crl(41, &[revocation], now(), DEFAULT_CRL_LIFETIME).unwrap();
    assert_eq!(verify_crl(&crl.der, work.certificate()), Ok(crl.clone()));
    assert_eq!(revoked_serials(&crl.der).unwrap(), [serial].into());
    assert_eq!(crl.next_update - crl.this_update, DEFAULT_CRL_LIFETIME);
    assert_eq!(verify_crl(&crl.der, other.certificate()), Err(CrlError::Signature));
    for at in 0..crl.der.len() {
        let mut altered = crl.der.clone();
        altered[at] ^= 1;
        assert!(verify_crl(&altered, work.certificate()).is_err(), "byte {at}");
    }
}

#[test]
fn a_stored_root_signs_like_the_one_that_was_made() {
    let made = ca("work");
    let opened = CaMaterial::from_stored(made.certificate().to_vec(), &made.key_pkcs8()).unwrap();
    let client = client(&opened);
    assert_eq!(check_issued(&client.issued, &client.request, &ExtensionArc::default()), Ok(()));
}

#[test]
fn a_root_of_openssl_is_imported_and_works() {
    let p384 = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP384R1).unwrap()).unwrap();
    for key in [ec_key(), PKey::from_ec_key(p384).unwrap(), PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()] {
        let root = ForeignRoot::with(key);
        let imported = root.import().unwrap();
        let client = client(&imported);
        assert_eq!(check_issued(&client.issued, &client.request, &ExtensionArc::default()), Ok(()));
        let crl = imported.sign_crl(1, &[], now(), DEFAULT_CRL_LIFETIME).unwrap();
        assert!(verify_crl(&crl.der, imported.certificate()).is_ok());
    }
    let unlimited = ForeignRoot { usage: None, ..ForeignRoot::with(ec_key()) };
    assert!(unlimited.import().is_ok());
}

#[test]
fn a_root_that_cannot_serve_is_refused_with_its_reason() {
    let good = ForeignRoot::with(ec_key());
    let other_key = CaMaterial::import(&good.certificate(), &pem(&ec_key()), now());
    assert_eq!(reason(other_key), "the key does not belong to the certificate");

    let leaf = ForeignRoot { ca: false, ..ForeignRoot::with(ec_key()) };
    assert!(reason(leaf.import()).contains("CA:TRUE"));

    let mut only_certificates = KeyUsage::new();
    only_certificates.critical().key_cert_sign();
    let no_crl = ForeignRoot { usage: Some(only_certificates), ..ForeignRoot::with(ec_key()) };
    assert!(reason(no_crl.import()).contains("keyUsage"));

    let expired = ForeignRoot { days: -1, ..ForeignRoot::with(ec_key()) };
    assert_eq!(reason(expired.import()), "the root is malformed, not valid yet or expired");

    let weak = ForeignRoot::with(PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap());
    assert!(reason(weak.import()).contains("2048"));

    let encrypted = good.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    let encrypted = String::from_utf8(encrypted).unwrap();
    assert!(reason(CaMaterial::import(&good.certificate(), &encrypted, now())).contains("decrypt"));

    assert!(reason(CaMaterial::import("nonsense", &pem(&good.key), now())).contains("no certificate"));
    let two = good.certificate().repeat(2);
    assert!(reason(CaMaterial::import(&two, &pem(&good.key), now())).contains("more than one"));
}

#[test]
fn a_root_that_was_made_a_moment_ago_signs_nothing_that_began_before_it() {
    let root = ForeignRoot { age: 0, ..ForeignRoot::with(ec_key()) };
    let ca = root.import().unwrap();
    assert_eq!(client(&ca).issued.not_before, ca.not_before);
    let server = ca.issue_server(&["work.example".to_owned()], now(), Duration::days(1)).unwrap();
    assert_eq!(server.not_before, ca.not_before);
}
