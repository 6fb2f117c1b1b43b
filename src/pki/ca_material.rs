//! A root certificate with its key, and what is signed with them. No storage, no clock, no async.

use aws_lc_rs::rand;
use mosaic_actors::domain::identity::{Serial, SiteName};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::authority::{CaError, ClientRequest, Crl, IssuedCertificate, ServerIdentity};
use super::ca_store::Revocation;
use super::extension_arc::{ExtensionArc, encode_identity};
use super::pem::to_hex;
use super::profile::parse_certificate;

mod import;
#[cfg(test)]
mod tests;

/// How long a root is valid: every asker pins it, and replacing it means enrolling again.
pub const ROOT_LIFETIME: Duration = Duration::days(3650);

/// How far before its making a root or server certificate begins: askers verify it by their own clocks.
pub const BACKDATE: Duration = Duration::minutes(5);

/// How far before what was asked a client certificate begins: the site's replicas verify it, each by its own clock.
pub const CLIENT_BACKDATE: Duration = Duration::minutes(1);

/// Random bytes of a serial number; the CA/Browser Forum asks for at least 8, RFC 5280 allows 20.
const SERIAL_BYTES: usize = 16;

/// Most names in a server certificate.
const SERVER_NAMES_LIMIT: usize = 64;

/// A root that can sign.
pub struct CaMaterial {
    certificate: Vec<u8>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    key_id: KeyIdMethod,
    issuer: Issuer<'static, KeyPair>,
}

impl CaMaterial {
    /// Makes a new P-256 root. Its name ends in random digits: two sites' roots must not share a name, or a verifier that
    /// knows both could pick the wrong one.
    pub fn generate(site: &SiteName, now: OffsetDateTime) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("Mosaic {site} CA {}", to_hex(&random::<4>()?)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(new_serial()?);
        params.not_before = whole_second(now - BACKDATE);
        params.not_after = whole_second(now + ROOT_LIFETIME);
        let certificate = params.self_signed(&key).map_err(unusable)?;
        Self::new(certificate.der().to_vec(), key)
    }

    /// A root from the DER of its certificate and its PKCS#8 key, which were checked when they were stored.
    pub fn from_stored(certificate: Vec<u8>, pkcs8: &[u8]) -> Result<Self, CaError> {
        let key = KeyPair::try_from(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8))).map_err(unusable)?;
        Self::new(certificate, key)
    }

    fn new(certificate: Vec<u8>, key: KeyPair) -> Result<Self, CaError> {
        let (not_before, not_after, key_id) = {
            let parsed = parse_certificate(&certificate).map_err(unusable)?;
            if parsed.public_key().raw != key.subject_public_key_info() {
                return Err(CaError::Unusable("the key does not belong to the certificate".into()));
            }
            let validity = &parsed.validity;
            (validity.not_before.to_datetime(), validity.not_after.to_datetime(), import::key_identifier(&parsed))
        };
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(certificate.as_slice()), key).map_err(unusable)?;
        Ok(Self { certificate, not_before, not_after, key_id, issuer })
    }

    /// DER of the root.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// PKCS#8 DER of the key, for sealing.
    #[must_use]
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.issuer.key().serialize_der())
    }

    /// Signs a client certificate: both identity extensions, EKU clientAuth, CA:FALSE, no distribution point.
    pub fn issue(&self, request: &ClientRequest, arc: &ExtensionArc) -> Result<IssuedCertificate, CaError> {
        // Backdated against clocks that are behind, but never to before the root: a chain must hold from its first moment on.
        let not_before = whole_second(request.not_before - CLIENT_BACKDATE).max(self.not_before);
        let not_after = whole_second(request.not_after);
        // Of what is certified, not of what was asked: whole seconds, and never before the root.
        if not_after <= whole_second(request.not_before).max(not_before) {
            return Err(CaError::Refused("its life would end before it starts".into()));
        }
        if not_after > self.not_after {
            return Err(CaError::Refused("it would outlive the root".into()));
        }
        let public_key = SubjectPublicKeyInfo::from_der(&request.public_key).map_err(refused)?;
        let mut params = leaf(request.peer.as_str(), ExtendedKeyUsagePurpose::ClientAuth)?;
        params.not_before = not_before;
        params.not_after = not_after;
        params.custom_extensions = vec![
            CustomExtension::from_oid_content(&arc.grant().numbers, encode_identity(request.grant.0)),
            CustomExtension::from_oid_content(&arc.subject().numbers, encode_identity(request.subject.0)),
        ];
        let serial = serial_of(&params)?;
        let certificate = params.signed_by(&public_key, &self.issuer).map_err(refused)?;
        Ok(IssuedCertificate {
            certificate: certificate.der().to_vec(),
            chain: vec![self.certificate.clone()],
            serial,
            not_before,
            not_after,
        })
    }

    /// Makes a P-256 key and signs a server certificate for DNS names and IP addresses. It never outlives the root.
    pub fn issue_server(
        &self,
        names: &[String],
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<ServerIdentity, CaError> {
        let first = names.first().ok_or_else(|| CaError::Refused("a server certificate needs a name".into()))?;
        if names.len() > SERVER_NAMES_LIMIT {
            return Err(CaError::Refused(format!("more than {SERVER_NAMES_LIMIT} names").into()));
        }
        let mut params = leaf(first, ExtendedKeyUsagePurpose::ServerAuth)?;
        params.subject_alt_names = CertificateParams::new(names.to_vec()).map_err(refused)?.subject_alt_names;
        params.not_before = whole_second(now - BACKDATE).max(self.not_before);
        params.not_after = whole_second(now + lifetime).min(self.not_after);
        if params.not_after <= whole_second(now).max(params.not_before) {
            return Err(CaError::Refused("its life would end before it starts".into()));
        }
        let key = KeyPair::generate().map_err(unusable)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(refused)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().to_vec(), self.certificate.clone()],
            key: Zeroizing::new(key.serialize_der()),
            not_before: params.not_before,
            not_after: params.not_after,
        })
    }

    /// Signs a revocation list that holds for `lifetime` from `now` on.
    pub fn sign_crl(
        &self,
        number: u64,
        revocations: &[Revocation],
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<Crl, CaError> {
        let this_update = whole_second(now);
        let next_update = this_update + lifetime;
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revocations.iter().map(revoked).collect(),
            key_identifier_method: self.key_id.clone(),
        };
        let list = params.signed_by(&self.issuer).map_err(unusable)?;
        Ok(Crl { der: list.der().to_vec(), number, this_update, next_update })
    }
}

/// What client and server certificates share.
fn leaf(common_name: &str, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.serial_number = Some(new_serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn revoked(revocation: &Revocation) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(revocation.serial.as_bytes()),
        revocation_time: whole_second(revocation.revoked_at),
        reason_code: None,
        invalidity_date: None,
    }
}

fn name(common_name: &str) -> DistinguishedName {
    /// RFC 5280 appendix A: upper bound of a common name.
    const COMMON_NAME_CHARS: usize = 64;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name.chars().take(COMMON_NAME_CHARS).collect::<String>());
    name
}

/// A random serial number of always the same length: positive, and without leading zeros.
fn new_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = random::<SERIAL_BYTES>()?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn serial_of(params: &CertificateParams) -> Result<Serial, CaError> {
    params
        .serial_number
        .as_ref()
        .and_then(|serial| Serial::from_bytes(serial.as_ref()))
        .ok_or_else(|| CaError::Refused("it has no serial number".into()))
}

fn random<const N: usize>() -> Result<[u8; N], CaError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| CaError::Unavailable("the system gives no random bytes".into()))?;
    Ok(bytes)
}

/// X.509 times have no fractions.
fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).expect("invariant: zero is a valid nanosecond")
}

fn unusable(error: impl std::fmt::Display) -> CaError {
    CaError::Unusable(error.to_string().into())
}

fn refused(error: impl std::fmt::Display) -> CaError {
    CaError::Refused(error.to_string().into())
}
