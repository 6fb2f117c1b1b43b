//! The table.

use std::sync::Mutex;

use super::*;

const JSON: &str = "content-type: application/json\r\n";
const ONE_BYTE_A_SECOND: Duration = Duration::from_secs(1);

pub(super) fn all(trap: u16, local_ids: &Arc<Mutex<Vec<String>>>) -> Vec<Case> {
    [connections(), certificates(), silences(), statuses(), bodies(), redirects(trap), lies(local_ids)]
        .into_iter()
        .flatten()
        .collect()
}

fn case(name: &'static str, play: Play, told: Told) -> Case {
    Case { name, play, told }
}

fn says(name: &'static str, bytes: Vec<u8>, told: Told) -> Case {
    case(name, Play::acting(vec![Act::Say(bytes)]), told)
}

fn behind(name: &'static str, door: Door, told: Told) -> Case {
    case(name, Play::honest(rows(name, 3)).behind(door), told)
}

fn bad(stage: &'static str) -> Told {
    Told::failure("error", "peer_bad_answer", stage)
}

fn timed_out(stage: &'static str) -> Told {
    Told::failure("timed_out", "peer_timeout", stage)
}

fn unreachable(stage: &'static str) -> Told {
    Told::failure("unreachable", "peer_unreachable", stage)
}

fn connections() -> Vec<Case> {
    vec![
        behind("refuses", Door::Refuse, unreachable("connect")),
        behind("accepts-and-is-silent", Door::Silent, timed_out("tls")),
        behind("stalls-in-tls", Door::Stall(200), timed_out("tls")),
        behind("resets", Door::Reset, unreachable("tls")),
        behind("speaks-ssh", Door::Plain(b"SSH-2.0-OpenSSH_9.2\r\n"), unreachable("tls")),
        behind("speaks-plain-http", Door::Plain(b"HTTP/1.1 400 Bad Request\r\n\r\n"), unreachable("tls")),
        case("cuts-before-a-byte", Play::acting(vec![Act::Cut]), unreachable("first_byte")),
        case("closes-before-a-byte", Play::acting(vec![Act::Close]), unreachable("first_byte")),
        case("resets-before-a-byte", Play::acting(vec![Act::Reset]), unreachable("first_byte")),
        case("cuts-in-the-head", cut_after(b"HTTP/1.1 200 OK\r\ncontent-le"), unreachable("first_byte")),
        case("cuts-in-the-body", cut_after(&half()), unreachable("body")),
        // A reset may overtake what was said before it.
        case("resets-in-the-body", Play::acting(vec![Act::Say(half()), Act::Reset]), unreachable("first_byte|body")),
        case("closes-in-the-body", Play::acting(vec![Act::Say(half()), Act::Close]), unreachable("body")),
        // Without a length the end of TLS is the only proof that the answer is whole.
        case("ends-tcp-for-tls", cut_after(&until_closed()), unreachable("body")),
        case("ends-by-closing", Play::acting(vec![Act::Say(until_closed()), Act::Close]), Told::rows(3)),
    ]
}

fn certificates() -> Vec<Case> {
    let shows = |name, passport| behind(name, Door::Shows(passport), unreachable("tls"));
    let another_site = Authority::new("another site");
    let names = |name: &str| vec![name.to_owned()];
    let life = |from, to| (time::Duration::minutes(from), time::Duration::minutes(to));
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    vec![
        shows("shows-another-host", Passport { names: names("elsewhere.example"), ..Passport::default() }),
        shows("shows-another-address", Passport { names: names("127.0.0.2"), ..Passport::default() }),
        shows("shows-an-expired-certificate", Passport { life: life(-600, -1), ..Passport::default() }),
        shows("shows-one-for-clients", Passport { usage, ..Passport::default() }),
        // A site whose clock is an hour ahead certifies from its own now on.
        shows("has-a-clock-ahead", Passport { life: life(60, 600), ..Passport::default() }),
        behind(
            "has-a-clock-behind",
            Door::Shows(Passport { life: life(-60, 600), ..Passport::default() }),
            Told::rows(3),
        ),
        behind(
            "shows-another-sites-certificate",
            Door::As(another_site.server(&Passport::default(), None)),
            unreachable("tls"),
        ),
    ]
}

fn silences() -> Vec<Case> {
    let answer = list_of(&rows("dripped", 3));
    vec![
        case("never-answers", Play::acting(vec![Act::Stay]), timed_out("first_byte")),
        case("drips-its-head", Play::acting(vec![Act::Drip(answer, ONE_BYTE_A_SECOND)]), timed_out("first_byte")),
        case("stalls-in-the-body", Play::acting(vec![Act::Say(half()), Act::Stay]), timed_out("body")),
        case(
            "continues-for-ever",
            Play::acting(vec![Act::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(16))]),
            timed_out("first_byte"),
        ),
    ]
}

fn statuses() -> Vec<Case> {
    let error = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"<b>visit evil.example</b>"}}}}"#);
    let refused = |status, code, reason: &str| {
        answer(status, JSON, &format!(r#"{{"error":{{"code":"{code}","message":"m","reason":"{reason}"}}}}"#))
    };
    let denied = |code| Told::refusal("denied", code, "authorize");
    let unavailable = Told::failure("error", "unavailable", "first_byte");
    let wait = "retry-after: 120\r\n";
    vec![
        says("says-500", answer("500 Internal Server Error", JSON, &error("internal")), unavailable.clone()),
        says("says-502-in-html", answer("502 Bad Gateway", "content-type: text/html\r\n", "<h1>"), unavailable.clone()),
        says("says-503-later", answer("503 Service Unavailable", wait, ""), unavailable),
        says(
            "says-429",
            answer("429 Too Many Requests", wait, ""),
            Told::refusal("rate_limited", "peer_rate_limited", "admission").remembered(),
        ),
        says("says-401", answer("401 Unauthorized", JSON, &error("unauthorized")), denied("peer_unauthorized")),
        says("says-403", answer("403 Forbidden", JSON, &error("forbidden")), denied("peer_forbidden")),
        says("says-403-in-html", answer("403 Forbidden", "content-type: text/html\r\n", "<h1>"), bad("parse")),
        says(
            "says-scope-violation",
            answer("403 Forbidden", JSON, &error("scope_violation")),
            denied("scope_violation"),
        ),
        says(
            "says-suspended",
            refused("403 Forbidden", "forbidden", "grant_suspended"),
            // Remembered for 15 s: how long the table takes decides whether the second question is asked.
            Told::refusal("grant_suspended", "grant_suspended", "authorize|admission"),
        ),
        says(
            "says-404",
            answer("404 Not Found", JSON, &error("not_found")),
            Told::refusal("incompatible", "peer_incompatible", "request"),
        ),
        says("says-204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), bad("parse")),
        says(
            "says-101",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_vec(),
            bad("parse"),
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let list = json!({ "items": rows("r", 1), "_truncated": false }).to_string();
    let bomb = "[".repeat(4 * 1024 * 1024 - 1024);
    let nested = format!(r#"{{"items":[{{"id":"a","x":{}1{}}}]}}"#, "[".repeat(40), "]".repeat(40));
    let header = format!("x-large: {}\r\n", "a".repeat(1024 * 1024));
    let many: String = (0..1000).map(|n| format!("x-{n}: a\r\n")).collect();
    let gzip = format!("{JSON}content-encoding: gzip\r\n");
    let zeroes_in_gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xec, 0xc1];
    let flood = |head: Vec<u8>, piece: &[u8]| Play::acting(vec![Act::Say(head), Act::Flood(chunk(piece))]);
    let tiny = r#"{"id":"a","created_at":"2026-02-01T00:00:00Z"},"#.repeat(1000);
    let tiny_within_the_cap = format!(r#"{{"items":[{}{{}}],"_truncated":false}}"#, "{},".repeat(1_300_000));
    vec![
        says("says-html", answer("200 OK", "content-type: text/html\r\n", "<h1>It works</h1>"), bad("parse")),
        says("says-no-type", answer("200 OK", "", &list), bad("parse")),
        says("says-another-type", answer("200 OK", "content-type: application/x-ndjson\r\n", &list), bad("parse")),
        says("says-no-json", ok("{\"items\":[}"), bad("parse")),
        says("says-two-lengths", answer("200 OK", &format!("{JSON}content-length: 3\r\n"), &list), bad("first_byte")),
        says("says-no-http", b"\x00\x01\x02 what is this\r\n\r\n".to_vec(), bad("first_byte")),
        says("is-no-list", ok("[]"), bad("parse")),
        says("is-deep", ok(&bomb), bad("parse")),
        says("is-deep-in-a-cell", ok(&nested), bad("parse")),
        says(
            "announces-10-gb",
            format!("HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n{JSON}\r\n").into_bytes(),
            bad("body"),
        ),
        case("never-ends", flood(chunked_head(JSON), &[b' '; 16_384]), bad("body")),
        case(
            "ten-million-tiny-rows",
            Play::acting(vec![
                Act::Say([chunked_head(JSON), chunk(br#"{"items":["#)].concat()),
                Act::Flood(chunk(tiny.as_bytes())),
            ]),
            bad("body"),
        ),
        says("a-million-empty-rows", ok(&tiny_within_the_cap), bad("parse")),
        case("compressed-bomb", flood(chunked_head(&gzip), &zeroes_in_gzip), bad("first_byte")),
        says("compressed-list", answer("200 OK", &gzip, &list), bad("first_byte")),
        says("header-of-1-mb", answer("200 OK", &format!("{JSON}{header}"), &list), bad("first_byte")),
        says("a-thousand-headers", answer("200 OK", &format!("{JSON}{many}"), &list), bad("first_byte")),
    ]
}

fn redirects(trap: u16) -> Vec<Case> {
    let to = |status, scheme: &str| answer(status, &format!("location: {scheme}://127.0.0.1:{trap}/\r\n{JSON}"), "{}");
    vec![
        says("redirects-301", to("301 Moved Permanently", "https"), bad("parse")),
        says("redirects-302-plain", to("302 Found", "http"), bad("parse")),
        says("redirects-307", to("307 Temporary Redirect", "https"), bad("parse")),
        says("redirects-308", to("308 Permanent Redirect", "https"), bad("parse")),
    ]
}

fn lies(local_ids: &Arc<Mutex<Vec<String>>>) -> Vec<Case> {
    let sends = |name, rows: Vec<Value>, told| says(name, list_of(&rows), told);
    let with = |row: Value, key: &str, value: Value| {
        let mut row = row;
        row[key] = value;
        row
    };
    let one = || row(&uuid::Uuid::new_v4().to_string(), "one", 0);
    let twice = one();
    let local_ids = Arc::clone(local_ids);
    let steals = Play::replying(move |_| {
        let ids = local_ids.lock().expect("no panic").clone();
        let rows: Vec<Value> = ids.iter().enumerate().map(|(age, id)| row(id, "stolen", age)).collect();
        vec![Act::Say(list_of(&rows))]
    });
    let more_than_asked = Play::replying(|asked| vec![Act::Say(list_of(&rows("r", asked.limit() + 1)))]);
    let endless = json!({ "items": rows("r", 1), "_truncated": true, "next_cursor": "a".repeat(3_000) });
    vec![
        case("more-rows-than-asked", more_than_asked, bad("parse")),
        sends("another-resource", vec![with(one(), "_resource", json!("credentials"))], bad("parse")),
        sends("the-same-row-twice", vec![twice.clone(), twice], bad("parse")),
        sends("rows-out-of-order", vec![row("a", "older", 5), row("b", "newer", 0)], bad("parse")),
        sends("a-row-without-id", vec![with(one(), "id", json!(null))], bad("parse")),
        sends("a-row-without-time", vec![with(one(), "created_at", json!("yesterday"))], bad("parse")),
        says(
            "a-field-twice",
            ok(r#"{"items":[{"id":"a","id":"b","created_at":"2026-02-01T00:00:00Z"}],"_truncated":false}"#),
            bad("parse"),
        ),
        says("more-without-a-row", ok(r#"{"items":[],"_truncated":true,"next_cursor":"x"}"#), bad("parse")),
        says("a-cursor-too-long", ok(&endless.to_string()), bad("parse")),
        case("ids-of-local-rows", steals, Told::rows(20)),
        sends("says-it-is-local", vec![with(one(), "_source", json!("local"))], Told::rows(1)),
        sends("says-it-is-work", vec![with(one(), "_source", json!("work"))], Told::rows(1)),
        sends("a-cell-of-1-mb", vec![with(one(), "title", json!("x".repeat(1024 * 1024)))], Told::rows(1)),
        sends("unknown-fields", vec![with(one(), "_score", json!(1e308))], Told::rows(1)),
    ]
}

/// A list answer of which the last half is missing.
fn half() -> Vec<u8> {
    let whole = list_of(&rows("half", 4));
    whole[..whole.len() - 200].to_vec()
}

/// A whole list answer that ends with its connection.
fn until_closed() -> Vec<u8> {
    let body = json!({ "items": rows("closed", 3), "_truncated": false }).to_string();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{JSON}\r\n{body}").into_bytes()
}

fn cut_after(bytes: &[u8]) -> Play {
    Play::acting(vec![Act::Say(bytes.to_vec()), Act::Cut])
}
