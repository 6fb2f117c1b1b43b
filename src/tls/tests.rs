//! Real handshakes, in memory: bytes go from one rustls connection to the other until both are done or one refuses.

use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion,
    ServerConfig, ServerConnection,
};
use rustls_pki_types::ServerName;
use time::Duration;

use super::*;
use crate::pki::ca_material::CaMaterial;
use crate::pki::ca_store::Revocation;
use crate::pki::embedded_ca::DEFAULT_CRL_LIFETIME;
use crate::pki::profile::{ExtensionArc, ProfileError};
use crate::pki::testing::{TestClient, ca, client, now};
use crate::secrets::sha256;
use crate::tls::client_gate::GateError;
use crate::tls::peer_connection::PeerConnection;

/// One site's owner side.
struct Owner {
    ca: CaMaterial,
    gate: ClientGate,
    identity: SwappableIdentity,
}

fn owner() -> Owner {
    let owner = closed_owner();
    owner.load(1, &[], now());
    owner
}

/// Without a revocation list.
fn closed_owner() -> Owner {
    let ca = ca("work");
    let identity = SwappableIdentity::new();
    identity.replace(&ca.issue_server(&["localhost".into()], now(), Duration::days(1)).unwrap()).unwrap();
    Owner { ca, gate: ClientGate::new(), identity }
}

impl Owner {
    fn load(&self, number: u64, revoked: &[&TestClient], at: time::OffsetDateTime) {
        let revocations: Vec<_> = revoked
            .iter()
            .map(|client| Revocation {
                serial: client.issued.serial.clone(),
                revoked_at: at,
                not_after: client.issued.not_after,
            })
            .collect();
        let crl = self.ca.sign_crl(number, &revocations, at, DEFAULT_CRL_LIFETIME).unwrap();
        assert!(self.gate.update(self.ca.certificate(), &crl.der).unwrap());
    }

    fn federation(&self) -> Arc<ServerConfig> {
        Arc::new(federation_server_config(&self.gate, &self.identity, TlsVersions::Only13))
    }

    fn enrollment(&self) -> Arc<ServerConfig> {
        Arc::new(enrollment_server_config(&self.identity, TlsVersions::Only13))
    }

    fn link(&self, client: &TestClient) -> Arc<ClientConfig> {
        let chain = [client.issued.certificate.clone(), self.ca.certificate().to_vec()];
        Arc::new(peer_client_config(self.ca.certificate(), &chain, &client.key).unwrap())
    }
}

#[derive(Debug)]
struct Done {
    client: ClientConnection,
    server: ServerConnection,
}

/// Both ends' errors; an end that only saw the other's alert has that.
#[derive(Debug)]
struct Refused {
    client: Option<Error>,
    server: Option<Error>,
}

fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Done, Box<Refused>> {
    handshake_as("localhost", client, server)
}

fn handshake_as(
    name: &'static str,
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<Done, Box<Refused>> {
    let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server_error = server_error.or(feed(&mut bytes, |bytes| {
            server.read_tls(bytes).unwrap();
            server.process_new_packets().map(|_| ())
        }));
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client_error = client_error.or(feed(&mut bytes, |bytes| {
            client.read_tls(bytes).unwrap();
            client.process_new_packets().map(|_| ())
        }));
    }
    if client_error.is_some() || server_error.is_some() {
        return Err(Box::new(Refused { client: client_error, server: server_error }));
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Done { client, server })
}

fn feed(bytes: &mut Vec<u8>, mut read: impl FnMut(&mut &[u8]) -> Result<(), Error>) -> Option<Error> {
    let mut rest = bytes.as_slice();
    let mut error = None;
    while !rest.is_empty() && error.is_none() {
        error = read(&mut rest).err();
    }
    bytes.clear();
    error
}

fn server_error(result: Result<Done, Box<Refused>>) -> Error {
    result.unwrap_err().server.unwrap()
}

#[test]
fn a_link_and_its_owner_shake_hands_with_tls_1_3_and_http_1_1() {
    let owner = owner();
    let client = client(&owner.ca);
    let done = handshake(&owner.link(&client), &owner.federation()).unwrap();
    assert_eq!(done.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(done.server.alpn_protocol(), Some(&b"http/1.1"[..]));
    let presented = done.server.peer_certificates().unwrap();
    assert_eq!(presented.len(), 1, "the root is not sent");
    let connection = PeerConnection::of_certificate(
        Some(&presented[0]),
        owner.ca.certificate(),
        now(),
        &ExtensionArc::default(),
        None,
    );
    let identity = connection.identity.unwrap();
    assert_eq!((identity.grant, identity.subject), (client.request.grant, client.request.subject));
    assert_eq!(connection.serial, Some(client.issued.serial));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let owner = owner();
    let (anonymous, _) = enroll_client_config(sha256(owner.ca.certificate()));
    assert_eq!(server_error(handshake(&Arc::new(anonymous), &owner.federation())), Error::NoCertificatesPresented);
}

#[test]
fn a_client_of_another_ca_is_refused_also_under_the_same_site_name() {
    let (owner, other) = (owner(), ca("work"));
    let client = client(&other);
    let error = server_error(handshake(&owner.link(&client), &owner.federation()));
    assert_eq!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer));
}

#[test]
fn a_server_certificate_is_no_client_certificate() {
    let owner = owner();
    let server = owner.ca.issue_server(&["localhost".into()], now(), Duration::days(1)).unwrap();
    let config = peer_client_config(owner.ca.certificate(), &server.chain, &server.key).unwrap();
    let error = server_error(handshake(&Arc::new(config), &owner.federation()));
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. })), "{error:?}");
}

#[test]
fn an_expired_client_certificate_is_refused() {
    let owner = owner();
    let mut expired = client(&owner.ca);
    // Within the life of its root, which began five minutes ago; else its dates would be the wrong way round, another error.
    expired.request.not_before = now() - Duration::minutes(3);
    expired.request.not_after = now() - Duration::minutes(1);
    expired.issued = owner.ca.issue(&expired.request, &ExtensionArc::default()).unwrap();
    let error = server_error(handshake(&owner.link(&expired), &owner.federation()));
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error:?}");
}

#[test]
fn a_gate_that_nothing_was_loaded_into_refuses_everyone() {
    let owner = closed_owner();
    assert!(!owner.gate.is_open());
    let link = owner.link(&client(&owner.ca));
    let error = server_error(handshake(&link, &owner.federation()));
    assert_eq!(error, Error::InvalidCertificate(CertificateError::UnknownRevocationStatus));
    let federation = owner.federation();
    owner.load(1, &[], now());
    assert!(owner.gate.is_open());
    assert!(handshake(&link, &federation).is_ok(), "the same configuration opens");
}

#[test]
fn a_revoked_certificate_is_refused_from_the_next_list_on() {
    let owner = owner();
    let (revoked, other) = (client(&owner.ca), client(&owner.ca));
    let federation = owner.federation();
    assert!(handshake(&owner.link(&revoked), &federation).is_ok());
    owner.load(2, &[&revoked], now());
    let refused = handshake(&owner.link(&revoked), &federation).unwrap_err();
    assert_eq!(refused.server, Some(Error::InvalidCertificate(CertificateError::Revoked)));
    assert_eq!(refused.client, Some(Error::AlertReceived(AlertDescription::CertificateRevoked)));
    assert!(handshake(&owner.link(&other), &federation).is_ok());
}

#[test]
fn a_stale_list_refuses_everyone_and_revoked_beats_stale() {
    let owner = closed_owner();
    let (revoked, other) = (client(&owner.ca), client(&owner.ca));
    owner.load(1, &[&revoked], now() - DEFAULT_CRL_LIFETIME - Duration::minutes(1));
    let error = server_error(handshake(&owner.link(&other), &owner.federation()));
    assert!(
        matches!(error, Error::InvalidCertificate(CertificateError::ExpiredRevocationListContext { .. })),
        "{error:?}"
    );
    let error = server_error(handshake(&owner.link(&revoked), &owner.federation()));
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
}

#[test]
fn an_older_forged_or_contradicting_list_is_not_taken_and_the_last_good_one_stays() {
    let owner = owner();
    let revoked = client(&owner.ca);
    owner.load(5, &[&revoked], now());
    let root = owner.ca.certificate();
    let good = owner.gate.crl().unwrap();

    let older = owner.ca.sign_crl(4, &[], now(), DEFAULT_CRL_LIFETIME).unwrap();
    assert!(matches!(owner.gate.update(root, &older.der), Err(GateError::Older { offered: 4, loaded: 5 })));
    let same_number = owner.ca.sign_crl(5, &[], now() + Duration::seconds(5), DEFAULT_CRL_LIFETIME).unwrap();
    assert!(matches!(owner.gate.update(root, &same_number.der), Err(GateError::Conflict(5))));
    let foreign = ca("work").sign_crl(6, &[], now(), DEFAULT_CRL_LIFETIME).unwrap();
    assert!(matches!(owner.gate.update(root, &foreign.der), Err(GateError::Crl(_))));
    assert!(matches!(owner.gate.update(root, b"nonsense"), Err(GateError::Crl(_))));
    let of_another_name = list_of_another_name(&owner.ca, 6);
    assert!(
        matches!(owner.gate.update(root, &of_another_name), Err(GateError::Crl(_))),
        "an authority is key and name"
    );
    assert!(!owner.gate.update(root, &good.der).unwrap(), "the same list is no change");

    assert_eq!(owner.gate.crl(), Some(good));
    let error = server_error(handshake(&owner.link(&revoked), &owner.federation()));
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
}

/// Signed with the key of `ca`, in the name of another authority.
fn list_of_another_name(ca: &CaMaterial, number: u64) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::try_from(ca.key_pkcs8().as_slice()).unwrap());
    let list = rcgen::CertificateRevocationListParams {
        this_update: now(),
        next_update: now() + DEFAULT_CRL_LIFETIME,
        crl_number: rcgen::SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().der().to_vec()
}

#[test]
fn nothing_is_resumed_even_by_a_client_that_wants_to() {
    let owner = owner();
    let client = client(&owner.ca);
    for (versions, version) in
        [(TlsVersions::Only13, ProtocolVersion::TLSv1_3), (TlsVersions::From12, ProtocolVersion::TLSv1_2)]
    {
        let federation = Arc::new(federation_server_config(&owner.gate, &owner.identity, versions));
        let mut eager = resuming_config(&owner, &client, version);
        eager.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(16)));
        let eager = Arc::new(eager);
        for _ in 0..3 {
            let done = handshake(&eager, &federation).unwrap();
            assert_eq!(done.server.protocol_version(), Some(version));
            assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(done.client.tls13_tickets_received(), 0);
        }
    }
}

/// Under TLS 1.2 the client's certificate would cross the network readable.
#[test]
fn a_link_speaks_no_tls_1_2() {
    let owner = owner();
    let client = client(&owner.ca);
    let old =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let old = old.with_no_client_auth().with_cert_resolver(Arc::new(owner.identity.clone()));
    let (enrolling, _) = enroll_client_config(sha256(owner.ca.certificate()));
    let old = Arc::new(old);
    for config in [owner.link(&client), Arc::new(enrolling)] {
        assert!(handshake(&config, &old).is_err());
    }
    let others = Arc::new(resuming_config(&owner, &client, ProtocolVersion::TLSv1_2));
    assert!(handshake(&others, &old).is_ok(), "it is a server that works");
}

/// A resumed session would skip the check of the peer's certificate, as it would the client's.
#[test]
fn a_link_resumes_nothing_even_at_an_owner_that_offers_it() {
    let owner = owner();
    let client = client(&owner.ca);
    let mut offering = (*owner.federation()).clone();
    offering.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    offering.send_tls13_tickets = 2;
    let (offering, link) = (Arc::new(offering), owner.link(&client));
    for _ in 0..3 {
        let done = handshake(&link, &offering).unwrap();
        assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full));
    }
    let eager = Arc::new(resuming_config(&owner, &client, ProtocolVersion::TLSv1_3));
    handshake(&eager, &offering).unwrap();
    let resumed = handshake(&eager, &offering).unwrap();
    assert_eq!(resumed.client.handshake_kind(), Some(HandshakeKind::Resumed), "others would");
}

/// A client as somebody else would write it: it keeps sessions, and speaks the one version it is told to.
fn resuming_config(owner: &Owner, client: &TestClient, version: ProtocolVersion) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(owner.ca.certificate().to_vec().into()).unwrap();
    let version = if version == ProtocolVersion::TLSv1_2 { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![client.issued.certificate.clone().into()],
            rustls_pki_types::PrivatePkcs8KeyDer::from(client.key.to_vec()).into(),
        )
        .unwrap()
}

#[test]
fn tls_1_2_is_taken_only_when_configured() {
    let owner = owner();
    let old = Arc::new(resuming_config(&owner, &client(&owner.ca), ProtocolVersion::TLSv1_2));
    assert!(matches!(server_error(handshake(&old, &owner.federation())), Error::PeerIncompatible(_)));
    let lenient = Arc::new(federation_server_config(&owner.gate, &owner.identity, TlsVersions::From12));
    assert!(handshake(&old, &lenient).is_ok());
}

#[test]
fn a_client_that_speaks_only_h2_is_refused() {
    let owner = owner();
    let mut config = resuming_config(&owner, &client(&owner.ca), ProtocolVersion::TLSv1_3);
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(server_error(handshake(&Arc::new(config), &owner.federation())), Error::NoApplicationProtocol);
}

#[test]
fn no_ca_names_are_told_to_a_stranger() {
    use rustls::server::danger::ClientCertVerifier;
    let owner = owner();
    assert!(owner.gate.root_hint_subjects().is_empty());
    assert!(owner.gate.client_auth_mandatory());
}

#[test]
fn an_enrolment_finds_the_root_behind_its_fingerprint() {
    let owner = owner();
    let (config, found) = enroll_client_config(sha256(owner.ca.certificate()));
    assert_eq!(found.get(), None);
    let done = handshake(&Arc::new(config), &owner.enrollment()).unwrap();
    assert!(done.server.peer_certificates().is_none());
    assert_eq!(found.get(), Some(owner.ca.certificate().to_vec()));
}

#[test]
fn an_enrolment_refuses_a_server_of_another_root_or_name() {
    let (owner, other) = (owner(), ca("work"));
    let (config, found) = enroll_client_config(sha256(other.certificate()));
    let refused = handshake(&Arc::new(config), &owner.enrollment()).unwrap_err();
    assert_eq!(refused.client, Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)));
    assert_eq!(found.get(), None);

    // The pinned root is presented, but somebody else signed the leaf.
    let mut mixed = other.issue_server(&["localhost".into()], now(), Duration::days(1)).unwrap();
    mixed.chain[1] = owner.ca.certificate().to_vec();
    owner.identity.replace(&mixed).unwrap();
    let (config, found) = enroll_client_config(sha256(owner.ca.certificate()));
    assert!(handshake(&Arc::new(config), &owner.enrollment()).unwrap_err().client.is_some());
    assert_eq!(found.get(), None);

    let named = owner.ca.issue_server(&["elsewhere.example".into()], now(), Duration::days(1)).unwrap();
    owner.identity.replace(&named).unwrap();
    let (config, found) = enroll_client_config(sha256(owner.ca.certificate()));
    let refused = handshake(&Arc::new(config), &owner.enrollment()).unwrap_err();
    assert!(matches!(refused.client, Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))));
    assert_eq!(found.get(), None);
}

#[test]
fn a_server_is_known_by_its_address_too() {
    let owner = owner();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    owner.identity.replace(&owner.ca.issue_server(&names, now(), Duration::days(1)).unwrap()).unwrap();
    let link = owner.link(&client(&owner.ca));
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(handshake_as(name, &link, &owner.federation()).is_ok(), "{name}");
    }
}

#[test]
fn a_link_trusts_its_pinned_root_only() {
    let (owner, imposter) = (owner(), owner());
    let client = client(&owner.ca);
    let refused = handshake(&owner.link(&client), &imposter.federation()).unwrap_err();
    assert_eq!(refused.client, Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)));
    let refused = handshake_as("127.0.0.1", &owner.link(&client), &owner.federation()).unwrap_err();
    assert!(matches!(refused.client, Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))));
}

#[test]
fn a_client_certificate_is_no_server_certificate() {
    let owner = owner();
    let client = client(&owner.ca);
    owner
        .identity
        .replace(&crate::pki::authority::ServerIdentity {
            chain: vec![client.issued.certificate.clone(), owner.ca.certificate().to_vec()],
            key: client.key.clone(),
            not_before: client.issued.not_before,
            not_after: client.issued.not_after,
        })
        .unwrap();
    let refused = handshake(&owner.link(&client), &owner.federation()).unwrap_err();
    assert!(matches!(refused.client, Some(Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. }))));
}

/// webpki takes a certificate without any extended key usage for any use.
#[test]
fn a_server_certificate_that_names_no_use_is_refused() {
    let owner = owner();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = now() - Duration::hours(1);
    params.not_after = now() + Duration::hours(1);
    let ca_key = rcgen::KeyPair::try_from(owner.ca.key_pkcs8().as_slice()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&owner.ca.certificate().into(), ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap().der().to_vec();
    owner
        .identity
        .replace(&crate::pki::authority::ServerIdentity {
            chain: vec![leaf, owner.ca.certificate().to_vec()],
            key: zeroize::Zeroizing::new(key.serialize_der()),
            not_before: params.not_before,
            not_after: params.not_after,
        })
        .unwrap();
    let refused = handshake(&owner.link(&client(&owner.ca)), &owner.federation()).unwrap_err();
    assert_eq!(refused.client, Some(Error::InvalidCertificate(CertificateError::InvalidPurpose)));
}

/// A trust anchor is a name and a key to webpki, whatever its dates say.
#[test]
fn a_server_whose_root_is_over_is_refused() {
    let shake_hands = |ca: &CaMaterial| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::hours(1);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let ca_key = rcgen::KeyPair::try_from(ca.key_pkcs8().as_slice()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_der(&ca.certificate().into(), ca_key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        let identity = SwappableIdentity::new();
        let shown = crate::pki::authority::ServerIdentity {
            chain: vec![leaf, ca.certificate().to_vec()],
            key: zeroize::Zeroizing::new(key.serialize_der()),
            not_before: params.not_before,
            not_after: params.not_after,
        };
        identity.replace(&shown).unwrap();
        let server = Arc::new(enrollment_server_config(&identity, TlsVersions::Only13));
        let (by_fingerprint, _) = enroll_client_config(sha256(ca.certificate()));
        [authority_client_config(ca.certificate()), by_fingerprint]
            .map(|client| handshake(&Arc::new(client), &server).map(drop).map_err(|refused| refused.client))
    };
    let long_ago = now() - Duration::days(7_500);
    assert!(shake_hands(&ca("work")).iter().all(Result::is_ok));
    let over = CaMaterial::generate(&crate::pki::testing::site("work"), long_ago).unwrap();
    for refused in shake_hands(&over) {
        assert_eq!(refused, Err(Some(Error::InvalidCertificate(CertificateError::UnknownIssuer))));
    }
}

#[test]
fn a_server_certificate_is_swapped_under_a_running_configuration() {
    let owner = owner();
    let client = client(&owner.ca);
    let (link, federation) = (owner.link(&client), owner.federation());
    let before = handshake(&link, &federation).unwrap();
    let next = owner.ca.issue_server(&["localhost".into()], now(), Duration::days(2)).unwrap();
    owner.identity.replace(&next).unwrap();
    let after = handshake(&link, &federation).unwrap();
    let leaf = |done: &Done| done.client.peer_certificates().unwrap()[0].to_vec();
    assert_ne!(leaf(&before), leaf(&after));
    assert_eq!(leaf(&after), next.chain[0]);
    assert_eq!(owner.identity.not_after(), Some(next.not_after));
    assert!(!owner.identity.is_due(now()));
    assert!(owner.identity.is_due(next.renew_at()));
    assert!(SwappableIdentity::new().is_due(now()));
}

#[test]
fn a_key_of_another_certificate_is_not_presented() {
    let owner = owner();
    let (one, other) = (client(&owner.ca), client(&owner.ca));
    let mut mixed = owner.ca.issue_server(&["localhost".into()], now(), Duration::days(1)).unwrap();
    let before = owner.identity.not_after();
    mixed.key = one.key.clone();
    assert!(owner.identity.replace(&mixed).is_err());
    assert_eq!(owner.identity.not_after(), before);
    assert!(peer_client_config(owner.ca.certificate(), &[one.issued.certificate], &other.key).is_err());
}

#[test]
fn a_connection_without_a_profile_keeps_its_serial_for_the_audit() {
    let owner = owner();
    let server = owner.ca.issue_server(&["localhost".into()], now(), Duration::days(1)).unwrap();
    let arc = ExtensionArc::default();
    let of = |der: Option<&[u8]>| PeerConnection::of_certificate(der, owner.ca.certificate(), now(), &arc, None);
    let connection = of(Some(&server.chain[0]));
    assert_eq!(connection.identity, Err(ProfileError::NotForClients));
    assert!(connection.serial.is_some());
    assert_eq!(of(None).identity, Err(ProfileError::NoCertificate));
}
