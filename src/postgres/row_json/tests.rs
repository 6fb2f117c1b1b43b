use proptest::prelude::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::{date, datetime};

use super::text::{write_json, write_string};
use super::*;

fn string(text: &str) -> String {
    let mut out = Vec::new();
    write_string(text, &mut out);
    String::from_utf8(out).unwrap()
}

fn value(bytes: &[u8], storage: &Storage) -> Option<String> {
    let mut out = Vec::new();
    write_value(bytes, storage, &mut out)?;
    Some(String::from_utf8(out).unwrap())
}

#[test]
fn strings_are_escaped_as_json_and_as_one_line() {
    assert_eq!(string("a\"b\\c/d"), r#""a\"b\\c/d""#);
    assert_eq!(string("\n\r\t\u{8}\u{c}\u{0}\u{1f}"), r#""\n\r\t\b\f\u0000\u001f""#);
    assert_eq!(string("x\u{2028}y\u{2029}z"), r#""x\u2028y\u2029z""#);
    assert_eq!(string("äöü € 🦀 \u{2027}\u{202a}"), "\"äöü € 🦀 \u{2027}\u{202a}\"");
    assert_eq!(string(""), r#""""#);
}

#[test]
fn json_of_the_database_stays_on_one_line() {
    let mut out = Vec::new();
    write_json(b"{\n\t\"a\": [1,\r\n 2.50]}", &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "{  \"a\": [1,   2.50]}");
    assert_eq!(value(b"\x01{\"a\": 1}", &Storage::Jsonb).as_deref(), Some("{\"a\": 1}"));
    assert_eq!(value(b"\x02{}", &Storage::Jsonb), None);
}

#[test]
fn numbers_that_json_has_no_word_for_are_null() {
    assert_eq!(value(&f64::NAN.to_be_bytes(), &Storage::Float8).as_deref(), Some("null"));
    assert_eq!(value(&f32::INFINITY.to_be_bytes(), &Storage::Float4).as_deref(), Some("null"));
    assert_eq!(value(b"NaN", &Storage::Numeric).as_deref(), Some("null"));
    assert_eq!(value(b"-Infinity", &Storage::Numeric).as_deref(), Some("null"));
    assert_eq!(value(b"12345678901234567890.10", &Storage::Numeric).as_deref(), Some("12345678901234567890.10"));
    assert_eq!(value(&0.1_f32.to_be_bytes(), &Storage::Float4).as_deref(), Some("0.1"));
    assert_eq!(value(&(-2.5e300_f64).to_be_bytes(), &Storage::Float8).as_deref(), Some("-2.5e300"));
    assert_eq!(value(&i64::MIN.to_be_bytes(), &Storage::Int8).as_deref(), Some("-9223372036854775808"));
    assert_eq!(value(&[0, 1], &Storage::Int4), None);
}

#[test]
fn times_outside_of_rfc_3339_are_null() {
    for micros in [i64::MAX, i64::MIN, 400_000_000_000_000_000] {
        assert_eq!(value(&micros.to_be_bytes(), &Storage::Timestamptz).as_deref(), Some("null"));
    }
    for days in [i32::MAX, i32::MIN, 3_000_000] {
        assert_eq!(value(&days.to_be_bytes(), &Storage::Date).as_deref(), Some("null"));
    }
    assert_eq!(value(&0_i64.to_be_bytes(), &Storage::Timestamptz).as_deref(), Some("\"2000-01-01T00:00:00.000000Z\""));
    assert_eq!(value(&59_i32.to_be_bytes(), &Storage::Date).as_deref(), Some("\"2000-02-29\""));
    assert_eq!(timestamp_text(datetime!(0001-01-01 0:00 UTC)), "0001-01-01T00:00:00.000000Z");
    assert_eq!(timestamp_text(datetime!(9999-12-31 23:59:59.999999 UTC)), "9999-12-31T23:59:59.999999Z");
    assert_eq!(date_text(date!(2026 - 11 - 02)), "2026-11-02");
}

proptest! {
    #[test]
    fn every_string_reads_back(text in any::<String>()) {
        let json = string(&text);
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        prop_assert!(json.bytes().all(|byte| byte >= 0x20));
    }

    #[test]
    fn every_time_reads_back(micros in -62_135_596_800_000_000_i64..=253_402_300_799_999_999) {
        let at = time_text::offset_date_time(micros).unwrap();
        let text = timestamp_text(at);
        prop_assert_eq!(text.len(), 27);
        prop_assert_eq!(OffsetDateTime::parse(&text, &Rfc3339).unwrap(), at);
        prop_assert_eq!(date_text(at.date()), &text[..10]);
    }
}
