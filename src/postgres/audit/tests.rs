use std::time::Duration;

use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::FaultKind;
use mosaic_actors::domain::identity::{RequestId, Serial};
use time::macros::datetime;

use super::*;
use crate::postgres::testing::TestDatabase;

mod retired;
mod tampering;

fn event(at: OffsetDateTime) -> AuditEvent {
    AuditEvent {
        at,
        request: RequestId::new(),
        peer: SiteName::parse("home").ok(),
        grant: Some(GrantId::new()),
        grant_version: Some(3),
        subject: Some(UserId::new()),
        action: AuditAction::List,
        resource: ResourceName::parse("tasks").ok(),
        query_hash: Some([9; 32]),
        outcome: AuditOutcome::Allowed,
        reason: None,
        rows: 50,
        bytes_out: 12_345,
        latency: Duration::from_micros(678),
        serial: Serial::from_bytes(&[1, 2, 3]),
        remote: "2001:db8::1".parse().ok(),
        suppressed: 0,
    }
}

fn empty_event(at: OffsetDateTime) -> AuditEvent {
    let bare = AuditEvent::bare(at, RequestId::new(), AuditAction::Enroll, AuditOutcome::Denied);
    AuditEvent { reason: Some("token_unknown"), ..bare }
}

fn all() -> AuditQuery {
    AuditQuery { limit: 1_000, ..AuditQuery::default() }
}

async fn partition_of(database: &TestDatabase, seq: i64) -> String {
    let client = database.connect().await;
    let sql = "SELECT tableoid::regclass::text FROM federation_audit_log WHERE seq = $1";
    client.query_one(sql, &[&seq]).await.unwrap().get(0)
}

#[actix_rt::test]
async fn a_batch_is_written_in_full_and_absent_fields_stay_absent() {
    let database = TestDatabase::new().await;
    let store = AuditStore::new(database.pool(), AuditKeys::testing());
    let (full, empty) = (event(datetime!(2026-11-23 12:00 UTC)), empty_event(datetime!(2026-11-23 11:00 UTC)));
    store.append(vec![full.clone(), empty]).await.unwrap();
    let written = store.query(&all()).await.unwrap();
    let expected = AuditRecord {
        seq: 1,
        at: full.at,
        request: full.request.0,
        peer: Some("home".to_owned()),
        grant: full.grant,
        grant_version: Some(3),
        subject: full.subject,
        action: "list".to_owned(),
        resource: Some("tasks".to_owned()),
        query_hash: Some(vec![9; 32]),
        outcome: "allowed".to_owned(),
        reason: None,
        rows: 50,
        bytes_out: 12_345,
        latency_us: 678,
        serial: Some(vec![1, 2, 3]),
        remote: full.remote,
        suppressed: 0,
        lane: written[0].lane,
        number: Some(1),
    };
    assert_eq!(written[0], expected);
    assert_eq!((written[1].grant, written[1].reason.as_deref()), (None, Some("token_unknown")));
    store.append(Vec::new()).await.unwrap();
}

#[actix_rt::test]
async fn partitions_are_made_ahead_once_and_take_over_what_the_default_one_caught() {
    let database = TestDatabase::new().await;
    let store = AuditStore::new(database.pool(), AuditKeys::testing());
    let now = datetime!(2026-11-23 12:00 UTC);
    store.append(vec![event(now), event(datetime!(2026-10-31 23:59:59.999999 UTC))]).await.unwrap();
    assert_eq!(partition_of(&database, 1).await, "federation_audit_log_default");
    let made = store.ensure_partitions(now).await.unwrap();
    assert_eq!(made, ["federation_audit_log_2026_11", "federation_audit_log_2026_12", "federation_audit_log_2027_01"]);
    assert_eq!(store.ensure_partitions(now).await.unwrap(), Vec::<String>::new());
    assert_eq!(partition_of(&database, 1).await, "federation_audit_log_2026_11");
    assert_eq!(partition_of(&database, 2).await, "federation_audit_log_default");
    store.append(vec![event(datetime!(2026-12-31 23:59 UTC)), event(datetime!(2027-01-01 0:00 UTC))]).await.unwrap();
    assert_eq!(partition_of(&database, 3).await, "federation_audit_log_2026_12");
    assert_eq!(partition_of(&database, 4).await, "federation_audit_log_2027_01");
}

#[actix_rt::test]
async fn events_are_paged_newest_first_and_narrowed_by_every_filter() {
    let database = TestDatabase::new().await;
    let store = AuditStore::new(database.pool(), AuditKeys::testing());
    let at = datetime!(2026-11-23 12:00 UTC);
    let (one, two) = (event(at), event(at));
    let (early, grant) = (empty_event(datetime!(2026-11-22 12:00 UTC)), two.grant);
    store.append(vec![one, two, early]).await.unwrap();
    let mut seqs = Vec::new();
    let mut after = None;
    loop {
        let page = store.query(&AuditQuery { after, limit: 2, ..AuditQuery::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.at, last.seq));
        seqs.extend(page.iter().map(|record| record.seq));
    }
    assert_eq!(seqs, [2, 1, 3]);
    for (query, expected) in [
        (AuditQuery { grant, ..all() }, vec![2]),
        (AuditQuery { peer: SiteName::parse("work").ok(), ..all() }, vec![]),
        (AuditQuery { action: Some("enroll".to_owned()), ..all() }, vec![3]),
        (AuditQuery { outcome: Some(AuditOutcome::Allowed), ..all() }, vec![2, 1]),
        (AuditQuery { from: Some(at), ..all() }, vec![2, 1]),
        (AuditQuery { to: Some(at), ..all() }, vec![3]),
        (AuditQuery { from: Some(at), to: Some(at), ..all() }, vec![]),
    ] {
        let got: Vec<i64> = store.query(&query).await.unwrap().iter().map(|record| record.seq).collect();
        assert_eq!(got, expected, "{query:?}");
    }
}

#[actix_rt::test]
async fn a_log_that_cannot_be_written_is_a_fault_of_the_audit_stage() {
    let database = TestDatabase::empty().await;
    let store = AuditStore::new(database.pool(), AuditKeys::testing());
    let fault = store.append(vec![event(datetime!(2026-11-23 12:00 UTC))]).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::Internal, Stage::Audit));
}

#[actix_rt::test]
async fn months_that_are_old_move_as_a_whole_and_are_read_by_naming_a_time() {
    const AGE: Duration = Duration::from_secs(90 * 86_400);
    let database = TestDatabase::new().await;
    let store = AuditStore::new(database.pool(), AuditKeys::testing());
    let now = datetime!(2026-11-23 12:00 UTC);
    store.ensure_partitions(datetime!(2026-06-10 0:00 UTC)).await.unwrap();
    store.ensure_partitions(now).await.unwrap();
    let (june, july) = (datetime!(2026-06-30 23:59 UTC), datetime!(2026-07-31 23:59:59.999999 UTC));
    let august = datetime!(2026-08-01 0:00 UTC);
    store.append(vec![event(june), event(july), event(august), event(now)]).await.unwrap();
    store.sealer(4).seal(now, Lookback::All).await.unwrap();
    let sizes = async |query: AuditQuery| store.query(&query).await.unwrap().len();

    // Somebody reads: the month stays, and nobody waits for long.
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM federation_audit_log").await.unwrap();
    assert_eq!(store.move_cold(now, AGE).await.unwrap(), Vec::<String>::new());
    reader.batch_execute("COMMIT").await.unwrap();

    let moved = store.move_cold(now, AGE).await.unwrap();
    assert_eq!(moved, ["federation_audit_log_2026_06", "federation_audit_log_2026_07"]);
    assert_eq!(store.move_cold(now, AGE).await.unwrap(), Vec::<String>::new());
    assert_eq!(store.ensure_partitions(datetime!(2026-06-10 0:00 UTC)).await.unwrap(), Vec::<String>::new());
    assert_eq!(sizes(all()).await, 2, "without a time only what is hot");
    assert_eq!(sizes(AuditQuery { from: Some(june), ..all() }).await, 4);
    assert_eq!(sizes(AuditQuery { from: Some(june), to: Some(august), ..all() }).await, 2);
    let found = store.verify(&[]).await.unwrap();
    assert_eq!((found.sealed, found.problem), (4, None));
    store.append(vec![event(july), event(now)]).await.unwrap();
    assert_eq!(store.verify(&[]).await.unwrap().problem, None, "a clock that goes back loses nothing");

    let client = database.connect().await;
    client.execute("DELETE FROM federation_audit_log_2026_06", &[]).await.unwrap();
    let problem = store.verify(&[]).await.unwrap().problem.unwrap();
    assert_eq!(
        (problem.kind, problem.event.unwrap().number),
        (ProblemKind::Missing, Some(1)),
        "cold is no less sealed"
    );
}
