//! Taking over a root that an operator made elsewhere.

use mosaic_actors::domain::identity::{GrantId, SiteName, UserId};
use openssl::pkey::{PKey, Private};
use rcgen::KeyIdMethod;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use zeroize::Zeroizing;

use super::{CaMaterial, unusable, whole_second};
use crate::pki::authority::{CaError, ClientRequest};
use crate::pki::csr::new_key_and_csr;
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::issued::check_issued;
use crate::pki::pem::certificate_from_pem;
use crate::pki::profile::check_root;
use crate::pki::public_key::check_parsed_key;

impl CaMaterial {
    /// A root from the PEM of its certificate and of its unencrypted private key. Everything that would only show at the
    /// first enrolment is found out here: a key of another certificate, a certificate that may not sign, an expired one,
    /// a name that cannot be written the same way again.
    pub fn import(certificate_pem: &str, key_pem: &str, now: OffsetDateTime) -> Result<Self, CaError> {
        let certificate =
            certificate_from_pem(certificate_pem).map_err(|error| unusable(format!("the certificate {error}")))?;
        let key = private_key(key_pem)?;
        {
            let parsed = super::parse_certificate(&certificate).map_err(unusable)?;
            check_may_sign(&parsed)?;
            check_parsed_key(parsed.public_key()).map_err(unusable)?;
        }
        check_root(&certificate, now).map_err(unusable)?;
        let material = Self::from_stored(certificate, &key)?;
        material.check_works(now)?;
        Ok(material)
    }

    /// Issues and verifies a certificate that nobody gets.
    fn check_works(&self, now: OffsetDateTime) -> Result<(), CaError> {
        let arc = ExtensionArc::default();
        let key = new_key_and_csr().map_err(unusable)?;
        let request = ClientRequest {
            public_key: key.public_key,
            csr_pem: key.csr_pem,
            grant: GrantId::new(),
            subject: UserId::new(),
            peer: SiteName::parse("probe").map_err(unusable)?,
            not_before: whole_second(now),
            not_after: (whole_second(now) + Duration::minutes(5)).min(self.not_after),
        };
        let issued = self.issue(&request, &arc)?;
        check_issued(&issued, &request, &arc).map_err(|error| unusable(format!("what it signs fails: {error}")))
    }
}

/// The key as unencrypted PKCS#8 DER, from PKCS#8, PKCS#1 or SEC1 in PEM.
fn private_key(pem: &str) -> Result<Zeroizing<Vec<u8>>, CaError> {
    if pem.contains("ENCRYPTED") {
        return Err(unusable("its key is encrypted; decrypt it first: openssl pkey -in KEY -out PLAIN"));
    }
    let key: PKey<Private> = PKey::private_key_from_pem(pem.as_bytes())
        .map_err(|_| unusable("its key is not an unencrypted private key in PEM"))?;
    key.private_key_to_pkcs8().map(Zeroizing::new).map_err(unusable)
}

/// CA:TRUE, and both signing rights where the certificate limits its key's use at all (RFC 5280 4.2.1.3).
fn check_may_sign(certificate: &X509Certificate<'_>) -> Result<(), CaError> {
    let constraints = certificate.basic_constraints().map_err(unusable)?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(unusable("its certificate is not a CA's (basicConstraints CA:TRUE is missing)"));
    }
    let usage = certificate.key_usage().map_err(unusable)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign() || !usage.value.crl_sign()) {
        return Err(unusable("its certificate may not sign both certificates and revocation lists (keyUsage)"));
    }
    Ok(())
}

/// How the root names its key; what it signs must name it the same way.
pub(super) fn key_identifier(certificate: &X509Certificate<'_>) -> KeyIdMethod {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(KeyIdMethod::PreSpecified(id.0.to_vec())),
            _ => None,
        })
        .unwrap_or(KeyIdMethod::Sha256)
}
