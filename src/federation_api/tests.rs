//! The way of a peer's request, with the real evaluator, admission and audit writer; rows and audit log are scripted.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::{Method, StatusCode};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpMessage as _, web};
use bytes::Bytes;
use mosaic_actors::audit_writer::AuditLimits;
use mosaic_actors::domain::answer::{Page, RowIndex};
use mosaic_actors::domain::audit::{AuditEvent, AuditOutcome};
use mosaic_actors::domain::catalog::{Column, ColumnKind, Resource, ResourceName};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::{CertificateOnRecord, Grant, GrantStatus, InboundLimits};
use mosaic_actors::domain::identity::{GrantId, PeerIdentity, Serial, UserId};
use mosaic_actors::domain::query::{Position, ReadRight, RowId};
use mosaic_actors::domain::scope::Scope;
use mosaic_actors::grant_cache::GrantCacheHandle;
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::audit_log::AuditLog;
use mosaic_actors::ports::grant_store::LoadedGrants;
use mosaic_actors::ports::local_rows::ListRows;
use mosaic_actors::{audit_writer, grant_cache, scope_evaluator};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

use super::*;
use crate::http::identify;
use crate::pki::authority::{CaError, CertificateAuthority, ClientRequest, Crl, IssuedCertificate, ServerIdentity};
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::profile::ProfileError;
use crate::postgres::audit::AuditKeys;
use crate::postgres::renewal::{RenewalLimits, Renewals};
use crate::secrets::MasterSecret;
use crate::tls::peer_connection::PeerConnection;

mod renewal;
mod watch;

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> OffsetDateTime {
        NOW
    }
}

/// Rows as the port would return them, and what was asked of it.
#[derive(Default)]
struct ScriptedRows {
    page: Mutex<Option<Result<Page, Fault>>>,
    asked: Mutex<Vec<(ListRows, Instant)>>,
}

impl LocalRows for ScriptedRows {
    fn list(&self, _: ReadRight, query: ListRows, deadline: Instant) -> PortFuture<Result<Page, Fault>> {
        self.asked.lock().unwrap().push((query, deadline));
        let page = self.page.lock().unwrap().clone().unwrap_or_else(|| Ok(Page::default()));
        Box::pin(std::future::ready(page))
    }

    fn get(&self, right: ReadRight, _: RowId, deadline: Instant) -> PortFuture<Result<Page, Fault>> {
        let query = ListRows { limit: NonZeroU32::MIN, after: None, filter: Default::default() };
        self.list(right, query, deadline)
    }

    fn exists(&self, _: ReadRight, id: RowId, _: Instant) -> PortFuture<Result<bool, Fault>> {
        Box::pin(std::future::ready(Ok(id.as_str() == "hidden")))
    }
}

#[derive(Default)]
struct ScriptedLog {
    events: Mutex<Vec<AuditEvent>>,
    broken: AtomicBool,
}

impl AuditLog for ScriptedLog {
    fn append(&self, events: Vec<AuditEvent>) -> PortFuture<Result<(), Fault>> {
        let result = if self.broken.load(Ordering::SeqCst) {
            Err(Fault::new(FaultKind::Unavailable, Stage::Audit))
        } else {
            self.events.lock().unwrap().extend(events);
            Ok(())
        };
        Box::pin(std::future::ready(result))
    }
}

/// Signs nothing.
struct NoCa;

fn unsigned<T: Send + 'static>() -> PortFuture<Result<T, CaError>> {
    Box::pin(std::future::ready(Err(CaError::Unavailable("not in this test".into()))))
}

impl CertificateAuthority for NoCa {
    fn issue(&self, _: ClientRequest) -> PortFuture<Result<IssuedCertificate, CaError>> {
        unsigned()
    }

    fn issue_server(
        &self,
        _: Vec<String>,
        _: OffsetDateTime,
        _: time::Duration,
    ) -> PortFuture<Result<ServerIdentity, CaError>> {
        unsigned()
    }

    fn revoke(&self, _: Serial, _: OffsetDateTime, _: OffsetDateTime) -> PortFuture<Result<Crl, CaError>> {
        unsigned()
    }

    fn crl(&self) -> PortFuture<Result<Crl, CaError>> {
        unsigned()
    }

    fn root(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A database that nobody answers for.
fn nowhere() -> Renewals {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(1).user("nobody");
    let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(1).build().unwrap();
    Renewals::new(pool, AuditKeys::testing(), RenewalLimits { overlap: Duration::from_secs(600), per_hour: 60 })
}

/// An owner with one active grant on `tasks` and `notes`, cap 3, and the certificate of its holder.
struct Owner {
    services: web::Data<Services>,
    rows: Arc<ScriptedRows>,
    log: Arc<ScriptedLog>,
    cache: GrantCacheHandle,
    grant: Grant,
    connection: PeerConnection,
}

fn resource(name: &str, sensitive: bool) -> Resource {
    let column = Column { name: "status".into(), kind: ColumnKind::Text, filterable: true };
    Resource {
        name: ResourceName::parse(name).unwrap(),
        id_kind: ColumnKind::Uuid,
        columns: vec![column],
        searchable: Vec::new(),
        sensitive,
        writable: true,
    }
}

fn names(names: &[&str]) -> std::collections::BTreeSet<ResourceName> {
    names.iter().map(|name| ResourceName::parse(name).unwrap()).collect()
}

fn grant() -> Grant {
    Grant {
        id: GrantId::new(),
        version: 7,
        peer: SiteName::parse("home").unwrap(),
        subject: UserId::new(),
        subject_active: true,
        subject_teams: Vec::new(),
        scope: Scope {
            resources: names(&["tasks", "notes"]),
            excluded_resources: names(&["memory"]),
            filters: Default::default(),
            max_rows_per_query: 3,
            cache_max_age_seconds: 30,
        },
        status: GrantStatus::Active,
        expires_at: NOW + time::Duration::days(1),
        limits: InboundLimits { requests_per_second: 1_000, burst: 1_000, concurrent: 8 },
        certificates: vec![CertificateOnRecord {
            serial: Serial::from_bytes(&[7]).unwrap(),
            not_after: NOW + time::Duration::hours(1),
            accepted_until: None,
        }],
    }
}

impl Owner {
    fn new() -> Self {
        Self::of(grant(), AuditMode::Strict)
    }

    fn of(grant: Grant, audit_mode: AuditMode) -> Self {
        Self::renewing(grant, audit_mode, nowhere(), Arc::new(NoCa))
    }

    fn renewing(grant: Grant, audit_mode: AuditMode, store: Renewals, ca: Arc<dyn CertificateAuthority>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(StoppedClock);
        let catalog = [resource("tasks", false), resource("notes", false), resource("memory", false)];
        let catalog = Arc::new(Catalog::new(catalog.into_iter().chain([resource("credentials", true)])));
        let (rows, log) = (Arc::new(ScriptedRows::default()), Arc::new(ScriptedLog::default()));
        let cache = grant_cache::start(Arc::clone(&clock));
        let secret = MasterSecret::generate().unwrap();
        let services = Services {
            site: SiteName::parse("work").unwrap(),
            evaluator: scope_evaluator::start(cache.clone(), Arc::clone(&catalog), Arc::clone(&clock)),
            catalog,
            rows: Arc::clone(&rows) as Arc<dyn LocalRows>,
            audit: audit_writer::start(Arc::clone(&log) as Arc<dyn AuditLog>, AuditLimits::default()),
            audit_mode,
            admission: Admission::default(),
            renewal: Renewal::new(store, ca, ExtensionArc::default(), cache.clone()),
            watches: Watches::new(cache.clone(), (&Limits::default()).into()),
            contacts: Contacts::new(|_| {}),
            cursor_key: secret.mac_key("peer cursor"),
            query_hash_key: secret.mac_key("query hash"),
            clock,
            metrics: Metrics::new().unwrap(),
            limits: FederationLimits::from(&Limits::default()),
        };
        let identity =
            PeerIdentity { grant: grant.id, subject: grant.subject, serial: Serial::from_bytes(&[7]).unwrap() };
        let connection = PeerConnection {
            serial: Some(identity.serial.clone()),
            identity: Ok(identity),
            remote: Some(SocketAddr::from(([203, 0, 113, 7], 40_000))),
        };
        let owner = Self { services: web::Data::new(services), rows, log, cache, grant, connection };
        owner.load();
        owner
    }

    fn load(&self) {
        let grants = vec![self.grant.clone()];
        self.cache.replace_all(LoadedGrants { grants, version: 1, database_now: NOW });
    }

    /// The port will return these rows, all of the subject unless said otherwise.
    fn holds(&self, rows: &[(&str, UserId)], more: bool) {
        *self.rows.page.lock().unwrap() = Some(Ok(page(rows, more)));
    }

    async fn post(&self, path: &str, body: &str) -> Told {
        self.ask(TestRequest::post().uri(path).set_payload(body.to_owned())).await
    }

    async fn ask(&self, request: TestRequest) -> Told {
        let app = App::new().configure(configure(self.services.clone())).wrap(from_fn(identify));
        let app = init_service(app).await;
        let request = request.to_request();
        request.extensions_mut().insert(self.connection.clone());
        let response = call_service(&app, request).await;
        let head = response.response().head().clone_parts();
        let body = read_body(response).await;
        Told { status: head.0, headers: head.1, closes: head.2, body: serde_json::from_slice(&body).unwrap() }
    }

    /// The only event so far: action, outcome, reason, rows.
    fn event(&self) -> (String, AuditOutcome, Option<&'static str>, u32) {
        let events = self.log.events.lock().unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        let event = &events[0];
        (event.action.as_str().to_owned(), event.outcome, event.reason, event.rows)
    }
}

fn page(rows: &[(&str, UserId)], more: bool) -> Page {
    let (mut json, mut index) = (Vec::new(), Vec::new());
    for (at, (id, owner)) in rows.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        let start = json.len();
        json.extend_from_slice(format!(r#"{{"id":"{id}","_source":"local"}}"#).as_bytes());
        let created_at = NOW - time::Duration::seconds(i64::try_from(at).unwrap());
        let position = Position { created_at, id: RowId::parse(id).unwrap() };
        index.push(RowIndex { position, range: start..json.len(), owner: Some(*owner), team: None });
    }
    Page { json: Bytes::from(json), rows: index, more }
}

#[derive(Debug)]
struct Told {
    status: StatusCode,
    headers: actix_web::http::header::HeaderMap,
    closes: bool,
    body: Value,
}

impl Told {
    /// Status, code, message, reason.
    fn error(&self) -> (u16, &str, &str, Option<&str>) {
        let error = &self.body["error"];
        assert_eq!(error["request_id"].as_str(), self.headers.get("x-request-id").map(|id| id.to_str().unwrap()));
        let text = |field: &str| error[field].as_str();
        (self.status.as_u16(), text("code").unwrap(), text("message").unwrap(), text("reason"))
    }
}

/// The parts of a response's head that tests look at.
trait CloneParts {
    fn clone_parts(&self) -> (StatusCode, actix_web::http::header::HeaderMap, bool);
}

impl CloneParts for actix_web::dev::ResponseHead {
    fn clone_parts(&self) -> (StatusCode, actix_web::http::header::HeaderMap, bool) {
        let closes = self.connection_type() == actix_web::http::ConnectionType::Close;
        (self.status, self.headers().clone(), closes)
    }
}

const LIST: &str = "/api/federation/v1/list/tasks";
const GET: &str = "/api/federation/v1/get/tasks/a";

#[actix_web::test]
async fn capabilities_tell_the_scope_and_only_the_verbs_that_exist() {
    let owner = Owner::new();
    let told = owner.ask(TestRequest::get().uri("/api/federation/v1/capabilities")).await;
    assert_eq!(
        told.body,
        json!({"protocol": 1, "site": "work", "resources": ["notes", "tasks"], "excluded_resources": ["memory"],
               "max_rows_per_query": 3, "supported_verbs": ["capabilities", "list", "get"],
               "grant_expires_at": "2026-11-24T12:00:00Z", "cache_max_age": 30})
    );
    assert_eq!(owner.event(), ("capabilities".into(), AuditOutcome::Allowed, None, 0));
}

#[actix_web::test]
async fn a_list_is_the_page_with_a_cursor_that_continues_it() {
    let owner = Owner::new();
    owner.holds(&[("a", owner.grant.subject), ("b", owner.grant.subject)], true);
    let told = owner.post(LIST, r#"{"limit":2,"where":{"status":"open"}}"#).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.headers.get("cache-control").unwrap(), "no-store");
    assert_eq!(told.body["items"], json!([{"id": "a", "_source": "local"}, {"id": "b", "_source": "local"}]));
    assert_eq!(told.body["_truncated"], true);
    assert_eq!(owner.event(), ("list".into(), AuditOutcome::Allowed, None, 2));
    let cursor = told.body["next_cursor"].as_str().unwrap();
    let next = json!({"limit": 2, "cursor": cursor, "where": {"status": "open"}}).to_string();
    assert_eq!(owner.post(LIST, &next).await.status, StatusCode::OK);
    let asked = owner.rows.asked.lock().unwrap()[1].0.clone();
    assert_eq!(asked.after.map(|position| position.id.to_string()), Some("b".into()));
    assert_eq!(asked.filter.conditions.len(), 1);
}

#[actix_web::test]
async fn a_cursor_of_another_resource_filter_or_grant_is_refused() {
    let owner = Owner::new();
    owner.holds(&[("a", owner.grant.subject)], true);
    let told = owner.post(LIST, r#"{"where":{"status":"open"}}"#).await;
    let cursor = told.body["next_cursor"].as_str().unwrap();
    let same = json!({"cursor": cursor, "where": {"status": "open"}}).to_string();
    let no_filter = json!({"cursor": cursor}).to_string();
    for (path, body) in [(LIST, &no_filter), ("/api/federation/v1/list/notes", &same)] {
        assert_eq!(owner.post(path, body).await.error().1, "invalid_request");
    }
    let other = Owner::of(Grant { id: GrantId::new(), ..owner.grant.clone() }, AuditMode::Strict);
    assert_eq!(other.post(LIST, &same).await.error().0, 400);
    assert_eq!(owner.post(LIST, &same).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn a_limit_above_the_cap_is_capped_and_the_default_too() {
    let owner = Owner::new();
    for body in [r#"{"limit":1000}"#, "{}", r#"{"limit":2}"#] {
        assert_eq!(owner.post(LIST, body).await.status, StatusCode::OK);
    }
    let limits: Vec<u32> = owner.rows.asked.lock().unwrap().iter().map(|(query, _)| query.limit.get()).collect();
    assert_eq!(limits, [3, 3, 2]);
}

#[actix_web::test]
async fn a_malformed_question_is_refused_and_names_the_field() {
    let owner = Owner::new();
    for (body, part) in [
        (r#"{"limit":0}"#, "limit"),
        (r#"{"limit":"5"}"#, "limit"),
        (r#"{"sort":"x"}"#, "sort"),
        (r#"{"where":{"secret":1}}"#, "secret"),
        (r#"{"cursor":"AAAA"}"#, "cursor"),
        ("", "body"),
        ("{", "JSON"),
    ] {
        let told = owner.post(LIST, body).await;
        let (status, code, message, _) = told.error();
        assert_eq!((status, code), (400, "invalid_request"), "{body}");
        assert!(message.contains(part), "{body}: {message}");
    }
    assert!(owner.rows.asked.lock().unwrap().is_empty());
    assert_eq!(owner.log.events.lock().unwrap().len(), 7, "each refusal is one event");
}

#[actix_web::test]
async fn a_get_is_the_row_and_absent_is_invisible() {
    let owner = Owner::new();
    owner.holds(&[("a", owner.grant.subject)], false);
    assert_eq!(owner.post(GET, "{}").await.body, json!({"item": {"id": "a", "_source": "local"}}));
    assert_eq!(owner.event(), ("get".into(), AuditOutcome::Allowed, None, 1));
    owner.holds(&[], false);
    let absent = owner.post(GET, "{}").await;
    assert_eq!(absent.error(), (404, "not_found", "no such row", None));
    for path in ["/api/federation/v1/get/tasks/hidden", "/api/federation/v1/get/tasks/%01"] {
        assert_eq!(owner.post(path, "{}").await.error(), absent.error());
    }
    let reasons: Vec<_> = owner.log.events.lock().unwrap()[1..].iter().map(|event| event.reason.unwrap()).collect();
    assert_eq!(reasons, ["row_absent", "row_not_visible", "row_id_malformed"], "the audit keeps the true reason");
    assert_eq!(owner.post(GET, r#"{"x":1}"#).await.error().0, 400);
}

#[actix_web::test]
async fn a_certificate_without_an_identity_is_401_and_loses_the_connection() {
    let mut owner = Owner::new();
    owner.connection.identity = Err(ProfileError::Missing("grant"));
    for path in [LIST, GET, "/api/federation/v1/search", "/nowhere"] {
        let told = owner.post(path, "{}").await;
        assert_eq!((told.error().0, told.error().1, told.closes), (401, "unauthorized", true), "{path}");
        assert!(told.headers.get("www-authenticate").is_none());
    }
    let events = owner.log.events.lock().unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!((events[0].reason, events[0].grant), (Some("identity_missing"), None));
    assert_eq!(events[0].serial, Serial::from_bytes(&[7]));
}

#[actix_web::test]
async fn strangers_get_one_fixed_text_whatever_is_wrong() {
    let changes: [fn(&mut PeerIdentity); 3] = [
        |identity| identity.grant = GrantId::new(),
        |identity| identity.subject = UserId::new(),
        |identity| identity.serial = Serial::from_bytes(&[8]).unwrap(),
    ];
    for change in changes {
        let mut owner = Owner::new();
        let mut identity = owner.connection.identity.clone().unwrap();
        change(&mut identity);
        owner.connection.identity = Ok(identity);
        let told = owner.post(LIST, "{}").await;
        assert_eq!(told.error(), (403, "forbidden", crate::faults::FORBIDDEN_TEXT, None));
        assert!(told.closes);
        assert_eq!(owner.event().1, AuditOutcome::Denied);
    }
}

#[actix_web::test]
async fn the_holder_is_told_what_became_of_the_grant() {
    for (status, reason, closes) in [
        (GrantStatus::Revoked, "grant_revoked", true),
        (GrantStatus::Expired, "grant_expired", true),
        (GrantStatus::Suspended, "grant_suspended", false),
        (GrantStatus::Pending, "grant_pending", false),
    ] {
        let owner = Owner::of(Grant { status, ..grant() }, AuditMode::Strict);
        for path in [LIST, "/nowhere"] {
            let told = owner.post(path, "{}").await;
            assert_eq!((told.status.as_u16(), told.error().3, told.closes), (403, Some(reason), closes));
        }
        assert!(owner.rows.asked.lock().unwrap().is_empty());
        assert_eq!(owner.log.events.lock().unwrap()[0].reason, Some(reason));
    }
}

#[actix_web::test]
async fn a_change_of_the_grant_counts_from_the_next_request() {
    let mut owner = Owner::new();
    assert_eq!(owner.post(LIST, "{}").await.status, StatusCode::OK);
    owner.grant.status = GrantStatus::Revoked;
    owner.cache.put(owner.grant.id, Some(owner.grant.clone()), 2);
    assert_eq!(owner.post(LIST, "{}").await.error().3, Some("grant_revoked"));
}

#[actix_web::test]
async fn what_the_scope_does_not_cover_is_one_and_the_same_refusal() {
    let owner = Owner::new();
    let reasons = [
        ("unheard_of", "resource_unknown"),
        ("NOT%20A%20NAME", "resource_unknown"),
        ("%ff", "resource_unknown"),
        ("memory", "excluded"),
        ("credentials", "sensitive"),
    ];
    for (name, _) in reasons {
        for path in [format!("/api/federation/v1/list/{name}"), format!("/api/federation/v1/get/{name}/a")] {
            // Not even a body that could never be parsed is looked at.
            let told = owner.post(&path, "not json").await;
            assert_eq!(told.error(), (403, "scope_violation", crate::faults::SCOPE_VIOLATION_TEXT, None), "{path}");
            assert!(!told.closes);
        }
    }
    let events = owner.log.events.lock().unwrap();
    for (at, (name, reason)) in reasons.iter().enumerate() {
        assert_eq!(events[at * 2].reason, Some(*reason), "{name}");
    }
}

#[actix_web::test]
async fn over_the_rate_is_429_with_the_headers_that_say_so() {
    let limits = InboundLimits { requests_per_second: 1, burst: 2, concurrent: 8 };
    let owner = Owner::of(Grant { limits, ..grant() }, AuditMode::Strict);
    for _ in 0..2 {
        assert_eq!(owner.post(LIST, "{}").await.status, StatusCode::OK);
    }
    let told = owner.post(LIST, "{}").await;
    assert_eq!((told.error().0, told.error().1), (429, "rate_limited"));
    assert!(told.body["error"]["retry_after_ms"].as_u64().is_some_and(|ms| (1..=1_000).contains(&ms)));
    for (header, value) in
        [("retry-after", "1"), ("ratelimit-limit", "2"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "1")]
    {
        assert_eq!(told.headers.get(header).unwrap(), value, "{header}");
    }
    assert_eq!(owner.log.events.lock().unwrap().last().unwrap().reason, Some("rate_limited"));
}

#[actix_web::test]
async fn the_second_wall_holds_when_the_first_is_broken() {
    let owner = Owner::new();
    owner.holds(&[("a", owner.grant.subject), ("b", UserId::new())], false);
    for path in [LIST, GET] {
        let told = owner.post(path, "{}").await;
        assert_eq!((told.error().0, told.error().1), (500, "internal"));
        assert!(!told.body.to_string().contains("\"a\""));
    }
    let events = owner.log.events.lock().unwrap();
    assert_eq!((events[0].outcome, events[0].reason), (AuditOutcome::Failed, Some("egress_foreign_row")));
    assert!(
        owner
            .services
            .metrics
            .render(&[], OffsetDateTime::UNIX_EPOCH)
            .unwrap()
            .contains("mosaic_egress_violations_total 2")
    );
}

#[actix_web::test]
async fn no_row_leaves_without_its_event() {
    let owner = Owner::new();
    owner.holds(&[("a", owner.grant.subject)], false);
    owner.log.broken.store(true, Ordering::SeqCst);
    for path in [LIST, GET, "/api/federation/v1/list/memory"] {
        let told = owner.post(path, "{}").await;
        assert_eq!((told.error().0, told.error().1), (503, "unavailable"), "{path}");
    }
}

#[actix_web::test]
async fn relaxed_audit_lets_reads_go_but_not_denials() {
    let owner = Owner::of(grant(), AuditMode::Relaxed);
    owner.log.broken.store(true, Ordering::SeqCst);
    assert_eq!(owner.post(LIST, "{}").await.status, StatusCode::OK);
    assert_eq!(owner.post("/api/federation/v1/list/memory", "{}").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[actix_web::test]
async fn unknown_rights_and_a_lost_database_are_503() {
    let owner = Owner::new();
    *owner.rows.page.lock().unwrap() = Some(Err(Fault::new(FaultKind::Unavailable, Stage::Database)));
    assert_eq!(owner.post(LIST, "{}").await.error().0, 503);
    owner.cache.lost();
    assert_eq!(owner.post(LIST, "{}").await.error().0, 503);
    owner.load();
    owner.holds(&[], false);
    assert_eq!(owner.post(LIST, "{}").await.status, StatusCode::OK);
}

#[actix_web::test]
async fn the_askers_deadline_bounds_the_database_within_ours() {
    let owner = Owner::new();
    for (sent, least, most) in [("200", 0, 200), ("999999999", 29_000, 30_000)] {
        let request = TestRequest::post().uri(LIST).insert_header(("x-mosaic-deadline-ms", sent)).set_payload("{}");
        assert_eq!(owner.ask(request).await.status, StatusCode::OK);
        let left = owner.rows.asked.lock().unwrap().last().unwrap().1.saturating_duration_since(Instant::now());
        assert!((least..=most).contains(&left.as_millis()), "{sent}: {left:?}");
    }
    let request = TestRequest::post().uri(LIST).insert_header(("x-mosaic-deadline-ms", "soon")).set_payload("{}");
    assert_eq!(owner.ask(request).await.error().0, 400);
}

#[actix_web::test]
async fn what_is_not_served_is_not_found_and_a_wrong_method_is_told() {
    let owner = Owner::new();
    for path in ["/api/federation/v1/search", "/api/v1/data/tasks", "/"] {
        assert_eq!(owner.post(path, "{}").await.error(), (404, "not_found", "no such path", None), "{path}");
    }
    let told = owner.ask(TestRequest::default().method(Method::DELETE).uri(LIST)).await;
    assert_eq!((told.error().0, told.error().1), (405, "invalid_request"));
    assert_eq!(told.headers.get("allow").unwrap(), "POST");
    let actions: Vec<_> = owner.log.events.lock().unwrap().iter().map(|event| event.action.clone()).collect();
    let actions: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
    assert_eq!(actions, ["search", "unknown", "unknown", "list"]);
}

#[actix_web::test]
async fn an_oversized_body_is_413() {
    let owner = Owner::new();
    let told = owner.post(LIST, &format!("{{\"cursor\":\"{}\"}}", "x".repeat(70_000))).await;
    assert_eq!((told.error().0, told.error().1), (413, "too_large"));
}

#[actix_web::test]
async fn equal_questions_have_equal_hashes_and_others_have_others() {
    let owner = Owner::new();
    for body in [
        r#"{"limit":2,"where":{"status":"open"}}"#,
        r#"{"where":{ "status" : "open" },"limit":2}"#,
        r#"{"limit":2,"where":{"status":"done"}}"#,
    ] {
        owner.post(LIST, body).await;
    }
    let hashes: Vec<_> = owner.log.events.lock().unwrap().iter().map(|event| event.query_hash.unwrap()).collect();
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}
