//! Checking a certificate that an authority issued: by the owner before it goes on record, by the asker before it is kept.
//! Nothing has a default: what does not match fails.

use mosaic_actors::domain::identity::Serial;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;

use super::authority::{ClientRequest, IssuedCertificate};
use super::extension_arc::ExtensionArc;
use super::pem::{PemError, certificate_from_pem};
use super::profile::{
    ProfileError, check_client_leaf, check_root, check_serial, extended_key_usage, parse_certificate,
};

#[cfg(test)]
mod tests;

/// How much earlier than asked a certificate may begin (CAs backdate against clocks that are behind), and how much earlier
/// it may end. It may never end later.
const LIFETIME_SLACK: Duration = Duration::minutes(5);

/// Longest chain that is looked at, root included.
pub const CHAIN_LIMIT: usize = 4;

/// What was issued is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("the certificate breaks the profile: {0}")]
    Profile(#[from] ProfileError),
    #[error("the certificate names another grant")]
    Grant,
    #[error("the certificate names another subject")]
    Subject,
    #[error("the certificate has another public key")]
    PublicKey,
    #[error("the certificate has another serial number than was reported")]
    Serial,
    #[error("the certificate's life is not the one that was asked for")]
    Lifetime,
    #[error("the chain does not lead from the certificate to its root")]
    Chain,
}

/// The owner's check: the issued certificate carries exactly what was asked, for no longer, and its chain holds.
pub fn check_issued(issued: &IssuedCertificate, request: &ClientRequest, arc: &ExtensionArc) -> Result<(), Mismatch> {
    let certificate = parse_certificate(&issued.certificate)?;
    let identity = check_client_leaf(&certificate, arc)?;
    if identity.grant != request.grant {
        return Err(Mismatch::Grant);
    }
    if identity.subject != request.subject {
        return Err(Mismatch::Subject);
    }
    if certificate.public_key().raw != request.public_key {
        return Err(Mismatch::PublicKey);
    }
    if identity.serial != issued.serial {
        return Err(Mismatch::Serial);
    }
    let (not_before, not_after) = dates(&certificate);
    let as_reported = (not_before, not_after) == (issued.not_before, issued.not_after);
    let begins = request.not_before - LIFETIME_SLACK..=request.not_before;
    let ends = request.not_after - LIFETIME_SLACK..=request.not_after;
    if !as_reported || !begins.contains(&not_before) || !ends.contains(&not_after) || not_after <= not_before {
        return Err(Mismatch::Lifetime);
    }
    let root = issued.chain.last().ok_or(Mismatch::Chain)?;
    check_chain(&issued.certificate, &issued.chain, root, not_before)
}

/// What an asker got from an owner, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// DER, leaf first, without the root: what is presented in handshakes.
    pub chain: Vec<Vec<u8>>,
    pub serial: Serial,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceivedError {
    #[error("the answer {0}")]
    Pem(#[from] PemError),
    #[error("the chain is longer than {CHAIN_LIMIT} certificates")]
    ChainTooLong,
    #[error("the certificate has expired")]
    Expired,
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// The asker's check: the certificate is for the key of this request, for client authentication, valid at `now` or soon
/// (clocks differ), and leads to the pinned root. The identity extensions are the owner's matter; his arc may be another.
pub fn check_received(
    certificate_pem: &str,
    chain_pem: &[String],
    pinned_root: &[u8],
    public_key: &[u8],
    now: OffsetDateTime,
) -> Result<Received, ReceivedError> {
    if chain_pem.len() > CHAIN_LIMIT {
        return Err(ReceivedError::ChainTooLong);
    }
    let der = certificate_from_pem(certificate_pem)?;
    let chain = chain_pem.iter().map(|pem| certificate_from_pem(pem)).collect::<Result<Vec<_>, _>>()?;
    let certificate = parse_certificate(&der).map_err(Mismatch::from)?;
    let serial = check_serial(certificate.raw_serial()).map_err(Mismatch::from)?;
    if certificate.public_key().raw != public_key {
        return Err(Mismatch::PublicKey.into());
    }
    if !extended_key_usage(&certificate).map_err(Mismatch::from)?.is_some_and(|usage| usage.client_auth) {
        return Err(Mismatch::Profile(ProfileError::NotForClients).into());
    }
    let (not_before, not_after) = dates(&certificate);
    if not_after <= now {
        return Err(ReceivedError::Expired);
    }
    check_chain(&der, &chain, pinned_root, not_before.max(now))?;
    let intermediates = chain.into_iter().filter(|certificate| certificate != pinned_root);
    Ok(Received { chain: std::iter::once(der).chain(intermediates).collect(), serial, not_before, not_after })
}

/// Verifies the signatures from a client certificate to `root` as they will be verified in a handshake at `at`.
fn check_chain(leaf: &[u8], chain: &[Vec<u8>], root: &[u8], at: OffsetDateTime) -> Result<(), Mismatch> {
    check_root(root, at)?;
    let root = CertificateDer::from(root);
    let anchor = webpki::anchor_from_trusted_cert(&root).map_err(|_| Mismatch::Chain)?;
    let leaf = CertificateDer::from(leaf);
    let leaf = webpki::EndEntityCert::try_from(&leaf).map_err(|_| Mismatch::Chain)?;
    let intermediates: Vec<_> = chain
        .iter()
        .filter(|der| der.as_slice() != root.as_ref())
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let seconds = u64::try_from(at.unix_timestamp()).map_err(|_| Mismatch::Lifetime)?;
    leaf.verify_for_usage(
        crate::tls::provider().signature_verification_algorithms.all,
        &[anchor],
        &intermediates,
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
        webpki::KeyUsage::client_auth(),
        None,
        None,
    )
    .map(|_| ())
    .map_err(|_| Mismatch::Chain)
}

fn dates(certificate: &X509Certificate<'_>) -> (OffsetDateTime, OffsetDateTime) {
    (certificate.validity.not_before.to_datetime(), certificate.validity.not_after.to_datetime())
}
