//! Signatures that others can check without a secret.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::ring::{MasterKey, Shared};
use super::{KeyId, derive};

/// Bytes of an Ed25519 public key (RFC 8032).
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Signs with Ed25519 under a key of its own label, derived from the master secret: nothing but the master secret need be kept.
/// Signing is rare, so that the key is derived anew each time and lies nowhere.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) shared: Arc<Shared>,
    pub(super) label: &'static str,
}

/// A signature, and what it can be checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    pub key: KeyId,
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    pub signature: [u8; SIGNATURE_BYTES],
}

impl SigningKey {
    /// Signs with the secret that seals.
    ///
    /// # Panics
    /// Never: a derived key is a key, and Ed25519 signs whatever it is given.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signed {
        let ring = self.shared.ring();
        let pair = self.pair(ring.current());
        let signature = pair.sign(message);
        Signed {
            key: ring.current().id,
            public_key: public_key(&pair),
            signature: signature.as_ref().try_into().expect("invariant: an Ed25519 signature has 64 bytes"),
        }
    }

    /// The secret that signs now.
    #[must_use]
    pub fn sealing(&self) -> KeyId {
        self.shared.ring().current().id
    }

    /// The public key that goes with a known secret.
    #[must_use]
    pub fn public_key(&self, id: KeyId) -> Option<[u8; PUBLIC_KEY_BYTES]> {
        self.shared.ring().get(id).map(|key| public_key(&self.pair(key)))
    }

    fn pair(&self, key: &MasterKey) -> Ed25519KeyPair {
        let seed = derive(&key.secret, &[b"sign v1", self.label.as_bytes()]);
        Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).expect("invariant: any 32 bytes are an Ed25519 seed")
    }
}

fn public_key(pair: &Ed25519KeyPair) -> [u8; PUBLIC_KEY_BYTES] {
    pair.public_key().as_ref().try_into().expect("invariant: an Ed25519 public key has 32 bytes")
}

/// Whether `signature` is of `message` by the holder of `public_key`.
#[must_use]
pub fn is_signed(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

#[cfg(test)]
mod tests {
    use super::super::MasterSecret;
    use super::*;

    #[test]
    fn a_signature_is_of_one_message_label_and_secret() {
        let master = MasterSecret::generate().unwrap();
        let key = master.signing_key("one");
        let signed = key.sign(b"message");
        assert!(is_signed(&signed.public_key, b"message", &signed.signature));
        assert!(!is_signed(&signed.public_key, b"massage", &signed.signature));
        assert_eq!(key.public_key(signed.key), Some(signed.public_key));
        assert_ne!(master.signing_key("other").public_key(signed.key), Some(signed.public_key));
        assert_eq!(MasterSecret::generate().unwrap().signing_key("one").public_key(signed.key), None);
    }

    #[test]
    fn a_new_secret_signs_and_the_old_one_is_still_known() {
        let master = MasterSecret::generate().unwrap();
        let key = master.signing_key("one");
        let before = key.sign(b"message");
        let rotated = master.with_a_new_one().unwrap();
        master.adopt(&rotated, &[]);
        assert!(master.seal_with(rotated.ids()[0]));
        let after = key.sign(b"message");
        assert_ne!((after.key, after.public_key), (before.key, before.public_key));
        assert_eq!(key.public_key(before.key), Some(before.public_key));
    }
}
