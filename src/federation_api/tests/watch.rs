use std::pin::Pin;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::Payload;
use futures_util::stream;
use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::grant::GrantStatus;
use tokio::sync::mpsc;

use super::*;

/// The answer of a watch, line by line.
struct Watch(BoxBody);

impl Watch {
    async fn open(owner: &Owner) -> Self {
        let app = init_service(App::new().configure(configure(owner.services.clone())).wrap(from_fn(identify))).await;
        let request = TestRequest::post().uri("/api/federation/v1/watch").to_request();
        request.extensions_mut().insert(owner.connection.clone());
        let response = call_service(&app, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/x-ndjson");
        Self(response.into_body())
    }

    /// With what the holder sends.
    async fn open_and_say(owner: &Owner) -> (Self, mpsc::UnboundedSender<String>) {
        let app = init_service(App::new().configure(configure(owner.services.clone())).wrap(from_fn(identify))).await;
        let mut request = TestRequest::post().uri("/api/federation/v1/watch").to_request();
        let (say, mut said) = mpsc::unbounded_channel::<String>();
        let pieces = stream::poll_fn(move |cx| said.poll_recv(cx).map(|piece| piece.map(|piece| Ok(piece.into()))));
        *request.payload() = Payload::Stream { payload: Box::pin(pieces) };
        request.extensions_mut().insert(owner.connection.clone());
        let response = call_service(&app, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        (Self(response.into_body()), say)
    }

    async fn line(&mut self) -> Option<Value> {
        let next = std::future::poll_fn(|cx| Pin::new(&mut self.0).poll_next(cx));
        let line = tokio::time::timeout(Duration::from_secs(30), next).await.expect("a line")?;
        Some(serde_json::from_slice(&line.unwrap()).unwrap())
    }
}

fn event(name: &str) -> Option<Value> {
    Some(json!({ "event": name }))
}

fn numbered(name: &str, number: u64, version: Option<i64>) -> Option<Value> {
    let mut line = json!({ "event": name, "number": number });
    if let Some(version) = version {
        line["version"] = json!(version);
    }
    Some(line)
}

#[actix_web::test]
async fn rights_that_are_not_known_to_be_current_are_said_to_be_so_and_nothing_else() {
    let mut owner = Owner::new();
    let version = owner.grant.version;
    let mut watch = Watch::open(&owner).await;
    assert_eq!(watch.line().await, numbered("grant_active", 1, Some(version)));
    owner.cache.lost();
    assert_eq!(watch.line().await, event("rights_unknown"));
    // What changed meanwhile is heard when it is known, and what did not is no change.
    owner.load();
    assert_eq!(watch.line().await, numbered("grant_active", 2, Some(version)));
    owner.cache.lost();
    assert_eq!(watch.line().await, event("rights_unknown"));
    owner.grant.version += 1;
    owner.grant.scope.max_rows_per_query += 1;
    owner.load();
    assert_eq!(watch.line().await, numbered("grant_changed", 3, Some(version + 1)));
    owner.cache.lost();
    assert_eq!(watch.line().await, event("rights_unknown"));
    owner.grant.status = GrantStatus::Suspended;
    owner.load();
    assert_eq!(watch.line().await, numbered("grant_suspended", 4, None));
}

#[actix_web::test]
async fn another_certificate_is_no_change_and_another_scope_or_team_is() {
    let mut owner = Owner::new();
    let version = owner.grant.version;
    let mut watch = Watch::open(&owner).await;
    assert_eq!(watch.line().await, numbered("grant_active", 1, Some(version)));
    let serial = Serial::from_bytes(&[8]).unwrap();
    owner.grant.certificates.push(CertificateOnRecord { serial, ..owner.grant.certificates[0].clone() });
    owner.load();
    owner.grant.subject_teams.push(mosaic_actors::domain::identity::TeamId::new());
    owner.load();
    assert_eq!(watch.line().await, numbered("grant_changed", 2, Some(version)));
    owner.grant.version += 1;
    owner.grant.scope.max_rows_per_query += 1;
    owner.load();
    assert_eq!(watch.line().await, numbered("grant_changed", 3, Some(version + 1)));
}

#[actix_web::test]
async fn a_certificate_that_counts_no_more_ends_its_watch_and_so_does_a_stopping_node() {
    let mut owner = Owner::new();
    let mut watch = Watch::open(&owner).await;
    assert!(watch.line().await.is_some());
    owner.grant.certificates[0].serial = Serial::from_bytes(&[8]).unwrap();
    owner.load();
    assert_eq!(watch.line().await, event("ended"));
    assert_eq!(watch.line().await, None);

    let owner = Owner::new();
    let mut watch = Watch::open(&owner).await;
    assert!(watch.line().await.is_some());
    owner.services.watches.close();
    assert_eq!(watch.line().await, event("closing"));
    assert_eq!(watch.line().await, None);
    drop(watch);
    assert_eq!(owner.services.watches.count(), 0);
}

#[actix_web::test]
async fn no_watch_opens_without_its_audit_event() {
    let owner = Owner::new();
    owner.log.broken.store(true, Ordering::SeqCst);
    let told = owner.ask(TestRequest::post().uri("/api/federation/v1/watch")).await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(owner.services.watches.count(), 0);
}

fn receipts(owner: &Owner) -> Vec<(Option<&'static str>, Option<i64>)> {
    let events = owner.log.events.lock().unwrap();
    events
        .iter()
        .filter(|event| event.action == AuditAction::Receipt)
        .map(|event| (event.reason, event.grant_version))
        .collect()
}

#[actix_web::test]
async fn a_receipt_names_the_version_that_was_acknowledged_and_endless_acknowledgements_are_not_listened_to() {
    let mut owner = Owner::new();
    let version = owner.grant.version;
    let (mut watch, say) = Watch::open_and_say(&owner).await;
    assert!(watch.line().await.is_some());
    for (status, by) in [(GrantStatus::Suspended, 1), (GrantStatus::Active, 2)] {
        (owner.grant.status, owner.grant.version) = (status, version + by);
        owner.load();
        assert!(watch.line().await.is_some());
    }
    say.send("{\"acknowledged\":1}\n{\"acknowledged\":2}\n{\"acknowledged\":3}\n".to_owned()).unwrap();
    let expected = [(Some("grant_suspended"), Some(version + 1)), (Some("grant_active"), Some(version + 2))];
    // Heartbeats are far away: the stream is looked at while the receipts are written.
    let written = async {
        while receipts(&owner).len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = written => {}
        line = watch.line() => assert_eq!(line, event("heartbeat")),
    }
    assert_eq!(receipts(&owner), expected);

    say.send("{\"acknowledged\":77}\n".repeat(64)).unwrap();
    owner.grant.version += 1;
    owner.grant.scope.max_rows_per_query += 1;
    owner.load();
    assert_eq!(watch.line().await, numbered("grant_changed", 4, Some(version + 3)));
    say.send("{\"acknowledged\":4}\n".to_owned()).unwrap();
    owner.grant.status = GrantStatus::Revoked;
    owner.load();
    assert_eq!(watch.line().await, numbered("grant_revoked", 5, None));
    assert_eq!(receipts(&owner), expected, "nobody listens any more");
}
