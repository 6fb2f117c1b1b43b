//! Which public keys are strong enough.

use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

/// Fewest bits of an RSA modulus.
const RSA_BITS_MIN: usize = 2048;
/// Most bits of an RSA modulus: larger ones only cost the verifier time.
const RSA_BITS_MAX: usize = 8192;
/// FIPS 186-5 5.4: the exponent is odd and above 2¹⁶; aws-lc takes none above 33 bits.
const RSA_EXPONENTS: std::ops::RangeInclusive<u64> = 65_537..=0x1_ffff_ffff;

/// Tag of an uncompressed point (SEC 1 2.3.3); compressed ones are refused by TLS stacks.
const UNCOMPRESSED: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    #[error("the public key is malformed")]
    Malformed,
    #[error("the public key is neither on P-256, P-384 or P-521 nor RSA")]
    Algorithm,
    #[error("the RSA key does not have 2048 to 8192 bits and an odd exponent from 65537 on")]
    Rsa,
}

/// Checks the DER of a SubjectPublicKeyInfo: P-256, P-384, P-521, or RSA from 2048 bits on.
pub fn check_public_key(spki_der: &[u8]) -> Result<(), WeakKey> {
    let (rest, spki) = SubjectPublicKeyInfo::from_der(spki_der).map_err(|_| WeakKey::Malformed)?;
    if !rest.is_empty() {
        return Err(WeakKey::Malformed);
    }
    check_parsed_key(&spki)
}

pub(crate) fn check_parsed_key(spki: &SubjectPublicKeyInfo<'_>) -> Result<(), WeakKey> {
    let algorithm = &spki.algorithm.algorithm;
    let is_ec = *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY;
    if !is_ec && *algorithm != OID_PKCS1_RSAENCRYPTION {
        return Err(WeakKey::Algorithm);
    }
    match spki.parsed().map_err(|_| WeakKey::Malformed)? {
        PublicKey::EC(point) if is_ec => check_point(spki, point.data()),
        PublicKey::RSA(key) if !is_ec => check_rsa(&key),
        _ => Err(WeakKey::Malformed),
    }
}

fn check_point(spki: &SubjectPublicKeyInfo<'_>, point: &[u8]) -> Result<(), WeakKey> {
    let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).ok_or(WeakKey::Algorithm)?;
    let coordinate_bytes = [(OID_EC_P256, 32), (OID_NIST_EC_P384, 48), (OID_NIST_EC_P521, 66)]
        .into_iter()
        .find_map(|(oid, bytes)| (oid == curve).then_some(bytes))
        .ok_or(WeakKey::Algorithm)?;
    let shape = point.first() == Some(&UNCOMPRESSED) && point.len() == 1 + 2 * coordinate_bytes;
    if shape { Ok(()) } else { Err(WeakKey::Malformed) }
}

fn check_rsa(key: &RSAPublicKey<'_>) -> Result<(), WeakKey> {
    let start = key.modulus.iter().position(|byte| *byte != 0).ok_or(WeakKey::Rsa)?;
    let magnitude = &key.modulus[start..];
    let bits = magnitude.len() * 8 - magnitude[0].leading_zeros() as usize;
    let exponent = key.try_exponent().map_err(|_| WeakKey::Rsa)?;
    let strong =
        (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) && RSA_EXPONENTS.contains(&exponent) && exponent % 2 == 1;
    if strong { Ok(()) } else { Err(WeakKey::Rsa) }
}

#[cfg(test)]
mod tests {
    use openssl::bn::BigNum;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    use super::*;

    fn ec(curve: Nid) -> Vec<u8> {
        let key = EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap();
        PKey::from_ec_key(key).unwrap().public_key_to_der().unwrap()
    }

    fn rsa(bits: u32, exponent: u32) -> Vec<u8> {
        let key = Rsa::generate_with_e(bits, &BigNum::from_u32(exponent).unwrap()).unwrap();
        PKey::from_rsa(key).unwrap().public_key_to_der().unwrap()
    }

    #[test]
    fn strong_keys_pass() {
        for curve in [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1] {
            assert_eq!(check_public_key(&ec(curve)), Ok(()), "{curve:?}");
        }
        assert_eq!(check_public_key(&rsa(2048, 65_537)), Ok(()));
    }

    #[test]
    fn weak_keys_are_refused() {
        assert_eq!(check_public_key(&ec(Nid::SECP224R1)), Err(WeakKey::Algorithm));
        assert_eq!(check_public_key(&ec(Nid::SECP256K1)), Err(WeakKey::Algorithm));
        assert_eq!(check_public_key(&rsa(1024, 65_537)), Err(WeakKey::Rsa));
        assert_eq!(check_public_key(&rsa(2048, 3)), Err(WeakKey::Rsa));
        let ed25519 = PKey::generate_ed25519().unwrap().public_key_to_der().unwrap();
        assert_eq!(check_public_key(&ed25519), Err(WeakKey::Algorithm));
    }

    #[test]
    fn damaged_keys_are_refused() {
        let good = ec(Nid::X9_62_PRIME256V1);
        let mut trailing = good.clone();
        trailing.push(0);
        assert_eq!(check_public_key(&trailing), Err(WeakKey::Malformed));
        for length in 0..good.len() {
            assert!(check_public_key(&good[..length]).is_err(), "cut to {length}");
        }
    }
}
