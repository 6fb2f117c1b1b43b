use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::Duration;

use super::now;

/// Names of the identity extensions under the default arc.
pub(crate) const GRANT_OID: [u64; 8] = [1, 3, 6, 1, 4, 1, 99_999, 1];
pub(crate) const SUBJECT_OID: [u64; 8] = [1, 3, 6, 1, 4, 1, 99_999, 2];

/// A root whose key the test holds: a node that was set up with it takes whatever this signs as its own CA's.
pub(crate) struct Authority {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let key_pem = key.serialize_pem();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::days(30);
        let certificate = params.self_signed(&key).expect("a root");
        let root = certificate.der().clone();
        let issuer = Issuer::from_ca_cert_der(&root, key).expect("an issuer");
        Self { certificate_pem: certificate.pem(), key_pem, root, issuer }
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    pub(crate) fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer).expect("a certificate").der().clone()
    }
}

/// What the node itself would ask for: every part can be bent before it is signed.
pub(crate) fn client_certificate(grant: &str, subject: &str, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "home");
    params.not_before = now() - Duration::minutes(5);
    params.not_after = now() + Duration::hours(1);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.custom_extensions =
        vec![grant_extension(&identity_value(grant)), subject_extension(&identity_value(subject))];
    params
}

/// DER UTF8String of a text below 128 bytes.
pub(crate) fn identity_value(text: &str) -> Vec<u8> {
    tagged(0x0c, text.as_bytes())
}

/// DER of a value below 128 bytes under any tag.
pub(crate) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut value = vec![tag, u8::try_from(content.len()).expect("a short value")];
    value.extend_from_slice(content);
    value
}

pub(crate) fn grant_extension(value: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&GRANT_OID, value.to_vec())
}

pub(crate) fn subject_extension(value: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&SUBJECT_OID, value.to_vec())
}
