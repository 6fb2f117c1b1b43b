use mosaic_actors::domain::identity::{GrantId, UserId};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::Duration;

use super::*;
use crate::pki::ca_material::CaMaterial;
use crate::pki::extension_arc::encode_identity;
use crate::pki::testing::{ca, client, now};

/// A certificate as a hostile or careless CA would make it: every part can be bent.
struct Bent {
    grant: GrantId,
    subject: UserId,
    params: CertificateParams,
    key: KeyPair,
    root: CaMaterial,
}

impl Bent {
    fn good() -> Self {
        let (grant, subject) = (GrantId::new(), UserId::new());
        let arc = ExtensionArc::default();
        let mut params = CertificateParams::default();
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::hours(1);
        params.serial_number = Some(SerialNumber::from_slice(&[7; 16]));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.custom_extensions = vec![
            CustomExtension::from_oid_content(&arc.grant().numbers, encode_identity(grant.0)),
            CustomExtension::from_oid_content(&arc.subject().numbers, encode_identity(subject.0)),
        ];
        Self { grant, subject, params, key: KeyPair::generate().unwrap(), root: ca("work") }
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut bent = Self::good();
        change(&mut bent.params);
        bent
    }

    fn der(&self) -> Vec<u8> {
        let key = KeyPair::try_from(self.root.key_pkcs8().as_slice()).unwrap();
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(self.root.certificate()), key).unwrap();
        self.params.signed_by(&self.key, &issuer).unwrap().der().to_vec()
    }

    fn check(&self) -> Result<PeerIdentity, ProfileError> {
        check_client_certificate(&self.der(), self.root.certificate(), now(), &ExtensionArc::default())
    }
}

fn with_value(index: usize, value: Vec<u8>) -> Bent {
    Bent::with(|params| {
        let numbers: Vec<u64> = params.custom_extensions[index].oid_components().collect();
        params.custom_extensions[index] = CustomExtension::from_oid_content(&numbers, value);
    })
}

#[test]
fn a_good_certificate_yields_its_identity() {
    let good = Bent::good();
    let serial = Serial::from_bytes(&[7; 16]).unwrap();
    assert_eq!(good.check(), Ok(PeerIdentity { grant: good.grant, subject: good.subject, serial }));
}

#[test]
fn the_embedded_authority_keeps_the_profile() {
    let ca = ca("work");
    let client = client(&ca);
    let identity =
        check_client_certificate(&client.issued.certificate, ca.certificate(), now(), &ExtensionArc::default());
    assert_eq!(
        identity,
        Ok(PeerIdentity {
            grant: client.request.grant,
            subject: client.request.subject,
            serial: client.issued.serial.clone()
        })
    );
    let other_arc = ExtensionArc::parse("1.3.6.1.4.1.4711").unwrap();
    assert_eq!(
        check_client_certificate(&client.issued.certificate, ca.certificate(), now(), &other_arc),
        Err(ProfileError::Missing("grant"))
    );
}

#[test]
fn each_identity_must_be_there_exactly_once() {
    let missing = |index: usize| Bent::with(|params| drop(params.custom_extensions.remove(index))).check();
    assert_eq!(missing(0), Err(ProfileError::Missing("grant")));
    assert_eq!(missing(1), Err(ProfileError::Missing("subject")));
    for index in 0..2 {
        let doubled = Bent::with(|params| {
            let again = params.custom_extensions[index].clone();
            params.custom_extensions.push(again);
        });
        assert_eq!(doubled.check(), Err(ProfileError::Extensions));
    }
}

#[test]
fn each_identity_must_be_non_critical_and_byte_exact() {
    for (index, name) in [(0, "grant"), (1, "subject")] {
        let critical = Bent::with(|params| params.custom_extensions[index].set_criticality(true));
        assert_eq!(critical.check(), Err(ProfileError::Critical(name)));
        let value = encode_identity(uuid::Uuid::now_v7());
        let mut trailing = value.clone();
        trailing.push(0);
        let mut printable = value.clone();
        printable[0] = 0x13;
        let mut upper = value.clone();
        upper[2..].make_ascii_uppercase();
        for bad in [trailing, printable, upper, value[..37].to_vec(), Vec::new()] {
            if bad != value {
                assert_eq!(with_value(index, bad).check(), Err(ProfileError::Value(name)));
            }
        }
    }
}

#[test]
fn only_a_leaf_for_clients_passes() {
    let ca = Bent::with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(ca.check(), Err(ProfileError::IsCa));
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        assert_eq!(Bent::with(|params| params.key_usages.push(usage)).check(), Err(ProfileError::MaySign));
    }
    let none = Bent::with(|params| params.extended_key_usages.clear());
    assert_eq!(none.check(), Err(ProfileError::NotForClients));
    for usage in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any] {
        let server = Bent::with(|params| params.extended_key_usages = vec![usage]);
        assert_eq!(server.check(), Err(ProfileError::NotForClients));
    }
    let implied = Bent::with(|params| params.is_ca = IsCa::NoCa);
    assert!(implied.check().is_ok(), "absent basicConstraints mean CA:FALSE");
}

#[test]
fn leaf_and_root_must_be_in_date() {
    let early = Bent::with(|params| params.not_before = now() + Duration::minutes(5));
    assert_eq!(early.check(), Err(ProfileError::NotYetValid));
    let late = Bent::with(|params| params.not_after = now() - Duration::minutes(5));
    assert_eq!(late.check(), Err(ProfileError::Expired));
    let far = Bent::with(|params| params.not_after = now() + Duration::days(10_000));
    let after_the_root = now() + Duration::days(5_000);
    let checked =
        check_client_certificate(&far.der(), far.root.certificate(), after_the_root, &ExtensionArc::default());
    assert_eq!(checked, Err(ProfileError::Root));
}

/// RFC 5280 4.1.2.1: extensions are of version 3. rustls refuses other versions before; this does not rely on it.
#[test]
fn a_certificate_of_another_version_is_refused() {
    let good = Bent::good();
    let der = good.der();
    // [0] EXPLICIT INTEGER, the first field of what is signed.
    const VERSION_3: [u8; 5] = [0xa0, 3, 2, 1, 2];
    let at = der.windows(VERSION_3.len()).position(|bytes| bytes == VERSION_3).unwrap();
    for version in [0, 1, 3] {
        let mut other = der.clone();
        other[at + 4] = version;
        let checked = check_client_certificate(&other, good.root.certificate(), now(), &ExtensionArc::default());
        assert!(matches!(checked, Err(ProfileError::Version | ProfileError::Malformed)), "{version}: {checked:?}");
    }
}

#[test]
fn odd_serial_numbers_are_refused() {
    assert_eq!(check_serial(&[1]).map(|s| s.to_string()), Ok("01".to_owned()));
    assert_eq!(check_serial(&[0, 0x80]).map(|s| s.to_string()), Ok("80".to_owned()));
    for bad in [&[][..], &[0], &[0, 0], &[0, 1], &[0x80], &[0xff; 4], &[1; 21]] {
        assert_eq!(check_serial(bad), Err(ProfileError::Serial), "{bad:?}");
    }
    let zero = Bent::with(|params| params.serial_number = Some(SerialNumber::from_slice(&[0])));
    assert_eq!(zero.check(), Err(ProfileError::Serial));
    let long = Bent::with(|params| params.serial_number = Some(SerialNumber::from_slice(&[1; 21])));
    assert_eq!(long.check(), Err(ProfileError::Serial));
}

#[test]
fn a_weak_key_is_refused() {
    let mut bent = Bent::good();
    bent.key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    assert_eq!(bent.check(), Err(ProfileError::Key(WeakKey::Algorithm)));
}

#[test]
fn trailing_bytes_behind_the_certificate_are_refused() {
    let good = Bent::good();
    let mut der = good.der();
    der.push(0);
    let checked = check_client_certificate(&der, good.root.certificate(), now(), &ExtensionArc::default());
    assert_eq!(checked, Err(ProfileError::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The signature is rustls's matter; here, whatever happens to the bytes, nothing panics, and what passes names an
    /// identity that a fresh reading confirms.
    #[test]
    fn a_mangled_certificate_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        static GOOD: std::sync::OnceLock<(Vec<u8>, Vec<u8>)> = std::sync::OnceLock::new();
        let (der, root) = GOOD.get_or_init(|| {
            let good = Bent::good();
            (good.der(), good.root.certificate().to_vec())
        });
        let mut mangled = der.clone();
        let at = at.index(der.len());
        if cut { mangled.truncate(at) } else { mangled[at] = byte }
        let checked = check_client_certificate(&mangled, root, now(), &ExtensionArc::default());
        if cut {
            prop_assert!(checked.is_err());
        }
    }

    /// Through the whole check: a value that is not the exact encoding never gives an identity.
    #[test]
    fn a_mutated_identity_value_is_never_accepted(at in 0usize..38, byte in any::<u8>(), insert in any::<bool>()) {
        let value = encode_identity(uuid::Uuid::now_v7());
        let mut mutated = value.clone();
        if insert { mutated.insert(at, byte) } else { mutated[at] = byte }
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        prop_assume!(insert || !(at >= 2 && digit(byte) && digit(value[at])) && mutated != value);
        prop_assert_eq!(with_value(0, mutated).check(), Err(ProfileError::Value("grant")));
    }
}

/// Where the content of the first element begins and ends.
fn content_of(der: &[u8]) -> std::ops::Range<usize> {
    let (head, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let head = 2 + usize::from(long & 0x7f);
            (head, der[2..head].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    };
    head..head + length
}

/// Rewrites the primitive elements whose content is `old`, somewhere in a DER structure; every length around them follows.
fn rewritten(der: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), der);
    while !rest.is_empty() {
        let range = content_of(rest);
        let content = &rest[range.clone()];
        let content = match rest[0] & 0x20 {
            0 if content == old => new.to_vec(),
            0 => content.to_vec(),
            _ => rewritten(content, old, new),
        };
        out.push(rest[0]);
        match u16::try_from(content.len()).unwrap().to_be_bytes() {
            [0, short @ 0..=0x7f] => out.push(short),
            [0, one] => out.extend([0x81, one]),
            [high, low] => out.extend([0x82, high, low]),
        }
        out.extend_from_slice(&content);
        rest = &rest[range.end..];
    }
    out
}

/// Whether this is how some id is written; said by another reading than the product's.
fn is_exact(value: &[u8]) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    value.len() == 38
        && value[..2] == [0x0c, 36]
        && value[2..]
            .iter()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { *byte == b'-' } else { digit(byte) })
}

#[test]
fn ten_thousand_mutations_of_an_identity_value_open_nothing_and_panic_nowhere() {
    let good = Bent::good();
    let (der, root, arc) = (good.der(), good.root.certificate().to_vec(), ExtensionArc::default());
    let check = |der: &[u8]| check_client_certificate(der, &root, now(), &arc);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let values = [encode_identity(good.grant.0), encode_identity(good.subject.0)];
    assert_eq!(rewritten(&der, &values[0], &values[0]), der, "the rewriting itself changes nothing");
    let (mut refused, mut other_ids, mut case) = (0, 0, 0);
    while refused < 10_000 {
        case += 1;
        let good_value = &values[case % 2];
        let mut value = good_value.clone();
        for _ in 0..=random(3) {
            let (at, byte) = (random(value.len().max(1)), u8::try_from(random(256)).unwrap());
            match random(8) {
                0 => value.insert(at.min(value.len()), byte),
                1 => value.truncate(at),
                2 => value.extend_from_within(at..),
                3 | 4 if at < value.len() => value[at] ^= 1 << random(8),
                5 if at < value.len() => value[at] = value[at].to_ascii_uppercase(),
                6 if at < value.len() => drop(value.remove(at)),
                _ if at < value.len() => value[at] = byte,
                _ => {}
            }
        }
        if value == *good_value {
            continue;
        }
        match check(&rewritten(&der, good_value, &value)) {
            Err(_) => refused += 1,
            Ok(identity) => {
                // Still an id, but another one: it is the database that refuses it.
                assert!(is_exact(&value), "case {case}: {value:02x?}");
                assert!((identity.grant, identity.subject) != (good.grant, good.subject), "case {case}: {value:02x?}");
                other_ids += 1;
            }
        }
    }
    assert!(other_ids < case / 4, "{other_ids} of {case} were ids");
}
