//! A real listener on loopback, a real HTTP client, real certificates.

use std::net::TcpListener;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rustls::ClientConfig;
use time::Duration;

use super::*;
use crate::clock::SystemClock;
use crate::pki::ca_material::CaMaterial;
use crate::pki::ca_store::Revocation;
use crate::pki::testing::{TestClient, ca, client, now};
use crate::tls::{
    ClientGate, SwappableIdentity, TlsVersions, enroll_client_config, federation_server_config, peer_client_config,
};

struct Listener {
    ca: CaMaterial,
    gate: ClientGate,
    address: SocketAddr,
    handle: actix_web::dev::ServerHandle,
}

impl Listener {
    fn start() -> Self {
        let ca = ca("work");
        let (gate, identity) = (ClientGate::new(), SwappableIdentity::new());
        identity.replace(&ca.issue_server(&["localhost".into()], now(), Duration::days(1)).unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = federation_server_config(&gate, &identity, TlsVersions::Only13);
        let server = HttpServer::new(|| App::new().route("/who", web::get().to(who)))
            .on_connect(on_connect(ExtensionArc::default(), ca.certificate().to_vec(), Arc::new(SystemClock)))
            .workers(1)
            .disable_signals()
            .listen_rustls_0_23(listener, config)
            .unwrap()
            .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let listener = Self { ca, gate, address, handle };
        listener.load_crl(1, &[]);
        listener
    }

    fn load_crl(&self, number: u64, revoked: &[&TestClient]) {
        let revocations: Vec<_> = revoked
            .iter()
            .map(|client| Revocation {
                serial: client.issued.serial.clone(),
                revoked_at: now(),
                not_after: client.issued.not_after,
            })
            .collect();
        let crl = self.ca.sign_crl(number, &revocations, now(), Duration::hours(24)).unwrap();
        self.gate.update(self.ca.certificate(), &crl.der).unwrap();
    }

    fn link(&self, client: &TestClient) -> reqwest::Client {
        let chain = [client.issued.certificate.clone()];
        self.http(peer_client_config(self.ca.certificate(), &chain, &client.key).unwrap())
    }

    fn http(&self, tls: ClientConfig) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .resolve("localhost", self.address)
            .build()
            .unwrap()
    }

    async fn ask(&self, http: &reqwest::Client) -> reqwest::Result<String> {
        http.get(format!("https://localhost:{}/who", self.address.port())).send().await?.text().await
    }
}

/// Says what the connection knows.
async fn who(request: HttpRequest) -> HttpResponse {
    let connection = request.conn_data::<PeerConnection>().unwrap();
    assert_eq!(connection.remote.unwrap(), request.peer_addr().unwrap());
    match &connection.identity {
        Ok(identity) => HttpResponse::Ok().body(format!("{} {}", identity.grant, identity.subject)),
        Err(error) => HttpResponse::Unauthorized().body(error.as_str()),
    }
}

#[actix_web::test]
async fn a_handler_sees_the_identity_of_its_connection() {
    let listener = Listener::start();
    let client = client(&listener.ca);
    let http = listener.link(&client);
    let expected = format!("{} {}", client.request.grant, client.request.subject);
    assert_eq!(listener.ask(&http).await.unwrap(), expected);
    assert_eq!(listener.ask(&http).await.unwrap(), expected, "keep-alive");
    listener.handle.stop(false).await;
}

#[actix_web::test]
async fn a_certificate_without_identities_reaches_the_handler_with_its_reason() {
    let listener = Listener::start();
    let mut client = client(&listener.ca);
    let other_arc = ExtensionArc::parse("1.3.6.1.4.1.4711").unwrap();
    client.issued = listener.ca.issue(&client.request, &other_arc).unwrap();
    assert_eq!(listener.ask(&listener.link(&client)).await.unwrap(), "identity_missing");
    listener.handle.stop(false).await;
}

#[actix_web::test]
async fn no_handler_runs_for_a_stranger_or_a_revoked_certificate() {
    let listener = Listener::start();
    let (stranger, revoked) = (client(&ca("work")), client(&listener.ca));
    let (anonymous, _) = enroll_client_config(crate::secrets::sha256(listener.ca.certificate()));
    assert!(listener.ask(&listener.http(anonymous)).await.is_err());
    assert!(listener.ask(&listener.link(&stranger)).await.is_err());
    assert!(listener.ask(&listener.link(&revoked)).await.is_ok());
    listener.load_crl(2, &[&revoked]);
    assert!(listener.ask(&listener.link(&revoked)).await.is_err());
    listener.handle.stop(false).await;
}
