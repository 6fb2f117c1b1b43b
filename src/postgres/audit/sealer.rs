//! Seals what was written: every replica has a sealer, one of them works at a time.
//!
//! ```text
//! lanes with events that no seal covers ─▶ the next batch of each ─▶ Merkle root ─▶ seal: root, range, digest of the seal before
//!                                                                                    └▶ signed; the newest is kept in a file too
//! ```
//!
//! Whoever seals, seals every lane: what a replica that died has left behind is adopted by the next round of any other. An event
//! that is not as its writer left it, or gone although its writer knows it was committed, is sealed as such: the mark stays. Requests
//! never wait for a sealer: it reads committed rows, and the only lock that it takes is its own.
//!
//! What stands in the database may be anybody's. So a sealer goes on only from seals that are this site's: our signature over a seal
//! vouches for what it follows. Where the chain or a lane ends with another's seal it makes none, and says so every round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deadpool_postgres::Pool;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use time::OffsetDateTime;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::event::{COLUMNS, Micros, Stored};
use super::keys::AuditKeys;
use super::lanes::{LANE_AGE, Lanes};
use super::merkle::Tree;
use super::seal::{BEFORE_SEALING, Checkpoint, NOTHING, Seal, SignedSeal, pack_places};
use crate::postgres::pool::OrFault;
use crate::secrets::{KeyId, MacVerdict};

const WHAT: &str = "seal the audit log";

/// Chosen once, for all nodes of a database: the key of the advisory lock that the working sealer holds.
const SEAL_LOCK: i64 = 0x6d6f_7361_6963_6102;

/// Seals of one transaction: what a sealer that dies loses, and does again.
const SEALS_AT_ONCE: usize = 64;

/// Events of before sealing that are read together.
const OLD_EVENTS_AT_ONCE: i64 = 2_048;

/// What stands in a seal for an event that was not there, or not as it was written, when it was sealed.
pub(super) const BROKEN: &[u8] = b"mosaic audit: broken before it was sealed";

/// Lanes behind `$1`, and how far each is sealed. Walks the index from lane to lane.
pub(super) const LANES: &str = "
    WITH RECURSIVE lanes AS (
        (SELECT lane FROM federation_audit_all WHERE lane > $1 ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT next.lane FROM federation_audit_all next WHERE next.lane > lanes.lane ORDER BY next.lane LIMIT 1)
        FROM lanes WHERE lanes.lane IS NOT NULL
    )
    SELECT lane, COALESCE((SELECT max(last) FROM audit_seals WHERE audit_seals.lane = lanes.lane), 0)
    FROM lanes WHERE lane IS NOT NULL";

/// Seals that are read together on the way from a kept checkpoint to the chain's end.
const SEALS_TO_FOLLOW: i64 = 256;

/// How far the lane `$1` is sealed.
const SEALED: &str = "SELECT COALESCE(max(last), 0) FROM audit_seals WHERE lane = $1";

/// As with events: no seal is made with a master secret that is retired.
const INSERT: &str = "
    INSERT INTO audit_seals (position, at, lane, first, last, places, root, events, previous, key_id, public_key, signature)
    SELECT $1::bigint, $2::timestamptz, $3::uuid, $4::bigint, $5::bigint, $6::bytea, $7::bytea, $8::bigint, $9::bytea, $10::bytea,
           $11::bytea, $12::bytea
    WHERE NOT EXISTS (SELECT FROM master_secrets WHERE state = 'retired' AND key_id = $10)";

/// Makes seals. See the module.
#[derive(Clone)]
pub struct AuditSealer {
    pool: Pool,
    keys: AuditKeys,
    lanes: Arc<Lanes>,
    /// Most events of one seal.
    batch: usize,
}

/// What a round did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    pub seals: usize,
    pub events: u64,
    /// Events that were not there, or not as they were written.
    pub broken: u64,
    /// Lanes that wait for a master secret that this process does not have.
    pub held_up: usize,
    /// The newest seal, whichever replica made it.
    pub head: Option<Checkpoint>,
    /// Why no seal was made: what there is to go on from is not this site's, or gone.
    pub stopped: Option<String>,
}

/// How far back a round looks for lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookback {
    /// Every lane that ever was: after a start, and now and then.
    All,
    /// Lanes that may still grow.
    Recent,
}

impl Round {
    fn stopped(why: impl Into<String>) -> Self {
        Self { stopped: Some(why.into()), ..Self::default() }
    }
}

/// What a round goes on from.
#[derive(Clone, Copy)]
enum From<'a> {
    /// Whatever is there, or nothing.
    Anything,
    /// A chain that is known to be there; with what is known of it.
    Chain(Option<&'a Checkpoint>),
}

/// Who made a seal.
#[derive(PartialEq, Eq)]
enum Maker {
    Ours,
    /// Its signature is good, and of a secret that this process does not have.
    Unknown,
    Another,
}

/// Where the chain ends.
struct Head {
    position: i64,
    events: i64,
    digest: [u8; 32],
}

impl AuditSealer {
    pub(super) fn new(pool: Pool, keys: AuditKeys, lanes: Arc<Lanes>, batch: usize) -> Self {
        Self { pool, keys, lanes, batch }
    }

    /// Seals everything that is written by now. `None` when another replica is at it.
    pub async fn seal(&self, now: OffsetDateTime, lookback: Lookback) -> Result<Option<Round>, Fault> {
        self.rounds(now, lookback, From::Anything).await
    }

    /// The same where there was a chain already: it does not begin anew. `kept` is what is known of it, if that could be read.
    pub async fn go_on(
        &self,
        now: OffsetDateTime,
        lookback: Lookback,
        kept: Option<&Checkpoint>,
    ) -> Result<Option<Round>, Fault> {
        self.rounds(now, lookback, From::Chain(kept)).await
    }

    /// Whether the chain that ends with `head` goes through `kept`: seal for seal, each by the digest in the next. So it does not
    /// matter what else stood in the database meanwhile.
    pub async fn goes_through(&self, kept: &Checkpoint, head: &Checkpoint) -> Result<bool, Fault> {
        if kept == head {
            return Ok(true);
        }
        let client = self.pool.get().await.or_fault(WHAT)?;
        let sql = format!(
            "SELECT {} FROM audit_seals WHERE position BETWEEN $1 AND $2 ORDER BY position LIMIT $3",
            SignedSeal::COLUMNS
        );
        let (mut next, mut before) = (kept.position, None);
        while next <= head.position {
            let rows = client.query(&sql, &[&next, &head.position, &SEALS_TO_FOLLOW]).await.or_fault(WHAT)?;
            if rows.is_empty() {
                return Ok(false);
            }
            for seal in rows.iter().map(|row| SignedSeal::of(row).seal) {
                let digest = seal.digest(&self.keys.site);
                let follows = match before {
                    None => digest == kept.seal,
                    Some(before) => seal.previous == before,
                };
                let Some(after) = next.checked_add(1).filter(|_| follows && seal.position == next) else {
                    return Ok(false);
                };
                (next, before) = (after, Some(digest));
            }
        }
        Ok(before == Some(head.seal))
    }

    async fn rounds(&self, now: OffsetDateTime, lookback: Lookback, from: From<'_>) -> Result<Option<Round>, Fault> {
        let mut total = Round::default();
        loop {
            let Some((round, more)) = self.seal_some(now, lookback, from).await? else { return Ok(None) };
            total.seals += round.seals;
            total.events += round.events;
            total.broken += round.broken;
            total.held_up = round.held_up;
            total.head = round.head;
            total.stopped = round.stopped;
            if !more {
                return Ok(Some(total));
            }
        }
    }

    /// One transaction; whether there may be more to do.
    async fn seal_some(
        &self,
        now: OffsetDateTime,
        lookback: Lookback,
        from: From<'_>,
    ) -> Result<Option<(Round, bool)>, Fault> {
        // Before the database is looked at: what is claimed must then be there.
        let claims: BTreeMap<Uuid, i64> = self.lanes.claims().into_iter().collect();
        let mut client = self.pool.get().await.or_fault(WHAT)?;
        let transaction = client.transaction().await.or_fault(WHAT)?;
        let lock = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&SEAL_LOCK]).await.or_fault(WHAT)?;
        if !lock.get::<_, bool>(0) {
            return Ok(None);
        }
        let newest = newest_seal(&*transaction).await?;
        if let Some(why) = self.cannot_follow(newest.as_ref(), from) {
            return Ok(Some((Round::stopped(why), false)));
        }
        let lanes = self.lanes_to_seal(&*transaction, now, lookback, &claims).await?;
        if let Some(why) = self.lane_of_another(&*transaction, &lanes).await? {
            return Ok(Some((Round::stopped(why), false)));
        }
        let head = Head::of(newest.as_ref(), &self.keys);
        let mut work =
            Work { sealer: self, now: Micros::of(now), head, made: Round::default(), held_up: BTreeSet::new(), newest };
        let mut sealed = Vec::new();
        if work.head.position == 0 {
            work.seal_what_there_was(&*transaction).await?;
        }
        let mut more = false;
        for (lane, mut upto) in lanes {
            let claim = claims.get(&lane).copied().unwrap_or(0);
            while !more {
                let last = work.seal_next(&*transaction, lane, upto, claim).await?;
                if last == upto {
                    break;
                }
                upto = last;
                more = work.made.seals >= SEALS_AT_ONCE;
            }
            sealed.push((lane, upto));
        }
        transaction.commit().await.or_fault(WHAT)?;
        sealed.into_iter().for_each(|(lane, last)| self.lanes.sealed(lane, last));
        let mut made = work.made;
        made.held_up = work.held_up.len();
        made.head = work.newest.and_then(|newest| newest.checkpoint(&self.keys.site));
        Ok(Some((made, more)))
    }

    /// Why no seal can follow the newest one.
    fn cannot_follow(&self, newest: Option<&SignedSeal>, from: From<'_>) -> Option<String> {
        let Some(newest) = newest else {
            let gone = "the seals of the audit log are gone, although this node has kept a checkpoint of them";
            return matches!(from, From::Chain(_)).then(|| gone.to_owned());
        };
        let known = match from {
            From::Chain(Some(kept)) => kept.seal == newest.seal.digest(&self.keys.site),
            _ => false,
        };
        match self.maker(newest) {
            Maker::Ours => None,
            // Nothing was sealed since the secret changed: what was kept vouches for it.
            Maker::Unknown if known => None,
            _ => Some(format!("seal {}, the newest one, is not this site's", newest.seal.position)),
        }
    }

    /// Why a lane cannot be sealed further: what stands as its last seal is not this site's.
    async fn lane_of_another(
        &self,
        client: &impl GenericClient,
        lanes: &[(Uuid, i64)],
    ) -> Result<Option<String>, Fault> {
        let last = format!("SELECT {} FROM audit_seals WHERE lane = $1 AND last = $2", SignedSeal::COLUMNS);
        let last = client.prepare(&last).await.or_fault(WHAT)?;
        for (lane, upto) in lanes.iter().filter(|(_, upto)| *upto > 0) {
            for signed in client.query(&last, &[lane, upto]).await.or_fault(WHAT)?.iter().map(SignedSeal::of) {
                let good = match self.maker(&signed) {
                    Maker::Ours => true,
                    // Made with a secret that is gone: what follows vouches for it. A newest seal was looked at before.
                    Maker::Unknown => {
                        let digest = signed.seal.digest(&self.keys.site);
                        let next = "SELECT previous FROM audit_seals WHERE position > $1 ORDER BY position LIMIT 1";
                        let next = client.query_opt(next, &[&signed.seal.position]).await.or_fault(WHAT)?;
                        next.is_none_or(|row| row.get::<_, Vec<u8>>(0) == digest)
                    }
                    Maker::Another => false,
                };
                if !good {
                    let position = signed.seal.position;
                    return Ok(Some(format!("seal {position}, the last one of lane {lane}, is not this site's")));
                }
            }
        }
        Ok(None)
    }

    fn maker(&self, signed: &SignedSeal) -> Maker {
        let Some(id) = KeyId::from_bytes(&signed.key).filter(|_| signed.is_signed(&self.keys.site)) else {
            return Maker::Another;
        };
        match self.keys.seals.public_key(id) {
            Some(ours) if ours.as_slice() == signed.public_key => Maker::Ours,
            Some(_) => Maker::Another,
            None => Maker::Unknown,
        }
    }

    async fn lanes_to_seal(
        &self,
        client: &impl GenericClient,
        now: OffsetDateTime,
        lookback: Lookback,
        claims: &BTreeMap<Uuid, i64>,
    ) -> Result<Vec<(Uuid, i64)>, Fault> {
        let from = match lookback {
            Lookback::All => BEFORE_SEALING,
            // A lane's id begins with the time of its opening. Three ages: clocks of replicas differ.
            Lookback::Recent => first_lane_of(now - 3 * LANE_AGE),
        };
        let rows = client.query(LANES, &[&from]).await.or_fault(WHAT)?;
        let mut lanes: BTreeMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let changes = client.query_one("SELECT lane FROM audit_change_lane", &[]).await.or_fault(WHAT)?;
        for lane in claims.keys().copied().chain([changes.get(0)]) {
            if let std::collections::btree_map::Entry::Vacant(entry) = lanes.entry(lane) {
                entry.insert(client.query_one(SEALED, &[&lane]).await.or_fault(WHAT)?.get(0));
            }
        }
        Ok(lanes.into_iter().collect())
    }
}

/// A transaction's seals so far.
struct Work<'a> {
    sealer: &'a AuditSealer,
    now: Micros,
    head: Head,
    made: Round,
    held_up: BTreeSet<Uuid>,
    newest: Option<SignedSeal>,
}

impl Work<'_> {
    /// The first seal: over what was written before there were digests. From here on it cannot change unnoticed either.
    async fn seal_what_there_was(&mut self, client: &impl GenericClient) -> Result<(), Fault> {
        let mut pages = OldEvents::default();
        let (mut tree, mut events, mut last_seq) = (Tree::default(), 0, 0);
        loop {
            let rows = pages.next(client).await?;
            if rows.is_empty() {
                break;
            }
            for stored in rows.iter().map(Stored::of) {
                let [columns, rest] = stored.leaf();
                tree.push(&[&columns, &rest]);
                events += 1;
                last_seq = last_seq.max(stored.seq);
            }
        }
        self.put(client, BEFORE_SEALING, 1, events, &[last_seq], tree, 0).await
    }

    /// Seals what follows `upto` in a lane without a gap, at most a batch; the new end of what is sealed.
    async fn seal_next(
        &mut self,
        client: &impl GenericClient,
        lane: Uuid,
        upto: i64,
        claim: i64,
    ) -> Result<i64, Fault> {
        let batch = i64::try_from(self.sealer.batch).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT {COLUMNS} FROM federation_audit_all WHERE lane = $1 AND number > $2 AND number <= $3 ORDER BY number, seq"
        );
        let statement = client.prepare(&sql).await.or_fault(WHAT)?;
        let rows = client.query(&statement, &[&lane, &upto, &(upto.saturating_add(batch))]).await.or_fault(WHAT)?;
        let (mut events, mut strange) = (Vec::with_capacity(rows.len()), Vec::new());
        for event in rows.iter().map(Stored::of) {
            let said = verdict(&self.sealer.keys, &event);
            if said == MacVerdict::UnknownKey {
                strange.extend(event.event.number);
            }
            events.push((event, said == MacVerdict::Genuine));
        }
        // Beside a genuine event of its number it is nobody's.
        let has_genuine = |number: &i64| {
            let start = events.partition_point(|(event, _)| event.event.number < Some(*number));
            let mut of_number = events[start..].iter().take_while(|(event, _)| event.event.number == Some(*number));
            of_number.any(|(_, genuine)| *genuine)
        };
        let unknown = strange.into_iter().find(|number| !has_genuine(number));
        // What lies before a genuine event, or before what its writer knows of, was there: a lane has no gaps of its own.
        let known = events.iter().filter(|(_, genuine)| *genuine).filter_map(|(event, _)| event.event.number).max();
        let mut end = known.unwrap_or(upto).max(claim).min(upto.saturating_add(batch));
        // Made with a secret that this process does not have: whoever has it may seal it, and here nobody can say what it is.
        if let Some(unknown) = unknown {
            end = end.min(unknown - 1).max(upto);
            self.held_up.insert(lane);
        }
        if end <= upto {
            return Ok(upto);
        }
        let (mut tree, mut places, mut broken) = (Tree::default(), Vec::new(), 0);
        for number in upto + 1..=end {
            let start = events.partition_point(|(event, _)| event.event.number < Some(number));
            let mut of_number = events[start..].iter().take_while(|(event, _)| event.event.number == Some(number));
            let any = of_number.clone().next();
            match of_number.find(|(_, genuine)| *genuine) {
                Some((event, _)) => {
                    let [columns, rest] = event.leaf();
                    tree.push(&[&columns, &rest]);
                    places.push(event.seq);
                }
                None => {
                    tree.push(&[BROKEN]);
                    places.push(any.map_or(0, |(event, _)| event.seq));
                    broken += 1;
                }
            }
        }
        self.put(client, lane, upto + 1, end, &places, tree, broken).await?;
        Ok(end)
    }

    #[expect(clippy::too_many_arguments, reason = "a seal says this much")]
    async fn put(
        &mut self,
        client: &impl GenericClient,
        lane: Uuid,
        first: i64,
        last: i64,
        places: &[i64],
        tree: Tree,
        broken: u64,
    ) -> Result<(), Fault> {
        let events = last - first + 1;
        let (Some(position), Some(total)) = (self.head.position.checked_add(1), self.head.events.checked_add(events))
        else {
            return Err(Fault::new(FaultKind::Internal, Stage::Audit));
        };
        let seal = Seal {
            position,
            at: self.now,
            lane,
            first,
            last,
            places: pack_places(places),
            root: tree.root().to_vec(),
            events: total,
            previous: self.head.digest.to_vec(),
        };
        let signed = seal.sign(&self.sealer.keys);
        let seal = &signed.seal;
        let written = client
            .execute(
                INSERT,
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
            .or_fault(WHAT)?;
        if written == 0 {
            return Err(self.sealer.keys.are_retired());
        }
        self.head = Head::of(Some(&signed), &self.sealer.keys);
        self.made.seals += 1;
        self.made.events += events.unsigned_abs();
        self.made.broken += broken;
        self.newest = Some(signed);
        Ok(())
    }
}

/// Whether a row's digest is one that this site made for these columns.
pub(super) fn verdict(keys: &AuditKeys, stored: &Stored<'_>) -> MacVerdict {
    match stored.key_id() {
        Some(key) => keys.events.check(key, &[&stored.bytes], stored.digest),
        None => MacVerdict::Forged,
    }
}

/// Pages of what was written before there were digests.
#[derive(Default)]
pub(super) struct OldEvents {
    after: Option<(OffsetDateTime, i64)>,
}

impl OldEvents {
    pub(super) async fn next(&mut self, client: &impl GenericClient) -> Result<Vec<Row>, Fault> {
        let (at, seq) = self.after.unzip();
        let sql = format!(
            "SELECT {COLUMNS} FROM federation_audit_all
             WHERE lane IS NULL AND ($1::timestamptz IS NULL OR (at, seq) < ($1, $2::bigint))
             ORDER BY at DESC, seq DESC LIMIT $3"
        );
        let rows = client.query(&sql, &[&at, &seq, &OLD_EVENTS_AT_ONCE]).await.or_fault(WHAT)?;
        if let Some(last) = rows.last().map(Stored::of) {
            self.after = Some((last.event.at.time(), last.seq));
        }
        Ok(rows)
    }
}

impl Head {
    fn of(newest: Option<&SignedSeal>, keys: &AuditKeys) -> Self {
        match newest.map(|newest| &newest.seal) {
            None => Self { position: 0, events: 0, digest: NOTHING },
            Some(seal) => Self { position: seal.position, events: seal.events, digest: seal.digest(&keys.site) },
        }
    }
}

/// The newest seal, as what can be kept elsewhere.
pub(super) async fn newest_checkpoint(
    client: &impl GenericClient,
    keys: &AuditKeys,
) -> Result<Option<Checkpoint>, Fault> {
    Ok(newest_seal(client).await?.and_then(|newest| newest.checkpoint(&keys.site)))
}

pub(super) async fn newest_seal(client: &impl GenericClient) -> Result<Option<SignedSeal>, Fault> {
    let sql = format!("SELECT {} FROM audit_seals ORDER BY position DESC LIMIT 1", SignedSeal::COLUMNS);
    Ok(client.query_opt(&sql, &[]).await.or_fault("read the audit's seals")?.as_ref().map(SignedSeal::of))
}

/// The least id that a lane which was opened at `at` can have (RFC 9562 section 5.7: milliseconds first).
fn first_lane_of(at: OffsetDateTime) -> Uuid {
    let milliseconds = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}
