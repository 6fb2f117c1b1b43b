//! Reading and checking certificate revocation lists (RFC 5280 section 5).

use std::collections::HashSet;

use mosaic_actors::domain::identity::Serial;
use openssl::x509::{X509, X509Crl};
use time::OffsetDateTime;
use x509_parser::oid_registry::OID_X509_EXT_CRL_NUMBER;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::authority::Crl;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    #[error("the revocation list is malformed")]
    Malformed,
    #[error("the revocation list has no number, or one above 2^64")]
    Number,
    #[error("the revocation list does not say until when it holds")]
    NextUpdate,
    #[error("the revocation list was not signed by this root, nor by an intermediate of it")]
    Signature,
}

/// Parses a list without checking its signature.
pub fn parse_crl(der: &[u8]) -> Result<Crl, CrlError> {
    let list = parse(der)?;
    let mut numbers = list.extensions().iter().filter(|extension| extension.oid == OID_X509_EXT_CRL_NUMBER);
    if numbers.next().is_none() || numbers.next().is_some() {
        return Err(CrlError::Number);
    }
    let number = list.crl_number().and_then(|number| u64::try_from(number).ok()).ok_or(CrlError::Number)?;
    let next_update = list.next_update().ok_or(CrlError::NextUpdate)?.to_datetime();
    Ok(Crl { der: der.to_vec(), number, this_update: list.last_update().to_datetime(), next_update })
}

/// Parses a list that `root` (DER) must have signed.
pub fn verify_crl(der: &[u8], root: &[u8]) -> Result<Crl, CrlError> {
    let crl = parse_crl(der)?;
    let root = X509::from_der(root).map_err(|_| CrlError::Signature)?;
    let list = X509Crl::from_der(der).map_err(|_| CrlError::Malformed)?;
    let key = root.public_key().map_err(|_| CrlError::Signature)?;
    let same_name = matches!(list.issuer_name().try_cmp(root.subject_name()), Ok(std::cmp::Ordering::Equal));
    match list.verify(&key) {
        Ok(true) if same_name => Ok(crl),
        _ => Err(CrlError::Signature),
    }
}

/// Parses a list that one of `issuers` (DER) must have signed: a root, or an intermediate whose chain the caller has verified.
pub fn verify_crl_by(der: &[u8], issuers: &[Vec<u8>]) -> Result<Crl, CrlError> {
    let mut verdict = Err(CrlError::Signature);
    for issuer in issuers {
        verdict = verify_crl(der, issuer);
        if !matches!(verdict, Err(CrlError::Signature)) {
            break;
        }
    }
    verdict
}

/// The serial numbers that a list names.
pub(crate) fn revoked_serials(der: &[u8]) -> Result<HashSet<Serial>, CrlError> {
    parse(der)?
        .iter_revoked_certificates()
        .map(|revoked| Serial::from_bytes(revoked.raw_serial()).ok_or(CrlError::Malformed))
        .collect()
}

/// Until when a list holds, measured at half of its life: when to sign the next one.
#[must_use]
pub fn renew_crl_at(crl: &Crl) -> OffsetDateTime {
    crl.this_update + (crl.next_update - crl.this_update) / 2
}

fn parse(der: &[u8]) -> Result<CertificateRevocationList<'_>, CrlError> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        _ => Err(CrlError::Malformed),
    }
}
