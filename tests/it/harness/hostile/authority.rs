use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use time::{Duration, OffsetDateTime};

/// A root of the test's own, which signs whatever it is told to.
pub(crate) struct Authority {
    pub(crate) root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a server certificate says. The default is what an honest site shows.
#[derive(Clone)]
pub(crate) struct Passport {
    pub(crate) names: Vec<String>,
    /// When its life begins and ends, counted from now.
    pub(crate) life: (Duration, Duration),
    pub(crate) usage: ExtendedKeyUsagePurpose,
}

impl Default for Passport {
    fn default() -> Self {
        Self {
            names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            life: (-Duration::minutes(5), Duration::days(1)),
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{name} root {}", uuid::Uuid::new_v4()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = within((-Duration::days(1), Duration::days(30)));
        let root = params.self_signed(&key).expect("a root").der().clone();
        let issuer = Issuer::from_ca_cert_der(&root, key).expect("an issuer");
        Self { root, issuer }
    }

    /// A client certificate for the key of a CSR, as PEM: the ids of grant and subject in the two extensions.
    pub(crate) fn client(&self, csr: &str, grant: &str, subject: &str, life: (Duration, Duration)) -> String {
        let csr = CertificateSigningRequestParams::from_pem(csr).expect("a CSR");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "asker");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = within(life);
        let extension = |last, id: &str| {
            let value = [&[0x0c, 36], id.as_bytes()].concat();
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, last], value)
        };
        params.custom_extensions = vec![extension(1, grant), extension(2, subject)];
        params.signed_by(&csr.public_key, &self.issuer).expect("a client certificate").pem()
    }

    /// TLS as a server with a fresh key and this certificate. With `clients`, only clients of that authority are let in.
    pub(crate) fn server(&self, passport: &Passport, clients: Option<&Self>) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(passport.names.clone()).expect("names");
        params.distinguished_name.push(DnType::CommonName, "a server");
        params.extended_key_usages = vec![passport.usage.clone()];
        (params.not_before, params.not_after) = within(passport.life);
        let leaf = params.signed_by(&key, &self.issuer).expect("a server certificate").der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("protocol versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.root.clone()).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Arc::new(builder.with_single_cert(vec![leaf, self.root.clone()], key).expect("key and certificate match"))
    }
}

fn within((from, to): (Duration, Duration)) -> (OffsetDateTime, OffsetDateTime) {
    #[expect(clippy::disallowed_methods, reason = "the peers of the tests have real clocks")]
    let now = OffsetDateTime::now_utc();
    (now + from, now + to)
}
