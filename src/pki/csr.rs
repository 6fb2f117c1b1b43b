//! Certificate signing requests (PKCS#10, RFC 2986). A request contributes its public key and the proof that its sender
//! holds the private one; its names and extensions are never looked at.

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509Req, X509ReqBuilder};
use zeroize::Zeroizing;

use super::pem::{PemError, csr_from_pem, csr_to_pem};
use super::public_key::{WeakKey, check_public_key};
use crate::secrets::sha256;

/// Longest request, in bytes of PEM: an RSA key of 8192 bits and its signature need 4 KiB.
pub const CSR_BYTES_LIMIT: usize = 16 * 1024;

/// A fresh key and the request for its certificate.
pub struct NewKey {
    /// PKCS#8 DER.
    pub pkcs8: Zeroizing<Vec<u8>>,
    pub csr_pem: String,
    /// DER of the SubjectPublicKeyInfo: what the issued certificate must carry.
    pub public_key: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the request is longer than {CSR_BYTES_LIMIT} bytes")]
    TooLong,
    #[error("the text {0}")]
    Pem(#[from] PemError),
    #[error("the request is malformed")]
    Malformed,
    #[error("{0}")]
    Key(#[from] WeakKey),
    #[error("the request is not signed with its own key")]
    Signature,
}

/// Making a key failed: OpenSSL has no random bytes or no memory.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a key: {0}")]
pub struct KeyError(#[from] ErrorStack);

/// Makes a P-256 key, new for every enrolment and renewal, and a request for it.
pub fn new_key_and_csr() -> Result<NewKey, KeyError> {
    let key = EcKey::generate(EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?.as_ref())?;
    let key = PKey::from_ec_key(key)?;
    let csr = sign_request(&key)?;
    Ok(NewKey {
        pkcs8: Zeroizing::new(key.private_key_to_pkcs8()?),
        csr_pem: csr_to_pem(&csr.to_der()?),
        public_key: key.public_key_to_der()?,
    })
}

/// A request without names: the owner takes none from it.
fn sign_request(key: &PKey<Private>) -> Result<X509Req, ErrorStack> {
    let mut request = X509ReqBuilder::new()?;
    request.set_version(0)?;
    request.set_pubkey(key)?;
    request.sign(key, MessageDigest::sha256())?;
    Ok(request.build())
}

/// Verifies a request's signature over itself and returns the DER of its SubjectPublicKeyInfo in its one canonical form.
pub fn verify_csr(pem: &str) -> Result<Vec<u8>, CsrError> {
    if pem.len() > CSR_BYTES_LIMIT {
        return Err(CsrError::TooLong);
    }
    let der = csr_from_pem(pem)?;
    let request = X509Req::from_der(&der).map_err(|_| CsrError::Malformed)?;
    // OpenSSL ignores what stands behind the request.
    if request.to_der().map_err(|_| CsrError::Malformed)? != der {
        return Err(CsrError::Malformed);
    }
    let key = request.public_key().map_err(|_| CsrError::Malformed)?;
    let public_key = key.public_key_to_der().map_err(|_| CsrError::Malformed)?;
    // Strength comes first: verifying with an over-long key is work for whoever asks.
    check_public_key(&public_key)?;
    match request.verify(&key) {
        Ok(true) => Ok(public_key),
        _ => Err(CsrError::Signature),
    }
}

/// SHA-256 of a SubjectPublicKeyInfo: a key that is already on record is never certified again.
#[must_use]
pub fn public_key_sha256(public_key: &[u8]) -> [u8; 32] {
    sha256(public_key)
}

#[cfg(test)]
mod tests {
    use openssl::rsa::Rsa;

    use super::*;

    #[test]
    fn a_new_request_is_verified_and_yields_its_key() {
        let new = new_key_and_csr().unwrap();
        assert_eq!(verify_csr(&new.csr_pem), Ok(new.public_key.clone()));
        let key = PKey::private_key_from_pkcs8(&new.pkcs8).unwrap();
        assert_eq!(key.public_key_to_der().unwrap(), new.public_key);
        assert_ne!(new_key_and_csr().unwrap().public_key, new.public_key);
    }

    #[test]
    fn a_request_signed_with_another_key_is_refused() {
        let (one, other) = (new_key_and_csr().unwrap(), new_key_and_csr().unwrap());
        let mut request = X509ReqBuilder::new().unwrap();
        request.set_pubkey(&PKey::private_key_from_pkcs8(&one.pkcs8).unwrap()).unwrap();
        request.sign(&PKey::private_key_from_pkcs8(&other.pkcs8).unwrap(), MessageDigest::sha256()).unwrap();
        let pem = csr_to_pem(&request.build().to_der().unwrap());
        assert_eq!(verify_csr(&pem), Err(CsrError::Signature));
    }

    #[test]
    fn weak_keys_are_refused() {
        let rsa = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
        let pem = csr_to_pem(&sign_request(&rsa).unwrap().to_der().unwrap());
        assert_eq!(verify_csr(&pem), Err(CsrError::Key(WeakKey::Rsa)));
        let curve = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP224R1).unwrap()).unwrap();
        let pem = csr_to_pem(&sign_request(&PKey::from_ec_key(curve).unwrap()).unwrap().to_der().unwrap());
        assert_eq!(verify_csr(&pem), Err(CsrError::Key(WeakKey::Algorithm)));
    }

    #[test]
    fn every_altered_byte_of_a_request_is_noticed() {
        let new = new_key_and_csr().unwrap();
        let der = csr_from_pem(&new.csr_pem).unwrap();
        for at in 0..der.len() {
            let mut altered = der.clone();
            altered[at] ^= 1;
            assert!(verify_csr(&csr_to_pem(&altered)).is_err(), "byte {at}");
        }
        let mut trailing = der;
        trailing.push(0);
        assert_eq!(verify_csr(&csr_to_pem(&trailing)), Err(CsrError::Malformed));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(verify_csr(""), Err(CsrError::Pem(PemError::Missing("certificate signing request"))));
        assert_eq!(verify_csr(&csr_to_pem(&[])), Err(CsrError::Malformed));
        assert_eq!(verify_csr(&"x".repeat(CSR_BYTES_LIMIT + 1)), Err(CsrError::TooLong));
    }
}
