//! Password-encrypted JSON (RFC 7516 compact form, PBES2 of RFC 7518 section 4.8): how step-ca keeps a provisioner's key.
//!
//! Only what step writes is taken: PBES2-HS256+A128KW, or PBES2-HS512+A256KW, around AES-GCM. Every primitive is the crypto
//! library's; here is only their order.

use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap};
use aws_lc_rs::{pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Longest text that is looked at, in bytes; a P-256 key makes about 500.
pub(super) const JWE_BYTES_LIMIT: usize = 16 * 1024;

/// Most rounds that are run for a text from elsewhere: step writes 600,000, a second of work at most.
const ROUNDS_LIMIT: u32 = 2_000_000;

/// Rounds of what is written here (OWASP 2023 for PBKDF2 with SHA-256, and what step takes).
const ROUNDS: u32 = 600_000;

const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// RFC 7518 4.8.1.1: at least 8 octets.
const SALT_LEAST_BYTES: usize = 8;
const SALT_MOST_BYTES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JweError {
    #[error("it is not five parts of base64url (a compact JWE)")]
    Shape,
    #[error("it is encrypted in a way that is not known here; wanted PBES2-HS256+A128KW with A256GCM")]
    Algorithm,
    #[error("it asks for more than {ROUNDS_LIMIT} rounds")]
    Rounds,
    #[error("the password does not open it")]
    Password,
    #[error("the crypto library failed")]
    Library,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cty: Option<String>,
    enc: String,
    p2c: u32,
    p2s: String,
}

/// Opens `text` with `password`. Takes as long as its rounds take: tens of milliseconds to a second, off the async threads.
pub(super) fn decrypt(text: &str, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, JweError> {
    if text.len() > JWE_BYTES_LIMIT {
        return Err(JweError::Shape);
    }
    let parts: Vec<&str> = text.trim().split('.').collect();
    let [protected, wrapped, nonce, sealed, tag] = parts[..] else { return Err(JweError::Shape) };
    let header: Header = serde_json::from_slice(&decode(protected)?).map_err(|_| JweError::Algorithm)?;
    let (wrapped, nonce, sealed, tag) = (decode(wrapped)?, decode(nonce)?, decode(sealed)?, decode(tag)?);
    if tag.len() != TAG_BYTES {
        return Err(JweError::Shape);
    }
    let key = content_key(&header, password, &wrapped)?;
    let cipher = match header.enc.as_str() {
        "A128GCM" => &AES_128_GCM,
        "A256GCM" => &AES_256_GCM,
        _ => return Err(JweError::Algorithm),
    };
    let key = UnboundKey::new(cipher, &key).map_err(|_| JweError::Shape)?;
    let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| JweError::Shape)?;
    let mut opened = Zeroizing::new([sealed, tag].concat());
    let length = LessSafeKey::new(key)
        .open_in_place(nonce, Aad::from(protected.as_bytes()), &mut opened)
        .map_err(|_| JweError::Password)?
        .len();
    opened.truncate(length);
    Ok(opened)
}

/// Seals `plain` with `password`, as `step crypto jwe` does.
pub(super) fn encrypt(plain: &[u8], password: &[u8]) -> Result<String, JweError> {
    let salt: [u8; SALT_BYTES] = random()?;
    let header = Header {
        alg: "PBES2-HS256+A128KW".to_owned(),
        cty: Some("jwk+json".to_owned()),
        enc: "A256GCM".to_owned(),
        p2c: ROUNDS,
        p2s: URL_SAFE_NO_PAD.encode(salt),
    };
    let protected = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(|_| JweError::Library)?);
    let content_key = Zeroizing::new(random::<32>()?);
    let mut wrapped = [0; 40];
    let wrapped = key_encryption_key(&header, password)?
        .wrap(content_key.as_slice(), &mut wrapped)
        .map_err(|_| JweError::Library)?
        .to_vec();
    let nonce: [u8; NONCE_LEN] = random()?;
    let mut sealed = plain.to_vec();
    let key = UnboundKey::new(&AES_256_GCM, content_key.as_slice()).map_err(|_| JweError::Library)?;
    let tag = LessSafeKey::new(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(protected.as_bytes()), &mut sealed)
        .map_err(|_| JweError::Library)?;
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Ok([protected, encode(&wrapped), encode(&nonce), encode(&sealed), encode(tag.as_ref())].join("."))
}

fn content_key(header: &Header, password: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, JweError> {
    let mut key = Zeroizing::new(vec![0; wrapped.len()]);
    // RFC 3394 has an integrity check of its own: a wrong password shows here.
    let kek = key_encryption_key(header, password)?;
    let length = kek.unwrap(wrapped, &mut key).map_err(|_| JweError::Password)?.len();
    key.truncate(length);
    Ok(key)
}

/// RFC 7518 4.8.1: the salt is the algorithm's name, a zero and the given salt.
fn key_encryption_key(header: &Header, password: &[u8]) -> Result<AesKek, JweError> {
    let (hash, cipher, bytes) = match header.alg.as_str() {
        "PBES2-HS256+A128KW" => (pbkdf2::PBKDF2_HMAC_SHA256, &AES_128, 16),
        "PBES2-HS512+A256KW" => (pbkdf2::PBKDF2_HMAC_SHA512, &AES_256, 32),
        _ => return Err(JweError::Algorithm),
    };
    let rounds = NonZeroU32::new(header.p2c).filter(|rounds| rounds.get() <= ROUNDS_LIMIT).ok_or(JweError::Rounds)?;
    let given = decode(&header.p2s)?;
    if !(SALT_LEAST_BYTES..=SALT_MOST_BYTES).contains(&given.len()) {
        return Err(JweError::Shape);
    }
    let salt = [header.alg.as_bytes(), &[0], &given].concat();
    let mut derived = Zeroizing::new(vec![0; bytes]);
    pbkdf2::derive(hash, rounds, &salt, password, &mut derived);
    AesKek::new(cipher, &derived).map_err(|_| JweError::Library)
}

fn decode(part: &str) -> Result<Vec<u8>, JweError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JweError::Shape)
}

fn random<const N: usize>() -> Result<[u8; N], JweError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| JweError::Library)?;
    Ok(bytes)
}
