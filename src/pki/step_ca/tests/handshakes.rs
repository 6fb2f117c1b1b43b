//! Both listeners and both kinds of askers, with certificates of real authorities.

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::pki::profile::check_client_certificate;
use crate::tls::{
    ClientGate, SwappableIdentity, TlsVersions, enroll_client_config, enrollment_server_config,
    federation_server_config, peer_client_config,
};

struct Site {
    ca: StepCa,
    gate: ClientGate,
    identity: SwappableIdentity,
}

impl Site {
    async fn new(server: &TestStepCa) -> Self {
        let ca = open(server.config()).await;
        let identity = SwappableIdentity::new();
        identity.replace(&ca.issue_server(vec!["localhost".into()], now(), Duration::days(7)).await.unwrap()).unwrap();
        let gate = ClientGate::new();
        let crl = ca.crl().await.unwrap();
        gate.update_by(&ca.root(), &ca.issuers(), &crl.der).unwrap();
        Self { ca, gate, identity }
    }

    fn federation(&self) -> ServerConfig {
        federation_server_config(&self.gate, &self.identity, TlsVersions::Only13)
    }

    /// A certificate of this site, presented to a server under `root`.
    async fn client(&self, root: &[u8]) -> (ClientRequest, ClientConfig) {
        let (key, request) = new_request();
        let issued = self.ca.issue(request.clone()).await.unwrap();
        let chain = [issued.certificate, issued.chain[0].clone()];
        (request, peer_client_config(root, &chain, &key.pkcs8).unwrap())
    }
}

/// What the server knows about the client: the end-entity's DER, if one was asked for.
async fn handshake(client: ClientConfig, server: ServerConfig) -> Result<Option<Vec<u8>>, std::io::Error> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = connector.connect(ServerName::try_from("localhost").unwrap(), near);
    let (connected, accepted) = tokio::join!(connecting, TlsAcceptor::from(Arc::new(server)).accept(far));
    let accepted = accepted?;
    connected?;
    Ok(accepted.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec()))
}

#[tokio::test]
async fn an_asker_finds_the_root_by_its_fingerprint_and_then_meets_the_owner() {
    let work = Site::new(&SHARED).await;
    let (enrol, found) = enroll_client_config(SHARED.config().root_sha256);
    handshake(enrol, enrollment_server_config(&work.identity, TlsVersions::Only13)).await.unwrap();
    assert_eq!(found.get().as_deref(), Some(SHARED.root()));

    let (request, link) = work.client(SHARED.root()).await;
    let presented = handshake(link, work.federation()).await.unwrap().unwrap();
    let identity = check_client_certificate(&presented, SHARED.root(), now(), &arc()).unwrap();
    assert_eq!((identity.grant, identity.subject), (request.grant, request.subject));
    work.ca.revoke(identity.serial, request.not_after, now()).await.unwrap();
}

/// Both authorities have the same names: only their keys tell them apart.
#[tokio::test]
async fn another_site_with_an_authority_of_the_same_name_is_a_stranger() {
    let other = TestStepCa::start("work");
    let (work, stranger) = (Site::new(&SHARED).await, Site::new(&other).await);
    let (_, foreign) = stranger.client(SHARED.root()).await;
    assert!(handshake(foreign, work.federation()).await.is_err(), "a foreign client");
    let (_, own) = work.client(SHARED.root()).await;
    assert!(handshake(own, stranger.federation()).await.is_err(), "a foreign server");
    let (enrol, found) = enroll_client_config(SHARED.config().root_sha256);
    assert!(handshake(enrol, enrollment_server_config(&stranger.identity, TlsVersions::Only13)).await.is_err());
    assert_eq!(found.get(), None);
}
