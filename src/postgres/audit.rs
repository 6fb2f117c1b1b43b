//! The audit log: written in batches, sealed, verified, read by admins.
//!
//! The table is partitioned by month. Partitions are made ahead; an event that finds none goes to the default partition, so
//! that a missing partition never loses one.
//!
//! Every event carries a number in its writer's lane (`lanes.rs`) and a keyed digest over all its columns (`event.rs`); both are
//! made before the statement is sent, so that they cost a request microseconds and no round trip. `sealer.rs` chains batches of
//! what is written, `verify.rs` finds the first thing that is not as it was written. See ADR 15.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use mosaic_actors::domain::audit::{AuditEvent, AuditOutcome};
use mosaic_actors::domain::fault::{Fault, Stage};
use mosaic_actors::domain::identity::{GrantId, SiteName, UserId};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::audit_log::AuditLog;
use time::{Date, Month, OffsetDateTime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row, Statement};
use uuid::Uuid;

use super::pool::{OrFault, ThreadPools, is_rolled_back, sql_fault};
use event::{Event, Micros};
use lanes::{Lane, Lanes};

mod event;
mod handover;
mod keys;
mod lanes;
mod merkle;
mod seal;
mod sealer;
mod verify;

pub use handover::HandedOver;
pub use keys::AuditKeys;
pub use seal::Checkpoint;
pub use sealer::{AuditSealer, Lookback, Round};
pub use verify::{EventName, Problem, ProblemKind, Verification};

/// The audit log in Postgres. Clones share their lanes and what they know to be written.
#[derive(Clone)]
pub struct AuditStore {
    pool: Pool,
    /// For what requests cause.
    appends: ThreadPools,
    keys: AuditKeys,
    lanes: Arc<Lanes>,
    verifying: Arc<tokio::sync::Semaphore>,
}

/// One event as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub seq: i64,
    pub at: OffsetDateTime,
    pub request: Uuid,
    pub peer: Option<String>,
    pub grant: Option<GrantId>,
    pub grant_version: Option<i64>,
    pub subject: Option<UserId>,
    pub action: String,
    pub resource: Option<String>,
    pub query_hash: Option<Vec<u8>>,
    pub outcome: String,
    pub reason: Option<String>,
    pub rows: i32,
    pub bytes_out: i64,
    pub latency_us: i64,
    pub serial: Option<Vec<u8>>,
    pub remote: Option<IpAddr>,
    pub suppressed: i64,
    /// Absent from before sealing.
    pub lane: Option<Uuid>,
    pub number: Option<i64>,
}

/// Which events to read, newest first. Absent fields do not narrow.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    pub grant: Option<GrantId>,
    pub peer: Option<SiteName>,
    pub action: Option<String>,
    pub outcome: Option<AuditOutcome>,
    /// From this time on, inclusive.
    pub from: Option<OffsetDateTime>,
    /// Before this time, exclusive.
    pub to: Option<OffsetDateTime>,
    /// Behind this time and sequence number.
    pub after: Option<(OffsetDateTime, i64)>,
    pub limit: i64,
}

/// Most months that one call makes partitions for: this one and the two to come.
const MONTHS_AHEAD: u32 = 3;

/// Chosen once, for all nodes of a database: the key of the advisory lock under which partitions are made.
const PARTITION_LOCK: i64 = 0x6d6f_7361_6963_6101;

/// Writes nothing when one of the digests was made with a master secret that is retired: nobody could check it, or seal it. The
/// condition is looked at once for the statement, in a table of a few rows; whoever retires waits for those who are writing.
const APPEND: &str = "
    INSERT INTO federation_audit_log (at, request_id, peer, grant_id, grant_version, subject_user_id, action, resource,
                                      query_hash, outcome, reason, rows, bytes_out, latency_us, serial, remote_addr,
                                      suppressed, number, digest, key_id, lane)
    SELECT batch.*, $21::uuid
    FROM unnest($1::timestamptz[], $2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::uuid[], $7::text[], $8::text[],
                $9::bytea[], $10::text[], $11::text[], $12::integer[], $13::bigint[], $14::bigint[], $15::bytea[],
                $16::inet[], $17::bigint[], $18::bigint[], $19::bytea[], $20::bytea[]) AS batch
    WHERE NOT EXISTS (SELECT FROM master_secrets WHERE state = 'retired' AND key_id = ANY($20))";

/// Takes numbers of the lane of changes; the row's lock goes with the transaction.
const NUMBER_CHANGES: &str = "UPDATE audit_change_lane SET next = next + $1 RETURNING lane, next - $1";

/// The columns of a batch, so that any number of events is one statement and one round trip.
#[derive(Default)]
struct Columns<'a> {
    at: Vec<OffsetDateTime>,
    request: Vec<Uuid>,
    peer: Vec<Option<&'a str>>,
    grant: Vec<Option<Uuid>>,
    grant_version: Vec<Option<i64>>,
    subject: Vec<Option<Uuid>>,
    action: Vec<&'a str>,
    resource: Vec<Option<&'a str>>,
    query_hash: Vec<Option<&'a [u8]>>,
    outcome: Vec<&'a str>,
    reason: Vec<Option<&'a str>>,
    rows: Vec<i32>,
    bytes_out: Vec<i64>,
    latency_us: Vec<i64>,
    serial: Vec<Option<&'a [u8]>>,
    remote: Vec<Option<IpAddr>>,
    suppressed: Vec<i64>,
    number: Vec<i64>,
    digest: Vec<Vec<u8>>,
    key: Vec<Vec<u8>>,
    lane: Uuid,
}

impl<'a> Columns<'a> {
    /// The events with their numbers, from `first` on, and their digests.
    fn of(events: &'a [AuditEvent], lane: Uuid, first: i64, keys: &AuditKeys) -> Self {
        let mut columns = Self { lane, ..Self::default() };
        for (event, number) in events.iter().zip(first..) {
            let stored = Event::of(event, lane, number);
            let (key, digest) = keys.events.sign(&[&stored.bytes()]);
            columns.digest.push(digest.to_vec());
            columns.key.push(key.as_bytes().to_vec());
            columns.push(event.at, &stored, number);
        }
        columns
    }

    /// Whether one of them was signed with another secret than the one that seals now.
    fn are_signed_with_another(&self, keys: &AuditKeys) -> bool {
        let sealing = keys.sealing();
        self.key.iter().any(|key| key != sealing.as_bytes())
    }

    fn push(&mut self, at: OffsetDateTime, event: &Event<'a>, number: i64) {
        self.at.push(at);
        self.request.push(event.request);
        self.peer.push(event.peer);
        self.grant.push(event.grant);
        self.grant_version.push(event.grant_version);
        self.subject.push(event.subject);
        self.action.push(event.action);
        self.resource.push(event.resource);
        self.query_hash.push(event.query_hash);
        self.outcome.push(event.outcome);
        self.reason.push(event.reason);
        self.rows.push(event.rows);
        self.bytes_out.push(event.bytes_out);
        self.latency_us.push(event.latency_us);
        self.serial.push(event.serial);
        self.remote.push(event.remote);
        self.suppressed.push(event.suppressed);
        self.number.push(number);
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 21] {
        [
            &self.at,
            &self.request,
            &self.peer,
            &self.grant,
            &self.grant_version,
            &self.subject,
            &self.action,
            &self.resource,
            &self.query_hash,
            &self.outcome,
            &self.reason,
            &self.rows,
            &self.bytes_out,
            &self.latency_us,
            &self.serial,
            &self.remote,
            &self.suppressed,
            &self.number,
            &self.digest,
            &self.key,
            &self.lane,
        ]
    }
}

/// Why events are not written inside a transaction, which must then be rolled back.
pub(super) enum NotWritten {
    Sql(tokio_postgres::Error),
    /// They were made with a master secret that is retired.
    Retired(Fault),
}

impl From<tokio_postgres::Error> for NotWritten {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl<T> OrFault<T> for Result<T, NotWritten> {
    fn or_fault(self, doing: &'static str) -> Result<T, Fault> {
        self.map_err(|why| match why {
            NotWritten::Sql(error) => sql_fault(doing, &error),
            NotWritten::Retired(fault) => fault,
        })
    }
}

/// Writes events inside a caller's transaction: a change and its event are committed together or not at all. The caller holds
/// whatever locks it needs by now: this takes the last ones.
pub(super) async fn insert(
    client: &impl GenericClient,
    keys: &AuditKeys,
    events: &[AuditEvent],
) -> Result<(), NotWritten> {
    if events.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let numbered = client.query_one(NUMBER_CHANGES, &[&count]).await?;
    let columns = Columns::of(events, numbered.get(0), numbered.get(1), keys);
    match client.execute(APPEND, &columns.parameters()).await? {
        0 => Err(NotWritten::Retired(keys.are_retired())),
        _ => Ok(()),
    }
}

impl AuditLog for AuditStore {
    fn append(&self, events: Vec<AuditEvent>) -> PortFuture<Result<(), Fault>> {
        let store = self.clone();
        Box::pin(async move {
            if events.is_empty() {
                return Ok(());
            }
            let client = store
                .appends
                .own()
                .get()
                .await
                .or_fault("write the audit log")
                .map_err(|fault| Fault { stage: Stage::Audit, ..fault })?;
            let statement = client.prepare_cached(APPEND).await.map_err(|error| at_audit(&error))?;
            // From here on the fate of the lane hangs on that of the statement: given up half-way, the lane ends.
            let lane = store.lanes.take();
            match write(&client, &statement, &events, &lane, &store.keys).await {
                Ok(0) => {
                    store.lanes.rolled_back(lane);
                    Err(store.keys.are_retired())
                }
                Ok(_) => {
                    store.lanes.committed(lane, events.len());
                    Ok(())
                }
                Err(error) => {
                    if is_rolled_back(&error) {
                        store.lanes.rolled_back(lane);
                    }
                    Err(at_audit(&error))
                }
            }
        })
    }
}

/// How many were written: all, or none because they were signed with a retired secret.
async fn write(
    client: &Client,
    statement: &Statement,
    events: &[AuditEvent],
    lane: &Lane,
    keys: &AuditKeys,
) -> Result<u64, tokio_postgres::Error> {
    let columns = Columns::of(events, lane.id, lane.next, keys);
    let written = client.execute(statement, &columns.parameters()).await?;
    if written > 0 || !columns.are_signed_with_another(keys) {
        return Ok(written);
    }
    // This process has learned since what seals, and nothing of them is there: the same numbers count.
    let columns = Columns::of(events, lane.id, lane.next, keys);
    client.execute(statement, &columns.parameters()).await
}

fn at_audit(error: &tokio_postgres::Error) -> Fault {
    Fault { stage: Stage::Audit, ..sql_fault("write the audit log", error) }
}
impl AuditStore {
    #[must_use]
    pub fn new(pool: Pool, keys: AuditKeys) -> Self {
        let appends = pool.clone().into();
        Self { pool, appends, keys, lanes: Arc::default(), verifying: Arc::new(tokio::sync::Semaphore::new(1)) }
    }

    /// What requests cause is written over these.
    #[must_use]
    pub fn appending_over(self, appends: ThreadPools) -> Self {
        Self { appends, ..self }
    }

    /// For what writes events inside transactions of its own.
    #[must_use]
    pub fn keys(&self) -> AuditKeys {
        self.keys.clone()
    }

    /// The same log over other connections.
    #[must_use]
    pub fn over(&self, pool: Pool) -> Self {
        Self { pool, ..self.clone() }
    }

    /// What seals this log, at most `batch` events at a time.
    #[must_use]
    pub fn sealer(&self, batch: usize) -> AuditSealer {
        AuditSealer::new(self.pool.clone(), self.keys.clone(), Arc::clone(&self.lanes), batch)
    }

    /// Looks for the first event that is not as it was written, and compares the chain of seals with what was kept elsewhere.
    /// Reads the whole log; one verification at a time, the next is a conflict. A checkpoint that is not this site's is refused.
    pub async fn verify(&self, checkpoints: &[Checkpoint]) -> Result<Verification, Fault> {
        let _only = self.verifying.try_acquire().map_err(|_| verify::busy())?;
        verify::verify(&self.pool, &self.keys, &self.lanes, checkpoints).await
    }

    /// The newest seal, to be kept elsewhere; `None` before there is one.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>, Fault> {
        let client = self.pool.get().await.or_fault("read the audit's seals")?;
        sealer::newest_checkpoint(&**client, &self.keys).await
    }

    /// Makes the partitions of the month of `now` and of the two after it; returns the names of those that were missing.
    /// Rows that the default partition caught in the meantime move into their month.
    pub async fn ensure_partitions(&self, now: OffsetDateTime) -> Result<Vec<String>, Fault> {
        let mut client = self.pool.get().await.or_fault("make partitions of the audit log")?;
        let transaction = client.transaction().await.or_fault("make partitions of the audit log")?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&PARTITION_LOCK])
            .await
            .or_fault("make partitions of the audit log")?;
        let mut made = Vec::new();
        let mut month = first_of_month(now.to_offset(time::UtcOffset::UTC).date());
        for _ in 0..MONTHS_AHEAD {
            let next = next_month(month);
            if let Some(name) =
                make_partition(&*transaction, month, next).await.or_fault("make partitions of the audit log")?
            {
                made.push(name);
            }
            month = next;
        }
        transaction.commit().await.or_fault("make partitions of the audit log")?;
        Ok(made)
    }

    /// Moves months that ended more than `age` ago to the colder table; their names. Nobody waits for it longer than it takes to
    /// change the catalog: a month that is in use stays for the next time.
    pub async fn move_cold(&self, now: OffsetDateTime, age: Duration) -> Result<Vec<String>, Fault> {
        let mut client = self.pool.get().await.or_fault(COOL)?;
        let rows = client.query(HOT_MONTHS, &[]).await.or_fault(COOL)?;
        let mut moved = Vec::new();
        for name in rows.iter().map(|row| row.get::<_, String>(0)) {
            let Some(month) = month_of(&name).filter(|month| next_month(*month).midnight().assume_utc() + age <= now)
            else {
                continue;
            };
            if cool(&mut client, &name, month).await.or_fault(COOL)? {
                moved.push(name);
            }
        }
        Ok(moved)
    }

    /// A page of events, newest first. With a bound in time also those that are in the colder table.
    pub async fn query(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, Fault> {
        let mut conditions = Conditions::default();
        conditions.add("grant_id = ", query.grant.map(|grant| grant.0));
        conditions.add("peer = ", query.peer.as_ref().map(|peer| peer.as_str().to_owned()));
        conditions.add("action = ", query.action.clone());
        conditions.add("outcome = ", query.outcome.map(|outcome| outcome.as_str().to_owned()));
        conditions.add("at >= ", query.from);
        conditions.add("at < ", query.to);
        if let Some((at, seq)) = query.after {
            conditions.add_pair("at, seq", at, seq);
        }
        conditions.parameters.push(Box::new(query.limit));
        let bounded = query.from.is_some() || query.to.is_some();
        let table = if bounded { "federation_audit_all" } else { "federation_audit_log" };
        let sql = format!(
            "SELECT * FROM {table} {} ORDER BY at DESC, seq DESC LIMIT ${}",
            conditions.text,
            conditions.parameters.len()
        );
        let parameters: Vec<&(dyn ToSql + Sync)> =
            conditions.parameters.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect();
        let client = self.pool.get().await.or_fault("read the audit log")?;
        let statement = client.prepare_cached(&sql).await.or_fault("read the audit log")?;
        let rows = client.query(&statement, &parameters).await.or_fault("read the audit log")?;
        Ok(rows.iter().map(audit_record).collect())
    }
}

/// A `WHERE` of bound values only: the texts are constants of this file.
#[derive(Default)]
struct Conditions {
    text: String,
    parameters: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    fn add(&mut self, comparison: &'static str, value: Option<impl ToSql + Sync + Send + 'static>) {
        let Some(value) = value else { return };
        self.parameters.push(Box::new(value));
        self.word();
        self.text += &format!("{comparison}${}", self.parameters.len());
    }

    fn add_pair(&mut self, columns: &'static str, at: OffsetDateTime, seq: i64) {
        self.parameters.push(Box::new(at));
        self.parameters.push(Box::new(seq));
        self.word();
        let last = self.parameters.len();
        self.text += &format!("({columns}) < (${}, ${last})", last - 1);
    }

    fn word(&mut self) {
        self.text += if self.text.is_empty() { "WHERE " } else { " AND " };
    }
}

/// Attaches the month's partition unless there is one. Names are made of digits, so that nothing needs quoting.
async fn make_partition(
    client: &impl GenericClient,
    month: Date,
    next: Date,
) -> Result<Option<String>, tokio_postgres::Error> {
    let name = format!("federation_audit_log_{:04}_{:02}", month.year(), u8::from(month.month()));
    let known = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?;
    if known.get::<_, bool>(0) {
        return Ok(None);
    }
    client
        .batch_execute(&format!(
            "CREATE TABLE {name} (LIKE federation_audit_log INCLUDING CONSTRAINTS);
             WITH caught AS (
                 DELETE FROM federation_audit_log_default
                 WHERE at >= '{month} 00:00:00+00' AND at < '{next} 00:00:00+00' RETURNING *
             ) INSERT INTO {name} SELECT * FROM caught;
             ALTER TABLE federation_audit_log ATTACH PARTITION {name}
                 FOR VALUES FROM ('{month} 00:00:00+00') TO ('{next} 00:00:00+00')"
        ))
        .await?;
    Ok(Some(name))
}

/// The months in the log itself: partitions by their names, which [`make_partition`] gives.
const HOT_MONTHS: &str = "
    SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'federation_audit_log'::regclass AND c.relname ~ '^federation_audit_log_[0-9]{4}_[0-9]{2}$'
    ORDER BY c.relname";

const COOL: &str = "move a month of the audit log";

/// How long writers may be held up by the change of the catalog.
const COOL_WAIT: &str = "SET LOCAL lock_timeout = '500ms'";

fn month_of(partition: &str) -> Option<Date> {
    let (year, month) = partition.strip_prefix("federation_audit_log_")?.split_once('_')?;
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, 1).ok()
}

/// One month, in steps that can each be the last: first the month's bounds become a constraint that is checked beside readers and
/// writers, so that the move itself reads nothing. `false` when the month was in use, or another replica was at it.
async fn cool(client: &mut Client, name: &str, month: Date) -> Result<bool, tokio_postgres::Error> {
    let next = next_month(month);
    let bounds = format!("at >= '{month} 00:00:00+00' AND at < '{next} 00:00:00+00'");
    let steps = [
        format!(
            "{COOL_WAIT}; ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {name}_month,
                 ADD CONSTRAINT {name}_month CHECK ({bounds}) NOT VALID"
        ),
        format!("SET LOCAL statement_timeout = '10min'; ALTER TABLE {name} VALIDATE CONSTRAINT {name}_month"),
        format!(
            "{COOL_WAIT};
             ALTER TABLE federation_audit_log DETACH PARTITION {name};
             ALTER TABLE federation_audit_cold ATTACH PARTITION {name}
                 FOR VALUES FROM ('{month} 00:00:00+00') TO ('{next} 00:00:00+00');
             ALTER TABLE {name} DROP CONSTRAINT {name}_month;
             DROP INDEX IF EXISTS {name}_grant_id_at_seq_idx"
        ),
    ];
    for step in steps {
        let transaction = client.transaction().await?;
        let lock = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&PARTITION_LOCK]).await?;
        if !lock.get::<_, bool>(0) {
            return Ok(false);
        }
        match transaction.batch_execute(&step).await {
            Ok(()) => transaction.commit().await?,
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn first_of_month(date: Date) -> Date {
    date.replace_day(1).expect("every month has a first day")
}

fn next_month(month: Date) -> Date {
    let year = month.year() + i32::from(month.month() == Month::December);
    Date::from_calendar_date(year, month.month().next(), 1)
        .expect("invariant: years of a clock are far from the last one")
}

fn audit_record(row: &Row) -> AuditRecord {
    AuditRecord {
        seq: row.get("seq"),
        at: row.get::<_, Micros>("at").time(),
        request: row.get("request_id"),
        peer: row.get("peer"),
        grant: row.get::<_, Option<Uuid>>("grant_id").map(GrantId),
        grant_version: row.get("grant_version"),
        subject: row.get::<_, Option<Uuid>>("subject_user_id").map(UserId),
        action: row.get("action"),
        resource: row.get("resource"),
        query_hash: row.get("query_hash"),
        outcome: row.get("outcome"),
        reason: row.get("reason"),
        rows: row.get("rows"),
        bytes_out: row.get("bytes_out"),
        latency_us: row.get("latency_us"),
        serial: row.get("serial"),
        remote: row.get("remote_addr"),
        suppressed: row.get("suppressed"),
        lane: row.get("lane"),
        number: row.get("number"),
    }
}

#[cfg(test)]
mod tests;
