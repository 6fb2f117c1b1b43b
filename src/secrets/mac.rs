//! Message authentication under keys that follow the master secret.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time, hmac};

use super::KeyId;
use super::ring::Ring;

/// Authenticates lists of byte strings with HMAC-SHA256: makes tags with the secret that seals, recognises those of every
/// secret that is known. What a secret tagged that is gone is as good as forged.
#[derive(Clone)]
pub struct MacKey {
    pub(super) keys: Arc<ArcSwap<MacRing>>,
}

/// One label's keys, one per master secret.
pub(super) struct MacRing {
    /// The one that makes tags is the first.
    keys: Vec<(KeyId, hmac::Key)>,
}

impl MacRing {
    pub(super) fn derive(ring: &Ring, label: &str) -> Self {
        let current = ring.current();
        let others = ring.keys.iter().filter(|key| key.id != current.id);
        let keys = std::iter::once(current).chain(others).map(|key| (key.id, key.mac_key(label))).collect();
        Self { keys }
    }
}

/// What [`MacKey::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacVerdict {
    Genuine,
    Forged,
    /// Its secret is not known (any more): nothing can be said.
    UnknownKey,
}

impl MacKey {
    /// Fewest bytes that a truncated tag may have (RFC 2104 section 5: at least half).
    pub const SHORTEST_TAG: usize = 16;

    /// The tag over `parts`. Each part is prefixed with its length, so that moving a byte from one to the next changes it.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.sign(parts).1
    }

    /// As [`Self::tag`], for a tag that is kept: with the id of the secret that it can be checked with.
    ///
    /// # Panics
    /// Never: there is at least one key.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> (KeyId, [u8; 32]) {
        let keys = self.keys.load();
        let (id, key) = keys.keys.first().expect("invariant: a master secret has at least one key");
        (*id, tag(key, parts))
    }

    /// Whether `tag`, whole or cut to at least 16 bytes, belongs to `parts`. Takes the same time wherever they differ.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.keys.load().keys.iter().any(|(_, key)| is_tag(key, parts, tag))
    }

    /// Checks a tag that was made under the named secret.
    #[must_use]
    pub fn check(&self, id: KeyId, parts: &[&[u8]], tag: &[u8]) -> MacVerdict {
        match self.keys.load().keys.iter().find(|(known, _)| *known == id) {
            None => MacVerdict::UnknownKey,
            Some((_, key)) if is_tag(key, parts, tag) => MacVerdict::Genuine,
            Some(_) => MacVerdict::Forged,
        }
    }
}

fn tag(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(&(parts.len() as u64).to_be_bytes());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign().as_ref().try_into().expect("invariant: an HMAC-SHA256 tag has 32 bytes")
}

fn is_tag(key: &hmac::Key, parts: &[&[u8]], presented: &[u8]) -> bool {
    let expected = tag(key, parts);
    (MacKey::SHORTEST_TAG..=expected.len()).contains(&presented.len())
        && constant_time::verify_slices_are_equal(&expected[..presented.len()], presented).is_ok()
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}
