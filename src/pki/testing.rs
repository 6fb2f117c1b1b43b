//! Real certificates for tests, made by the same code as in production.

use mosaic_actors::domain::identity::{GrantId, SiteName, UserId};
use mosaic_actors::ports::clock::Clock;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::authority::{ClientRequest, IssuedCertificate};
use super::ca_material::CaMaterial;
use super::csr::{NewKey, new_key_and_csr};
use super::extension_arc::ExtensionArc;

pub(crate) fn now() -> OffsetDateTime {
    crate::clock::SystemClock.now()
}

pub(crate) fn site(name: &str) -> SiteName {
    SiteName::parse(name).unwrap()
}

pub(crate) fn ca(name: &str) -> CaMaterial {
    CaMaterial::generate(&site(name), now()).unwrap()
}

pub(crate) fn request_for(key: &NewKey) -> ClientRequest {
    ClientRequest {
        public_key: key.public_key.clone(),
        csr_pem: key.csr_pem.clone(),
        grant: GrantId::new(),
        subject: UserId::new(),
        peer: site("home"),
        not_before: now(),
        not_after: now() + Duration::hours(24),
    }
}

/// A client certificate with its key and what was asked.
pub(crate) struct TestClient {
    pub(crate) request: ClientRequest,
    pub(crate) issued: IssuedCertificate,
    pub(crate) key: Zeroizing<Vec<u8>>,
}

pub(crate) fn client(ca: &CaMaterial) -> TestClient {
    let key = new_key_and_csr().unwrap();
    let request = request_for(&key);
    let issued = ca.issue(&request, &ExtensionArc::default()).unwrap();
    TestClient { request, issued, key: key.pkcs8 }
}
