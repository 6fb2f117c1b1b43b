use std::sync::Arc;

use base64::Engine;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use super::api::{Answer, answer};
use super::wire::{self, Wire};

/// A holder of a grant who speaks to the owner's listeners by hand: the tests' own client, not the product's.
pub(crate) struct Asker {
    pub(crate) federation_url: String,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) root: CertificateDer<'static>,
    /// Between the certificate and the root: shown in handshakes, as the owner's listener may know the root only.
    between: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    http: reqwest::Client,
}

/// The JSON inside an invite.
pub(crate) fn open_invite(invite: &str) -> Value {
    let encoded = invite.strip_prefix("mosaic-invite:").expect("an invite");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON in the invite")
}

/// An HTTPS client of the enrolment listener. It trusts any server: that the product does not is another test.
fn careless_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(careless_tls())
        .build()
        .expect("a client")
}

pub(crate) fn careless_tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
        .with_no_client_auth()
}

/// A fresh P-256 key and its CSR.
pub(crate) fn new_csr() -> (KeyPair, String) {
    let key = KeyPair::generate().expect("a key");
    let csr = csr_of(&key);
    (key, csr)
}

/// The CSR of a key.
pub(crate) fn csr_of(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).expect("a CSR").pem().expect("PEM")
}

/// Sends a CSR with a token to the owner's enrolment listener.
pub(crate) async fn enroll(enroll_url: &str, token: &str, csr: &str) -> Answer {
    let url = format!("{}/api/federation/v1/enroll", enroll_url.trim_end_matches('/'));
    let request = careless_client().post(url).bearer_auth(token).header("content-type", "application/json");
    answer(request.body(json!({ "csr": csr }).to_string()).send().await.expect("the enrolment listener answers")).await
}

/// As [`enroll`], from a node that may die before it answers.
pub(crate) async fn try_to_enroll(enroll_url: &str, token: &str, csr: &str) -> Option<Answer> {
    let url = format!("{}/api/federation/v1/enroll", enroll_url.trim_end_matches('/'));
    let request = careless_client().post(url).bearer_auth(token).header("content-type", "application/json");
    Some(answer(request.body(json!({ "csr": csr }).to_string()).send().await.ok()?).await)
}

/// Asks the enrolment listener for the revocation list.
pub(crate) async fn fetch_crl(enroll_url: &str) -> Answer {
    let url = format!("{}/api/federation/v1/crl", enroll_url.trim_end_matches('/'));
    answer(careless_client().get(url).send().await.expect("the enrolment listener answers")).await
}

impl Asker {
    /// Enrols with an invite as anybody could.
    pub(crate) async fn enroll(invite: &str) -> Self {
        let invite = open_invite(invite);
        let text = |key: &str| invite[key].as_str().expect("a text in the invite").to_owned();
        let (key, csr) = new_csr();
        let enrolled = enroll(&text("enroll_url"), &text("token"), &csr).await.expect(200);
        let certificate = pem(&enrolled["certificate"]);
        let mut between: Vec<_> = enrolled["chain"].as_array().expect("a chain").iter().map(pem).collect();
        let root = between.pop().expect("a chain that ends in the root");
        Self::with_chain(text("federation_url"), certificate, between, root, key.serialize_der())
    }

    /// A client with this certificate and key, which trusts `root`.
    pub(crate) fn with(
        federation_url: String,
        certificate: CertificateDer<'static>,
        root: CertificateDer<'static>,
        key: Vec<u8>,
    ) -> Self {
        Self::with_chain(federation_url, certificate, Vec::new(), root, key)
    }

    fn with_chain(
        federation_url: String,
        certificate: CertificateDer<'static>,
        between: Vec<CertificateDer<'static>>,
        root: CertificateDer<'static>,
        key: Vec<u8>,
    ) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(
                std::iter::once(certificate.clone()).chain(between.iter().cloned()).collect(),
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone())),
            )
            .expect("key and certificate match");
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("a client");
        let federation_url = federation_url.trim_end_matches('/').to_owned();
        Self { federation_url, certificate, root, between, key, http }
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    /// A client that trusts `root` and shows nothing.
    pub(crate) fn without_certificate(federation_url: String, root: CertificateDer<'static>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("a client");
        let (certificate, between, key) = (CertificateDer::from(Vec::new()), Vec::new(), Vec::new());
        Self { federation_url, certificate, root, between, key, http }
    }

    /// One connection of this certificate, kept open.
    pub(crate) async fn wire(&self) -> Wire {
        self.try_wire().await.expect("a handshake")
    }

    /// The same, where the handshake may fail.
    pub(crate) async fn try_wire(&self) -> std::io::Result<Wire> {
        let address = self.federation_url.strip_prefix("https://").expect("an https URL");
        let chain = std::iter::once(&self.certificate).chain(&self.between).cloned().collect();
        Wire::open(address, wire::client_tls_with_chain(chain, &self.key)).await
    }

    /// The same certificate at another replica.
    pub(crate) fn at(&self, address: &str) -> Self {
        let (url, between) = (format!("https://{address}"), self.between.clone());
        Self::with_chain(url, self.certificate.clone(), between, self.root.clone(), self.key.clone())
    }

    /// The same certificate over new connections.
    pub(crate) fn reconnected(&self) -> Self {
        let (url, between) = (self.federation_url.clone(), self.between.clone());
        Self::with_chain(url, self.certificate.clone(), between, self.root.clone(), self.key.clone())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(self.url(path)).send().await.expect("the federation listener answers")).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.try_post(path, body.to_string()).await.expect("the federation listener answers")
    }

    /// The answer, or that the connection was refused or broken.
    pub(crate) async fn try_post(&self, path: &str, body: String) -> Result<Answer, reqwest::Error> {
        let request = self.http.post(self.url(path)).header("content-type", "application/json").body(body);
        Ok(answer(request.send().await?).await)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/federation/v1/{path}", self.federation_url)
    }
}

fn pem(value: &Value) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(value.as_str().expect("a PEM text").as_bytes()).expect("a certificate in PEM")
}

/// Verifies no server: that the product does is another test.
#[derive(Debug)]
pub(crate) struct TrustAnyone(pub(crate) Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
