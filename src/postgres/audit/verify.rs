//! Looks for the first event that is not as it was written.
//!
//! First the chain: every seal follows from the one before, is signed, and covers exactly the events that are there. Then the tail
//! of every lane: events that no seal covers yet have digests and numbers. Then what may lie beside: events in no lane, and lanes
//! that end before their writer or a checkpoint says. All in one snapshot, in pages, so that neither the log's length nor what is
//! written meanwhile matters.
//!
//! What each kind of tampering runs into:
//! - an altered column: the digest, which needs the master secret; for a sealed event whose secret is gone, the root of its seal;
//! - a removed event: the numbers of its lane, which have no gaps;
//! - an inserted event: the digest, or the place that is taken;
//! - a moved event: its number is part of the digest, its `seq` of the seal;
//! - an altered or removed seal: signature, position and the digest in the next seal;
//! - a cut tail, seals included: a checkpoint kept elsewhere.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::{Pool, Transaction};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use time::OffsetDateTime;
use tokio_postgres::IsolationLevel;
use uuid::Uuid;

use super::event::{COLUMNS, Event, Stored};
use super::keys::AuditKeys;
use super::lanes::Lanes;
use super::merkle::Tree;
use super::seal::{BEFORE_SEALING, Checkpoint, NOTHING, SignedSeal, unpack_places};
use super::sealer::{LANES, OldEvents, verdict};
use crate::postgres::pool::OrFault;
use crate::secrets::{KeyId, MacVerdict};

const WHAT: &str = "verify the audit log";

/// Seals and unsealed events that are read together.
const SEALS_AT_ONCE: i64 = 256;
const EVENTS_AT_ONCE: i64 = 2_048;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Events that were looked at and are as they were written.
    pub sealed: u64,
    /// Not yet under a seal.
    pub unsealed: u64,
    /// From before there was sealing: as they were when it began.
    pub before_sealing: u64,
    /// Of the sealed ones, those whose digest was made with a master secret that is gone: only their seal vouches for them.
    pub by_seal_alone: u64,
    pub seals: u64,
    /// The chain's end.
    pub head: Option<Checkpoint>,
    /// The first thing that is wrong; nothing behind it was looked at.
    pub problem: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// What is known of the event; none when it is about seals.
    pub event: Option<EventName>,
    /// Position of the seal.
    pub seal: Option<i64>,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// An event is not as it was written.
    Altered,
    /// An event is gone.
    Missing,
    /// An event is there that this site did not write.
    Inserted,
    /// An event stands in another's place.
    Moved,
    /// The log ends before what is known to have been there.
    Cut,
    /// A seal is altered, missing or another's.
    Seal,
}

impl ProblemKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Inserted => "inserted",
            Self::Moved => "moved",
            Self::Cut => "cut",
            Self::Seal => "seal",
        }
    }
}

/// Names an event as well as it can be named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventName {
    pub lane: Option<Uuid>,
    pub number: Option<i64>,
    pub seq: Option<i64>,
    pub at: Option<OffsetDateTime>,
    pub request: Option<Uuid>,
}

impl EventName {
    fn of(stored: &Stored<'_>) -> Self {
        Self {
            lane: stored.event.lane,
            number: stored.event.number,
            seq: Some(stored.seq),
            at: Some(stored.event.at.time()),
            request: Some(stored.event.request),
        }
    }

    fn gone(lane: Uuid, number: i64) -> Self {
        Self { lane: Some(lane), number: Some(number), ..Self::default() }
    }
}

/// A problem, or that the database failed.
enum Stop {
    Problem(Box<Problem>),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Stop {
    fn event(kind: ProblemKind, event: EventName, detail: impl Into<String>) -> Self {
        Self::Problem(Box::new(Problem { kind, event: Some(event), seal: None, detail: detail.into() }))
    }

    fn seal(position: i64, detail: impl Into<String>) -> Self {
        Self::Problem(Box::new(Problem {
            kind: ProblemKind::Seal,
            event: None,
            seal: Some(position),
            detail: detail.into(),
        }))
    }

    fn under(mut self, position: i64) -> Self {
        if let Self::Problem(problem) = &mut self {
            problem.seal = Some(position);
        }
        self
    }
}

/// Verifies the whole log against itself and against `checkpoints` that were kept elsewhere.
pub(super) async fn verify(
    pool: &Pool,
    keys: &AuditKeys,
    lanes: &Lanes,
    checkpoints: &[Checkpoint],
) -> Result<Verification, Fault> {
    for checkpoint in checkpoints {
        check_checkpoint(keys, checkpoint)?;
    }
    // Before the snapshot: what is claimed must be in it.
    let claims = lanes.claims().into_iter().collect();
    let mut client = pool.get().await.or_fault(WHAT)?;
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .or_fault(WHAT)?;
    let mut run = Run { client: &transaction, keys, claims, sealed: BTreeMap::new(), found: Verification::default() };
    match run.all(checkpoints).await {
        Ok(()) => {}
        Err(Stop::Problem(problem)) => run.found.problem = Some(*problem),
        Err(Stop::Fault(fault)) => return Err(fault),
    }
    let found = run.found;
    transaction.rollback().await.or_fault(WHAT)?;
    Ok(found)
}

/// A checkpoint that is not what it says proves nothing.
fn check_checkpoint(keys: &AuditKeys, checkpoint: &Checkpoint) -> Result<(), Fault> {
    if checkpoint.site != keys.site {
        return Err(Fault::invalid(format!("checkpoint: is of site '{}', not of this one", checkpoint.site)));
    }
    let ours = keys.seals.public_key(checkpoint.key).is_none_or(|key| key == checkpoint.public_key);
    if !ours || !checkpoint.is_signed() {
        return Err(Fault::invalid("checkpoint: its signature is not this site's"));
    }
    Ok(())
}

struct Run<'a> {
    client: &'a Transaction<'a>,
    keys: &'a AuditKeys,
    claims: BTreeMap<Uuid, i64>,
    /// How far each lane is sealed, as far as the chain was walked.
    sealed: BTreeMap<Uuid, i64>,
    found: Verification,
}

impl Run<'_> {
    async fn all(&mut self, checkpoints: &[Checkpoint]) -> Result<(), Stop> {
        self.chain(checkpoints).await?;
        self.tails().await?;
        self.beside().await
    }

    async fn chain(&mut self, checkpoints: &[Checkpoint]) -> Result<(), Stop> {
        let sql =
            format!("SELECT {} FROM audit_seals WHERE position > $1 ORDER BY position LIMIT $2", SignedSeal::COLUMNS);
        let statement = self.client.prepare_cached(&sql).await.or_fault(WHAT)?;
        let mut link =
            Link { position: 0, events: 0, digest: NOTHING, ours: false, unknown: None, public_keys: HashMap::new() };
        loop {
            let rows = self.client.query(&statement, &[&link.position, &SEALS_AT_ONCE]).await.or_fault(WHAT)?;
            if rows.is_empty() {
                break;
            }
            for signed in rows.iter().map(SignedSeal::of) {
                link.follow(&signed, self.keys)?;
                compare(checkpoints, &link)?;
                self.events_of(&signed).await.map_err(|stop| stop.under(signed.seal.position))?;
                self.found.seals += 1;
                self.found.head = signed.checkpoint(&self.keys.site);
            }
        }
        if let Some(position) = link.unknown {
            return Err(Stop::seal(position, "it is signed with a key that is not this site's"));
        }
        match checkpoints.iter().filter(|kept| kept.position > link.position).max_by_key(|kept| kept.position) {
            None => Ok(()),
            Some(kept) => Err(Stop::Problem(Box::new(Problem {
                kind: ProblemKind::Cut,
                event: None,
                seal: Some(link.position + 1),
                detail: format!(
                    "the chain ends with seal {} and {} events; a checkpoint that was kept says seal {} and {} events",
                    link.position, link.events, kept.position, kept.events
                ),
            }))),
        }
    }

    /// The events that a seal covers, and nothing beside them.
    async fn events_of(&mut self, signed: &SignedSeal) -> Result<(), Stop> {
        let seal = &signed.seal;
        let altered = |what: &str| Stop::seal(seal.position, what);
        let Some(places) = unpack_places(&seal.places) else { return Err(altered("its places cannot be read")) };
        if seal.lane == BEFORE_SEALING {
            return self.before_sealing(signed, places.first().copied().unwrap_or(0)).await;
        }
        let sealed = self.sealed.get(&seal.lane).copied().unwrap_or(0);
        let covered = usize::try_from(seal.last - seal.first + 1).unwrap_or(0);
        if seal.first != sealed + 1 || covered == 0 || places.len() != covered {
            return Err(altered("it does not follow its lane's last seal"));
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM federation_audit_all WHERE lane = $1 AND number BETWEEN $2 AND $3 ORDER BY number, seq"
        );
        let statement = self.client.prepare_cached(&sql).await.or_fault(WHAT)?;
        let rows = self.client.query(&statement, &[&seal.lane, &seal.first, &seal.last]).await.or_fault(WHAT)?;
        let events: Vec<Stored<'_>> = rows.iter().map(Stored::of).collect();
        let mut tree = Tree::default();
        let (mut unknown, mut unknowns) = (None, 0);
        for (number, place) in (seal.first..=seal.last).zip(places) {
            let start = events.partition_point(|event| event.event.number < Some(number));
            let here: Vec<&Stored<'_>> =
                events[start..].iter().take_while(|event| event.event.number == Some(number)).collect();
            let event = self.the_one(seal.lane, number, place, &here).await?;
            match verdict(self.keys, event) {
                MacVerdict::Genuine => {}
                MacVerdict::Forged => return Err(self.forged(event, ProblemKind::Altered)),
                MacVerdict::UnknownKey => {
                    unknown.get_or_insert_with(|| EventName::of(event));
                    unknowns += 1;
                }
            }
            let [columns, rest] = event.leaf();
            tree.push(&[&columns, &rest]);
        }
        if tree.root().as_slice() != seal.root {
            let (first, last) = (seal.first, seal.last);
            return Err(match unknown.filter(|_| unknowns < covered) {
                Some(event) => Stop::event(ProblemKind::Altered, event, "it is not what was sealed"),
                None => Stop::event(
                    ProblemKind::Altered,
                    EventName::gone(seal.lane, first),
                    format!("one of the events {first} to {last} of this lane is not what was sealed"),
                ),
            });
        }
        self.found.sealed += covered as u64;
        self.found.by_seal_alone += unknowns as u64;
        self.sealed.insert(seal.lane, seal.last);
        Ok(())
    }

    /// Of the rows that claim a sealed number, the one that was sealed.
    async fn the_one<'e>(
        &self,
        lane: Uuid,
        number: i64,
        place: i64,
        here: &[&'e Stored<'e>],
    ) -> Result<&'e Stored<'e>, Stop> {
        let Some(sealed) = here.iter().find(|event| event.seq == place) else {
            let Some(other) = here.first() else { return Err(self.gone(lane, number, place).await?) };
            if verdict(self.keys, other) == MacVerdict::Genuine {
                let detail = match place {
                    0 => "it was gone when its place was sealed".to_owned(),
                    _ => format!("its seq was {place} when it was sealed"),
                };
                return Err(Stop::event(ProblemKind::Moved, EventName::of(other), detail));
            }
            return Err(self.forged(other, ProblemKind::Altered));
        };
        match here.iter().find(|event| event.seq != place) {
            None => Ok(sealed),
            Some(other) => {
                let detail = "its number is another event's, which was sealed";
                Err(Stop::event(ProblemKind::Inserted, EventName::of(other), detail))
            }
        }
    }

    /// What became of a sealed event that is not in its place.
    async fn gone(&self, lane: Uuid, number: i64, place: i64) -> Result<Stop, Fault> {
        if place == 0 {
            let detail = "it was gone before it was sealed, although it had been committed";
            return Ok(Stop::event(ProblemKind::Missing, EventName::gone(lane, number), detail));
        }
        let sql = format!("SELECT {COLUMNS} FROM federation_audit_all WHERE seq = $1");
        let rows = self.client.query(&sql, &[&place]).await.or_fault(WHAT)?;
        let Some(found) = rows.first().map(Stored::of) else {
            return Ok(Stop::event(
                ProblemKind::Missing,
                EventName { seq: Some(place), ..EventName::gone(lane, number) },
                "it was sealed, and is gone",
            ));
        };
        let was = EventName { lane: Some(lane), number: Some(number), ..EventName::of(&found) };
        let moved = Event { lane: Some(lane), number: Some(number), ..found.event };
        let kind = if found
            .key_id()
            .is_some_and(|key| self.keys.events.check(key, &[&moved.bytes()], found.digest) == MacVerdict::Genuine)
        {
            ProblemKind::Moved
        } else {
            ProblemKind::Altered
        };
        Ok(Stop::event(kind, was, "its lane or its number is not the one that it was sealed with"))
    }

    /// What there was when sealing began.
    async fn before_sealing(&mut self, signed: &SignedSeal, last_seq: i64) -> Result<(), Stop> {
        let seal = &signed.seal;
        let (mut pages, mut tree, mut count) = (OldEvents::default(), Tree::default(), 0_i64);
        loop {
            let rows = pages.next(&**self.client).await?;
            if rows.is_empty() {
                break;
            }
            for stored in rows.iter().map(Stored::of) {
                if stored.seq > last_seq {
                    let detail = "it has no digest, and is younger than sealing";
                    return Err(Stop::event(ProblemKind::Inserted, EventName::of(&stored), detail));
                }
                let [columns, rest] = stored.leaf();
                tree.push(&[&columns, &rest]);
                count += 1;
            }
        }
        let total = seal.last;
        let whole = tree.root().as_slice() == seal.root;
        if count != total || !whole {
            let kind = match count.cmp(&total) {
                std::cmp::Ordering::Less => ProblemKind::Missing,
                std::cmp::Ordering::Equal => ProblemKind::Altered,
                std::cmp::Ordering::Greater => ProblemKind::Inserted,
            };
            let detail =
                format!("of the {total} events from before sealing, {count} are there, and not all as they were");
            return Err(Stop::event(kind, EventName::default(), detail));
        }
        self.found.before_sealing = count.unsigned_abs();
        Ok(())
    }

    /// Events that no seal covers yet, lane by lane.
    async fn tails(&mut self) -> Result<(), Stop> {
        let rows = self.client.query(LANES, &[&BEFORE_SEALING]).await.or_fault(WHAT)?;
        let mut lanes: BTreeMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), 0)).collect();
        lanes.extend(&self.sealed);
        lanes.extend(self.claims.keys().filter(|lane| !self.sealed.contains_key(lane)).map(|lane| (*lane, 0)));
        let row = self.client.query_one("SELECT lane, next - 1 FROM audit_change_lane", &[]).await.or_fault(WHAT)?;
        let (changes, numbered): (Uuid, i64) = (row.get(0), row.get(1));
        lanes.entry(changes).or_insert(0);
        for (lane, sealed) in lanes {
            let own = self.claims.get(&lane).copied();
            let claim = own.or_else(|| (lane == changes).then_some(numbered)).unwrap_or(0);
            self.tail(lane, sealed, claim, own.is_some()).await?;
        }
        Ok(())
    }

    /// `claim`: the last number that is known to be there.
    async fn tail(&mut self, lane: Uuid, sealed: i64, claim: i64, own: bool) -> Result<(), Stop> {
        self.no_stray(lane).await?;
        let sql = format!(
            "SELECT {COLUMNS} FROM federation_audit_all
             WHERE lane = $1 AND number > $2 ORDER BY number, seq LIMIT $3"
        );
        let statement = self.client.prepare_cached(&sql).await.or_fault(WHAT)?;
        let (mut upto, mut before) = (sealed, None);
        loop {
            // One more than is needed: two rows of one number must not fall between two pages.
            let rows = self.client.query(&statement, &[&lane, &upto, &EVENTS_AT_ONCE]).await.or_fault(WHAT)?;
            if rows.is_empty() {
                break;
            }
            for stored in rows.iter().map(Stored::of) {
                self.next_of_tail(lane, &mut upto, &stored, (sealed, claim, own)).await?;
                before = Some(stored.seq);
            }
            let last: Option<i64> = before;
            self.no_twin(lane, upto, last).await?;
        }
        if upto < claim {
            let detail = "it was committed, and no seal covers it yet";
            return Err(Stop::event(ProblemKind::Missing, EventName::gone(lane, upto + 1), detail));
        }
        self.found.unsealed += (upto - sealed).unsigned_abs();
        Ok(())
    }

    async fn next_of_tail(
        &self,
        lane: Uuid,
        upto: &mut i64,
        stored: &Stored<'_>,
        (sealed, claim, own): (i64, i64, bool),
    ) -> Result<(), Stop> {
        let number = stored.event.number.unwrap_or(0);
        if verdict(self.keys, stored) != MacVerdict::Genuine {
            // A lane without a single event of ours, and a place behind the last that was given away, hold nothing of ours.
            let foreign = (sealed == 0 && *upto == 0 && claim == 0) || (own && number > claim) || number == *upto;
            let kind = if foreign { ProblemKind::Inserted } else { ProblemKind::Altered };
            return Err(self.forged(stored, kind));
        }
        if number == *upto {
            let detail = "another event has its number";
            return Err(Stop::event(ProblemKind::Inserted, EventName::of(stored), detail));
        }
        if number != *upto + 1 {
            let detail = "its lane goes on behind it, and it is gone";
            return Err(Stop::event(ProblemKind::Missing, EventName::gone(lane, *upto + 1), detail));
        }
        *upto = number;
        Ok(())
    }

    /// The last event of a page may have a twin on the next.
    async fn no_twin(&self, lane: Uuid, number: i64, seq: Option<i64>) -> Result<(), Stop> {
        let sql =
            format!("SELECT {COLUMNS} FROM federation_audit_all WHERE lane = $1 AND number = $2 AND seq <> $3 LIMIT 1");
        let rows = self.client.query(&sql, &[&lane, &number, &seq]).await.or_fault(WHAT)?;
        match rows.first().map(Stored::of) {
            None => Ok(()),
            Some(twin) => Err(Stop::event(ProblemKind::Inserted, EventName::of(&twin), "another event has its number")),
        }
    }

    /// Nothing of ours has a number below 1 or none.
    async fn no_stray(&self, lane: Uuid) -> Result<(), Stop> {
        for condition in ["number < 1", "number IS NULL"] {
            let sql = format!("SELECT {COLUMNS} FROM federation_audit_all WHERE lane = $1 AND {condition} LIMIT 1");
            let rows = self.client.query(&sql, &[&lane]).await.or_fault(WHAT)?;
            if let Some(stray) = rows.first().map(Stored::of) {
                return Err(self.forged(&stray, ProblemKind::Inserted));
            }
        }
        Ok(())
    }

    /// Events in no lane, where no seal tells how many there may be.
    async fn beside(&mut self) -> Result<(), Stop> {
        let zeros = format!("SELECT {COLUMNS} FROM federation_audit_all WHERE lane = $1 LIMIT 1");
        let rows = self.client.query(&zeros, &[&BEFORE_SEALING]).await.or_fault(WHAT)?;
        if let Some(stray) = rows.first().map(Stored::of) {
            return Err(self.forged(&stray, ProblemKind::Inserted));
        }
        if self.found.seals == 0 {
            let sql = "SELECT count(*) FROM federation_audit_all WHERE lane IS NULL";
            let count: i64 = self.client.query_one(sql, &[]).await.or_fault(WHAT)?.get(0);
            self.found.before_sealing = count.unsigned_abs();
        }
        Ok(())
    }

    /// An event whose digest is not one that this site made for it; perhaps for another place in its lane.
    fn forged(&self, stored: &Stored<'_>, otherwise: ProblemKind) -> Stop {
        const NEAR: i64 = 4_096;
        let name = EventName::of(stored);
        if let (Some(key), Some(number)) = (stored.key_id(), stored.event.number) {
            let near = (number.saturating_sub(NEAR)..=number.saturating_add(NEAR)).find(|candidate| {
                let there = Event { number: Some(*candidate), ..stored.event };
                self.keys.events.check(key, &[&there.bytes()], stored.digest) == MacVerdict::Genuine
            });
            if let Some(was) = near {
                return Stop::event(ProblemKind::Moved, name, format!("it was written as number {was} of its lane"));
            }
        }
        let detail = match verdict(self.keys, stored) {
            MacVerdict::UnknownKey => "its digest was made with a key that is not this site's",
            _ => "its digest is not one that this site made for it",
        };
        Stop::event(otherwise, name, detail)
    }
}

/// How far the chain was followed.
struct Link {
    position: i64,
    events: i64,
    digest: [u8; 32],
    /// One of the seals so far is signed with a key of ours.
    ours: bool,
    /// The first of the seals behind the last one that is signed with a key of ours.
    unknown: Option<i64>,
    public_keys: HashMap<KeyId, Option<[u8; 32]>>,
}

impl Link {
    fn follow(&mut self, signed: &SignedSeal, keys: &AuditKeys) -> Result<(), Stop> {
        let seal = &signed.seal;
        let position = self.position + 1;
        if seal.position != position {
            return Err(Stop::seal(position, "it is gone; the chain goes on behind it"));
        }
        if seal.previous != self.digest {
            let detail = if position == 1 {
                "it is not the beginning of the chain"
            } else {
                "it does not follow from the seal before it"
            };
            return Err(Stop::seal(position, detail));
        }
        if !signed.is_signed(&keys.site) {
            return Err(Stop::seal(position, "its signature is not of what it says"));
        }
        match KeyId::from_bytes(&signed.key)
            .and_then(|id| *self.public_keys.entry(id).or_insert_with(|| keys.seals.public_key(id)))
        {
            Some(ours) if ours.as_slice() == signed.public_key => (self.ours, self.unknown) = (true, None),
            Some(_) => return Err(Stop::seal(position, "it is signed with a key that is not this site's")),
            // Secrets go in their order: behind a seal of one that is known there is none of one that is gone.
            None if self.ours => {
                return Err(Stop::seal(position, "it is signed with a key that is not this site's"));
            }
            // Signed with a secret that is gone: what follows vouches for it.
            None => _ = self.unknown.get_or_insert(position),
        }
        let covered = seal.last.saturating_sub(seal.first).saturating_add(1);
        if seal.events != self.events.saturating_add(covered) {
            return Err(Stop::seal(position, "its count of events does not follow"));
        }
        *self = Self {
            position,
            events: seal.events,
            digest: seal.digest(&keys.site),
            ours: self.ours,
            unknown: self.unknown,
            public_keys: std::mem::take(&mut self.public_keys),
        };
        Ok(())
    }
}

/// The chain must go through every checkpoint that was kept.
fn compare(checkpoints: &[Checkpoint], link: &Link) -> Result<(), Stop> {
    match checkpoints.iter().find(|kept| kept.position == link.position && kept.seal != link.digest) {
        None => Ok(()),
        Some(_) => {
            Err(Stop::seal(link.position, "it is not the seal that a kept checkpoint says: the chain was made anew"))
        }
    }
}

/// The fault of a second verification at the same time.
pub(super) fn busy() -> Fault {
    Fault::new(FaultKind::Conflict, Stage::Request).with_message("a verification is under way; wait for its end")
}
