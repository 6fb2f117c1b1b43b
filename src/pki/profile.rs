//! The strict profile of client certificates, checked once per connection after rustls has verified the chain.
//!
//! rustls lets through what matters here: doubled extensions, trailing bytes in their values, a missing EKU, an expired
//! root, odd serial numbers, a leaf that may sign. All of that is refused, and the identity comes only from this check.

use mosaic_actors::domain::identity::{GrantId, PeerIdentity, Serial, UserId};
use time::OffsetDateTime;
use uuid::Uuid;
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::{ExtendedKeyUsage, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

pub use super::extension_arc::ExtensionArc;
use super::extension_arc::{IdentityExtension, decode_identity};
use super::public_key::{WeakKey, check_parsed_key};

#[cfg(test)]
mod tests;

/// Why a certificate that rustls verified is still no identity. All are answered alike, with 401; the log and the audit
/// keep [`ProfileError::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("there is no client certificate")]
    NoCertificate,
    #[error("the certificate is malformed")]
    Malformed,
    #[error("the certificate is not of version 3")]
    Version,
    #[error("the serial number is zero, negative, over-long or not minimal")]
    Serial,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("the certificate has expired")]
    Expired,
    #[error("the root is malformed, not valid yet or expired")]
    Root,
    #[error("the certificate is a CA's")]
    IsCa,
    #[error("the certificate may sign certificates or revocation lists")]
    MaySign,
    #[error("the certificate is not for client authentication")]
    NotForClients,
    #[error("an extension occurs twice, or cannot be parsed")]
    Extensions,
    #[error("weak key: {0}")]
    Key(#[from] WeakKey),
    #[error("the {0} extension is missing")]
    Missing(&'static str),
    #[error("the {0} extension is critical")]
    Critical(&'static str),
    #[error("the {0} extension is not the DER of a canonical UUID")]
    Value(&'static str),
}

impl ProfileError {
    /// A fixed word for logs and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "certificate_missing",
            Self::Malformed => "certificate_malformed",
            Self::Version => "certificate_version",
            Self::Serial => "certificate_serial",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::Expired => "certificate_expired",
            Self::Root => "root_not_valid",
            Self::IsCa => "certificate_is_ca",
            Self::MaySign => "certificate_may_sign",
            Self::NotForClients => "certificate_not_for_clients",
            Self::Extensions => "certificate_extensions",
            Self::Key(_) => "certificate_weak_key",
            Self::Missing(_) => "identity_missing",
            Self::Critical(_) => "identity_critical",
            Self::Value(_) => "identity_malformed",
        }
    }
}

/// Reads the identity out of a client certificate, or tells why it has none.
///
/// `root` is the DER of the CA root that the chain ends in. The signature was verified by rustls and is not verified here.
pub fn check_client_certificate(
    der: &[u8],
    root: &[u8],
    now: OffsetDateTime,
    arc: &ExtensionArc,
) -> Result<PeerIdentity, ProfileError> {
    let certificate = parse_certificate(der)?;
    check_dates(&certificate.validity, now)?;
    check_root(root, now)?;
    check_client_leaf(&certificate, arc)
}

/// The dates of a root at `now`.
pub(crate) fn check_root(root: &[u8], now: OffsetDateTime) -> Result<(), ProfileError> {
    let root = parse_certificate(root).map_err(|_| ProfileError::Root)?;
    check_dates(&root.validity, now).map_err(|_| ProfileError::Root)
}

/// Everything about a leaf but its dates.
pub(crate) fn check_client_leaf(
    certificate: &X509Certificate<'_>,
    arc: &ExtensionArc,
) -> Result<PeerIdentity, ProfileError> {
    if certificate.version != X509Version::V3 {
        return Err(ProfileError::Version);
    }
    let serial = check_serial(certificate.raw_serial())?;
    check_parsed_key(&certificate.subject_pki)?;
    check_not_ca(certificate)?;
    let usage = extended_key_usage(certificate)?;
    if !usage.is_some_and(|usage| usage.client_auth) {
        return Err(ProfileError::NotForClients);
    }
    let grant = identity(certificate, arc.grant(), "grant")?;
    let subject = identity(certificate, arc.subject(), "subject")?;
    Ok(PeerIdentity { grant: GrantId(grant), subject: UserId(subject), serial })
}

/// Parses one certificate and nothing behind it.
pub(crate) fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, ProfileError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(ProfileError::Malformed),
    }
}

/// RFC 5280 4.1.2.2: positive, at most 20 octets; DER: no octet too many.
pub(crate) fn check_serial(raw: &[u8]) -> Result<Serial, ProfileError> {
    let minimal = match raw {
        [] => false,
        [first, ..] if *first >= 0x80 => false,
        [0, second, ..] => *second >= 0x80,
        _ => true,
    };
    if !minimal || raw.len() > Serial::MAX_BYTES {
        return Err(ProfileError::Serial);
    }
    Serial::from_bytes(raw).ok_or(ProfileError::Serial)
}

/// RFC 5280 4.1.2.5: both ends belong to the period.
fn check_dates(validity: &Validity, now: OffsetDateTime) -> Result<(), ProfileError> {
    if now < validity.not_before.to_datetime() {
        return Err(ProfileError::NotYetValid);
    }
    if now > validity.not_after.to_datetime() {
        return Err(ProfileError::Expired);
    }
    Ok(())
}

fn check_not_ca(certificate: &X509Certificate<'_>) -> Result<(), ProfileError> {
    match unique(certificate, &OID_X509_EXT_BASIC_CONSTRAINTS)?.map(|extension| extension.parsed_extension()) {
        // Absent means FALSE (RFC 5280 4.2.1.9).
        None => {}
        Some(ParsedExtension::BasicConstraints(constraints)) if !constraints.ca => {}
        Some(ParsedExtension::BasicConstraints(_)) => return Err(ProfileError::IsCa),
        Some(_) => return Err(ProfileError::Extensions),
    }
    match unique(certificate, &OID_X509_EXT_KEY_USAGE)?.map(|extension| extension.parsed_extension()) {
        None => Ok(()),
        Some(ParsedExtension::KeyUsage(usage)) if !usage.key_cert_sign() && !usage.crl_sign() => Ok(()),
        Some(ParsedExtension::KeyUsage(_)) => Err(ProfileError::MaySign),
        Some(_) => Err(ProfileError::Extensions),
    }
}

/// The extended key usage, which must not occur twice.
pub(crate) fn extended_key_usage<'a>(
    certificate: &'a X509Certificate<'_>,
) -> Result<Option<&'a ExtendedKeyUsage<'a>>, ProfileError> {
    match unique(certificate, &OID_X509_EXT_EXTENDED_KEY_USAGE)?.map(|extension| extension.parsed_extension()) {
        None => Ok(None),
        Some(ParsedExtension::ExtendedKeyUsage(usage)) => Ok(Some(usage)),
        Some(_) => Err(ProfileError::Extensions),
    }
}

fn identity(
    certificate: &X509Certificate<'_>,
    extension: &IdentityExtension,
    name: &'static str,
) -> Result<Uuid, ProfileError> {
    let found = unique(certificate, &extension.oid)?.ok_or(ProfileError::Missing(name))?;
    if found.critical {
        return Err(ProfileError::Critical(name));
    }
    decode_identity(found.value).ok_or(ProfileError::Value(name))
}

fn unique<'a, 'b>(
    certificate: &'a X509Certificate<'b>,
    oid: &x509_parser::der_parser::oid::Oid<'_>,
) -> Result<Option<&'a X509Extension<'b>>, ProfileError> {
    certificate.get_extension_unique(oid).map_err(|_| ProfileError::Extensions)
}
