//! Rows from Postgres's binary form to JSON bytes, without a value in between.
//!
//! Binary forms are those of the server's `*send` functions (PostgreSQL source, `src/backend/utils/adt`). What a form cannot
//! say in JSON (not a number, infinity, a time outside of years 1 to 9999) is `null`.

use std::error::Error;

use bytes::Bytes;
use mosaic_actors::domain::answer::{Page, RowIndex};
use mosaic_actors::domain::identity::{TeamId, UserId};
use mosaic_actors::domain::query::{Position, RowId};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use super::catalog::{Storage, TableMap};

pub(crate) mod text;
mod time_text;

#[cfg(test)]
mod tests;

pub(crate) use time_text::{date_text, timestamp_text};

/// A row whose bytes are not of the type that the catalog found at boot: the table changed under us.
#[derive(Debug, thiserror::Error)]
#[error("column {column} of '{resource}' does not have the form that it had at boot")]
pub(crate) struct FormChanged {
    resource: String,
    column: usize,
}

/// A column as it came, whatever its type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Fills one page's buffer, row by row, in the order in which the rows arrive.
pub(crate) struct PageWriter<'a> {
    table: &'a TableMap,
    out: Vec<u8>,
    rows: Vec<RowIndex>,
}

impl<'a> PageWriter<'a> {
    pub(crate) fn new(table: &'a TableMap, rows: usize) -> Self {
        // A row of the built-in resources is a few hundred bytes; the buffer grows where that is wrong.
        Self { table, out: Vec::with_capacity(rows.min(1_000) * 384), rows: Vec::with_capacity(rows.min(1_000)) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Writes a row whose columns are those of [`row_columns`](super::read_sql::row_columns).
    pub(crate) fn push(&mut self, row: &Row) -> Result<(), FormChanged> {
        let comma = !self.out.is_empty();
        if comma {
            self.out.push(b',');
        }
        let start = self.out.len();
        match self.write(row) {
            Ok((position, owner, team)) => {
                self.rows.push(RowIndex { position, range: start..self.out.len(), owner, team });
                Ok(())
            }
            Err(column) => {
                self.out.truncate(start - usize::from(comma));
                Err(FormChanged { resource: self.table.resource.name.to_string(), column })
            }
        }
    }

    /// Takes the last row back.
    pub(crate) fn pop(&mut self) {
        if self.rows.pop().is_some() {
            self.out.truncate(self.rows.last().map_or(0, |row| row.range.end));
        }
    }

    pub(crate) fn finish(self, more: bool) -> Page {
        Page { json: Bytes::from(self.out), rows: self.rows, more }
    }

    /// The failing column's index on an error.
    fn write(&mut self, row: &Row) -> Result<(Position, Option<UserId>, Option<TeamId>), usize> {
        let Self { table, out, .. } = self;
        let at = raw(row, 0)?.and_then(time_text::timestamp).ok_or(0_usize)?;
        let id = raw(row, 1)?.and_then(|bytes| key_text(bytes, &table.id.storage)).ok_or(1_usize)?;
        let id = RowId::parse(&id).map_err(|_| 1_usize)?;
        let (owner, team) = (raw(row, 2)?, raw(row, 3)?);

        out.extend_from_slice(b"{\"id\":");
        text::write_string(id.as_str(), out);
        out.extend_from_slice(b",\"created_at\":\"");
        time_text::write_timestamp(at, out);
        out.extend_from_slice(b"\",\"owner_id\":");
        let owner = write_key(owner, &table.owner.storage, out).ok_or(2_usize)?.map(UserId);
        out.extend_from_slice(b",\"team_id\":");
        let team_storage = table.team.as_ref().map_or(&Storage::Uuid, |team| &team.storage);
        let team = write_key(team, team_storage, out).ok_or(3_usize)?.map(TeamId);
        for (index, column) in table.columns.iter().enumerate() {
            out.extend_from_slice(&column.before_value);
            match raw(row, index + 4)? {
                Some(bytes) => write_value(bytes, &column.storage, out).ok_or(index + 4)?,
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b",\"_source\":\"local\"}");
        let created_at = time_text::offset_date_time(at).ok_or(0_usize)?;
        Ok((Position { created_at, id }, owner, team))
    }
}

/// What stands in a row's JSON before the value of a field behind the first: from the comma to the colon.
pub(crate) fn before_value(field: &str) -> Box<[u8]> {
    let mut out = vec![b','];
    text::write_string(field, &mut out);
    out.push(b':');
    out.into()
}

fn raw(row: &Row, index: usize) -> Result<Option<&[u8]>, usize> {
    row.try_get::<_, Option<Raw<'_>>>(index).map(|raw| raw.map(|raw| raw.0)).map_err(|_| index)
}

/// An id as it stands on the wire.
fn key_text(bytes: &[u8], storage: &Storage) -> Option<String> {
    Some(match storage {
        Storage::Uuid => Uuid::from_slice(bytes).ok()?.hyphenated().to_string(),
        Storage::Int4 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Storage::Int8 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        _ => text::text_of(bytes).into_owned(),
    })
}

/// Writes an owner or team; returns its id if it is one of ours. The outer `None`: the bytes are no such key.
fn write_key(bytes: Option<&[u8]>, storage: &Storage, out: &mut Vec<u8>) -> Option<Option<Uuid>> {
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"null");
        return Some(None);
    };
    write_value(bytes, storage, out)?;
    match storage {
        Storage::Uuid => Uuid::from_slice(bytes).ok().map(Some),
        // A text that is no canonical id was not selected by one either.
        _ => Some(std::str::from_utf8(bytes).ok().and_then(canonical_uuid)),
    }
}

fn canonical_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    (*uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text).then_some(uuid)
}

/// `None`: the bytes do not have the form of the type.
fn write_value(bytes: &[u8], storage: &Storage, out: &mut Vec<u8>) -> Option<()> {
    match storage {
        Storage::Text { .. } | Storage::Enum { .. } => text::write_string(&text::text_of(bytes), out),
        Storage::Uuid => {
            let uuid = Uuid::from_slice(bytes).ok()?;
            out.push(b'"');
            out.extend_from_slice(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
            out.push(b'"');
        }
        Storage::Bool => out.extend_from_slice(if *bytes.first()? == 0 { b"false" } else { b"true" }),
        Storage::Int2 => write_integer(i16::from_be_bytes(bytes.try_into().ok()?), out),
        Storage::Int4 => write_integer(i32::from_be_bytes(bytes.try_into().ok()?), out),
        Storage::Int8 => write_integer(i64::from_be_bytes(bytes.try_into().ok()?), out),
        Storage::Float4 => write_float(f32::from_be_bytes(bytes.try_into().ok()?), out),
        Storage::Float8 => write_float(f64::from_be_bytes(bytes.try_into().ok()?), out),
        Storage::Numeric => write_numeric(bytes, out),
        Storage::Timestamptz => match time_text::timestamp(bytes) {
            Some(at) => {
                out.push(b'"');
                time_text::write_timestamp(at, out);
                out.push(b'"');
            }
            None if bytes.len() == 8 => out.extend_from_slice(b"null"),
            None => return None,
        },
        Storage::Date => match time_text::date(bytes) {
            Some(day) => {
                out.push(b'"');
                time_text::write_date(day, out);
                out.push(b'"');
            }
            None if bytes.len() == 4 => out.extend_from_slice(b"null"),
            None => return None,
        },
        Storage::Json => text::write_json(bytes, out),
        Storage::Jsonb => match bytes.split_first()? {
            (1, json) => text::write_json(json, out),
            _ => return None,
        },
        Storage::TextArray => write_text_list(bytes, out)?,
    }
    Some(())
}

fn write_integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The shortest digits that read back as the same number.
fn write_float(number: impl ryu::Float + Into<f64> + Copy, out: &mut Vec<u8>) {
    if number.into().is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format(number).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// A numeric arrives as text, because only that keeps all its digits: a JSON number, except for NaN and the infinities.
fn write_numeric(text: &[u8], out: &mut Vec<u8>) {
    if text.last().is_some_and(u8::is_ascii_digit) {
        out.extend_from_slice(text);
    } else {
        out.extend_from_slice(b"null");
    }
}

fn write_text_list(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    use postgres_protocol::types::array_from_sql;
    use tokio_postgres::fallible_iterator::FallibleIterator as _;
    let array = array_from_sql(bytes).ok()?;
    let mut values = array.values();
    out.push(b'[');
    let mut first = true;
    while let Some(value) = values.next().ok()? {
        if !first {
            out.push(b',');
        }
        first = false;
        match value {
            Some(text) => text::write_string(&text::text_of(text), out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b']');
    Some(())
}
