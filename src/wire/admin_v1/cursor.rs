//! Cursors of admin lists. They are opaque, not secret: an admin may see every row that a forged one could name.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mosaic_actors::domain::fault::Fault;
use time::OffsetDateTime;
use uuid::Uuid;

/// Where a list ordered by time goes on.
#[must_use]
pub fn encode_time_and_id(at: OffsetDateTime, id: Uuid) -> String {
    encode(&format!("{}:{id}", micros(at)))
}

pub fn decode_time_and_id(cursor: &str) -> Result<(OffsetDateTime, Uuid), Fault> {
    let text = decode(cursor)?;
    let (at, id) = text.split_once(':').ok_or_else(bad)?;
    Ok((time_of(at)?, id.parse().map_err(|_| bad())?))
}

/// Where the audit log goes on.
#[must_use]
pub fn encode_time_and_seq(at: OffsetDateTime, seq: i64) -> String {
    encode(&format!("{}:{seq}", micros(at)))
}

pub fn decode_time_and_seq(cursor: &str) -> Result<(OffsetDateTime, i64), Fault> {
    let text = decode(cursor)?;
    let (at, seq) = text.split_once(':').ok_or_else(bad)?;
    Ok((time_of(at)?, seq.parse().map_err(|_| bad())?))
}

/// Where a list ordered by name goes on.
#[must_use]
pub fn encode_name(name: &str) -> String {
    encode(name)
}

pub fn decode_name(cursor: &str) -> Result<String, Fault> {
    decode(cursor)
}

fn micros(at: OffsetDateTime) -> i128 {
    at.unix_timestamp_nanos() / 1_000
}

fn time_of(micros: &str) -> Result<OffsetDateTime, Fault> {
    let micros: i128 = micros.parse().map_err(|_| bad())?;
    let nanos = micros.checked_mul(1_000).ok_or_else(bad)?;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| bad())
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn decode(cursor: &str) -> Result<String, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    // Postgres has no NUL in texts; a cursor with one is not ours.
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(bad)
}

fn bad() -> Fault {
    Fault::invalid("cursor: is not one of this list; start again without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went_and_nothing_else_is_one() {
        let at = time::macros::datetime!(2026-11-23 12:34:56.789012 UTC);
        let id = Uuid::now_v7();
        assert_eq!(decode_time_and_id(&encode_time_and_id(at, id)), Ok((at, id)));
        assert_eq!(decode_time_and_seq(&encode_time_and_seq(at, 42)), Ok((at, 42)));
        assert_eq!(decode_name(&encode_name("ada")), Ok("ada".to_owned()));
        for bad_cursor in ["", "!!", "YQ", &encode("1:2:3"), &encode(&format!("{}:{id}", i128::MAX)), &encode("a\0b")] {
            assert_eq!(decode_time_and_id(bad_cursor), Err(bad()), "{bad_cursor:?}");
        }
    }
}
