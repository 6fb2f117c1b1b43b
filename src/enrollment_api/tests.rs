//! Enrolment on real parts: database, embedded CA, the listener's TLS, and the client that redeems invites.

use std::net::TcpListener;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer};
use mosaic_actors::audit_writer::{self, AuditLimits};
use mosaic_actors::domain::fault::FaultKind;
use mosaic_actors::domain::grant::{GrantChange, GrantStatus};
use mosaic_actors::domain::identity::{GrantId, LinkId};
use mosaic_actors::grant_cache;
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::grant_store::GrantStore;
use time::OffsetDateTime;

use super::*;
use crate::clock::SystemClock;
use crate::http::identify;
use crate::peer_http::{Enrolled, EnrollmentClient, PeerLimits};
use crate::pki::authority::{CaError, ClientRequest, Crl, IssuedCertificate, ServerIdentity};
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::pki::invite::Invite;
use crate::postgres::audit::{AuditQuery, AuditRecord};
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::grants::tests::{Site, by};
use crate::secrets::{MasterSecret, Token, sha256};
use crate::tls::{SwappableIdentity, TlsVersions, enrollment_server_config};

/// An owner whose enrolment listener is up.
struct Owner {
    site: Site,
    ca: Arc<dyn CertificateAuthority>,
    port: u16,
    server: ServerHandle,
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

async fn owner() -> Owner {
    owner_with(|ca| ca).await
}

/// The CA that signs may be another than the one that made the server's certificate.
async fn owner_with(signer: impl FnOnce(Arc<dyn CertificateAuthority>) -> Arc<dyn CertificateAuthority>) -> Owner {
    let site = Site::new().await;
    let pool = site.database.pool();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let name = SiteName::parse("work").unwrap();
    let sealer = MasterSecret::generate().unwrap().sealer();
    let store = Arc::new(SqlCaStore::new(pool.clone()));
    let ca: Arc<dyn CertificateAuthority> = Arc::new(
        EmbeddedCa::open_or_create(store, &sealer, &name, CaOptions::default(), Arc::clone(&clock)).await.unwrap(),
    );
    let (gate, identity) = (ClientGate::new(), SwappableIdentity::new());
    gate.update(&ca.root(), &ca.crl().await.unwrap().der).unwrap();
    let names = vec!["localhost".to_owned()];
    identity.replace(&ca.issue_server(names, clock.now(), time::Duration::days(1)).await.unwrap()).unwrap();
    let services = web::Data::new(Services {
        site: name,
        enrollments: site.enrollments.clone(),
        ca: signer(Arc::clone(&ca)),
        arc: ExtensionArc::default(),
        gate,
        grants: grant_cache::start(Arc::clone(&clock)),
        audit: audit_writer::start(Arc::new(site.audit.clone()), AuditLimits::default()),
        clock,
        failures: Failures::new(5, 100),
        limits: EnrollmentLimits {
            grant_visible: Duration::from_millis(50),
            ..EnrollmentLimits::from(&Limits::default())
        },
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = HttpServer::new(move || App::new().wrap(from_fn(identify)).configure(configure(services.clone())))
        .workers(1)
        .disable_signals()
        .listen_rustls_0_23(listener, enrollment_server_config(&identity, TlsVersions::Only13))
        .unwrap()
        .run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Owner { site, ca, port, server: handle }
}

impl Owner {
    /// A pending grant and its invite.
    async fn invite(&self) -> (GrantId, Invite) {
        let grant = self.site.grant().await.id;
        (grant, self.invite_to(grant).await)
    }

    async fn invite_to(&self, grant: GrantId) -> Invite {
        let token = Token::generate(Token::ENROLL);
        let (hash, lifetime) = (Token::hash(token.expose()), Duration::from_secs(900));
        let expires_at = self.site.enrollments.create(grant, &hash, lifetime, &by()).await.unwrap().unwrap();
        let url: url::Url = format!("https://localhost:{}", self.port).parse().unwrap();
        Invite {
            site: SiteName::parse("work").unwrap(),
            enroll_url: url.clone(),
            federation_url: url,
            ca_sha256: sha256(&self.ca.root()),
            token,
            expires_at,
        }
    }

    async fn redeem(&self, invite: &Invite) -> Result<Enrolled, FaultKind> {
        client().enroll(invite, true).await.map_err(|fault| {
            assert!(fault.message.is_some(), "a person is told what to do: {fault:?}");
            fault.kind
        })
    }

    async fn status(&self, grant: GrantId) -> GrantStatus {
        self.site.grants.get(grant).await.unwrap().unwrap().status
    }

    /// The enrolment events, newest first.
    async fn events(&self) -> Vec<AuditRecord> {
        let query = AuditQuery { action: Some("enroll".into()), limit: 50, ..AuditQuery::default() };
        self.site.audit.query(&query).await.unwrap()
    }
}

fn client() -> EnrollmentClient {
    EnrollmentClient::new(Arc::new(SystemClock), PeerLimits::default())
}

#[actix_web::test]
async fn an_invite_is_redeemed_for_a_certificate_on_an_active_grant() {
    let owner = owner().await;
    let (grant, invite) = owner.invite().await;
    let enrolled = owner.redeem(&invite).await.unwrap_or_else(|kind| panic!("{kind:?}"));
    assert_eq!((enrolled.grant, enrolled.subject), (grant, owner.site.ada.id));
    assert_eq!(enrolled.pinned_root, owner.ca.root());
    assert_eq!(owner.status(grant).await, GrantStatus::Active);
    let loaded = owner.site.grants.load(grant).await.unwrap().unwrap();
    assert!(loaded.accepts(&enrolled.serial, SystemClock.now()), "the certificate is on record");
    let events = owner.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].outcome.as_str(), events[0].grant), ("allowed", Some(grant)));
    assert_eq!(events[0].serial.as_deref(), Some(enrolled.serial.as_bytes()));
    let sealer = MasterSecret::generate().unwrap().sealer();
    let credentials = enrolled.credentials(LinkId::new(), &sealer);
    assert_eq!(credentials.serial, enrolled.serial);
}

#[actix_web::test]
async fn a_second_redemption_is_gone_and_leaves_the_first_alone() {
    let owner = owner().await;
    let (grant, invite) = owner.invite().await;
    owner.redeem(&invite).await.unwrap_or_else(|kind| panic!("{kind:?}"));
    assert_eq!(owner.redeem(&invite).await.err(), Some(FaultKind::Gone));
    assert_eq!(owner.site.grants.get(grant).await.unwrap().unwrap().certificates.len(), 1);
    let failed = &owner.events().await[0];
    assert_eq!((failed.outcome.as_str(), failed.reason.as_deref()), ("denied", Some("token_used")));
    assert_eq!((failed.grant, failed.subject, &failed.peer), (None, None, &None), "failed attempts name nobody");
}

#[actix_web::test]
async fn voided_unknown_and_revoked_invites_are_told_apart() {
    let owner = owner().await;
    let (grant, first) = owner.invite().await;
    let second = owner.invite_to(grant).await;
    assert_eq!(owner.redeem(&first).await.err(), Some(FaultKind::Gone));
    let unknown = Invite { token: Token::generate(Token::ENROLL), ..second.clone() };
    assert_eq!(owner.redeem(&unknown).await.err(), Some(FaultKind::NotFound));
    owner.site.grants.change(grant, GrantChange::Revoke, &by()).await.unwrap();
    assert_eq!(owner.redeem(&second).await.err(), Some(FaultKind::Gone));
    assert_eq!(owner.status(grant).await, GrantStatus::Revoked);
}

#[actix_web::test]
async fn of_many_who_redeem_one_invite_at_once_one_succeeds() {
    let owner = owner().await;
    let (grant, invite) = owner.invite().await;
    let all = futures_util::future::join_all((0..4).map(|_| owner.redeem(&invite))).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1);
    assert_eq!(owner.site.grants.get(grant).await.unwrap().unwrap().certificates.len(), 1);
}

#[actix_web::test]
async fn the_sixth_failure_of_an_address_is_429_even_with_a_good_invite() {
    let owner = owner().await;
    let (grant, invite) = owner.invite().await;
    let unknown = Invite { token: Token::generate(Token::ENROLL), ..invite.clone() };
    for _ in 0..5 {
        assert_eq!(owner.redeem(&unknown).await.err(), Some(FaultKind::NotFound));
    }
    let fault = client().enroll(&invite, true).await.err().unwrap();
    assert_eq!(fault.kind, FaultKind::RateLimited);
    assert!(fault.retry_after.is_some_and(|wait| wait <= Duration::from_secs(60) && wait > Duration::from_secs(30)));
    assert_eq!(owner.events().await.len(), 5);
    assert_eq!(owner.status(grant).await, GrantStatus::Pending);
}

#[actix_web::test]
async fn a_server_that_is_not_the_one_the_invite_names_gets_no_token() {
    let (owner, other) = (owner().await, owner().await);
    let (_, invite) = owner.invite().await;
    let misled = Invite { enroll_url: format!("https://localhost:{}", other.port).parse().unwrap(), ..invite.clone() };
    assert_eq!(owner.redeem(&misled).await.err(), Some(FaultKind::Unreachable));
    assert_eq!(other.events().await.len(), 0, "the token was never shown to it");
    assert!(owner.redeem(&invite).await.is_ok(), "and is not spent");
}

#[actix_web::test]
async fn an_expired_invite_and_a_private_address_are_refused_without_asking() {
    let owner = owner().await;
    let (_, invite) = owner.invite().await;
    let late = Invite { expires_at: SystemClock.now() - time::Duration::seconds(1), ..invite.clone() };
    assert_eq!(owner.redeem(&late).await.err(), Some(FaultKind::Gone));
    assert_eq!(client().enroll(&invite, false).await.err().map(|fault| fault.kind), Some(FaultKind::Unreachable));
    assert_eq!(owner.events().await.len(), 0);
}

/// A CA that signs for other people than it is told to, as a wrong template would.
struct MistakenCa {
    ca: Arc<dyn CertificateAuthority>,
    change: fn(&mut ClientRequest),
}

impl CertificateAuthority for MistakenCa {
    fn issue(&self, mut request: ClientRequest) -> PortFuture<Result<IssuedCertificate, CaError>> {
        (self.change)(&mut request);
        self.ca.issue(request)
    }

    fn issue_server(
        &self,
        names: Vec<String>,
        now: OffsetDateTime,
        lifetime: time::Duration,
    ) -> PortFuture<Result<ServerIdentity, CaError>> {
        self.ca.issue_server(names, now, lifetime)
    }

    fn revoke(
        &self,
        serial: mosaic_actors::domain::identity::Serial,
        not_after: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortFuture<Result<Crl, CaError>> {
        self.ca.revoke(serial, not_after, now)
    }

    fn crl(&self) -> PortFuture<Result<Crl, CaError>> {
        self.ca.crl()
    }

    fn root(&self) -> Vec<u8> {
        self.ca.root()
    }
}

#[actix_web::test]
async fn a_certificate_that_is_not_what_was_asked_for_is_never_handed_out() {
    let changes: [fn(&mut ClientRequest); 2] =
        [|request| request.grant = GrantId::new(), |request| request.not_after += time::Duration::days(400)];
    for change in changes {
        let owner = owner_with(|ca| Arc::new(MistakenCa { ca, change })).await;
        let (grant, invite) = owner.invite().await;
        assert!(owner.redeem(&invite).await.is_err());
        assert_eq!(owner.status(grant).await, GrantStatus::Pending);
        let failed = &owner.events().await[0];
        assert_eq!((failed.outcome.as_str(), failed.reason.as_deref()), ("failed", Some("issued_mismatch")));
        let list = owner.ca.crl().await.unwrap();
        assert_eq!(crate::pki::crl::revoked_serials(&list.der).unwrap().len(), 1, "what was signed is taken back");
    }
}

/// A bare request to the listener.
async fn ask(request: reqwest::RequestBuilder) -> (u16, String, Vec<u8>) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let header = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    (status, header.unwrap_or_default(), response.bytes().await.unwrap().to_vec())
}

fn http(owner: &Owner) -> (reqwest::Client, String) {
    let (config, _) = crate::tls::enroll_client_config(sha256(&owner.ca.root()));
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
    (client, format!("https://localhost:{}/api/federation/v1", owner.port))
}

#[actix_web::test]
async fn the_listener_serves_the_crl_and_nothing_else() {
    let owner = owner().await;
    let (client, base) = http(&owner);
    let crl = ask(client.get(format!("{base}/crl"))).await;
    assert_eq!((crl.0, crl.1.as_str()), (200, "application/pkix-crl"));
    assert_eq!(
        crate::pki::crl::verify_crl(&crl.2, &owner.ca.root()).unwrap().number,
        owner.ca.crl().await.unwrap().number
    );
    for path in ["capabilities", "list/tasks", "renew", ""] {
        let (status, _, body) = ask(client.get(format!("{base}/{path}"))).await;
        assert_eq!(status, 404, "{path}");
        assert!(String::from_utf8(body).unwrap().contains("\"request_id\""));
    }
    assert_eq!(ask(client.get(format!("{base}/enroll"))).await.0, 405);
}

#[actix_web::test]
async fn a_malformed_request_does_not_spend_the_token_but_a_bad_csr_does() {
    let owner = owner().await;
    let (grant, invite) = owner.invite().await;
    let (client, base) = http(&owner);
    let post = |body: &'static str| client.post(format!("{base}/enroll")).bearer_auth(invite.token.expose()).body(body);
    for (body, status) in [("", 400), ("{}", 400), (r#"{"csr":"x","name":"y"}"#, 400)] {
        assert_eq!(ask(post(body)).await.0, status, "{body}");
    }
    assert_eq!(ask(client.post(format!("{base}/enroll")).body("{}")).await.0, 401);
    assert_eq!(ask(post(r#"{"csr":"nonsense"}"#)).await.0, 400);
    let reasons: Vec<_> = owner.events().await.into_iter().map(|event| event.reason.unwrap()).collect();
    assert_eq!(reasons, ["csr_refused", "token_missing", "invalid_request", "invalid_request", "invalid_request"]);
    assert_eq!(owner.status(grant).await, GrantStatus::Pending);
    let again = owner.invite_to(grant).await;
    assert_eq!(owner.redeem(&again).await.err(), Some(FaultKind::RateLimited), "five failures of this address");
}
