use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use mosaic_actors::domain::answer::{BlendedRow, BreakerState, Notice, SourceName, SourceReport, SourceStatus};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::domain::query::{Position, RowId, SourceSelector};
use time::macros::datetime;

use super::*;

fn bounds() -> Bounds {
    Bounds {
        page_default: NonZeroU32::new(50).unwrap(),
        page_cap: NonZeroU32::new(200).unwrap(),
        deadline_default: Duration::from_secs(5),
        deadline_max: Duration::from_secs(30),
    }
}

fn parse(body: &str) -> Result<QueryRequest, Fault> {
    parse_query(body.as_bytes(), &bounds())
}

fn complaint(body: &str) -> String {
    let fault = parse(body).expect_err(body);
    assert_eq!(fault.kind, FaultKind::InvalidRequest, "{body}");
    fault.message.expect("a complaint has a message").into()
}

fn list_limit(limit: &str) -> u32 {
    match parse(&format!(r#"{{"verb":"list","resource":"tasks","limit":{limit}}}"#)).expect(limit).asked {
        Asked::List { limit, .. } => limit.get(),
        Asked::Get { .. } => panic!("asked for a list"),
    }
}

#[test]
fn what_a_query_does_not_say_has_the_documented_meaning() {
    let request = parse(r#"{"verb":"list","resource":"tasks","cursor":null,"where":null,"limit":null}"#).unwrap();
    assert_eq!(request.source, SourceSelector::All);
    assert_eq!(request.deadline, Duration::from_secs(5));
    assert_eq!(request.require, []);
    assert!(!request.explain);
    let Asked::List { resource, limit, filter, cursor } = request.asked else { panic!("asked for a list") };
    assert_eq!((resource.as_str(), limit.get(), filter.is_none(), cursor), ("tasks", 50, true, None));
}

#[test]
fn every_field_of_a_full_query_arrives() {
    let request = parse(
        r#"{"verb":"list","resource":"tasks","source":"federated:work","limit":7,"cursor":"abc","where":{"status":"open"},
            "require":["work","local","work"],"deadline_ms":1200,"explain":true}"#,
    )
    .unwrap();
    let work = SiteName::parse("work").unwrap();
    assert_eq!(request.source, SourceSelector::Peer(work.clone()));
    assert_eq!(request.require, [SourceName::Peer(work), SourceName::Local]);
    assert_eq!(request.deadline, Duration::from_millis(1200));
    assert!(request.explain);
    let Asked::List { limit, filter, cursor, .. } = request.asked else { panic!("asked for a list") };
    assert_eq!(limit.get(), 7);
    assert_eq!(filter.unwrap().get(), r#"{"status":"open"}"#);
    assert_eq!(cursor.as_deref(), Some("abc"));
}

#[test]
fn a_limit_above_the_cap_is_capped_and_one_that_is_no_positive_integer_is_refused() {
    assert_eq!((list_limit("1"), list_limit("200"), list_limit("201")), (1, 200, 200));
    assert_eq!(list_limit("99999999999999999999999999"), 200);
    for bad in ["0", "-1", "1.5", "1e3", "\"5\"", "true", "[]", "{}"] {
        let body = format!(r#"{{"verb":"list","resource":"tasks","limit":{bad}}}"#);
        assert_eq!(complaint(&body), "'limit' must be a positive integer", "{bad}");
    }
}

#[test]
fn a_deadline_above_the_maximum_is_refused() {
    assert_eq!(
        complaint(r#"{"verb":"list","resource":"tasks","deadline_ms":30001}"#),
        "'deadline_ms' is 30001; at most 30000 are allowed"
    );
    assert_eq!(
        complaint(r#"{"verb":"list","resource":"tasks","deadline_ms":0}"#),
        "'deadline_ms' must be a positive integer"
    );
}

#[test]
fn a_complaint_names_the_field() {
    for (body, message) in [
        (r#"{"resource":"tasks"}"#, "'verb' is missing; it must be a string: 'list' or 'get'"),
        (r#"{"verb":7,"resource":"tasks"}"#, "'verb' must be a string: 'list' or 'get'"),
        (r#"{"verb":"search","query":"x"}"#, "'verb' is 'search'; this version answers 'list' and 'get'"),
        (r#"{"verb":"list"}"#, "'resource' is missing; it must be a string"),
        (r#"{"verb":"list","resource":"tasks","id":"x"}"#, "'id' does not belong to the verb 'list'"),
        (r#"{"verb":"get","resource":"tasks"}"#, "'id' is missing; it must be a string: the row's id"),
        (r#"{"verb":"get","resource":"tasks","id":"x","limit":3}"#, "'limit' does not belong to the verb 'get'"),
        (
            r#"{"verb":"list","resource":"tasks","source":"work"}"#,
            "'source' is 'work'; write 'local', 'all' or 'federated:<peer>'",
        ),
        (r#"{"verb":"list","resource":"tasks","require":"work"}"#, "'require' must be a list of source names"),
        (r#"{"verb":"list","resource":"tasks","explain":1}"#, "'explain' must be true or false"),
        (r#"{"verb":"list","verb":"get"}"#, "duplicate field `verb`"),
    ] {
        assert_eq!(complaint(body), message);
    }
    assert!(complaint(r#"{"verb":"list","resource":"tasks","sauce":"all"}"#).starts_with("unknown field `sauce`"));
    assert!(complaint(r#"{"verb":"list","resource":"no spaces"}"#).starts_with("'resource' is 'no spaces': "));
    assert_eq!(complaint("{"), "the body is not JSON (line 1, column 1)");
}

#[test]
fn a_peer_name_that_no_site_can_have_is_an_unknown_source() {
    for body in [
        r#"{"verb":"list","resource":"tasks","source":"federated:No Such"}"#,
        r#"{"verb":"list","resource":"tasks","source":"federated:"}"#,
        r#"{"verb":"list","resource":"tasks","require":["all"]}"#,
    ] {
        assert_eq!(parse(body).expect_err(body).kind, FaultKind::UnknownSource);
    }
}

#[test]
fn a_message_never_repeats_control_characters_or_more_than_a_line() {
    let message = complaint(&format!(r#"{{"verb":"\u001b[31m{}","resource":"tasks"}}"#, "x".repeat(500)));
    assert!(message.chars().count() < 160 && !message.chars().any(char::is_control), "{message:?}");
}

fn row(source: SourceName, json: &'static str) -> BlendedRow {
    let position = Position { created_at: datetime!(2026-11-01 10:00 UTC), id: RowId::parse("1").unwrap() };
    BlendedRow { source, position, json: Bytes::from_static(json.as_bytes()) }
}

fn report(source: SourceName, status: SourceStatus, rows: usize) -> SourceReport {
    let (took, fault, breaker, last_ok_at, age) = (Duration::from_millis(3), None, None, None, None);
    SourceReport { source, status, rows, took, fault, breaker, last_ok_at, age }
}

#[test]
fn an_answer_is_written_byte_for_byte() {
    let work = SourceName::Peer(SiteName::parse("work").unwrap());
    let mut late = report(work.clone(), SourceStatus::TimedOut, 0);
    late.took = Duration::from_secs(3);
    late.fault = Some(Fault::new(FaultKind::TimedOut, Stage::FirstByte).after(Duration::from_secs(15)));
    late.breaker = Some(BreakerState::Closed);
    late.last_ok_at = Some(datetime!(2026-11-01 09:59:58.5 UTC));
    let written = write_answer(&AnswerParts {
        items: &[row(SourceName::Local, r#"{"id":"1","_source":"local"}"#), row(SourceName::Local, r#"{"id":"2"}"#)],
        partial: true,
        truncated: false,
        sources: &[report(SourceName::Local, SourceStatus::Ok, 2), late],
        notices: &[Notice { code: "federation_offline", peer: SiteName::parse("work").unwrap() }],
        next_cursor: Some("abc"),
        trace_id: "0af7651916cd43dd8448eb211c80319c",
        explain: None,
        error: None,
    });
    let expected = concat!(
        r#"{"items":[{"id":"1","_source":"local"},{"id":"2"}],"_partial":true,"_truncated":false,"_sources":{"#,
        r#""local":{"status":"ok","rows":2,"took_ms":3},"#,
        r#""work":{"status":"timed_out","rows":0,"took_ms":3000,"error":{"code":"peer_timeout","stage":"first_byte","#,
        r#""retryable":true,"retry_after_ms":15000},"breaker":"closed","last_ok_at":"2026-11-01T09:59:58.5Z"}},"#,
        r#""_notices":[{"code":"federation_offline","peer":"work"}],"next_cursor":"abc","#,
        r#""trace_id":"0af7651916cd43dd8448eb211c80319c"}"#,
    );
    assert_eq!(std::str::from_utf8(&written).unwrap(), expected);
}

#[test]
fn a_failed_answer_has_its_error_beside_the_same_body_and_reads_back() {
    let written = write_answer(&AnswerParts {
        items: &[],
        partial: true,
        truncated: false,
        sources: &[report(SourceName::Local, SourceStatus::Error, 0)],
        notices: &[],
        next_cursor: None,
        trace_id: "t",
        explain: Some(&Explain {
            verb: "list",
            resource: "tasks".to_owned(),
            deadline_ms: 5000,
            sources: vec![ExplainedSource {
                source: "local".to_owned(),
                limit: Some(50),
                position: "start",
                deadline_ms: 5000,
            }],
        }),
        error: Some(AnswerError { code: "sources_failed", message: "say \"why\"", request_id: "r" }),
    });
    let text = std::str::from_utf8(&written).unwrap();
    assert!(
        text.starts_with(r#"{"error":{"code":"sources_failed","message":"say \"why\"","request_id":"r"},"items":[]"#)
    );
    assert!(text.ends_with(concat!(
        r#""_explain":{"verb":"list","resource":"tasks","deadline_ms":5000,"#,
        r#""order":["created_at desc","_source","id desc"],"#,
        r#""sources":[{"source":"local","limit":50,"position":"start","deadline_ms":5000}]}}"#
    )));
    let body: AnswerBody = serde_json::from_slice(&written).unwrap();
    assert_eq!(body.sources.get("local").unwrap().status, "error");
    assert_eq!(body.items, []);
}
