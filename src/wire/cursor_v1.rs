//! Cursors: opaque, authenticated, and bound to what they continue. `base64url(payload ‖ tag)` without padding, where the tag
//! is the first 16 bytes of an HMAC-SHA256 over the payload and the binding. A cursor that was altered, made up, or taken from
//! another grant, resource or filter is one and the same 400.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::GrantId;
use mosaic_actors::domain::query::{Position, RowId};
use time::OffsetDateTime;

use crate::secrets::MacKey;

mod session;

#[cfg(test)]
mod tests;

pub use session::{SessionCursorBinding, decode_session_cursor, encode_session_cursor};

/// First byte of every payload; another value is a cursor of another version of this program.
const VERSION: u8 = 1;
/// Half of HMAC-SHA256: 128 bits, as RFC 2104 section 5 allows.
const TAG_BYTES: usize = 16;
/// Version and time before the id.
const HEAD_BYTES: usize = 1 + 8;
/// Longest cursor that is looked at: the longest id (200 characters of at most 4 bytes), in base64.
const PEER_CURSOR_CHARS_MAX: usize = (HEAD_BYTES + RowId::MAX_CHARS * 4 + TAG_BYTES) * 4 / 3 + 4;

/// What a peer's cursor continues: it means nothing to another grant, resource or filter.
#[derive(Debug, Clone, Copy)]
pub struct PeerCursorBinding<'a> {
    pub grant: GrantId,
    pub resource: &'a ResourceName,
    /// [`canonical_where`](super::where_v1::canonical_where); empty without a filter.
    pub filter: &'a [u8],
}

/// The cursor behind a row, for the peer that read it.
#[must_use]
pub fn encode_peer_cursor(key: &MacKey, binding: PeerCursorBinding<'_>, position: &Position) -> String {
    let mut payload = Vec::with_capacity(HEAD_BYTES + position.id.as_str().len() + TAG_BYTES);
    payload.push(VERSION);
    payload.extend_from_slice(&micros(position.created_at).to_be_bytes());
    payload.extend_from_slice(position.id.as_str().as_bytes());
    seal(key, payload, &peer_parts(&binding))
}

/// The position in a peer's cursor; 400 for any that this key did not make for this binding.
pub fn decode_peer_cursor(key: &MacKey, binding: PeerCursorBinding<'_>, cursor: &str) -> Result<Position, Fault> {
    let payload = open(key, cursor, PEER_CURSOR_CHARS_MAX, &peer_parts(&binding))?;
    position(&payload).ok_or_else(foreign)
}

fn peer_parts<'a>(binding: &'a PeerCursorBinding<'_>) -> [&'a [u8]; 4] {
    [b"peer", binding.grant.0.as_bytes(), binding.resource.as_str().as_bytes(), binding.filter]
}

fn position(payload: &[u8]) -> Option<Position> {
    let (head, id) = payload.split_at_checked(HEAD_BYTES)?;
    let (version, at) = head.split_first()?;
    let at = i64::from_be_bytes(at.try_into().ok()?);
    let created_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000).ok()?;
    let id = RowId::parse(std::str::from_utf8(id).ok()?).ok()?;
    (*version == VERSION).then_some(Position { created_at, id })
}

/// Microseconds since 1970: the precision that Postgres keeps.
fn micros(at: OffsetDateTime) -> i64 {
    // Years -9999 to 9999 are far inside 64 bits of microseconds.
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX)
}

fn seal(key: &MacKey, mut payload: Vec<u8>, binding: &[&[u8]]) -> String {
    let tag = key.tag(&bound(&payload, binding));
    payload.extend_from_slice(&tag[..TAG_BYTES]);
    URL_SAFE_NO_PAD.encode(payload)
}

fn open(key: &MacKey, cursor: &str, chars_max: usize, binding: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    if cursor.len() > chars_max {
        return Err(foreign());
    }
    let mut payload = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign())?;
    let split = payload.len().checked_sub(TAG_BYTES).ok_or_else(foreign)?;
    let tag = payload.split_off(split);
    if key.verify(&bound(&payload, binding), &tag) { Ok(payload) } else { Err(foreign()) }
}

fn bound<'a>(payload: &'a [u8], binding: &[&'a [u8]]) -> Vec<&'a [u8]> {
    std::iter::once(payload).chain(binding.iter().copied()).collect()
}

fn foreign() -> Fault {
    Fault::invalid("cursor: is not one that this query gave out; start again without a cursor")
}
