use mosaic_actors::ports::grant_store::GrantStore as _;

use super::*;
use crate::pki::ca_material::CaMaterial;
use crate::pki::csr::new_key_and_csr;
use crate::pki::testing::ca;
use crate::postgres::grants::tests::{Site, issued};

/// Far more than an event takes.
const EVENT_WITHIN: Duration = Duration::from_secs(30);

/// An authority that signs for other people than it is told to, or for longer, as a wrong template would.
struct MistakenCa {
    ca: CaMaterial,
    change: fn(&mut ClientRequest),
    issued: Mutex<Vec<Serial>>,
    revoked: Mutex<Vec<Serial>>,
}

impl CertificateAuthority for MistakenCa {
    fn issue(&self, mut request: ClientRequest) -> PortFuture<Result<IssuedCertificate, CaError>> {
        (self.change)(&mut request);
        let issued = self.ca.issue(&request, &ExtensionArc::default());
        self.issued.lock().unwrap().extend(issued.iter().map(|issued| issued.serial.clone()));
        Box::pin(std::future::ready(issued))
    }

    fn issue_server(
        &self,
        _: Vec<String>,
        _: OffsetDateTime,
        _: time::Duration,
    ) -> PortFuture<Result<ServerIdentity, CaError>> {
        unsigned()
    }

    fn revoke(&self, serial: Serial, _: OffsetDateTime, _: OffsetDateTime) -> PortFuture<Result<Crl, CaError>> {
        self.revoked.lock().unwrap().push(serial);
        unsigned()
    }

    fn crl(&self) -> PortFuture<Result<Crl, CaError>> {
        unsigned()
    }

    fn root(&self) -> Vec<u8> {
        self.ca.certificate().to_vec()
    }
}

#[actix_web::test]
async fn a_renewed_certificate_that_is_not_what_was_asked_for_is_never_handed_out() {
    let changes: [fn(&mut ClientRequest); 3] = [
        |request| request.grant = GrantId::new(),
        |request| request.subject = UserId::new(),
        |request| request.not_after += time::Duration::days(400),
    ];
    for change in changes {
        let site = Site::new().await;
        let id = site.active_grant(7).await;
        let grant = site.grants.load(id).await.unwrap().unwrap();
        let limits = RenewalLimits { overlap: Duration::from_secs(600), per_hour: 60 };
        let store = Renewals::new(site.database.pool(), AuditKeys::testing(), limits);
        let mistaken =
            Arc::new(MistakenCa { ca: ca("work"), change, issued: Mutex::default(), revoked: Mutex::default() });
        let owner = Owner::renewing(grant, AuditMode::Strict, store, Arc::clone(&mistaken) as _);

        let csr = new_key_and_csr().unwrap().csr_pem;
        let told = owner.post("/api/federation/v1/renew", &json!({ "csr": csr }).to_string()).await;
        assert_eq!(told.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", told.body);
        let written = async {
            while owner.log.events.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(EVENT_WITHIN, written).await.expect("the event is written");
        let made = mistaken.issued.lock().unwrap().clone();
        assert_eq!((made.len(), mistaken.revoked.lock().unwrap().clone()), (1, made), "it is taken back");
        assert_eq!(owner.event(), ("renew".to_owned(), AuditOutcome::Failed, Some("issued_mismatch"), 0));
        let record = site.grants.get(id).await.unwrap().unwrap();
        assert_eq!(record.certificates.iter().map(|c| c.serial.clone()).collect::<Vec<_>>(), [issued(7).serial]);
    }
}
