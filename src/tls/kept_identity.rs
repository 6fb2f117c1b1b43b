//! The server's certificate and key over a restart: a file in the state directory, sealed with the master secret.
//!
//! With an authority outside of the node, a start would otherwise have to wait for it. What cannot be read, belongs to other names or
//! to another root, or has ended, counts as not there, and a new certificate is asked for: peers pin the root of today.

use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::pki::authority::ServerIdentity;
use crate::pki::pem::{certificate_to_pem, fingerprint};
use crate::pki::profile::parse_certificate;
use crate::secrets::{SealContext, Sealer};

/// Between the key (PKCS#8, in the length that its own bytes say) and the chain.
const LENGTH_BYTES: usize = 4;

#[derive(Clone)]
pub struct KeptIdentity {
    file: PathBuf,
    sealer: Sealer,
    /// What the certificate is for, and whose it is: the names and the root's fingerprint. The seal is bound to it.
    bound_to: String,
}

impl KeptIdentity {
    #[must_use]
    pub fn new(file: PathBuf, sealer: Sealer, names: &[String], root: &[u8]) -> Self {
        Self { file, sealer, bound_to: format!("{} of {}", names.join(","), fingerprint(root)) }
    }

    /// The identity that was kept, if it is for these names and of this root, and has not ended.
    #[must_use]
    pub fn load(&self, now: OffsetDateTime) -> Option<ServerIdentity> {
        let sealed = std::fs::read(&self.file).ok()?;
        let plain = self.sealer.open(&self.context(), &sealed).ok()?;
        let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>()?;
        let (key, chain) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(chain)
            .map(|der| der.map(|der| der.to_vec()))
            .collect::<Result<_, _>>()
            .ok()?;
        let (not_before, not_after) = {
            let validity = &parse_certificate(chain.first()?).ok()?.validity;
            (validity.not_before.to_datetime(), validity.not_after.to_datetime())
        };
        let identity = ServerIdentity { chain, key: Zeroizing::new(key.to_vec()), not_before, not_after };
        (now < not_after).then_some(identity)
    }

    /// Keeps it, whole or not at all.
    pub fn store(&self, identity: &ServerIdentity) -> std::io::Result<()> {
        let length = u32::try_from(identity.key.len()).map_err(std::io::Error::other)?;
        let mut plain = Zeroizing::new(length.to_be_bytes().to_vec());
        plain.extend_from_slice(&identity.key);
        identity.chain.iter().for_each(|der| plain.extend_from_slice(certificate_to_pem(der).as_bytes()));
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, self.sealer.seal(&self.context(), &plain))?;
        std::fs::rename(&beside, &self.file)
    }

    fn context(&self) -> SealContext<'_> {
        SealContext { table: "server_identity", row: &self.bound_to, key_version: 1 }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::pki::testing::{ca, now};
    use crate::secrets::MasterSecret;

    #[test]
    fn an_identity_comes_back_for_its_names_root_and_secret_until_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let (file, names) = (directory.path().join("server.sealed"), ["work.example".to_owned()]);
        let sealer = MasterSecret::generate().unwrap().sealer();
        let authority = ca("work");
        let root = authority.certificate();
        let kept = KeptIdentity::new(file.clone(), sealer.clone(), &names, root);
        assert!(kept.load(now()).is_none());
        let identity = authority.issue_server(&names, now(), Duration::days(1)).unwrap();
        kept.store(&identity).unwrap();
        let loaded = kept.load(now()).unwrap();
        assert_eq!((&loaded.chain, &*loaded.key), (&identity.chain, &*identity.key));
        assert_eq!((loaded.not_before, loaded.not_after), (identity.not_before, identity.not_after));

        assert!(kept.load(identity.not_after).is_none(), "it has ended");
        let another = ca("work");
        assert!(KeptIdentity::new(file.clone(), sealer.clone(), &names, another.certificate()).load(now()).is_none());
        assert!(KeptIdentity::new(file.clone(), sealer, &["home.example".to_owned()], root).load(now()).is_none());
        let stranger = MasterSecret::generate().unwrap().sealer();
        assert!(KeptIdentity::new(file.clone(), stranger, &names, root).load(now()).is_none());
        let text = std::fs::read(&file).unwrap();
        assert!(!text.windows(identity.key.len()).any(|bytes| bytes == identity.key.as_slice()), "the key is sealed");
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        assert!(kept.load(now()).is_none());
    }
}
