//! An event as its row holds it, and the one sequence of bytes that stands for it.

use std::borrow::Cow;
use std::net::IpAddr;

use mosaic_actors::domain::audit::AuditEvent;
use mosaic_actors::domain::identity::{Serial, SiteName};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type, accepts};
use uuid::Uuid;

use crate::secrets::KeyId;

/// What Postgres counts times from.
const EPOCH: OffsetDateTime = datetime!(2000-01-01 0:00 UTC);

/// First of the bytes: names what they are of and how they are laid out.
const LABEL: &[u8] = b"mosaic audit event\x01";

/// A time as Postgres stores it. Any value of the column can be read, `infinity` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Micros(pub(super) i64);

impl Micros {
    /// Cut to microseconds just as the driver cuts what it sends.
    pub(super) fn of(at: OffsetDateTime) -> Self {
        Self(i64::try_from((at - EPOCH).whole_microseconds()).unwrap_or(i64::MAX))
    }

    /// The nearest time that there is.
    pub(super) fn time(self) -> OffsetDateTime {
        let end = if self.0 < 0 { time::PrimitiveDateTime::MIN } else { time::PrimitiveDateTime::MAX };
        EPOCH.checked_add(time::Duration::microseconds(self.0)).unwrap_or(end.assume_utc())
    }
}

impl FromSql<'_> for Micros {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

/// Every column of an event that its writer decides: all but `seq`, which the database gives, and the digest itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) at: Micros,
    pub(super) request: Uuid,
    pub(super) peer: Option<&'a str>,
    pub(super) grant: Option<Uuid>,
    pub(super) grant_version: Option<i64>,
    pub(super) subject: Option<Uuid>,
    pub(super) action: &'a str,
    pub(super) resource: Option<&'a str>,
    pub(super) query_hash: Option<&'a [u8]>,
    pub(super) outcome: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) rows: i32,
    pub(super) bytes_out: i64,
    pub(super) latency_us: i64,
    pub(super) serial: Option<&'a [u8]>,
    pub(super) remote: Option<IpAddr>,
    /// Bits of the address' network: all of them in what we write.
    pub(super) remote_bits: Option<i32>,
    pub(super) suppressed: i64,
    pub(super) lane: Option<Uuid>,
    pub(super) number: Option<i64>,
}

impl<'a> Event<'a> {
    /// What will stand in the row of an event.
    pub(super) fn of(event: &'a AuditEvent, lane: Uuid, number: i64) -> Self {
        Self {
            at: Micros::of(event.at),
            request: event.request.0,
            peer: event.peer.as_ref().map(SiteName::as_str),
            grant: event.grant.map(|grant| grant.0),
            grant_version: event.grant_version,
            subject: event.subject.map(|subject| subject.0),
            action: event.action.as_str(),
            resource: event.resource.as_ref().map(|resource| resource.as_str()),
            query_hash: event.query_hash.as_ref().map(<[u8; 32]>::as_slice),
            outcome: event.outcome.as_str(),
            reason: event.reason,
            rows: i32::try_from(event.rows).unwrap_or(i32::MAX),
            bytes_out: i64::try_from(event.bytes_out).unwrap_or(i64::MAX),
            latency_us: i64::try_from(event.latency.as_micros()).unwrap_or(i64::MAX),
            serial: event.serial.as_ref().map(Serial::as_bytes),
            remote: event.remote,
            remote_bits: event.remote.map(|address| if address.is_ipv4() { 32 } else { 128 }),
            suppressed: i64::try_from(event.suppressed).unwrap_or(i64::MAX),
            lane: Some(lane),
            number: Some(number),
        }
    }

    /// The one sequence of bytes that stands for these columns: each is absent (0) or present (1) with its length before it, so
    /// that no two events share one and nothing can move from one column to the next.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Bytes(Vec::with_capacity(384));
        out.0.extend_from_slice(LABEL);
        out.put(Some(&self.at.0.to_be_bytes()));
        out.put(Some(self.request.as_bytes()));
        out.put(self.peer.map(str::as_bytes));
        out.put(self.grant.as_ref().map(|grant| grant.as_bytes().as_slice()));
        out.number(self.grant_version);
        out.put(self.subject.as_ref().map(|subject| subject.as_bytes().as_slice()));
        out.put(Some(self.action.as_bytes()));
        out.put(self.resource.map(str::as_bytes));
        out.put(self.query_hash);
        out.put(Some(self.outcome.as_bytes()));
        out.put(self.reason.map(str::as_bytes));
        out.number(Some(self.rows.into()));
        out.number(Some(self.bytes_out));
        out.number(Some(self.latency_us));
        out.put(self.serial);
        match self.remote {
            None => out.put(None),
            Some(IpAddr::V4(address)) => out.put(Some(&address.octets())),
            Some(IpAddr::V6(address)) => out.put(Some(&address.octets())),
        }
        out.number(self.remote_bits.map(i64::from));
        out.number(Some(self.suppressed));
        out.put(self.lane.as_ref().map(|lane| lane.as_bytes().as_slice()));
        out.number(self.number);
        out.0
    }
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.0.push(0),
            Some(value) => {
                self.0.push(1);
                self.0.extend_from_slice(&(value.len() as u64).to_be_bytes());
                self.0.extend_from_slice(value);
            }
        }
    }

    fn number(&mut self, value: Option<i64>) {
        self.put(value.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }
}

/// The columns of [`Stored::of`], in its order.
pub(super) const COLUMNS: &str = "
    seq, at, request_id, peer, grant_id, grant_version, subject_user_id, action, resource, query_hash, outcome, reason, rows,
    bytes_out, latency_us, serial, remote_addr, masklen(remote_addr), suppressed, lane, number, key_id, digest";

/// A row of the log, whoever wrote it.
pub(super) struct Stored<'a> {
    pub(super) seq: i64,
    pub(super) event: Event<'a>,
    /// [`Event::bytes`], which both its digest and its leaf are made of.
    pub(super) bytes: Vec<u8>,
    pub(super) key: &'a [u8],
    pub(super) digest: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        let event = Event {
            at: row.get(1),
            request: row.get(2),
            peer: row.get(3),
            grant: row.get(4),
            grant_version: row.get(5),
            subject: row.get(6),
            action: row.get(7),
            resource: row.get(8),
            query_hash: row.get(9),
            outcome: row.get(10),
            reason: row.get(11),
            rows: row.get(12),
            bytes_out: row.get(13),
            latency_us: row.get(14),
            serial: row.get(15),
            remote: row.get(16),
            remote_bits: row.get(17),
            suppressed: row.get(18),
            lane: row.get(19),
            number: row.get(20),
        };
        let bytes = |column| row.get::<_, Option<&[u8]>>(column).unwrap_or_default();
        Self { seq: row.get(0), bytes: event.bytes(), event, key: bytes(21), digest: bytes(22) }
    }

    /// `None` when the column holds no id at all.
    pub(super) fn key_id(&self) -> Option<KeyId> {
        KeyId::from_bytes(self.key)
    }

    /// What is hashed into a seal: the columns, their digest, and what the database gave.
    pub(super) fn leaf(&self) -> [Cow<'_, [u8]>; 2] {
        let mut end = Bytes(Vec::with_capacity(80));
        end.number(Some(self.seq));
        end.put(Some(self.key));
        end.put(Some(self.digest));
        [Cow::Borrowed(&self.bytes), Cow::Owned(end.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event<'static> {
        Event {
            at: Micros(1),
            request: Uuid::nil(),
            peer: None,
            grant: None,
            grant_version: None,
            subject: None,
            action: "list",
            resource: None,
            query_hash: None,
            outcome: "allowed",
            reason: None,
            rows: 0,
            bytes_out: 0,
            latency_us: 0,
            serial: None,
            remote: None,
            remote_bits: None,
            suppressed: 0,
            lane: None,
            number: None,
        }
    }

    #[test]
    fn no_two_events_share_their_bytes() {
        let different = [
            event(),
            Event { peer: Some(""), ..event() },
            Event { peer: Some("home"), ..event() },
            Event { resource: Some("home"), ..event() },
            Event { reason: Some("home"), ..event() },
            Event { action: "lista", outcome: "llowed", ..event() },
            Event { query_hash: Some(b"ab"), ..event() },
            Event { serial: Some(b"ab"), ..event() },
            Event { serial: Some(b""), ..event() },
            Event { rows: 1, ..event() },
            Event { bytes_out: 1, ..event() },
            Event { latency_us: 1, ..event() },
            Event { suppressed: 1, ..event() },
            Event { number: Some(0), ..event() },
            Event { grant_version: Some(0), ..event() },
            Event { grant: Some(Uuid::nil()), ..event() },
            Event { subject: Some(Uuid::nil()), ..event() },
            Event { lane: Some(Uuid::nil()), ..event() },
            Event { remote: "0.0.0.1".parse().ok(), ..event() },
            Event { remote: "::1".parse().ok(), ..event() },
            Event { remote_bits: Some(32), ..event() },
            Event { at: Micros(2), ..event() },
            Event { request: Uuid::max(), ..event() },
        ];
        let bytes: std::collections::BTreeSet<Vec<u8>> = different.iter().map(Event::bytes).collect();
        assert_eq!(bytes.len(), different.len());
    }

    #[test]
    fn any_time_of_the_column_is_read() {
        assert_eq!(Micros(0).time(), EPOCH);
        let at = datetime!(2026-11-28 03:04:05.678_901_999 UTC);
        assert_eq!(Micros::of(at).time(), datetime!(2026-11-28 03:04:05.678_901 UTC));
        assert_eq!(Micros(i64::MAX).time().year(), 9999, "infinity");
        assert_eq!(Micros(i64::MIN).time().year(), -9999);
    }
}
