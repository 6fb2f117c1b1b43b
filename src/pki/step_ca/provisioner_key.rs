//! The private key of a step-ca provisioner: what authorises every request to the authority.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::jwe::{self, JweError};

/// Bytes of a P-256 coordinate and scalar.
const SCALAR_BYTES: usize = 32;
/// First byte of an uncompressed point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the encrypted key cannot be opened: {0}")]
    Jwe(#[from] JweError),
    #[error("the key is not a private key in JSON (JWK)")]
    Shape,
    #[error("the key is of type {0}; only EC P-256 keys (ES256) are supported")]
    Kind(Box<str>),
    #[error("the private and the public half of the key do not belong together")]
    Halves,
    #[error("the key has another id ({found}) than the provisioner ({wanted})")]
    Id { wanted: Box<str>, found: Box<str> },
    #[error("the crypto library failed")]
    Library,
}

/// A key that signs one-time tokens with ES256.
pub(super) struct ProvisionerKey {
    id: Box<str>,
    pair: EcdsaKeyPair,
}

/// RFC 7517 with RFC 7518 6.2: an EC key.
#[derive(Serialize, Deserialize)]
struct Jwk {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#use: Option<String>,
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crv: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    d: String,
}

impl Drop for Jwk {
    fn drop(&mut self) {
        self.d.zeroize();
    }
}

impl ProvisionerKey {
    /// Opens an encrypted key. `wanted` is the id under which the authority knows it. Not for async threads: deriving the
    /// key from the password takes up to a second.
    pub(super) fn open(encrypted: &str, password: &[u8], wanted: &str) -> Result<Self, KeyError> {
        let key = Self::parse(&jwe::decrypt(encrypted, password)?)?;
        if key.id.as_ref() != wanted {
            return Err(KeyError::Id { wanted: wanted.into(), found: key.id });
        }
        Ok(key)
    }

    fn parse(json: &[u8]) -> Result<Self, KeyError> {
        let jwk: Jwk = serde_json::from_slice(json).map_err(|_| KeyError::Shape)?;
        if jwk.kty != "EC" || jwk.crv != "P-256" || jwk.alg.as_deref().is_some_and(|alg| alg != "ES256") {
            return Err(KeyError::Kind(format!("{} {}", jwk.kty, jwk.crv).trim().into()));
        }
        let (x, y, d) = (scalar(&jwk.x)?, scalar(&jwk.y)?, Zeroizing::new(scalar(&jwk.d)?));
        let point = [&[UNCOMPRESSED], x.as_slice(), y.as_slice()].concat();
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, d.as_slice(), &point)
                .map_err(|_| KeyError::Halves)?;
        Ok(Self { id: jwk.kid.as_str().into(), pair })
    }

    /// The key's id (`kid`).
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A signature as JWS wants it (RFC 7518 3.4): both halves, 64 bytes.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Library)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// A new key for a provisioner, as step-ca's configuration wants it.
pub struct NewProvisionerKey {
    /// The public half, a JWK.
    pub public: serde_json::Value,
    /// The private half, encrypted with the password.
    pub encrypted: String,
}

/// Makes a P-256 key and seals it with `password`. Its id is its thumbprint (RFC 7638), as step does it.
pub fn new_provisioner_key(password: &[u8]) -> Result<NewProvisionerKey, KeyError> {
    use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
    use aws_lc_rs::signature::KeyPair as _;

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Library)?;
    let (x, y) = pair.public_key().as_ref()[1..].split_at(SCALAR_BYTES);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let d: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().map_err(|_| KeyError::Library)?;
    let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let mut jwk = Jwk {
        r#use: Some("sig".to_owned()),
        kty: "EC".to_owned(),
        kid: URL_SAFE_NO_PAD.encode(crate::secrets::sha256(thumbprint.as_bytes())),
        crv: "P-256".to_owned(),
        alg: Some("ES256".to_owned()),
        x,
        y,
        d: String::new(),
    };
    let public = serde_json::to_value(&jwk).map_err(|_| KeyError::Library)?;
    jwk.d = URL_SAFE_NO_PAD.encode(d.as_ref());
    let private = Zeroizing::new(serde_json::to_vec(&jwk).map_err(|_| KeyError::Library)?);
    Ok(NewProvisionerKey { public, encrypted: jwe::encrypt(&private, password)? })
}

fn scalar(text: &str) -> Result<[u8; SCALAR_BYTES], KeyError> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Shape)?);
    bytes.as_slice().try_into().map_err(|_| KeyError::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &[u8] = b"correct horse battery staple";

    fn id(new: &NewProvisionerKey) -> String {
        new.public["kid"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_new_key_opens_with_its_password_only() {
        let new = new_provisioner_key(PASSWORD).unwrap();
        let key = ProvisionerKey::open(&new.encrypted, PASSWORD, &id(&new)).unwrap();
        assert_eq!(key.sign(b"message").unwrap().len(), 64);
        assert!(new.public.get("d").is_none(), "the public half shows the private one");
        let wrong = ProvisionerKey::open(&new.encrypted, b"wrong", &id(&new));
        assert_eq!(wrong.err(), Some(KeyError::Jwe(JweError::Password)));
        let other = ProvisionerKey::open(&new.encrypted, PASSWORD, "other");
        assert_eq!(other.err(), Some(KeyError::Id { wanted: "other".into(), found: id(&new).into() }));
    }

    #[test]
    fn every_part_of_an_encrypted_key_is_authenticated() {
        let new = new_provisioner_key(PASSWORD).unwrap();
        let parts: Vec<&str> = new.encrypted.split('.').collect();
        for part in 0..parts.len() {
            let mut altered: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            let first = altered[part].remove(0);
            altered[part].insert(0, if first == 'A' { 'B' } else { 'A' });
            assert!(ProvisionerKey::open(&altered.join("."), PASSWORD, &id(&new)).is_err(), "part {part}");
        }
        for text in ["", "....", "a.b.c.d", &"a".repeat(jwe::JWE_BYTES_LIMIT + 1)] {
            assert!(matches!(ProvisionerKey::open(text, PASSWORD, ""), Err(KeyError::Jwe(_))), "{text:.20}");
        }
    }

    #[test]
    fn work_that_a_text_asks_for_is_bounded() {
        let header = URL_SAFE_NO_PAD
            .encode(r#"{"alg":"PBES2-HS256+A128KW","enc":"A256GCM","p2c":4000000000,"p2s":"AAAAAAAAAAAAAAAAAAAAAA"}"#);
        let tag = URL_SAFE_NO_PAD.encode([0; 16]);
        let refused = ProvisionerKey::open(&format!("{header}.AAAA.AAAA.AAAA.{tag}"), PASSWORD, "");
        assert_eq!(refused.err(), Some(KeyError::Jwe(JweError::Rounds)));
    }

    #[test]
    fn other_kinds_of_keys_are_named() {
        let kind = |json: &str| ProvisionerKey::parse(json.as_bytes()).err();
        assert_eq!(kind(r#"{"kty":"RSA","n":"x"}"#), Some(KeyError::Kind("RSA".into())));
        assert_eq!(kind(r#"{"kty":"OKP","crv":"Ed25519"}"#), Some(KeyError::Kind("OKP Ed25519".into())));
        assert_eq!(kind(r#"{"kty":"EC","crv":"P-256"}"#), Some(KeyError::Shape));
        assert_eq!(kind("[]"), Some(KeyError::Shape));
    }
}
