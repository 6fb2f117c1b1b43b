//! Whoever can write to the database can change the log; the point is that it shows, and where.

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// A log of five sealed events and three that are not sealed yet, all of one writer.
struct Log {
    database: TestDatabase,
    store: AuditStore,
    /// Whoever tampers.
    client: tokio_postgres::Client,
}

impl Log {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = AuditStore::new(database.pool(), AuditKeys::testing());
        let client = database.connect().await;
        let log = Self { database, store, client };
        log.write(5).await;
        log.seal().await;
        log.write(3).await;
        assert_eq!(log.verify().await.problem, None);
        log.client
            .batch_execute(
                "CREATE TABLE events AS SELECT * FROM federation_audit_log;
                 CREATE TABLE seals AS SELECT * FROM audit_seals",
            )
            .await
            .unwrap();
        log
    }

    /// Takes away what keeps others than this site from writing, as whoever owns the database can.
    async fn unguarded() -> Self {
        let log = Self::new().await;
        log.client
            .batch_execute(
                "ALTER TABLE federation_audit_log DROP CONSTRAINT federation_audit_log_digested,
                                                  ALTER COLUMN seq DROP IDENTITY",
            )
            .await
            .unwrap();
        log
    }

    /// Everything as it was in the beginning.
    async fn restore(&self) {
        self.client
            .batch_execute(
                "DELETE FROM federation_audit_log; DELETE FROM audit_seals;
                 INSERT INTO federation_audit_log OVERRIDING SYSTEM VALUE SELECT * FROM events;
                 INSERT INTO audit_seals SELECT * FROM seals",
            )
            .await
            .unwrap();
        assert_eq!(self.verify_elsewhere(&[]).await.problem, None);
    }

    async fn write(&self, count: i64) {
        for second in 0..count {
            self.store.append(vec![event(NOW + Duration::from_secs(second.unsigned_abs()))]).await.unwrap();
        }
    }

    async fn seal(&self) -> Round {
        self.store.sealer(4).seal(NOW, Lookback::All).await.unwrap().unwrap()
    }

    async fn tamper(&self, sql: &str) {
        assert!(self.client.execute(sql, &[]).await.unwrap() > 0, "{sql}");
    }

    async fn verify(&self) -> Verification {
        self.store.verify(&[]).await.unwrap()
    }

    /// As another process does, which knows nothing but the database.
    async fn verify_elsewhere(&self, kept: &[Checkpoint]) -> Verification {
        AuditStore::new(self.database.pool(), AuditKeys::testing()).verify(kept).await.unwrap()
    }

    /// What is wrong first, and where: number of the event, position of the seal.
    async fn problem(&self) -> (&'static str, Option<i64>, Option<i64>) {
        let own = name(self.verify().await.problem);
        assert_eq!(own, name(self.verify_elsewhere(&[]).await.problem), "the writer knows no better");
        own
    }

    async fn position(&self) -> i64 {
        self.client.query_one("SELECT max(position) FROM audit_seals", &[]).await.unwrap().get(0)
    }
}

fn name(problem: Option<Problem>) -> (&'static str, Option<i64>, Option<i64>) {
    let problem = problem.expect("something is wrong");
    (problem.kind.as_str(), problem.event.and_then(|event| event.number), problem.seal)
}

#[actix_rt::test]
async fn an_untouched_log_is_sealed_and_verified_in_full() {
    let log = Log::new().await;
    let found = log.verify().await;
    assert_eq!((found.sealed, found.unsealed, found.before_sealing, found.seals), (5, 3, 0, 3), "{found:?}");
    let head = found.head.clone().unwrap();
    assert_eq!((head.position, head.events, head.is_signed()), (3, 5, true));
    assert_eq!(log.verify_elsewhere(&[]).await, found);
    assert_eq!(log.seal().await.events, 3);
    assert_eq!(log.seal().await, Round { head: log.store.checkpoint().await.unwrap(), ..Round::default() });
    let found = log.verify_elsewhere(&[head]).await;
    assert_eq!((found.sealed, found.unsealed, found.problem), (8, 0, None));
}

#[actix_rt::test]
async fn every_column_that_is_altered_names_its_event() {
    let log = Log::unguarded().await;
    let columns = [
        "seq = 1000",
        "at = at + interval '1 microsecond'",
        "at = 'infinity'",
        "request_id = gen_random_uuid()",
        "peer = 'someone'",
        "peer = NULL",
        "grant_id = NULL",
        "grant_version = 4",
        "subject_user_id = gen_random_uuid()",
        "action = 'get'",
        "resource = 'notes'",
        "query_hash = '\\x01'",
        "outcome = 'denied'",
        "reason = ''",
        "rows = 49",
        "bytes_out = 0",
        "latency_us = 0",
        "serial = '\\x010203ff'",
        "remote_addr = '2001:db8::2'",
        "remote_addr = '2001:db8::1/64'",
        "suppressed = 1",
        "lane = gen_random_uuid()",
        "number = 1000",
        "digest = '\\x00'",
        "digest = NULL",
        "key_id = '\\x0000000000000000'",
        "key_id = NULL",
    ];
    for change in columns {
        for number in [2, 7] {
            log.tamper(&format!("UPDATE federation_audit_log SET {change} WHERE number = {number}")).await;
            let found = log.verify_elsewhere(&[]).await;
            let problem = found.problem.unwrap_or_else(|| panic!("{change} of {number} was not seen"));
            let named = problem.event.clone().and_then(|event| event.number);
            let sealed = number == 2;
            let moved = ["seq", "number", "lane"].iter().any(|column| change.starts_with(column));
            let kind = problem.kind.as_str();
            match (sealed, change) {
                // Not in the digest; a seal will hold it.
                (false, "seq = 1000") => unreachable!("see below"),
                (false, "lane = gen_random_uuid()" | "number = 1000") => {
                    assert_eq!((kind, named), ("missing", Some(7)))
                }
                (true, _) => assert_eq!((kind, named), (if moved { "moved" } else { "altered" }, Some(2)), "{change}"),
                (false, _) => assert_eq!((kind, named), ("altered", Some(7)), "{change}: {problem:?}"),
            }
            log.restore().await;
            if change.starts_with("seq") {
                break;
            }
        }
    }
}

#[actix_rt::test]
async fn a_removed_event_is_named_wherever_it_stood() {
    let log = Log::new().await;
    for (number, seal) in [(1, Some(2)), (3, Some(2)), (5, Some(3)), (6, None), (7, None)] {
        log.tamper(&format!("DELETE FROM federation_audit_log WHERE number = {number}")).await;
        assert_eq!(log.problem().await, ("missing", Some(number), seal), "{number}");
        log.seal().await;
        let (kind, named, _) = log.problem().await;
        assert_eq!((kind, named), ("missing", Some(number)), "{number}: sealing does not heal it");
        log.restore().await;
    }
}

#[actix_rt::test]
async fn the_last_event_is_missed_by_its_writer_and_by_everybody_once_that_has_sealed() {
    let log = Log::new().await;
    log.tamper("DELETE FROM federation_audit_log WHERE number = 8").await;
    assert_eq!(name(log.verify().await.problem), ("missing", Some(8), None));
    assert_eq!(log.seal().await.broken, 1);
    assert_eq!(log.problem().await, ("missing", Some(8), Some(log.position().await)));
}

#[actix_rt::test]
async fn a_tail_that_is_cut_with_its_seals_is_missed_by_whoever_kept_a_checkpoint() {
    let log = Log::new().await;
    log.seal().await;
    let kept = log.store.checkpoint().await.unwrap().unwrap();
    log.tamper("DELETE FROM federation_audit_log WHERE number > 4").await;
    log.tamper("DELETE FROM audit_seals WHERE position > 2").await;
    assert_eq!(log.verify_elsewhere(&[]).await.problem, None, "nothing in the database tells");
    let found = log.verify_elsewhere(std::slice::from_ref(&kept)).await;
    assert_eq!(name(found.problem.clone()), ("cut", None, Some(3)));
    assert!(found.problem.unwrap().detail.contains("seal 4 and 8 events"), "what was kept");

    // Grown again over the cut: another chain.
    let again = AuditStore::new(log.database.pool(), AuditKeys::testing());
    again.append((0..8).map(|_| event(NOW)).collect()).await.unwrap();
    again.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    let found = log.verify_elsewhere(&[kept]).await;
    assert_eq!(name(found.problem), ("seal", None, Some(4)));
}

#[actix_rt::test]
async fn a_checkpoint_that_is_altered_or_anothers_is_refused() {
    let log = Log::new().await;
    let kept = log.store.checkpoint().await.unwrap().unwrap();
    let refused = async |checkpoint: Checkpoint| log.store.verify(&[checkpoint]).await.unwrap_err().kind;
    assert_eq!(refused(Checkpoint { position: 2, ..kept.clone() }).await, FaultKind::InvalidRequest);
    assert_eq!(refused(Checkpoint { events: 4, ..kept.clone() }).await, FaultKind::InvalidRequest);
    assert_eq!(
        refused(Checkpoint { at: NOW + Duration::from_secs(1), ..kept.clone() }).await,
        FaultKind::InvalidRequest
    );
    let site = SiteName::parse("home").unwrap();
    assert_eq!(refused(Checkpoint { site, ..kept.clone() }).await, FaultKind::InvalidRequest);
    let forger = crate::secrets::MasterSecret::generate().unwrap();
    let forged = AuditStore::new(log.database.pool(), AuditKeys::new(&forger, &kept.site));
    forged.append(vec![event(NOW)]).await.unwrap();
    let stopped = forged.sealer(4).seal(NOW, Lookback::All).await.unwrap().unwrap().stopped;
    assert_eq!(stopped.as_deref(), Some("seal 3, the newest one, is not this site's"), "of whoever has another secret");
    log.tamper("DELETE FROM audit_seals").await;
    forged.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    let forged = forged.checkpoint().await.unwrap().unwrap();
    assert!(forged.is_signed());
    let found = log.verify_elsewhere(&[forged]).await;
    assert_eq!(found.problem.unwrap().kind, ProblemKind::Seal, "its key is not the site's");
}

#[actix_rt::test]
async fn swapped_events_are_named() {
    // The numbers alone, and everything but the place in the log.
    let numbers = "UPDATE federation_audit_log SET number = 6 - number WHERE number IN (2, 4)";
    let columns = "at, request_id, peer, grant_id, grant_version, subject_user_id, action, resource, query_hash, outcome, reason, \
                   rows, bytes_out, latency_us, serial, remote_addr, suppressed, number, digest, lane, key_id";
    let rows = format!(
        "UPDATE federation_audit_log old SET ({columns}) = (SELECT {columns} FROM federation_audit_log new
         WHERE new.number = 6 - old.number) WHERE number IN (2, 4)"
    );
    let log = Log::new().await;
    for swap in [numbers, &rows] {
        log.tamper(swap).await;
        assert_eq!(log.problem().await, ("moved", Some(2), Some(2)), "{swap}");
        log.restore().await;
    }
    log.tamper("UPDATE federation_audit_log SET number = 13 - number WHERE number IN (6, 7)").await;
    assert_eq!(log.problem().await, ("moved", Some(6), None), "before they are sealed");
}

#[actix_rt::test]
async fn an_inserted_event_is_named() {
    const COLUMNS: &str = "seq, at, request_id, action, outcome, suppressed, lane, number, digest, key_id";
    let log = Log::unguarded().await;
    for (lane, number, expected) in [
        ("lane", "3", ("inserted", Some(3), Some(2))),
        ("lane", "7", ("inserted", Some(7), None)),
        ("lane", "0", ("inserted", Some(0), None)),
        ("lane", "NULL", ("inserted", None, None)),
        ("gen_random_uuid()", "1", ("inserted", Some(1), None)),
        ("'00000000-0000-0000-0000-000000000000'", "1", ("inserted", Some(1), None)),
    ] {
        log.tamper(&format!(
            "INSERT INTO federation_audit_log ({COLUMNS})
             SELECT 1000, at, gen_random_uuid(), action, outcome, 0, {lane}, {number}, digest, key_id
             FROM federation_audit_log WHERE number = 2"
        ))
        .await;
        assert_eq!(log.problem().await, expected, "{lane} {number}");
        log.restore().await;
    }
    log.tamper(
        "INSERT INTO federation_audit_log (seq, at, request_id, action, outcome, lane, number, digest, key_id)
         SELECT 1000, at, gen_random_uuid(), action, outcome, lane, 9, digest, key_id FROM federation_audit_log WHERE number = 2",
    )
    .await;
    assert_eq!(
        name(log.verify().await.problem),
        ("inserted", Some(9), None),
        "behind the last one, as its writer knows"
    );

    log.restore().await;
    log.tamper(
        "INSERT INTO federation_audit_log (seq, at, request_id, action, outcome)
         VALUES (1000, now(), gen_random_uuid(), 'list', 'allowed')",
    )
    .await;
    assert_eq!(log.problem().await, ("inserted", None, Some(1)), "one that looks as if it were from before sealing");
}

#[actix_rt::test]
async fn an_altered_or_missing_seal_is_named() {
    let log = Log::new().await;
    for (tamper, position) in [
        ("UPDATE audit_seals SET at = at + interval '1 second' WHERE position = 2", 2),
        ("UPDATE audit_seals SET lane = gen_random_uuid() WHERE position = 2", 2),
        ("UPDATE audit_seals SET last = last - 1 WHERE position = 2", 2),
        ("UPDATE audit_seals SET places = '\\x0202020202' WHERE position = 2", 2),
        ("UPDATE audit_seals SET root = previous WHERE position = 2", 2),
        ("UPDATE audit_seals SET events = 5 WHERE position = 2", 2),
        ("UPDATE audit_seals SET previous = root WHERE position = 2", 2),
        ("UPDATE audit_seals SET signature = '\\x00' WHERE position = 3", 3),
        ("UPDATE audit_seals SET public_key = '\\x00' WHERE position = 3", 3),
        ("UPDATE audit_seals SET key_id = '\\x0000000000000000' WHERE position = 3", 3),
        ("UPDATE audit_seals SET position = 9 WHERE position = 2", 2),
        ("DELETE FROM audit_seals WHERE position = 2", 2),
        ("DELETE FROM audit_seals WHERE position = 1", 1),
    ] {
        log.tamper(tamper).await;
        assert_eq!(log.problem().await, ("seal", None, Some(position)), "{tamper}");
        log.restore().await;
    }
}

#[actix_rt::test]
async fn what_there_was_before_sealing_is_never_bad_and_cannot_change_any_more() {
    let old = async || {
        let database = TestDatabase::new().await;
        let client = database.connect().await;
        client
            .batch_execute(
                "ALTER TABLE federation_audit_log DROP CONSTRAINT federation_audit_log_digested;
                 INSERT INTO federation_audit_log (at, request_id, action, outcome)
                 SELECT now() - n * interval '1 minute', gen_random_uuid(), 'list', 'allowed' FROM generate_series(1, 5000) n;
                 ALTER TABLE federation_audit_log ADD CONSTRAINT federation_audit_log_digested
                     CHECK (digest IS NOT NULL OR seq <= 5000)",
            )
            .await
            .unwrap();
        let store = AuditStore::new(database.pool(), AuditKeys::testing());
        Log { database, store, client }
    };
    let log = old().await;
    let found = log.verify().await;
    assert_eq!((found.before_sealing, found.sealed, found.problem), (5_000, 0, None), "before the first seal");
    log.write(2).await;
    assert_eq!(log.seal().await.events, 5_002);
    let found = log.verify().await;
    assert_eq!((found.before_sealing, found.sealed, found.problem), (5_000, 2, None));
    assert_eq!(found.head.unwrap().events, 5_002);
    let refused = log.client.execute(
        "INSERT INTO federation_audit_log (at, request_id, action, outcome) VALUES (now(), gen_random_uuid(), 'x', 'allowed')",
        &[],
    );
    assert_eq!(
        refused.await.unwrap_err().code(),
        Some(&tokio_postgres::error::SqlState::CHECK_VIOLATION),
        "an older build writes nothing without a digest"
    );
    log.tamper("UPDATE federation_audit_log SET rows = 1 WHERE seq = 77").await;
    assert_eq!(log.problem().await, ("altered", None, Some(1)));
    log.tamper("DELETE FROM federation_audit_log WHERE seq = 78").await;
    assert_eq!(log.problem().await, ("missing", None, Some(1)));
}

#[actix_rt::test]
async fn what_a_dead_writer_left_is_sealed_by_another_and_lanes_go_on_side_by_side() {
    let log = Log::new().await;
    let other = AuditStore::new(log.database.pool(), AuditKeys::testing());
    other.append((0..6).map(|_| event(NOW)).collect()).await.unwrap();
    let round = other.sealer(4).seal(NOW, Lookback::Recent).await.unwrap().unwrap();
    assert_eq!((round.events, round.seals, round.broken), (9, 3, 0));
    drop(other);
    let (one, two) = (log.store.append(vec![event(NOW); 3]), log.store.append(vec![event(NOW); 4]));
    let (one, two) = futures_util::future::join(one, two).await;
    one.and(two).unwrap();
    let found = log.verify().await;
    assert_eq!((found.sealed, found.unsealed, found.problem), (14, 7, None));
}

#[actix_rt::test]
async fn an_append_whose_fate_is_unknown_ends_its_lane_and_a_failed_one_does_not() {
    let log = Log::new().await;
    log.client.batch_execute("ALTER TABLE federation_audit_log RENAME TO elsewhere").await.unwrap();
    log.store.append(vec![event(NOW)]).await.unwrap_err();
    log.client.batch_execute("ALTER TABLE elsewhere RENAME TO federation_audit_log").await.unwrap();
    log.write(1).await;
    let lanes = async || -> i64 {
        log.client.query_one("SELECT count(DISTINCT lane) FROM federation_audit_log", &[]).await.unwrap().get(0)
    };
    assert_eq!(lanes().await, 1);
    // Given up while the table is locked: whether it is written afterwards nobody knows.
    log.client.batch_execute("BEGIN; LOCK TABLE federation_audit_log").await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(300), log.store.append(vec![event(NOW)])).await;
    assert!(given_up.is_err());
    log.client.batch_execute("COMMIT").await.unwrap();
    log.write(2).await;
    assert_eq!(lanes().await, 2);
    assert_eq!(log.verify().await.problem, None, "either way");
    log.seal().await;
    assert_eq!(log.verify().await.problem, None);
}

#[actix_rt::test]
async fn a_new_master_secret_signs_on_and_the_old_one_may_be_forgotten_once_all_is_sealed() {
    let database = TestDatabase::new().await;
    let site = SiteName::parse("work").unwrap();
    let master = crate::secrets::MasterSecret::generate().unwrap();
    let store = AuditStore::new(database.pool(), AuditKeys::new(&master, &site));
    store.append(vec![event(NOW); 6]).await.unwrap();
    store.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    let rotated = master.with_a_new_one().unwrap();
    master.adopt(&rotated, &[]);
    assert!(master.seal_with(rotated.ids()[0]));
    store.append(vec![event(NOW); 2]).await.unwrap();
    store.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    assert_eq!(store.verify(&[]).await.unwrap().by_seal_alone, 0);

    let alone = rotated.only(rotated.ids()[0]).unwrap();
    let later = AuditStore::new(database.pool(), AuditKeys::new(&alone, &site));
    let found = later.verify(&[]).await.unwrap();
    assert_eq!((found.sealed, found.by_seal_alone, found.problem), (8, 6, None));
    let client = database.connect().await;
    client.execute("UPDATE federation_audit_log SET rows = 0 WHERE number = 2", &[]).await.unwrap();
    let problem = later.verify(&[]).await.unwrap().problem.unwrap();
    assert_eq!((problem.kind, problem.seal), (ProblemKind::Altered, Some(2)), "named to its batch");
    let problem = store.verify(&[]).await.unwrap().problem.unwrap();
    assert_eq!(problem.event.unwrap().number, Some(2), "whoever has the old secret names the event");
}

#[actix_rt::test]
async fn two_sealers_do_not_seal_at_once_and_two_verifications_neither() {
    let log = Log::new().await;
    log.client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(x'6d6f736169636102'::bigint)").await.unwrap();
    assert_eq!(log.store.sealer(4).seal(NOW, Lookback::All).await.unwrap(), None);
    log.client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(log.seal().await.events, 3);
    let (one, other) = futures_util::future::join(log.store.verify(&[]), log.store.verify(&[])).await;
    assert!(one.is_ok());
    assert_eq!(other.unwrap_err().kind, FaultKind::Conflict);
}

#[actix_rt::test]
async fn a_sealer_follows_no_seal_that_is_not_this_sites_whatever_it_says() {
    const COPY: &str = "INSERT INTO audit_seals (position, at, lane, first, last, places, root, events, previous, key_id, public_key, signature)";
    let rest = "root, events, previous, key_id, public_key, signature FROM audit_seals WHERE position = 3";
    let log = Log::new().await;
    for (forged, who) in [
        (format!("{COPY} SELECT 4, at, gen_random_uuid(), 1, 1, places, {rest}"), "seal 4, the newest one"),
        (
            format!("{COPY} SELECT 9223372036854775807, at, lane, first, last, places, {rest}"),
            "seal 9223372036854775807",
        ),
        ("UPDATE audit_seals SET last = 9223372036854775807 WHERE position = 3".to_owned(), "seal 3, the newest one"),
        ("UPDATE audit_seals SET events = 9223372036854775807 WHERE position = 3".to_owned(), "seal 3, the newest one"),
        (
            "UPDATE audit_seals SET key_id = '\\x0000000000000000' WHERE position = 3".to_owned(),
            "seal 3, the newest one",
        ),
        // Not the newest one, but what a live lane would go on from.
        (
            "UPDATE audit_seals SET last = 9223372036854775807 WHERE position = 2".to_owned(),
            "seal 2, the last one of lane",
        ),
    ] {
        log.tamper(&forged).await;
        let before: i64 = log.client.query_one("SELECT count(*) FROM audit_seals", &[]).await.unwrap().get(0);
        for _ in 0..2 {
            let round = log.seal().await;
            assert!(round.stopped.as_ref().is_some_and(|why| why.starts_with(who)), "{forged}: {round:?}");
            assert_eq!((round.seals, round.head), (0, None));
        }
        let after: i64 = log.client.query_one("SELECT count(*) FROM audit_seals", &[]).await.unwrap().get(0);
        assert_eq!(before, after, "nothing has our signature over it");
        assert_eq!(log.verify().await.problem.unwrap().kind, ProblemKind::Seal);
        log.restore().await;
    }
    log.write(1).await;
    assert_eq!(log.seal().await.events, 4, "and goes on once it is mended");
}

#[actix_rt::test]
async fn a_chain_that_was_kept_is_not_begun_anew_and_only_a_chain_through_it_replaces_it() {
    let log = Log::new().await;
    let sealer = log.store.sealer(4);
    let kept = log.store.checkpoint().await.unwrap().unwrap();
    let head = log.seal().await.head.unwrap();
    assert!(sealer.goes_through(&kept, &head).await.unwrap());
    assert!(sealer.goes_through(&head, &head).await.unwrap());
    assert!(!sealer.goes_through(&head, &kept).await.unwrap(), "the chain ends before");

    // The newest seal and its events are cut, and others grow over the cut, past it.
    log.tamper("DELETE FROM federation_audit_log WHERE number > 5").await;
    log.tamper("DELETE FROM audit_seals WHERE position > 3").await;
    let again = AuditStore::new(log.database.pool(), AuditKeys::testing());
    for _ in 0..3 {
        again.append(vec![event(NOW)]).await.unwrap();
        let other = again.sealer(4).go_on(NOW, Lookback::All, Some(&head)).await.unwrap().unwrap().head.unwrap();
        assert!(other.position >= head.position && other != head);
        assert!(!sealer.goes_through(&head, &other).await.unwrap(), "{}", other.position);
        assert!(sealer.goes_through(&kept, &other).await.unwrap(), "what was kept before the cut");
        assert_eq!(log.verify_elsewhere(std::slice::from_ref(&head)).await.problem.unwrap().kind, ProblemKind::Seal);
    }

    log.tamper("DELETE FROM audit_seals").await;
    for kept in [Some(&head), None] {
        let round = sealer.go_on(NOW, Lookback::All, kept).await.unwrap().unwrap();
        assert!(round.stopped.is_some_and(|why| why.contains("are gone")));
    }
    assert_eq!(log.client.query_one("SELECT count(*) FROM audit_seals", &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(name(log.verify_elsewhere(std::slice::from_ref(&head)).await.problem), ("cut", None, Some(1)));
}

#[actix_rt::test]
async fn an_event_of_an_unknown_secret_holds_up_its_lane_and_is_counted_unless_it_stands_beside_the_genuine_one() {
    let log = Log::unguarded().await;
    log.tamper(
        "INSERT INTO federation_audit_log (seq, at, request_id, action, outcome, suppressed, lane, number, digest, key_id)
         SELECT 1000, at, request_id, action, outcome, suppressed, lane, number, digest, '\\x0000000000000000'
         FROM federation_audit_log WHERE number = 6",
    )
    .await;
    let round = log.seal().await;
    assert_eq!((round.events, round.broken, round.held_up), (3, 0, 0), "the genuine one is sealed");
    assert_eq!(log.problem().await, ("inserted", Some(6), Some(log.position().await)));
    log.restore().await;
    log.tamper("UPDATE federation_audit_log SET key_id = '\\x0000000000000000' WHERE number = 7").await;
    for sealed in [1, 0] {
        let round = log.seal().await;
        assert_eq!((round.events, round.held_up), (sealed, 1), "nothing behind it, and it is told each round");
    }
}

#[actix_rt::test]
async fn a_stranger_who_seals_into_the_chain_is_seen_also_when_the_site_seals_on_behind_him() {
    let log = Log::new().await;
    let ours = AuditKeys::testing();
    let stranger = AuditKeys::new(&crate::secrets::MasterSecret::generate().unwrap(), &ours.site);
    let newest = sealer::newest_seal(&log.client).await.unwrap().unwrap().seal;
    let digest = |seal: &seal::Seal| seal.digest(&ours.site).to_vec();
    let next = |before: &seal::Seal| seal::Seal {
        position: before.position + 1,
        first: 1,
        last: 0,
        lane: Uuid::now_v7(),
        previous: digest(before),
        ..before.clone()
    };
    let his = next(&newest);
    // As a sealer that does not look whom it follows would go on.
    for signed in [his.clone().sign(&stranger), next(&his).sign(&ours)] {
        let seal = &signed.seal;
        let insert = "INSERT INTO audit_seals (position, at, lane, first, last, places, root, events, previous, key_id, public_key, signature)
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        log.client
            .execute(
                insert,
                &[
                    &seal.position,
                    &seal.at.time(),
                    &seal.lane,
                    &seal.first,
                    &seal.last,
                    &seal.places,
                    &seal.root,
                    &seal.events,
                    &seal.previous,
                    &signed.key,
                    &signed.public_key,
                    &signed.signature,
                ],
            )
            .await
            .unwrap();
        let problem = log.verify_elsewhere(&[]).await.problem.unwrap();
        assert_eq!((problem.kind, problem.seal), (ProblemKind::Seal, Some(his.position)));
        assert!(problem.detail.contains("not this site's"), "{problem:?}");
    }
}

#[actix_rt::test]
async fn a_rotation_seals_what_a_crash_left_so_that_the_new_secret_alone_verifies_the_log() {
    let database = TestDatabase::new().await;
    let site = SiteName::parse("work").unwrap();
    let master = crate::secrets::MasterSecret::generate().unwrap();
    let store = AuditStore::new(database.pool(), AuditKeys::new(&master, &site));
    store.append(vec![event(NOW); 3]).await.unwrap();
    store.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    let kept = store.checkpoint().await.unwrap().unwrap();
    store.append(vec![event(NOW); 1]).await.unwrap();
    drop(store);
    let both = master.with_a_new_one().unwrap();
    assert!(both.seal_with(both.ids()[0]));
    let rotation = AuditStore::new(database.pool(), AuditKeys::new(&both, &site));
    assert_eq!(rotation.hand_over(NOW, 4).await.unwrap(), HandedOver::Whole);
    let seals = rotation.checkpoint().await.unwrap();
    assert_eq!(rotation.hand_over(NOW, 4).await.unwrap(), HandedOver::Whole);
    assert_eq!(rotation.checkpoint().await.unwrap(), seals, "once is enough");

    let alone = both.only(both.ids()[0]).unwrap();
    let later = AuditStore::new(database.pool(), AuditKeys::new(&alone, &site));
    let idle = later.verify(&[]).await.unwrap();
    assert_eq!((idle.problem, idle.unsealed, idle.by_seal_alone), (None, 0, 4));
    later.append(vec![event(NOW); 1]).await.unwrap();
    assert_eq!(later.verify(&[]).await.unwrap().problem, None);
    later.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    let found = later.verify(std::slice::from_ref(&kept)).await.unwrap();
    assert_eq!((found.problem, found.unsealed), (None, 0), "a checkpoint of before the rotation holds");

    // Whoever has the new secret makes a log of his own: what was kept of the old one says so.
    let client = database.connect().await;
    client.batch_execute("DELETE FROM federation_audit_log; DELETE FROM audit_seals").await.unwrap();
    let forger = AuditStore::new(database.pool(), AuditKeys::new(&alone, &site));
    forger.append(vec![event(NOW); 4]).await.unwrap();
    forger.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    let found = forger.verify(&[kept]).await.unwrap();
    assert_eq!(found.problem.unwrap().kind, ProblemKind::Seal);
}

#[actix_rt::test]
async fn a_rotation_of_an_idle_site_ends_the_chain_with_a_seal_of_the_new_secret() {
    let database = TestDatabase::new().await;
    let site = SiteName::parse("work").unwrap();
    let master = crate::secrets::MasterSecret::generate().unwrap();
    let store = AuditStore::new(database.pool(), AuditKeys::new(&master, &site));
    store.append(vec![event(NOW); 3]).await.unwrap();
    store.sealer(4).seal(NOW, Lookback::All).await.unwrap();
    let both = master.with_a_new_one().unwrap();
    assert!(both.seal_with(both.ids()[0]));
    let rotation = AuditStore::new(database.pool(), AuditKeys::new(&both, &site));
    assert_eq!(rotation.hand_over(NOW, 4).await.unwrap(), HandedOver::Whole);
    let later = AuditStore::new(database.pool(), AuditKeys::new(&both.only(both.ids()[0]).unwrap(), &site));
    assert_eq!(later.verify(&[]).await.unwrap().problem, None);
    assert_eq!(later.checkpoint().await.unwrap().unwrap().key, both.ids()[0]);
}
