use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::{Value, json};

use super::authority::Passport;

/// How a hostile site behaves until it is told otherwise.
#[derive(Clone)]
pub(crate) struct Play {
    pub(crate) door: Door,
    pub(crate) answer: Arc<dyn Fn(&Asked) -> Vec<Act> + Send + Sync>,
    /// What is done on a watch.
    pub(crate) watch: Vec<Act>,
}

/// What a new connection meets before its first request.
#[derive(Clone)]
pub(crate) enum Door {
    /// Mutual TLS with the site's own certificate.
    Open,
    /// Mutual TLS with another certificate of the site's own root.
    Shows(Passport),
    /// TLS of the test's making.
    As(Arc<ServerConfig>),
    /// Nobody listens.
    Refuse,
    /// TCP is accepted and nothing is ever said.
    Silent,
    /// So many bytes of TLS, then silence.
    Stall(usize),
    /// So many bytes of TLS, then TCP ends.
    CutAfter(usize),
    /// TCP is reset at the first byte of TLS.
    Reset,
    /// These bytes in place of TLS.
    Plain(&'static [u8]),
}

/// One step of an answer.
#[derive(Clone)]
pub(crate) enum Act {
    Say(Vec<u8>),
    /// One byte at a time, with this pause before each.
    Drip(Vec<u8>, Duration),
    /// The same bytes again and again until the other side hangs up.
    Flood(Vec<u8>),
    /// The connection stays open and nothing more is said.
    Stay,
    /// TLS and TCP end properly.
    Close,
    /// TCP ends, TLS does not.
    Cut,
    /// TCP is reset.
    Reset,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn is_capabilities(&self) -> bool {
        self.path.ends_with("/capabilities")
    }

    /// Rows that the asker wants at most.
    pub(crate) fn limit(&self) -> usize {
        self.body["limit"].as_u64().map_or(50, |limit| usize::try_from(limit).expect("a small number"))
    }
}

impl Play {
    /// Tells the truth: capabilities, and these rows in pages.
    pub(crate) fn honest(rows: Vec<Value>) -> Self {
        Self {
            door: Door::Open,
            answer: Arc::new(move |asked| vec![Act::Say(truth(asked, &rows))]),
            watch: without_watch(),
        }
    }

    /// Honest about its capabilities; whatever else it is asked, it does this.
    pub(crate) fn acting(acts: Vec<Act>) -> Self {
        Self::replying(move |_| acts.clone())
    }

    /// As [`Self::acting`], with a view of the request.
    pub(crate) fn replying(answer: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let answer = move |asked: &Asked| {
            if asked.is_capabilities() { vec![Act::Say(truth(asked, &[]))] } else { answer(asked) }
        };
        Self { door: Door::Open, answer: Arc::new(answer), watch: without_watch() }
    }

    /// Behind another door.
    pub(crate) fn behind(self, door: Door) -> Self {
        Self { door, ..self }
    }

    /// With this on its watch.
    pub(crate) fn watched(self, watch: Vec<Act>) -> Self {
        Self { watch, ..self }
    }
}

/// As an older node, which knows no watch.
fn without_watch() -> Vec<Act> {
    let body = r#"{"error":{"code":"not_found","message":"no such path","request_id":"r"}}"#;
    vec![Act::Say(answer("404 Not Found", JSON, body))]
}

/// What an honest owner says. Its cursor is the number of rows that came before.
fn truth(asked: &Asked, rows: &[Value]) -> Vec<u8> {
    if asked.is_capabilities() {
        return ok(&json!({
            "protocol": 1, "site": "hostile", "resources": ["tasks", "notes"], "excluded_resources": [],
            "max_rows_per_query": 200, "supported_verbs": ["capabilities", "list", "get", "search"],
            "grant_expires_at": "2099-01-01T00:00:00Z", "cache_max_age": 30
        })
        .to_string());
    }
    if asked.path.contains("/get/") {
        let id = asked.path.rsplit('/').next().unwrap_or_default();
        return match rows.iter().find(|row| row["id"] == id) {
            Some(row) => ok(&json!({ "item": row }).to_string()),
            None => answer(
                "404 Not Found",
                JSON,
                r#"{"error":{"code":"not_found","message":"no such row","request_id":"r"}}"#,
            ),
        };
    }
    let from = asked.body["cursor"].as_str().map_or(0, |cursor| cursor.parse().expect("our own cursor"));
    let to = rows.len().min(from + asked.limit());
    let mut list = json!({ "items": rows[from..to], "_truncated": to < rows.len() });
    if to < rows.len() {
        list["next_cursor"] = json!(to.to_string());
    }
    ok(&list.to_string())
}

pub(crate) const JSON: &str = "content-type: application/json\r\n";

/// A 200 with a JSON body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", JSON, body)
}

/// A whole answer with its length.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// The head of an answer whose body comes in chunks.
pub(crate) fn chunked_head(headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{headers}\r\n").into_bytes()
}

/// One chunk of a body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A list answer of these rows, with nothing behind it.
pub(crate) fn list_of(rows: &[Value]) -> Vec<u8> {
    ok(&json!({ "items": rows, "_truncated": false }).to_string())
}

/// Rows as an owner writes them, newest first, one minute apart.
pub(crate) fn rows(prefix: &str, count: usize) -> Vec<Value> {
    (0..count).map(|index| row(&uuid::Uuid::new_v4().to_string(), &format!("{prefix} {index}"), index)).collect()
}

/// One row, `age` minutes older than the newest.
pub(crate) fn row(id: &str, title: &str, age: usize) -> Value {
    let (hour, minute) = (23 - age / 60, 59 - age % 60);
    json!({ "id": id, "created_at": format!("2026-02-01T{hour:02}:{minute:02}:00.000000Z"),
            "owner_id": "0198f3c0-0000-7000-8000-000000000001", "team_id": null, "title": title, "_source": "local" })
}
