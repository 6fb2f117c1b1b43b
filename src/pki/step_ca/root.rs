//! The authority's root: found by its fingerprint, before anything of the authority can be trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::api::Api;
use super::config::StepCaConfig;
use super::error::StepCaError;
use crate::pki::pem::{PEM_BYTES_LIMIT, certificate_from_pem, to_hex};
use crate::secrets::sha256;

/// DER of the root: from its file, else from the authority. Its fingerprint decides, wherever it comes from.
pub(super) async fn find(config: &StepCaConfig) -> Result<Vec<u8>, StepCaError> {
    if let Some(path) = &config.root_file {
        return read(path, &config.root_sha256);
    }
    let sha256_hex = to_hex(&config.root_sha256);
    let root = Api::new(config.url.clone(), unverified()?, config.timeout)?.root(&sha256_hex).await?;
    if sha256(&root) == config.root_sha256 { Ok(root) } else { Err(StepCaError::RootUnknown(sha256_hex.into())) }
}

/// DER of the root from its file.
pub(super) fn read(path: &Path, root_sha256: &[u8; 32]) -> Result<Vec<u8>, StepCaError> {
    let text = std::fs::metadata(path)
        .ok()
        .filter(|metadata| metadata.len() <= PEM_BYTES_LIMIT as u64)
        .and_then(|_| std::fs::read_to_string(path).ok());
    text.and_then(|text| certificate_from_pem(&text).ok())
        .filter(|der| sha256(der) == *root_sha256)
        .ok_or_else(|| StepCaError::RootFile(path.to_owned()))
}

/// TLS to a server that proves nothing. Only for fetching what a hash proves; nothing secret is sent over it.
fn unverified() -> Result<ClientConfig, StepCaError> {
    let config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| StepCaError::Config(error.to_string().into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crate::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
