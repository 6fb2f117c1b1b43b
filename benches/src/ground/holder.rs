use std::sync::Arc;

use base64::Engine;
use mosaic::pki::pem::certificate_from_pem;
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{Node, unlimited};
use crate::driver::{Connection, Target, client_tls};

/// Who holds a grant, and its certificate from the real enrolment.
pub(crate) struct Holder {
    pub(crate) grant: String,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Holder {
    /// Has a grant made at the node, and enrols with its invite.
    pub(crate) async fn enroll(node: &Node, peer: &str, user: &str, scope: Value) -> Self {
        let body = json!({ "peer": peer, "user": user, "scope": scope, "limits": unlimited() });
        let created = node.admin().post("/api/admin/v1/grants", &body).await;
        let token = token_of(created["invite"]["invite"].as_str().expect("an invite"));
        let key = KeyPair::generate().expect("a key");
        let csr = CertificateParams::default().serialize_request(&key).expect("a CSR").pem().expect("PEM");
        let body = json!({ "csr": csr }).to_string();
        let answer = ask_enrollment(
            node,
            &format!(
                "POST /api/federation/v1/enroll HTTP/1.1\r\nhost: work\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
        .await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let certificate = certificate_from_pem(answer["certificate"].as_str().expect("a certificate")).expect("PEM");
        let grant = created["grant"]["id"].as_str().expect("the grant's id").to_owned();
        Self { grant, certificate, key: key.serialize_der() }
    }

    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        client_tls(&self.certificate, &self.key)
    }
}

/// The revocation list as the node publishes it (DER).
pub(crate) async fn revocation_list(node: &Node) -> Vec<u8> {
    ask_enrollment(node, "GET /api/federation/v1/crl HTTP/1.1\r\nhost: work\r\n\r\n").await
}

/// The enrolment listener asks nobody for a certificate; the driver believes any server.
async fn ask_enrollment(node: &Node, request: &str) -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    let nobody = CertificateParams::default().self_signed(&key).expect("a certificate");
    let tls = client_tls(nobody.der(), &key.serialize_der());
    let target = Target { address: node.enrollment(), tls: Some(tls), request: bytes::Bytes::from(request.to_owned()) };
    let mut connection = Connection::open(&target).await.expect("a connection");
    let answer = connection.answer(&target.request).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body.to_vec()
}

fn token_of(invite: &str) -> String {
    let encoded = invite.strip_prefix("mosaic-invite:").expect("an invite");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).expect("base64url");
    let document: Value = serde_json::from_slice(&bytes).expect("JSON in the invite");
    document["token"].as_str().expect("a token in the invite").to_owned()
}
