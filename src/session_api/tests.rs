//! The session API over a real database, with real actors; peers are scripted behind the transport port.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::App;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web::Data;
use bytes::{Bytes, BytesMut};
use mosaic_actors::domain::answer::{Capabilities, Page, RowIndex};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{LinkId, SiteName, TeamId, UserId};
use mosaic_actors::domain::link::{Link, LinkCredentials};
use mosaic_actors::domain::query::{Position, RowId};
use mosaic_actors::fan_out::{self, FanOutLimits};
use mosaic_actors::peer_registry::{self, PeerRegistryLimits};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::ports::peer_transport::{PeerAnswer, PeerAsk, PeerDialer, PeerQuestion, PeerTransport, WatchEar};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

use super::*;
use crate::clock::SystemClock;
use crate::http::identify;
use crate::postgres::audit::AuditKeys;
use crate::postgres::catalog::{built_in_resources, load_catalog};
use crate::postgres::links::Links;
use crate::postgres::links::tests::new_link;
use crate::postgres::row_writer::ImportLimits;
use crate::postgres::rows::{PgLocalRows, QueryCanceller};
use crate::postgres::testing::TestDatabase;
use crate::secrets::{MasterSecret, Token};

mod data;
mod query;
mod status;

/// What a scripted peer does when it is asked for rows.
#[derive(Clone)]
enum Script {
    /// Tasks, newest first: time and id.
    Tasks(Vec<(OffsetDateTime, String)>),
    Fails(FaultKind),
    Silent,
}

/// Every peer by name, and what they were asked.
#[derive(Clone, Default)]
struct Peers {
    scripts: Arc<Mutex<HashMap<String, Script>>>,
    asked: Arc<Mutex<Vec<(String, PeerAsk)>>>,
}

impl PeerDialer for Peers {
    fn transport(&self, link: &Link) -> Result<Arc<dyn PeerTransport>, Fault> {
        Ok(Arc::new(ScriptedPeer { name: link.peer.to_string(), peers: self.clone() }))
    }

    fn renew(&self, _: &Link, _: Instant) -> PortFuture<Result<LinkCredentials, Fault>> {
        Box::pin(async { Err(Fault::new(FaultKind::Unreachable, Stage::Connect)) })
    }
}

struct ScriptedPeer {
    name: String,
    peers: Peers,
}

impl PeerTransport for ScriptedPeer {
    fn watch(&self, _: WatchEar) -> PortFuture<Fault> {
        Box::pin(async { Fault::new(FaultKind::Incompatible, Stage::Authorize) })
    }

    fn ask(&self, ask: PeerAsk) -> PortFuture<Result<PeerAnswer, Fault>> {
        let question = ask.question.clone();
        if let PeerQuestion::Capabilities = question {
            return Box::pin(async { Ok(PeerAnswer::Capabilities(capabilities())) });
        }
        self.peers.asked.lock().unwrap().push((self.name.clone(), ask));
        let script = self.peers.scripts.lock().unwrap().get(&self.name).cloned();
        let source = self.name.clone();
        Box::pin(async move {
            match script.unwrap_or(Script::Fails(FaultKind::Unreachable)) {
                Script::Tasks(rows) => answer(&source, &rows, &question),
                Script::Fails(kind) => Err(Fault::new(kind, Stage::Connect)),
                Script::Silent => std::future::pending().await,
            }
        })
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        protocol: 1,
        site: "there".to_owned(),
        resources: vec!["tasks".to_owned(), "elsewhere".to_owned()],
        excluded_resources: Vec::new(),
        max_rows_per_query: 100,
        supported_verbs: vec!["list".to_owned(), "get".to_owned()],
        grant_expires_at: datetime!(2099-01-01 0:00 UTC),
        cache_max_age: 0,
    }
}

/// A page of the script; the cursor is the number of rows before it.
fn answer(source: &str, rows: &[(OffsetDateTime, String)], question: &PeerQuestion) -> Result<PeerAnswer, Fault> {
    match question {
        PeerQuestion::List { limit, cursor, .. } => {
            let start = cursor.as_ref().map_or(0, |cursor| cursor.parse().unwrap());
            let end = rows.len().min(start + limit.get() as usize);
            let page = page(source, &rows[start..end], end < rows.len());
            Ok(PeerAnswer::Rows { page, next_cursor: (end < rows.len()).then(|| end.to_string().into()) })
        }
        PeerQuestion::Get { id, .. } => match rows.iter().find(|(_, known)| known == id.as_str()) {
            Some(row) => Ok(PeerAnswer::Item(page(source, std::slice::from_ref(row), false))),
            None => Err(Fault::new(FaultKind::NotFound, Stage::Body)),
        },
        PeerQuestion::Capabilities => unreachable!("capabilities are answered before"),
    }
}

fn page(source: &str, rows: &[(OffsetDateTime, String)], more: bool) -> Page {
    let (mut json, mut index) = (BytesMut::new(), Vec::new());
    for (created_at, id) in rows {
        if !index.is_empty() {
            json.extend_from_slice(b",");
        }
        let start = json.len();
        json.extend_from_slice(
            json!({"id": id, "title": format!("{source} {id}"), "_source": source}).to_string().as_bytes(),
        );
        let position = Position { created_at: *created_at, id: RowId::parse(id).unwrap() };
        index.push(RowIndex { position, range: start..json.len(), owner: None, team: None });
    }
    Page { json: json.freeze(), rows: index, more }
}

/// A node's session side.
struct Node {
    database: TestDatabase,
    services: Data<Services>,
    peers: Peers,
    links: Links,
    ada: Person,
    bo: Person,
    team: TeamId,
}

struct Person {
    id: UserId,
    token: String,
}

impl Node {
    /// Ada and Bo live here; Ada is in a team.
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        let peers = Peers::default();
        let links = Links::new(database.pool());
        let services = Data::new(services(&database, &peers, &links).await);
        let (ada, bo) = (person(&services, "ada").await, person(&services, "bo").await);
        let team = services.people.create_team("platform").await.unwrap().id;
        services.people.add_member(team, ada.id).await.unwrap();
        Self { database, services, peers, links, ada, bo, team }
    }

    /// A link of Ada's to a scripted peer.
    async fn link(&self, peer: &str, script: Script) -> LinkId {
        self.peers.scripts.lock().unwrap().insert(peer.to_owned(), script);
        let mut new = new_link(self.ada.id, Vec::new());
        new.link.peer = SiteName::parse(peer).unwrap();
        new.link.credentials.not_after = datetime!(2099-01-01 0:00 UTC);
        self.links.insert(&new).await.unwrap();
        self.services.registry.link_changed(new.link.id);
        let deadline = Instant::now() + Duration::from_secs(20);
        assert!(self.services.registry.wait_for(new.link.id, deadline).await, "the link starts");
        // Only then does the plan know what the peer offers.
        while self.services.registry.links_of(self.ada.id, &[]).iter().any(|view| view.handle.capabilities().is_none())
        {
            tokio::task::yield_now().await;
        }
        new.link.id
    }

    async fn send(&self, request: TestRequest) -> (u16, Bytes) {
        let app = init_service(
            App::new().wrap(actix_web::middleware::from_fn(identify)).configure(configure(self.services.clone())),
        )
        .await;
        let response = call_service(&app, request.to_request()).await;
        let status = response.status().as_u16();
        (status, read_body(response).await)
    }

    async fn ask(&self, who: &Person, method: &str, path: &str, body: impl ToString) -> (u16, Value) {
        let request = TestRequest::default()
            .method(method.parse().unwrap())
            .uri(&format!("{BASE_PATH}{path}"))
            .insert_header(("authorization", format!("Bearer {}", who.token)))
            .set_payload(body.to_string());
        let (status, bytes) = self.send(request).await;
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    async fn query(&self, body: Value) -> (u16, Value) {
        self.ask(&self.ada, "POST", "/query", body).await
    }

    async fn list(&self, more: Value) -> Value {
        let mut body = json!({"verb": "list", "resource": "tasks"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = self.query(body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The refusal's status, code and message.
    async fn refused(&self, body: Value) -> (u16, String, String) {
        let (status, answer) = self.query(body).await;
        let error = &answer["error"];
        assert!(error["request_id"].is_string(), "{status} {answer}");
        (status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    async fn task(&self, who: &Person, body: Value) -> Value {
        let (status, row) = self.ask(who, "POST", "/data/tasks", body).await;
        assert_eq!(status, 201, "{row}");
        row
    }

    /// Tasks of a person, imported with their times; newest first, as they are listed.
    async fn tasks_at(&self, who: &Person, rows: &[(OffsetDateTime, &str)]) {
        let lines: String =
            rows.iter().map(|(at, title)| format!("{}\n", json!({"title": title, "created_at": rfc(*at)}))).collect();
        let (status, answer) = self.ask(who, "POST", "/data/tasks:import", lines).await;
        assert_eq!((status, &answer["rows"]), (200, &json!(rows.len())), "{answer}");
    }
}

async fn person(services: &Services, name: &str) -> Person {
    let id = services.people.create_user(name, "").await.unwrap().id;
    let token = Token::generate(Token::SESSION);
    let (hash, lifetime) = (Token::hash(token.expose()), Duration::from_secs(600));
    assert!(services.sessions.create_session_token(id, &hash, "test", lifetime).await.unwrap().is_some());
    Person { id, token: token.expose().to_owned() }
}

async fn services(database: &TestDatabase, peers: &Peers, links: &Links) -> Services {
    let pool = database.pool();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tables = Arc::new(load_catalog(&database.connect().await, &built_in_resources()).await.unwrap());
    let canceller = QueryCanceller::new(&database.database_url()).unwrap();
    let limits = Limits::default();
    let registry = peer_registry::start(
        Arc::new(links.clone()),
        Arc::new(peers.clone()),
        Arc::clone(&clock),
        PeerRegistryLimits::default(),
        Vec::new(),
    );
    // Dialled before a question with a short deadline comes.
    let reading = database.pool();
    drop(reading.get().await.unwrap());
    let local = PgLocalRows::new(reading, Arc::clone(&tables), canceller.clone());
    let fan_out_limits = FanOutLimits { page_cap: NonZeroU32::new(200).unwrap(), ..FanOutLimits::default() };
    Services {
        site: SiteName::parse("home").unwrap(),
        catalog: tables.domain(),
        sessions: Sessions::new(pool.clone()),
        people: People::new(pool.clone(), AuditKeys::testing()),
        rows: RowWriter::new(pool, tables, canceller, ImportLimits::from(&limits)),
        imports: tokio::sync::Semaphore::new(4),
        fan_out: fan_out::start(Arc::new(local), registry.clone(), fan_out_limits),
        registry,
        cursor_key: MasterSecret::generate().unwrap().mac_key("session cursor"),
        limits,
        metrics: Metrics::new().unwrap(),
    }
}

fn rfc(at: OffsetDateTime) -> String {
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// A minute of one morning.
fn minute(minute: u8) -> OffsetDateTime {
    datetime!(2026-11-02 10:00 UTC).replace_minute(minute).unwrap()
}

fn titles(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap()).collect()
}
