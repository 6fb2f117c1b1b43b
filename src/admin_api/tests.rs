use std::sync::Arc;
use std::time::Duration;

use actix_web::App;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web::Data;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{SiteName, UserId};
use mosaic_actors::domain::link::{Link, LinkCredentials};
use mosaic_actors::grant_cache;
use mosaic_actors::peer_registry::{self, PeerRegistryLimits};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::ports::peer_transport::{PeerDialer, PeerTransport};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use super::*;
use crate::clock::SystemClock;
use crate::config::Limits;
use crate::http::identify;
use crate::peer_http::{EnrollmentClient, PeerLimits};
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::pki::invite::Invite;
use crate::postgres::audit::{AuditKeys, AuditStore};
use crate::postgres::authority_feed::{self, AuthorityFeed, FeedLimits, FeedSinks};
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::catalog::{built_in_resources, load_catalog};
use crate::postgres::enrollment::Enrollments;
use crate::postgres::grants::Grants;
use crate::postgres::grants::tests::{enroll_event, issued};
use crate::postgres::links::Links;
use crate::postgres::links::tests::new_link;
use crate::postgres::master_secrets::MasterSecrets;
use crate::postgres::people::People;
use crate::postgres::pool::PoolOptions;
use crate::postgres::rows::{PgLocalRows, QueryCanceller};
use crate::postgres::sessions::Sessions;
use crate::postgres::testing::TestDatabase;
use crate::secrets::{MasterSecret, Token};

mod federation;
mod people;
mod refusals;

/// Links start without dialling anybody.
struct NobodyToDial;

impl PeerDialer for NobodyToDial {
    fn transport(&self, _: &Link) -> Result<Arc<dyn PeerTransport>, Fault> {
        Err(Fault::new(FaultKind::Internal, Stage::Connect))
    }

    fn renew(&self, _: &Link, _: Instant) -> PortFuture<Result<LinkCredentials, Fault>> {
        Box::pin(async { Err(Fault::new(FaultKind::Unreachable, Stage::Connect)) })
    }
}

/// A node's admin side over a real database, CA, cache and feed.
struct Node {
    database: TestDatabase,
    services: Data<Services>,
    token: String,
    _feed: AuthorityFeed,
}

const SITE: &str = "work";

impl Node {
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        let services = Data::new(services(&database).await);
        let token = Token::generate(Token::ADMIN);
        services.sessions.create_admin_token(&Token::hash(token.expose()), "test", None).await.unwrap();
        let (crl, _) = watch::channel(0);
        let sinks = FeedSinks { grants: services.grant_cache.clone(), links: services.registry.clone(), crl };
        let limits = FeedLimits {
            heartbeat: Duration::from_millis(100),
            answer: Duration::from_secs(5),
            reconnect: Duration::from_millis(10),
            reconnect_max: Duration::from_millis(50),
            load: Duration::from_secs(5),
        };
        let feed = authority_feed::start(database.database_url(), PoolOptions::default(), sinks, limits);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        assert!(services.grant_cache.reached(0, deadline).await);
        Self { database, services, token: token.expose().to_owned(), _feed: feed }
    }

    /// Asks as the admin; a body makes it JSON. An empty answer is `null`.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = TestRequest::default()
            .method(method.parse().unwrap())
            .uri(&format!("{BASE_PATH}{path}"))
            .insert_header(("authorization", format!("Bearer {}", self.token)));
        if let Some(body) = body {
            request = request.set_payload(body.to_string());
        }
        self.send(request).await
    }

    async fn send(&self, request: TestRequest) -> (u16, Value) {
        let app = init_service(
            App::new()
                .wrap(actix_web::middleware::from_fn(identify))
                .configure(configure(self.services.clone()))
                .default_service(web::to(crate::http::no_such_path)),
        )
        .await;
        let response = call_service(&app, request.to_request()).await;
        let status = response.status().as_u16();
        let bytes = read_body(response).await;
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.ask("POST", path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {body}");
        body
    }

    /// The refusal's status, code and message.
    async fn refused(&self, method: &str, path: &str, body: Option<Value>) -> (u16, String, String) {
        let (status, body) = self.ask(method, path, body).await;
        let error = &body["error"];
        assert!(error["request_id"].is_string(), "{method} {path}: {status} {body}");
        (status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    async fn ada(&self) -> Value {
        self.post("/users", json!({"name": "ada", "display_name": "Ada L."})).await
    }

    async fn grant(&self) -> Value {
        self.post("/grants", json!({"peer": "home", "user": "ada", "scope": {"resources": ["tasks"]}})).await
    }

    /// Redeems an invite the way the enrolment listener does.
    async fn redeem(&self, created: &Value, serial: u8) {
        let invite = Invite::parse(created["invite"]["invite"].as_str().unwrap()).unwrap();
        let claim = self.services.enrollments.claim(&Token::hash(invite.token.expose())).await.unwrap();
        self.services.enrollments.complete(&claim, &issued(serial), enroll_event(claim.grant)).await.unwrap();
    }

    async fn sql(&self, statement: &str) {
        self.database.connect().await.batch_execute(statement).await.unwrap();
    }
}

async fn services(database: &TestDatabase) -> Services {
    let pool = database.pool();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sealer = MasterSecret::generate().unwrap().sealer();
    let site = SiteName::parse(SITE).unwrap();
    let store = Arc::new(SqlCaStore::new(pool.clone()));
    let authority =
        EmbeddedCa::open_or_create(store, &sealer, &site, CaOptions::default(), Arc::clone(&clock)).await.unwrap();
    let catalog = Arc::new(load_catalog(&database.connect().await, &built_in_resources()).await.unwrap());
    let canceller = QueryCanceller::new(&database.database_url()).unwrap();
    let links = Links::new(pool.clone());
    Services {
        site,
        enroll_url: Url::parse("https://work.example:8644").unwrap(),
        federation_url: Url::parse("https://work.example:8643").unwrap(),
        sessions: Sessions::new(pool.clone()),
        people: People::new(pool.clone(), AuditKeys::testing()),
        grants: Grants::new(pool.clone(), AuditKeys::testing()),
        enrollments: Enrollments::new(pool.clone(), AuditKeys::testing()),
        audit: AuditStore::new(pool.clone(), AuditKeys::testing()),
        kept_checkpoint: KeptCheckpoint::at("/nonexistent/audit.checkpoint".into()),
        grant_cache: grant_cache::start(Arc::clone(&clock)),
        registry: peer_registry::start(
            Arc::new(links.clone()),
            Arc::new(NobodyToDial),
            Arc::clone(&clock),
            PeerRegistryLimits::default(),
            Vec::new(),
        ),
        links,
        catalog: catalog.domain(),
        rows: Arc::new(PgLocalRows::new(database.pool(), catalog, canceller)),
        authority: Arc::new(authority),
        enrollment_client: EnrollmentClient::new(Arc::clone(&clock), PeerLimits::default()),
        sealer,
        master_secrets: MasterSecrets::new(database.pool()),
        clock,
        fault_injection: true,
        limits: Limits::default(),
    }
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}
