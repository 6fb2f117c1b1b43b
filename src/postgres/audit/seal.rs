//! Seals: what they say, how they hang together, and what of them can be kept elsewhere.

use mosaic_actors::domain::identity::SiteName;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::event::Micros;
use super::keys::AuditKeys;
use super::merkle::Hash;
use crate::secrets::signing::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES, is_signed};
use crate::secrets::{KeyId, sha256};

/// First of the bytes that a seal's digest and its signature are made over.
const SEAL_LABEL: &[u8] = b"mosaic audit seal\x01";
const CHECKPOINT_LABEL: &[u8] = b"mosaic audit checkpoint\x01";

/// What stands before the first seal.
pub(super) const NOTHING: Hash = [0; 32];

/// The lane of what there was before sealing.
pub(super) const BEFORE_SEALING: Uuid = Uuid::nil();

/// What a seal says about its events and about the seal before it.
#[derive(Debug, Clone)]
pub(super) struct Seal {
    pub(super) position: i64,
    pub(super) at: Micros,
    pub(super) lane: Uuid,
    pub(super) first: i64,
    pub(super) last: i64,
    /// `seq` of every event, packed: tells which one was moved.
    pub(super) places: Vec<u8>,
    pub(super) root: Vec<u8>,
    /// Of the whole chain up to here.
    pub(super) events: i64,
    pub(super) previous: Vec<u8>,
}

/// A seal as it stands in the database.
pub(super) struct SignedSeal {
    pub(super) seal: Seal,
    pub(super) key: Vec<u8>,
    pub(super) public_key: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// What can be kept outside of the database: the chain ended with this seal once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub site: SiteName,
    pub position: i64,
    /// Events under seal up to here.
    pub events: i64,
    pub at: OffsetDateTime,
    /// Digest of the seal.
    pub seal: [u8; 32],
    pub key: KeyId,
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Seal {
    pub(super) fn digest(&self, site: &SiteName) -> Hash {
        let mut bytes = SEAL_LABEL.to_vec();
        put(&mut bytes, site.as_str().as_bytes());
        for number in [self.position, self.at.0, self.first, self.last, self.events] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.lane.as_bytes());
        for part in [&self.root, &self.previous, &self.places] {
            put(&mut bytes, part);
        }
        sha256(&bytes)
    }

    /// What is signed.
    fn message(&self, site: &SiteName) -> Vec<u8> {
        message(site, self.position, self.events, self.at, &self.digest(site))
    }

    pub(super) fn sign(self, keys: &AuditKeys) -> SignedSeal {
        let signed = keys.seals.sign(&self.message(&keys.site));
        SignedSeal {
            seal: self,
            key: signed.key.as_bytes().to_vec(),
            public_key: signed.public_key.to_vec(),
            signature: signed.signature.to_vec(),
        }
    }
}

impl SignedSeal {
    /// The columns of [`SignedSeal::of`], in its order.
    pub(super) const COLUMNS: &'static str =
        "position, at, lane, first, last, places, root, events, previous, key_id, public_key, signature";

    pub(super) fn of(row: &Row) -> Self {
        let seal = Seal {
            position: row.get(0),
            at: row.get(1),
            lane: row.get(2),
            first: row.get(3),
            last: row.get(4),
            places: row.get(5),
            root: row.get(6),
            events: row.get(7),
            previous: row.get(8),
        };
        Self { seal, key: row.get(9), public_key: row.get(10), signature: row.get(11) }
    }

    pub(super) fn is_signed(&self, site: &SiteName) -> bool {
        is_signed(&self.public_key, &self.seal.message(site), &self.signature)
    }

    /// `None` when a column is not of its size: somebody altered it.
    pub(super) fn checkpoint(&self, site: &SiteName) -> Option<Checkpoint> {
        Some(Checkpoint {
            site: site.clone(),
            position: self.seal.position,
            events: self.seal.events,
            at: self.seal.at.time(),
            seal: self.seal.digest(site),
            key: KeyId::from_bytes(&self.key)?,
            public_key: self.public_key.as_slice().try_into().ok()?,
            signature: self.signature.as_slice().try_into().ok()?,
        })
    }
}

impl Checkpoint {
    /// Whether the holder of its public key made it; whose key that is is another question.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        let message = message(&self.site, self.position, self.events, Micros::of(self.at), &self.seal);
        is_signed(&self.public_key, &message, &self.signature)
    }
}

fn message(site: &SiteName, position: i64, events: i64, at: Micros, digest: &Hash) -> Vec<u8> {
    let mut bytes = CHECKPOINT_LABEL.to_vec();
    put(&mut bytes, site.as_str().as_bytes());
    for number in [position, events, at.0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(digest);
    bytes
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
    bytes.extend_from_slice(part);
}

/// Sequence numbers, each as its difference from the one before in as few bytes as it needs (LEB128 over zigzag): an event's
/// neighbours in a lane are mostly its neighbours in the log. 0 stands for an event that was not there.
pub(super) fn pack_places(places: &[i64]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(places.len());
    let mut before = 0_i64;
    for place in places {
        let difference = place.wrapping_sub(before);
        let mut rest = ((difference << 1) ^ (difference >> 63)).cast_unsigned();
        while rest >= 0x80 {
            packed.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        packed.push(rest as u8);
        before = *place;
    }
    packed
}

/// `None` when the bytes are not packed numbers.
pub(super) fn unpack_places(packed: &[u8]) -> Option<Vec<i64>> {
    let (mut places, mut before) = (Vec::new(), 0_i64);
    let mut bytes = packed.iter();
    while let Some(first) = bytes.next() {
        let (mut rest, mut shift, mut byte) = (u64::from(first & 0x7f), 7, *first);
        while byte & 0x80 != 0 {
            byte = *bytes.next().filter(|_| shift < 64)?;
            rest |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        let difference = (rest >> 1).cast_signed() ^ -(rest & 1).cast_signed();
        before = before.wrapping_add(difference);
        places.push(before);
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_survive_packing(places in proptest::collection::vec(any::<i64>(), 0..50)) {
            prop_assert_eq!(unpack_places(&pack_places(&places)), Some(places));
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = unpack_places(&bytes);
        }
    }

    #[test]
    fn neighbours_need_a_byte_each() {
        let places: Vec<i64> = (1_000_000..1_000_500).collect();
        assert_eq!(pack_places(&places).len(), 502);
    }
}
