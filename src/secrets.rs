//! The master secret and what is derived from it: the sealer of private keys, keys for message authentication, and tokens.
//!
//! Every key is derived with HKDF-SHA256 under a label of its own, so that no two uses share a key. Nothing here shows its
//! content: `Debug` prints the type's name, and memory is wiped when a value is dropped.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce};
use aws_lc_rs::{digest, hkdf, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

mod file;
mod key_id;
mod mac;
mod ring;
pub mod signing;
#[cfg(test)]
mod tests;

pub use key_id::KeyId;
pub use mac::{MacKey, MacVerdict};
use ring::{MasterKey, Shared};
pub use signing::SigningKey;

/// Bytes of the master secret, of every derived key and of a token's random part.
pub const SECRET_BYTES: usize = 32;

/// Most secrets in one file: the current one, and those that older blobs were sealed with.
pub const MASTER_SECRETS_LIMIT: usize = 8;

/// HKDF salt (RFC 5869): names the program, so that the same random bytes used elsewhere give other keys.
const HKDF_SALT: &[u8] = b"mosaic-federation";

/// First byte of a sealed blob.
const BLOB_VERSION: u8 = 1;
const BLOB_HEADER_BYTES: usize = 1 + KeyId::BYTES + NONCE_LEN;

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
    #[error("it is longer than {} KiB", file::FILE_BYTES_LIMIT / 1024)]
    TooLong,
    #[error("it is not a plain file; name the file that the link leads to in master_secret_file")]
    NoFile,
    #[error("somebody put another file in the place of the one that was being written")]
    Swapped,
    #[error("it holds more than {MASTER_SECRETS_LIMIT} secrets")]
    TooMany,
    #[error("the system gives no random bytes")]
    Random,
}

/// The secrets that everything sealed depends on: one line of base64 per secret, the newest first. One of them seals and
/// authenticates; the others only open what was sealed, and recognise what was authenticated, before a rotation.
///
/// Sealers and MAC keys that were taken from it follow when it adopts a secret or changes to another one: a node that runs
/// need not be restarted (ADR 18). It is forgotten only by [`Self::forget`].
pub struct MasterSecret {
    shared: Arc<Shared>,
}

impl MasterSecret {
    /// A new random secret.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self::of(vec![random_bytes()?]))
    }

    /// Reads a file that nobody but its owner may read.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        Self::parse(&file::read_private(path)?)
    }

    /// Writes a file (mode 0600) that must not exist yet, and makes sure that it is on disk before it returns: a key sealed
    /// with a secret that a crash took away is lost.
    pub fn write_new(&self, path: &Path) -> Result<(), SecretError> {
        file::write_private(path, self.text().as_bytes())
    }

    /// Puts the file in the place of the one that is there, whole or not at all.
    pub fn replace(&self, path: &Path) -> Result<(), SecretError> {
        file::replace_private(path, self.text().as_bytes())
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
            1..=MASTER_SECRETS_LIMIT => Ok(Self::of(keys)),
            _ => Err(SecretError::TooMany),
        }
    }

    fn of(secrets: Vec<Zeroizing<[u8; SECRET_BYTES]>>) -> Self {
        Self { shared: Arc::new(Shared::new(secrets.into_iter().map(MasterKey::new).collect())) }
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.shared.ring().keys {
            STANDARD.encode_string(key.secret.as_slice(), &mut text);
            text.push('\n');
        }
        text
    }

    /// Every secret's id, the newest first.
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        self.shared.ring().keys.iter().map(|key| key.id).collect()
    }

    /// The one that seals: the newest, until [`Self::seal_with`] says otherwise.
    #[must_use]
    pub fn sealing(&self) -> KeyId {
        self.shared.ring().current().id
    }

    /// Seals and authenticates with this one from now on; `false`, and nothing changes, when it is not known.
    pub fn seal_with(&self, id: KeyId) -> bool {
        self.shared.seal_with(id)
    }

    /// Learns the secrets of `other` that are new and not `retired`; what seals stays the same.
    pub fn adopt(&self, other: &Self, retired: &[KeyId]) {
        self.shared.adopt(&other.shared.ring().keys, retired);
    }

    /// Forgets secrets that nothing is sealed with any more, and what was derived from them: what they sealed opens no longer,
    /// what they authenticated is as good as forged. The one that seals stays. Returns the ids that went.
    pub fn forget(&self, retired: &[KeyId]) -> Vec<KeyId> {
        self.shared.forget(retired)
    }

    /// The same with a new random secret before the others, which seal as before.
    pub fn with_a_new_one(&self) -> Result<Self, SecretError> {
        self.listing(
            std::iter::once(random_bytes()?).chain(self.shared.ring().keys.iter().map(|key| key.secret.clone())),
        )
    }

    /// The same with this secret alone; `None` when it is not known.
    #[must_use]
    pub fn only(&self, id: KeyId) -> Option<Self> {
        let ring = self.shared.ring();
        ring.keys.iter().find(|key| key.id == id).map(|key| Self::of(vec![key.secret.clone()]))
    }

    fn listing(&self, secrets: impl Iterator<Item = Zeroizing<[u8; SECRET_BYTES]>>) -> Result<Self, SecretError> {
        let secrets: Vec<_> = secrets.collect();
        if secrets.len() > MASTER_SECRETS_LIMIT {
            return Err(SecretError::TooMany);
        }
        let listed = Self::of(secrets);
        listed.seal_with(self.sealing());
        Ok(listed)
    }

    /// What seals private keys for the database.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer { shared: Arc::clone(&self.shared) }
    }

    /// A key for authenticating what leaves the node and comes back: cursors, query hashes. One per label.
    #[must_use]
    pub fn mac_key(&self, label: &'static str) -> MacKey {
        self.shared.mac_key(label)
    }

    /// A key for signing what others check without a secret. One per label.
    #[must_use]
    pub fn signing_key(&self, label: &'static str) -> SigningKey {
        SigningKey { shared: Arc::clone(&self.shared), label }
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
    shared: Arc<Shared>,
}

impl Sealer {
    /// The secret that seals now.
    #[must_use]
    pub fn sealing(&self) -> KeyId {
        self.shared.ring().current().id
    }

    /// Seals `plain` for one place.
    ///
    /// # Panics
    /// When the system gives no random bytes: nothing that needs a nonce may go on then.
    #[must_use]
    pub fn seal(&self, context: &SealContext<'_>, plain: &[u8]) -> Vec<u8> {
        let ring = self.shared.ring();
        let key = ring.current();
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
        blob.extend_from_slice(key.id.as_bytes());
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
        let id = Self::key_id(blob).ok_or(SealError::Shape)?;
        let ring = self.shared.ring();
        let key = ring.get(id).ok_or(SealError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(&header[1 + KeyId::BYTES..]).map_err(|_| SealError::Shape)?;
        let mut opened = Zeroizing::new(body.to_vec());
        let length = key
            .cipher(context.table)
            .open_in_place(nonce, Aad::from(context.authenticated_bytes()), &mut opened)
            .map_err(|_| SealError::Altered)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }

    /// Which secret a blob was sealed with, as its header says; `None` when it is no blob of ours.
    #[must_use]
    pub fn key_id(blob: &[u8]) -> Option<KeyId> {
        let (version, rest) = blob.split_first()?;
        (*version == BLOB_VERSION).then(|| rest.get(..KeyId::BYTES).and_then(KeyId::from_bytes)).flatten()
    }

    /// The same content under the secret that seals now; `None` when it is under that one already. Either way the blob was
    /// opened in its place: one that was moved, altered or is under no known secret is an error.
    pub fn reseal(&self, context: &SealContext<'_>, blob: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        let plain = self.open(context, blob)?;
        let current = Self::key_id(blob) == Some(self.shared.ring().current().id);
        Ok((!current).then(|| self.seal(context, &plain)))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
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
