//! The private key of a link, sealed for its row in the database.

use mosaic_actors::domain::identity::LinkId;
use mosaic_actors::domain::link::Link;
use zeroize::Zeroizing;

use crate::secrets::{SealContext, SealError, Sealer};

/// The version of a link's first key; each renewal takes the next.
pub const FIRST_KEY_VERSION: i32 = 1;

/// Seals the PKCS#8 of a link's key. It opens only for this link and this version.
#[must_use]
pub fn seal_link_key(sealer: &Sealer, link: LinkId, key_version: i32, pkcs8: &[u8]) -> Vec<u8> {
    sealer.seal(&context(&link.to_string(), key_version), pkcs8)
}

/// Opens the PKCS#8 of a link's key.
pub fn open_link_key(sealer: &Sealer, link: &Link) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let credentials = &link.credentials;
    sealer.open(&context(&link.id.to_string(), credentials.key_version), &credentials.sealed_key)
}

fn context(row: &str, key_version: i32) -> SealContext<'_> {
    SealContext { table: "links", row, key_version: key_version.unsigned_abs() }
}

#[cfg(test)]
mod tests {
    use mosaic_actors::domain::identity::{GrantId, Serial, UserId};
    use mosaic_actors::domain::link::{LinkCredentials, LinkState};

    use super::*;
    use crate::pki::testing::{now, site};
    use crate::secrets::MasterSecret;

    fn link(id: LinkId, sealed_key: Vec<u8>, key_version: i32) -> Link {
        Link {
            id,
            peer: site("work"),
            owner: UserId::new(),
            shared_with: Vec::new(),
            state: LinkState::Active,
            grant: GrantId::new(),
            federation_url: "https://work.example:8643".into(),
            allow_private: false,
            credentials: LinkCredentials {
                serial: Serial::from_bytes(&[1]).unwrap(),
                not_before: now(),
                not_after: now(),
                certificate_chain: Vec::new(),
                sealed_key,
                key_version,
                pinned_root: Vec::new(),
            },
            created_at: now(),
        }
    }

    #[test]
    fn a_key_opens_only_for_its_link_and_version() {
        let sealer = MasterSecret::generate().unwrap().sealer();
        let id = LinkId::new();
        let sealed = seal_link_key(&sealer, id, 2, b"key");
        assert_eq!(open_link_key(&sealer, &link(id, sealed.clone(), 2)).unwrap().as_slice(), b"key");
        assert_eq!(open_link_key(&sealer, &link(id, sealed.clone(), 3)), Err(SealError::Altered));
        assert_eq!(open_link_key(&sealer, &link(LinkId::new(), sealed, 2)), Err(SealError::Altered));
    }
}
