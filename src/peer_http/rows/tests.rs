use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn list(body: &Value, limit: usize) -> Result<(Vec<Value>, bool, Option<String>), RowsError> {
    list_bytes(body.to_string().as_bytes(), limit)
}

fn list_bytes(body: &[u8], limit: usize) -> Result<(Vec<Value>, bool, Option<String>), RowsError> {
    let peer = SiteName::parse("work").unwrap();
    let (page, cursor) = parse_list(body, Expected { peer: &peer, resource: "tasks", depth: 32 }, limit)?;
    let rows = page.rows.iter().map(|row| serde_json::from_slice(&page.row_json(row)).unwrap()).collect();
    let whole: Vec<Value> = serde_json::from_str(&format!("[{}]", std::str::from_utf8(&page.json).unwrap())).unwrap();
    assert_eq!(whole, rows, "the page is its rows joined by commas");
    Ok((rows, page.more, cursor.map(Into::into)))
}

fn row(id: &str, second: u8) -> Value {
    json!({"id": id, "created_at": format!("2026-11-01T10:00:{second:02}.000000Z"), "title": "t", "_source": "local"})
}

fn answer(items: &[Value]) -> Value {
    json!({"items": items, "_truncated": false})
}

#[test]
fn rows_carry_the_pinned_name_whatever_the_peer_sent() {
    let mut lying = row("a", 2);
    lying["_source"] = json!("local\",\"admin\":\"");
    lying["_score"] = json!(9);
    let (rows, more, cursor) = list(&answer(&[lying, row("b", 1)]), 2).unwrap();
    assert_eq!(
        rows,
        [
            json!({"id": "a", "created_at": "2026-11-01T10:00:02.000000Z", "title": "t", "_source": "work"}),
            json!({"id": "b", "created_at": "2026-11-01T10:00:01.000000Z", "title": "t", "_source": "work"}),
        ]
    );
    assert_eq!((more, cursor), (false, None));
}

#[test]
fn a_cursor_or_a_truncated_answer_says_that_more_rows_exist() {
    let mut body = answer(&[row("a", 1)]);
    body["next_cursor"] = json!("opaque");
    body["_truncated"] = json!(true);
    body["unknown"] = json!({"ignored": [1, 2]});
    let (_, more, cursor) = list(&body, 1).unwrap();
    assert_eq!((more, cursor.as_deref()), (true, Some("opaque")));
}

#[test]
fn an_answer_that_lies_is_refused_as_a_whole() {
    let other = json!({"id": "b", "created_at": "2026-11-01T10:00:00Z", "_resource": "credentials"});
    let cases = [
        (answer(&[row("a", 2), row("b", 1), row("c", 0)]), RowsError::TooManyRows),
        (answer(&[row("a", 2), row("a", 1)]), RowsError::DuplicateRow),
        (answer(&[row("a", 1), row("b", 2)]), RowsError::Order),
        (answer(&[json!({"created_at": "2026-11-01T10:00:00Z"})]), RowsError::Id),
        (answer(&[json!({"id": 7, "created_at": "2026-11-01T10:00:00Z"})]), RowsError::Id),
        (answer(&[json!({"id": "", "created_at": "2026-11-01T10:00:00Z"})]), RowsError::Id),
        (answer(&[json!({"id": "x".repeat(201), "created_at": "2026-11-01T10:00:00Z"})]), RowsError::Id),
        (answer(&[json!({"id": "a"})]), RowsError::CreatedAt),
        (answer(&[json!({"id": "a", "created_at": 0})]), RowsError::CreatedAt),
        (answer(&[json!({"id": "a", "created_at": "yesterday"})]), RowsError::CreatedAt),
        (answer(&[other]), RowsError::Resource),
        (answer(&[json!("row")]), RowsError::Shape),
        (answer(&[json!(null)]), RowsError::Shape),
        (json!({"items": [row("a", 1)]}), RowsError::Shape),
        (json!({"_truncated": false}), RowsError::Shape),
        (json!({"items": {}, "_truncated": false}), RowsError::Shape),
        (json!({"items": [], "_truncated": true}), RowsError::NoProgress),
        (json!({"items": [row("a", 1)], "_truncated": true, "next_cursor": "c".repeat(4_000)}), RowsError::Shape),
        (json!([]), RowsError::Shape),
        (json!(null), RowsError::Shape),
    ];
    for (body, error) in cases {
        assert_eq!(list(&body, 2), Err(error), "{body}");
    }
}

#[test]
fn doubled_fields_are_refused() {
    let body = br#"{"items":[{"id":"a","id":"b","created_at":"2026-11-01T10:00:00Z"}],"_truncated":false}"#;
    assert_eq!(list_bytes(body, 5), Err(RowsError::DuplicateField));
    let body = br#"{"items":[],"items":[],"_truncated":false}"#;
    assert_eq!(list_bytes(body, 5), Err(RowsError::Shape));
    let escaped = br#"{"items":[{"id":"a","\u0069d":"b","created_at":"2026-11-01T10:00:00Z"}],"_truncated":false}"#;
    assert_eq!(list_bytes(escaped, 5), Err(RowsError::DuplicateField));
}

#[test]
fn a_row_that_is_a_list_or_has_too_many_fields_is_refused() {
    let mut wide = serde_json::Map::new();
    for field in 0..FIELDS_MAX {
        wide.insert(format!("f{field}"), json!(1));
    }
    wide.insert("id".into(), json!("a"));
    assert_eq!(list(&answer(&[Value::Object(wide)]), 5), Err(RowsError::Shape));
    assert_eq!(list(&answer(&[json!(["a", "2026-11-01T10:00:00Z"])]), 5), Err(RowsError::Shape));
}

#[test]
fn a_depth_bomb_inside_a_row_is_refused() {
    let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body =
        format!(r#"{{"items":[{{"id":"a","created_at":"2026-11-01T10:00:00Z","x":{bomb}}}],"_truncated":false}}"#);
    assert_eq!(list_bytes(body.as_bytes(), 5), Err(RowsError::Scan(ScanError::TooDeep)));
}

#[test]
fn a_truncated_answer_gives_no_row_at_all() {
    let whole = answer(&[row("a", 2), row("b", 1)]).to_string();
    for end in 0..whole.len() {
        assert!(list_bytes(&whole.as_bytes()[..end], 2).is_err(), "cut at {end}");
    }
}

#[test]
fn an_item_is_the_row_that_was_asked_for() {
    let peer = SiteName::parse("work").unwrap();
    let expected = Expected { peer: &peer, resource: "tasks", depth: 32 };
    let body = json!({"item": row("abc", 1)}).to_string();
    let page = parse_item(body.as_bytes(), expected, &RowId::parse("ABC").unwrap()).unwrap();
    assert_eq!(page.rows.len(), 1);
    let other = parse_item(body.as_bytes(), expected, &RowId::parse("abd").unwrap()).map(|_| ());
    assert_eq!(other, Err(RowsError::OtherRow));
    for bad in ["{}", "[{}]", r#"{"item":null}"#, r#"{"item":{}} x"#] {
        assert!(parse_item(bad.as_bytes(), expected, &RowId::parse("a").unwrap()).is_err(), "{bad}");
    }
}

/// JSON that resembles an answer, with every part possibly wrong.
fn hostile_answer() -> impl Strategy<Value = String> {
    let id = prop_oneof![Just("\"a\"".to_owned()), Just("\"b\"".to_owned()), Just("7".to_owned()), "\"\\PC{0,4}\""];
    let time = prop_oneof![
        Just("\"2026-11-01T10:00:00Z\"".to_owned()),
        Just("\"2026-11-01T10:00:01.123456Z\"".to_owned()),
        Just("null".to_owned())
    ];
    let extra =
        prop_oneof![Just(String::new()), Just(",\"_source\":\"x\"".to_owned()), Just(",\"x\":[[1e5]]".to_owned())];
    let row = (id, time, extra).prop_map(|(id, time, extra)| format!("{{\"id\":{id},\"created_at\":{time}{extra}}}"));
    (prop::collection::vec(row, 0..5), any::<bool>(), 0..40_usize).prop_map(|(rows, more, cut)| {
        let mut text = format!("{{\"items\":[{}],\"_truncated\":{more}}}", rows.join(","));
        if cut < 5 {
            let at = text.char_indices().map(|(at, _)| at).nth(cut * 7).unwrap_or(0);
            text.remove(at);
        }
        text
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = list_bytes(&bytes, 10);
    }

    #[test]
    fn whatever_is_accepted_is_ordered_unique_capped_and_ours_by_name(text in hostile_answer()) {
        if let Ok((rows, ..)) = list_bytes(text.as_bytes(), 3) {
            prop_assert!(rows.len() <= 3);
            let mut ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), rows.len());
            let times: Vec<_> = rows.iter().map(|row| parse_time(row["created_at"].as_str().unwrap()).unwrap()).collect();
            prop_assert!(times.is_sorted_by(|a, b| a >= b));
            prop_assert!(rows.iter().all(|row| row["_source"] == "work"));
        }
    }
}
