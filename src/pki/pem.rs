//! PEM (RFC 7468) in and out: certificates and chains as they stand in JSON and in files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};

/// Longest text that is looked at, in bytes: a chain of a few RSA certificates with room to spare.
pub const PEM_BYTES_LIMIT: usize = 64 * 1024;

/// Characters of base64 in a line (RFC 7468 section 2).
const LINE_CHARS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("is longer than {PEM_BYTES_LIMIT} bytes")]
    TooLong,
    #[error("is not well-formed PEM")]
    Shape,
    #[error("holds something else than a {0}")]
    Kind(&'static str),
    #[error("holds no {0}")]
    Missing(&'static str),
    #[error("holds more than one {0}")]
    Several(&'static str),
}

/// The DER of exactly one certificate.
pub fn certificate_from_pem(text: &str) -> Result<Vec<u8>, PemError> {
    one(text, SectionKind::Certificate, "certificate")
}

/// The DER of one or more certificates, in their order.
pub fn certificates_from_pem(text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    all(text, SectionKind::Certificate, "certificate")
}

/// The DER of exactly one certificate signing request (PKCS#10).
pub fn csr_from_pem(text: &str) -> Result<Vec<u8>, PemError> {
    one(text, SectionKind::Csr, "certificate signing request")
}

/// One certificate as PEM text.
#[must_use]
pub fn certificate_to_pem(der: &[u8]) -> String {
    to_pem("CERTIFICATE", der)
}

/// A certificate signing request as PEM text.
#[must_use]
pub fn csr_to_pem(der: &[u8]) -> String {
    to_pem("CERTIFICATE REQUEST", der)
}

/// A chain as it stands in answers: an array of PEM texts, in the order given.
#[must_use]
pub fn chain_to_pem(chain: &[Vec<u8>]) -> Vec<String> {
    chain.iter().map(|der| certificate_to_pem(der)).collect()
}

/// Lower-case hex, as fingerprints are written.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of a certificate's DER in lower-case hex: what an invite pins.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    to_hex(&crate::secrets::sha256(der))
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn one(text: &str, kind: SectionKind, what: &'static str) -> Result<Vec<u8>, PemError> {
    let mut found = all(text, kind, what)?;
    let first = found.pop().ok_or(PemError::Missing(what))?;
    if found.is_empty() { Ok(first) } else { Err(PemError::Several(what)) }
}

fn all(text: &str, kind: SectionKind, what: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    if text.len() > PEM_BYTES_LIMIT {
        return Err(PemError::TooLong);
    }
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (section, der) = section.map_err(|_| PemError::Shape)?;
        if section != kind {
            return Err(PemError::Kind(what));
        }
        found.push(der);
    }
    if found.is_empty() { Err(PemError::Missing(what)) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_survives_being_written_and_read() {
        let chain = vec![vec![7; 100], vec![9; 1], vec![3; 48]];
        let text = chain_to_pem(&chain).concat();
        assert_eq!(certificates_from_pem(&text), Ok(chain.clone()));
        assert_eq!(certificate_from_pem(&text), Err(PemError::Several("certificate")));
        assert_eq!(certificate_from_pem(&certificate_to_pem(&chain[0])), Ok(chain[0].clone()));
    }

    #[test]
    fn only_the_expected_kind_is_taken() {
        let request = csr_to_pem(&[1, 2, 3]);
        assert_eq!(csr_from_pem(&request), Ok(vec![1, 2, 3]));
        assert_eq!(certificate_from_pem(&request), Err(PemError::Kind("certificate")));
        assert_eq!(certificate_from_pem(""), Err(PemError::Missing("certificate")));
        assert_eq!(
            certificate_from_pem("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"),
            Err(PemError::Shape)
        );
        assert_eq!(certificate_from_pem(&" ".repeat(PEM_BYTES_LIMIT + 1)), Err(PemError::TooLong));
    }
}
