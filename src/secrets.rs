//! The master secret and what is derived from it: the sealer of private keys, keys for message authentication, and tokens.
//!
//! Every key is derived with HKDF-SHA256 under a label of its own, so that no two uses share a key. Nothing here shows its
//! content: `Debug` prints the type's name, and memory is wiped when a value is dropped.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, hkdf, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

mod file;
#[cfg(test)]
mod tests;

/// Bytes of the master secret, of every derived key and of a token's random part.
pub const SECRET_BYTES: usize = 32;

/// Most secrets in one file: the current one, and those that older blobs were sealed with.
pub const MASTER_SECRETS_LIMIT: usize = 8;

/// HKDF salt (RFC 5869): names the program, so that the same random bytes used elsewhere give other keys.
const HKDF_SALT: &[u8] = b"mosaic-federation";

/// First byte of a sealed blob.
const BLOB_VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const BLOB_HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read it: {0}")]
    Read(std::io::Error),
    #[error("cannot write it: {0}")]
    Write(std::io::Error),
    #[error("others may read it (mode {mode:04o}); run: chmod 600 on it")]
    Permissions { mode: u32 },
    #[error("line {line} is not 32 bytes in base64")]
    Shape { line: usize },
    #[error("it holds no secret; write one line of 32 bytes in base64 (openssl rand -base64 32)")]
    Empty,
    #[error("it holds more than {MASTER_SECRETS_LIMIT} secrets")]
    TooMany,
    #[error("the system gives no random bytes")]
    Random,
}

/// The secret that everything sealed depends on: one line of base64 per secret. The first one seals and authenticates;
/// the others only open what was sealed before a rotation.
pub struct MasterSecret {
    keys: Vec<Zeroizing<[u8; SECRET_BYTES]>>,
}

impl MasterSecret {
    /// A new random secret.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self { keys: vec![random_bytes()?] })
    }

    /// Reads a file that nobody but its owner may read.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        Self::parse(&file::read_private(path)?)
    }

    /// Writes a file (mode 0600) that must not exist yet, and makes sure that it is on disk before it returns: a key sealed
    /// with a secret that a crash took away is lost.
    pub fn write_new(&self, path: &Path) -> Result<(), SecretError> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.keys {
            STANDARD.encode_string(key.as_slice(), &mut text);
            text.push('\n');
        }
        file::write_private(path, text.as_bytes())
    }

    /// Parses the content of the file; empty lines and lines starting with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bytes = Zeroizing::new(STANDARD.decode(line).map_err(|_| SecretError::Shape { line: number + 1 })?);
            let key = bytes.as_slice().try_into().map_err(|_| SecretError::Shape { line: number + 1 })?;
            keys.push(Zeroizing::new(key));
        }
        match keys.len() {
            0 => Err(SecretError::Empty),
            1..=MASTER_SECRETS_LIMIT => Ok(Self { keys }),
            _ => Err(SecretError::TooMany),
        }
    }

    /// What seals private keys for the database.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        let keys = self.keys.iter().map(|key| SealingKey::derive(key)).collect();
        Sealer { keys: Arc::new(keys) }
    }

    /// A key for authenticating what leaves the node and comes back: cursors, query hashes. One per label.
    #[must_use]
    pub fn mac_key(&self, label: &'static str) -> MacKey {
        let key = derive(&self.keys[0], &[b"mac v1", label.as_bytes()]);
        MacKey { key: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()) }
    }
}

impl fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSecret")
    }
}

/// Where a sealed blob lives. It is authenticated with the blob: one that is copied to another place does not open there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealContext<'a> {
    pub table: &'a str,
    /// The row's identifier, as text.
    pub row: &'a str,
    pub key_version: u32,
}

impl SealContext<'_> {
    fn authenticated_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.table.len() + self.row.len());
        for part in [self.table.as_bytes(), self.row.as_bytes()] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&self.key_version.to_be_bytes());
        bytes
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the sealed value is cut or of an unknown version")]
    Shape,
    #[error("the sealed value was made with another master secret")]
    UnknownKey,
    #[error("the sealed value was altered, or belongs to another row")]
    Altered,
}

/// Seals and opens private keys with AES-256-GCM.
///
/// Blob: version byte, 8 bytes key id, 12 bytes random nonce, ciphertext, 16 bytes tag. Random nonces are safe for 2³²
/// messages per key (NIST SP 800-38D 8.3), and the key is separate for each table.
#[derive(Clone)]
pub struct Sealer {
    keys: Arc<Vec<SealingKey>>,
}

struct SealingKey {
    id: [u8; KEY_ID_BYTES],
    root: Zeroizing<[u8; SECRET_BYTES]>,
}

impl SealingKey {
    fn derive(secret: &[u8; SECRET_BYTES]) -> Self {
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&derive(secret, &[b"key id v1"])[..KEY_ID_BYTES]);
        Self { id, root: derive(secret, &[b"seal v1"]) }
    }

    fn cipher(&self, table: &str) -> LessSafeKey {
        let key = derive(&self.root, &[b"seal table v1", table.as_bytes()]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("invariant: the key has 32 bytes"))
    }
}

impl Sealer {
    /// Seals `plain` for one place.
    ///
    /// # Panics
    /// When the system gives no random bytes: nothing that needs a nonce may go on then.
    #[must_use]
    pub fn seal(&self, context: &SealContext<'_>, plain: &[u8]) -> Vec<u8> {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("invariant: the system gives random bytes");
        let mut sealed = Zeroizing::new(plain.to_vec());
        let tag = key
            .cipher(context.table)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.authenticated_bytes()),
                &mut sealed,
            )
            .expect("invariant: a private key is far below the cipher's limit of 64 GiB");
        let mut blob = Vec::with_capacity(BLOB_HEADER_BYTES + sealed.len() + AES_256_GCM.tag_len());
        blob.push(BLOB_VERSION);
        blob.extend_from_slice(&key.id);
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(&sealed);
        blob.extend_from_slice(tag.as_ref());
        blob
    }

    /// Opens what was sealed for exactly this place.
    pub fn open(&self, context: &SealContext<'_>, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if blob.len() < BLOB_HEADER_BYTES + AES_256_GCM.tag_len() || blob[0] != BLOB_VERSION {
            return Err(SealError::Shape);
        }
        let (header, body) = blob.split_at(BLOB_HEADER_BYTES);
        let id = &header[1..=KEY_ID_BYTES];
        let key = self.keys.iter().find(|key| key.id == id).ok_or(SealError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(&header[1 + KEY_ID_BYTES..]).map_err(|_| SealError::Shape)?;
        let mut opened = Zeroizing::new(body.to_vec());
        let length = key
            .cipher(context.table)
            .open_in_place(nonce, Aad::from(context.authenticated_bytes()), &mut opened)
            .map_err(|_| SealError::Altered)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Authenticates lists of byte strings with HMAC-SHA256.
#[derive(Clone)]
pub struct MacKey {
    key: hmac::Key,
}

impl MacKey {
    /// Fewest bytes that a truncated tag may have (RFC 2104 section 5: at least half).
    pub const SHORTEST_TAG: usize = 16;

    /// The tag over `parts`. Each part is prefixed with its length, so that moving a byte from one to the next changes it.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(parts.len() as u64).to_be_bytes());
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("invariant: an HMAC-SHA256 tag has 32 bytes")
    }

    /// Whether `tag`, whole or cut to at least 16 bytes, belongs to `parts`. Takes the same time wherever they differ.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let expected = self.tag(parts);
        (Self::SHORTEST_TAG..=expected.len()).contains(&tag.len())
            && constant_time::verify_slices_are_equal(&expected[..tag.len()], tag).is_ok()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

/// A bearer token: a prefix that tells what it is for, and 32 random bytes in base64url. Shown once, kept only hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    pub const ADMIN: &'static str = "mosaic_admin_";
    pub const SESSION: &'static str = "mosaic_session_";
    pub const ENROLL: &'static str = "mosaic_enroll_";

    /// Characters behind the prefix.
    const RANDOM_CHARS: usize = 43;

    /// A new token.
    ///
    /// # Panics
    /// When the system gives no random bytes.
    #[must_use]
    pub fn generate(prefix: &str) -> Self {
        let bytes: Zeroizing<[u8; SECRET_BYTES]> = random_bytes().expect("invariant: the system gives random bytes");
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + Self::RANDOM_CHARS));
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        Self(text)
    }

    /// A token that somebody presents; `None` when it does not have the shape of one with this prefix.
    #[must_use]
    pub fn parse(prefix: &str, text: &str) -> Option<Self> {
        let random = text.strip_prefix(prefix)?;
        let shape = random.len() == Self::RANDOM_CHARS
            && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        shape.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token itself, for the one who is to have it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of a token's text: what the database keeps. The token has 256 random bits, so that no salt is needed.
    #[must_use]
    pub fn hash(text: &str) -> [u8; 32] {
        sha256(text.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("invariant: a SHA-256 digest has 32 bytes")
}

fn random_bytes() -> Result<Zeroizing<[u8; SECRET_BYTES]>, SecretError> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| SecretError::Random)?;
    Ok(bytes)
}

/// HKDF-SHA256 (RFC 5869) with our salt; `info` is the labels, each prefixed with its length.
fn derive(secret: &[u8; SECRET_BYTES], labels: &[&[u8]]) -> Zeroizing<[u8; SECRET_BYTES]> {
    let mut info = Vec::new();
    for label in labels {
        info.extend_from_slice(&(label.len() as u64).to_be_bytes());
        info.extend_from_slice(label);
    }
    let mut key = Zeroizing::new([0; SECRET_BYTES]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, HKDF_SALT)
        .extract(secret)
        .expand(&[&info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .expect("invariant: one block of HKDF output is asked for");
    key
}
