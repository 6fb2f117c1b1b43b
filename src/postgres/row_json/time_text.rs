//! Times and dates from Postgres's numbers to RFC 3339, without a formatter in between.

use time::{Date, OffsetDateTime};

/// Microseconds from 1970 to 2000, where Postgres's clock starts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
/// 0001-01-01 and 9999-12-31 in days since 1970: the years that RFC 3339 can write and `time` can hold.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;
/// The Julian day number of 1970-01-01.
const JULIAN_1970: i64 = 2_440_588;

/// Microseconds since 1970; `None` for infinity and years that RFC 3339 cannot write.
pub(super) fn timestamp(bytes: &[u8]) -> Option<i64> {
    let micros = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_MICROS)?;
    DAYS.contains(&micros.div_euclid(DAY_MICROS)).then_some(micros)
}

/// Days since 1970.
pub(super) fn date(bytes: &[u8]) -> Option<i64> {
    let days = i64::from(i32::from_be_bytes(bytes.try_into().ok()?)) + EPOCH_DAYS;
    DAYS.contains(&days).then_some(days)
}

pub(super) fn offset_date_time(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()
}

/// `2026-11-02T09:30:00.000000Z`, always 27 bytes.
pub(super) fn write_timestamp(micros: i64, out: &mut Vec<u8>) {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put_date(micros.div_euclid(DAY_MICROS), &mut text);
    let of_day = micros.rem_euclid(DAY_MICROS);
    let seconds = of_day / 1_000_000;
    put(seconds / 3_600, &mut text[11..13]);
    put(seconds / 60 % 60, &mut text[14..16]);
    put(seconds % 60, &mut text[17..19]);
    put(of_day % 1_000_000, &mut text[20..26]);
    out.extend_from_slice(&text);
}

/// `2026-11-02`.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    let mut text = *b"0000-00-00";
    put_date(days, &mut text);
    out.extend_from_slice(&text);
}

fn put_date(days: i64, text: &mut [u8]) {
    let (year, month, day) = civil(days);
    put(year, &mut text[0..4]);
    put(month, &mut text[5..7]);
    put(day, &mut text[8..10]);
}

/// The last digits of a number, as many as there are places.
fn put(number: i64, places: &mut [u8]) {
    let mut rest = number;
    for place in places.iter_mut().rev() {
        // A digit is below 10.
        *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

/// Days since 1970 to year, month, day in the Gregorian calendar: Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The same text for a value of the program.
pub(crate) fn timestamp_text(at: OffsetDateTime) -> String {
    let mut out = Vec::with_capacity(27);
    let micros = at.unix_timestamp_nanos().div_euclid(1_000);
    write_timestamp(i64::try_from(micros).unwrap_or(0), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The same text for a value of the program.
pub(crate) fn date_text(day: Date) -> String {
    let mut out = Vec::with_capacity(10);
    write_date(i64::from(day.to_julian_day()) - JULIAN_1970, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
