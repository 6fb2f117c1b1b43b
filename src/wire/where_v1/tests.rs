use mosaic_actors::domain::catalog::{Column, ResourceName};
use mosaic_actors::domain::fault::FaultKind;
use proptest::prelude::*;
use time::macros::{date, datetime};

use super::*;

const TEXT_CHARS_MAX: usize = 1_000;
const IN_VALUES_MAX: usize = 100;
const CONDITIONS_MAX: usize = 16;
const WHERE_BYTES_MAX: usize = 8_192;

fn resource() -> Resource {
    let column = |name: &str, kind, filterable| Column { name: name.into(), kind, filterable };
    Resource {
        name: ResourceName::parse("tasks").unwrap(),
        id_kind: ColumnKind::Uuid,
        columns: vec![
            column("status", ColumnKind::Text, true),
            column("priority", ColumnKind::Integer, true),
            column("score", ColumnKind::Float, true),
            column("done", ColumnKind::Bool, true),
            column("day", ColumnKind::Date, true),
            column("body", ColumnKind::Text, false),
            column("meta", ColumnKind::Json, true),
        ],
        searchable: Vec::new(),
        sensitive: false,
        writable: true,
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn parse(json: &str) -> Result<Filter, String> {
    parse_where(&raw(json), &resource()).map_err(|fault| {
        assert_eq!(fault.kind, FaultKind::InvalidRequest);
        fault.message.unwrap().into()
    })
}

fn one(json: &str) -> (Operator, Vec<FilterValue>) {
    let mut conditions = parse(json).unwrap().conditions;
    assert_eq!(conditions.len(), 1);
    let condition = conditions.remove(0);
    (condition.operator, condition.values)
}

#[test]
fn every_kind_takes_its_values() {
    use FilterValue as V;
    assert_eq!(one(r#"{"status":"open"}"#), (Operator::Equal, vec![V::Text("open".into())]));
    assert_eq!(one(r#"{"status":null}"#), (Operator::Equal, vec![V::Null]));
    assert_eq!(one(r#"{"priority":-3}"#), (Operator::Equal, vec![V::Integer(-3)]));
    assert_eq!(one(r#"{"score":{"gt":1}}"#), (Operator::GreaterThan, vec![V::Float(1.0)]));
    assert_eq!(one(r#"{"done":true}"#), (Operator::Equal, vec![V::Bool(true)]));
    assert_eq!(one(r#"{"day":{"lte":"2026-11-02"}}"#), (Operator::LessOrEqual, vec![V::Date(date!(2026 - 11 - 02))]));
    assert_eq!(
        one(r#"{"created_at":{"lt":"2026-11-02T10:30:00.5+01:00"}}"#),
        (Operator::LessThan, vec![V::Timestamp(datetime!(2026-11-02 09:30:00.5 UTC))])
    );
    assert_eq!(one(r#"{"status":{"in":["a","b"]}}"#), (Operator::In, vec![V::Text("a".into()), V::Text("b".into())]));
    assert_eq!(
        one(r#"{"team_id":"0198C8A0-5f4e-7cc3-98c4-dc0c0c07398f"}"#),
        (Operator::Equal, vec![V::Uuid(Uuid::parse_str("0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f").unwrap())])
    );
}

#[test]
fn equal_filters_are_equal_values() {
    assert_eq!(
        parse(r#"{"status":"x","priority":{"lt":9,"gte":1}}"#),
        parse(r#" { "priority" : {"gte":1, "lt":9}, "status" : "\u0078" } "#)
    );
}

#[test]
fn a_refusal_names_the_field_and_what_would_be_right() {
    for (json, expected) in [
        (r#"{"colour":"red"}"#, "where.colour: tasks has no such field"),
        (r#"{"body":"x"}"#, "where.body: this field cannot be filtered"),
        (r#"{"meta":1}"#, "where.meta: this field cannot be filtered"),
        (r#"{"status":1}"#, "where.status: takes a text"),
        (r#"{"status":["a"]}"#, "where.status: takes a text"),
        (r#"{"status":"a\u0000"}"#, "where.status: takes a text"),
        (r#"{"status":{"gte":null}}"#, "where.status: takes a text"),
        (r#"{"status":{"in":["a",null]}}"#, "where.status: takes a text"),
        (r#"{"status":{"in":"a"}}"#, "where.status: 'in' takes a list of values"),
        (r#"{"status":{}}"#, "where.status: names no comparison; use gte, gt, lte, lt or in"),
        (r#"{"status":{"like":"a"}}"#, "where.status: 'like' is no comparison; use gte, gt, lte, lt or in"),
        (r#"{"priority":1.5}"#, "where.priority: takes a whole number of at most 64 bits"),
        (r#"{"priority":"1"}"#, "where.priority: takes a whole number of at most 64 bits"),
        (r#"{"done":{"gt":true}}"#, "where.done: has no order to compare by; use a value or in"),
        (r#"{"status":"a","status":"b"}"#, "where: 'status' is given twice"),
        (r#"{"priority":{"lt":1,"lt":2}}"#, "where.priority: 'lt' is given twice"),
        (r#"["status"]"#, r#"where: must be an object such as {"status":"open"}"#),
        (r#""status""#, r#"where: must be an object such as {"status":"open"}"#),
        (r#"{"day":"2026-13-01"}"#, "where.day: takes a date such as \"2026-11-02\""),
        (r#"{"day":"+2026-11-01"}"#, "where.day: takes a date such as \"2026-11-02\""),
        (
            r#"{"created_at":"2026-11-02"}"#,
            "where.created_at: takes an RFC 3339 time of at most 6 fraction digits such as \"2026-11-02T09:30:00Z\"",
        ),
    ] {
        assert_eq!(parse(json), Err(expected.to_owned()), "{json}");
    }
}

#[test]
fn a_filter_is_bounded_in_every_direction() {
    let text = "ä".repeat(TEXT_CHARS_MAX);
    assert!(parse(&format!(r#"{{"status":"{text}"}}"#)).is_ok());
    assert_eq!(
        parse(&format!(r#"{{"status":"{text}ä"}}"#)),
        Err("where.status: is longer than 1000 characters".into())
    );

    let list = |count: usize| format!(r#"{{"priority":{{"in":[{}]}}}}"#, vec!["1"; count].join(","));
    assert!(parse(&list(IN_VALUES_MAX)).is_ok());
    assert_eq!(parse(&list(IN_VALUES_MAX + 1)), Err("where.priority: 'in' has more than 100 values".into()));

    let all = r#"{"gte":1,"gt":1,"lte":1,"lt":1,"in":[1]}"#;
    let text = r#"{"gte":"1","gt":"1","lte":"1","lt":"1","in":["1"]}"#;
    let most = format!(r#"{{"priority":{all},"score":{all},"status":{text},"done":true}}"#);
    assert_eq!(parse(&most).unwrap().conditions.len(), CONDITIONS_MAX);
    let more = format!(r#"{{"priority":{all},"score":{all},"status":{text},"done":true,"team_id":null}}"#);
    assert_eq!(parse(&more), Err("where: has more than 16 conditions".into()));
}

fn canonical(json: &str) -> Result<String, String> {
    canonical_where(&raw(json))
        .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        .map_err(|fault| fault.message.unwrap().into())
}

#[test]
fn the_canonical_form_is_one_spelling() {
    assert_eq!(
        canonical(r#" { "b" : {"lt": 2, "gte" :1} , "a":"\u0041\/" } "#),
        Ok(r#"{"a":"A/","b":{"gte":1,"lt":2}}"#.into())
    );
    assert_eq!(canonical("{}"), Ok("{}".into()));
    assert_eq!(canonical(r#"{"a":{"in":["x", null]}}"#), Ok(r#"{"a":{"in":["x",null]}}"#.into()));
}

#[test]
fn the_canonical_form_refuses_what_no_filter_is() {
    assert_eq!(canonical(r#"{"a":{"in":[[1]]}}"#), Err("where: is nested deeper than 3 levels".into()));
    assert_eq!(canonical(r#"{"a":{"b":1,"b":2}}"#), Err("where: 'b' is given twice".into()));
    assert_eq!(canonical("[1]"), Err(r#"where: must be an object such as {"status":"open"}"#.into()));
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(WHERE_BYTES_MAX));
    assert_eq!(canonical(&large), Err("where: is larger than 8192 bytes".into()));
}

proptest! {
    #[test]
    fn canonical_bytes_are_their_own_canonical_form(fields in proptest::collection::btree_map(".{0,8}", ".{0,8}", 0..6)) {
        let json = serde_json::to_string_pretty(&fields).unwrap();
        let first = canonical(&json).unwrap();
        prop_assert_eq!(canonical(&first).unwrap(), first.clone());
        let read: std::collections::BTreeMap<String, String> = serde_json::from_str(&first).unwrap();
        prop_assert_eq!(read, fields);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(json in "\\{\"(status|priority|created_at|day|x)\":[\\{\\}\\[\\]\"a-z0-9:,.TZ-]{0,40}\\}") {
        if let Ok(raw) = RawValue::from_string(json) {
            let _ = parse_where(&raw, &resource());
            let _ = canonical_where(&raw);
        }
    }
}
