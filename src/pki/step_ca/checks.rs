//! What comes from step-ca, compared with what was asked and with the pinned root. No network, no clock.

use std::net::IpAddr;
use std::ops::Range;

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::error::StepCaError;
use crate::pki::authority::IssuedCertificate;
use crate::pki::issued::Mismatch;
use crate::pki::profile::{ProfileError, check_serial, extended_key_usage, parse_certificate};

/// Most intermediates that are kept.
const INTERMEDIATES_LIMIT: usize = 8;
/// How much earlier than asked a certificate may begin and end; as for client certificates.
const LIFETIME_SLACK: Duration = Duration::minutes(5);
/// Most names of a request that are looked at.
const NAMES_LIMIT: usize = 64;

/// Those of `offered` that may sign certificates and that `root` signed, valid at `now`.
pub(super) fn intermediates_of(root: &[u8], offered: Vec<Vec<u8>>, now: OffsetDateTime) -> Vec<Vec<u8>> {
    offered.into_iter().take(INTERMEDIATES_LIMIT).filter(|der| der != root && is_signed_by(der, root, now)).collect()
}

fn is_signed_by(der: &[u8], root: &[u8], now: OffsetDateTime) -> bool {
    let (Ok(certificate), Ok(issuer)) = (parse_certificate(der), openssl::x509::X509::from_der(root)) else {
        return false;
    };
    let may_sign = matches!(certificate.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca);
    let (Ok(verified), Ok(key)) = (openssl::x509::X509::from_der(der), issuer.public_key()) else { return false };
    let validity = &certificate.validity;
    may_sign
        && issuer.issued(&verified) == openssl::x509::X509VerifyResult::OK
        && verified.verify(&key).unwrap_or(false)
        && (validity.not_before.to_datetime()..validity.not_after.to_datetime()).contains(&now)
}

/// Until when a certificate can last: the first end among the issuers. An intermediate that is about to be replaced lets
/// only short ones through, which is what is wanted.
pub(super) fn last_end(issuers: &[Vec<u8>]) -> Result<OffsetDateTime, StepCaError> {
    let ends = issuers.iter().map(|der| parse_certificate(der).map(|parsed| parsed.validity.not_after.to_datetime()));
    let ends = ends.collect::<Result<Vec<_>, _>>().map_err(|_| StepCaError::Malformed("an issuer"))?;
    ends.into_iter().min().ok_or(StepCaError::Malformed("no issuer"))
}

/// The names in a certificate request. None of them is certified; but step-ca refuses a request whose names the token does not
/// list, and an asker's request may hold any.
pub(super) fn names_in_request(csr: &[u8]) -> Option<Vec<String>> {
    let (_, request) = X509CertificationRequest::from_der(csr).ok()?;
    let mut names = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension {
            names.extend(alternatives.general_names.iter().filter_map(name));
        }
    }
    if names.is_empty() {
        let common = request.certification_request_info.subject.iter_common_name().filter_map(|cn| cn.as_str().ok());
        names.extend(common.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    names.truncate(NAMES_LIMIT);
    Some(names)
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// A server certificate is for this key, these names and this time, valid at `now`, and leads to the root at the end of its chain.
pub(super) fn check_server(
    issued: &IssuedCertificate,
    names: &[String],
    public_key: &[u8],
    asked: &Range<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<(), Mismatch> {
    let certificate = parse_certificate(&issued.certificate)?;
    check_serial(certificate.raw_serial())?;
    if certificate.public_key().raw != public_key {
        return Err(Mismatch::PublicKey);
    }
    if !extended_key_usage(&certificate)?.is_some_and(|usage| usage.server_auth && !usage.client_auth) {
        // What clients may use too would be a second way in.
        return Err(Mismatch::Profile(ProfileError::Extensions));
    }
    let begins = asked.start - LIFETIME_SLACK..=asked.start;
    let ends = asked.end - LIFETIME_SLACK..=asked.end;
    if !begins.contains(&issued.not_before) || !ends.contains(&issued.not_after) || issued.not_after <= now {
        return Err(Mismatch::Lifetime);
    }
    check_server_chain(issued, names, now)
}

fn check_server_chain(issued: &IssuedCertificate, names: &[String], now: OffsetDateTime) -> Result<(), Mismatch> {
    let (root, between) = issued.chain.split_last().ok_or(Mismatch::Chain)?;
    let root = CertificateDer::from(root.as_slice());
    let anchor = webpki::anchor_from_trusted_cert(&root).map_err(|_| Mismatch::Chain)?;
    let leaf = CertificateDer::from(issued.certificate.as_slice());
    let leaf = webpki::EndEntityCert::try_from(&leaf).map_err(|_| Mismatch::Chain)?;
    let between: Vec<_> = between.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let at = u64::try_from(now.unix_timestamp()).map_err(|_| Mismatch::Lifetime)?;
    leaf.verify_for_usage(
        crate::tls::provider().signature_verification_algorithms.all,
        &[anchor],
        &between,
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(at)),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )
    .map_err(|_| Mismatch::Chain)?;
    for name in names {
        let name = ServerName::try_from(name.as_str()).map_err(|_| Mismatch::Subject)?;
        leaf.verify_is_valid_for_subject_name(&name).map_err(|_| Mismatch::Subject)?;
    }
    Ok(())
}
