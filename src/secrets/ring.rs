//! The secrets of a process and which of them seals; shared by everything that was derived.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::mac::MacRing;
use super::{KeyId, MacKey, SECRET_BYTES, derive};

/// One master secret and what every use of it begins with.
#[derive(Clone)]
pub(super) struct MasterKey {
    pub(super) id: KeyId,
    pub(super) secret: Zeroizing<[u8; SECRET_BYTES]>,
    seal_root: Zeroizing<[u8; SECRET_BYTES]>,
}

impl MasterKey {
    pub(super) fn new(secret: Zeroizing<[u8; SECRET_BYTES]>) -> Self {
        let id = KeyId::from_bytes(&derive(&secret, &[b"key id v1"])[..KeyId::BYTES]);
        let seal_root = derive(&secret, &[b"seal v1"]);
        Self { id: id.expect("invariant: eight bytes make a key id"), secret, seal_root }
    }

    /// The key that seals for one table.
    pub(super) fn cipher(&self, table: &str) -> LessSafeKey {
        let key = derive(&self.seal_root, &[b"seal table v1", table.as_bytes()]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("invariant: the key has 32 bytes"))
    }

    pub(super) fn mac_key(&self, label: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, derive(&self.secret, &[b"mac v1", label.as_bytes()]).as_slice())
    }
}

/// At least one secret.
pub(super) struct Ring {
    /// The newest first, as in the file.
    pub(super) keys: Vec<MasterKey>,
    sealing: KeyId,
}

impl Ring {
    /// The one that seals.
    pub(super) fn current(&self) -> &MasterKey {
        self.get(self.sealing).expect("invariant: the secret that seals is one of the ring")
    }

    pub(super) fn get(&self, id: KeyId) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// Readers take what is published and never wait.
pub(super) struct Shared {
    ring: ArcSwap<Ring>,
    /// Held while the ring changes. MAC keys that were handed out: derived anew with every change.
    macs: Mutex<Vec<(&'static str, MacKey)>>,
}

impl Shared {
    pub(super) fn new(keys: Vec<MasterKey>) -> Self {
        let sealing = keys.first().expect("invariant: there is at least one secret").id;
        Self { ring: ArcSwap::from_pointee(Ring { keys, sealing }), macs: Mutex::default() }
    }

    pub(super) fn ring(&self) -> Guard<Arc<Ring>> {
        self.ring.load()
    }

    pub(super) fn mac_key(&self, label: &'static str) -> MacKey {
        let mut macs = self.macs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = macs.iter().find(|(known, _)| *known == label) {
            return key.clone();
        }
        let key = MacKey { keys: Arc::new(ArcSwap::from_pointee(MacRing::derive(&self.ring(), label))) };
        macs.push((label, key.clone()));
        key
    }

    pub(super) fn seal_with(&self, id: KeyId) -> bool {
        self.change(|ring| {
            (ring.get(id).is_some() && ring.sealing != id).then(|| Ring { keys: ring.keys.clone(), sealing: id })
        });
        self.ring().sealing == id
    }

    pub(super) fn adopt(&self, keys: &[MasterKey], retired: &[KeyId]) {
        self.change(|ring| {
            let is_new = |key: &&MasterKey| ring.get(key.id).is_none() && !retired.contains(&key.id);
            let new: Vec<MasterKey> = keys.iter().filter(is_new).cloned().collect();
            let keys = || new.iter().chain(&ring.keys).cloned().collect();
            (!new.is_empty()).then(|| Ring { keys: keys(), sealing: ring.sealing })
        });
    }

    /// Never the one that seals.
    pub(super) fn forget(&self, ids: &[KeyId]) -> Vec<KeyId> {
        let mut gone = Vec::new();
        self.change(|ring| {
            let goes = |key: &MasterKey| key.id != ring.sealing && ids.contains(&key.id);
            gone = ring.keys.iter().filter(|key| goes(key)).map(|key| key.id).collect();
            let keys = || ring.keys.iter().filter(|key| !goes(key)).cloned().collect();
            (!gone.is_empty()).then(|| Ring { keys: keys(), sealing: ring.sealing })
        });
        gone
    }

    /// One change at a time.
    fn change(&self, next: impl FnOnce(&Ring) -> Option<Ring>) {
        let macs = self.macs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ring) = next(&self.ring()) else { return };
        for (label, key) in macs.iter() {
            key.keys.store(Arc::new(MacRing::derive(&ring, label)));
        }
        self.ring.store(Arc::new(ring));
    }
}
