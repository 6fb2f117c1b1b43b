//! The answer of a query: written from the rows' own bytes, read back by the command line.

use bytes::{BufMut, Bytes, BytesMut};
use mosaic_actors::domain::answer::{BlendedRow, Notice, SourceName, SourceReport};
use mosaic_actors::domain::fault::{Fault, FaultKind};
use serde::{Deserialize, Serialize};

use crate::faults::{render, source_error_code};

use super::json_bytes::{ObjectWriter, put_str};
use super::ordered::Ordered;

/// What one answer is made of. `error` stands beside the same body when the answer as a whole failed.
pub struct AnswerParts<'a> {
    pub items: &'a [BlendedRow],
    pub partial: bool,
    pub truncated: bool,
    pub sources: &'a [SourceReport],
    pub notices: &'a [Notice],
    pub next_cursor: Option<&'a str>,
    pub trace_id: &'a str,
    pub explain: Option<&'a Explain>,
    pub error: Option<AnswerError<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub struct AnswerError<'a> {
    pub code: &'a str,
    pub message: &'a str,
    pub request_id: &'a str,
}

/// `_explain`: how the query was run. No SQL, nothing about other users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    pub verb: &'static str,
    pub resource: String,
    pub deadline_ms: u64,
    pub sources: Vec<ExplainedSource>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedSource {
    pub source: String,
    /// Rows asked of this source; none for `get`.
    pub limit: Option<u32>,
    /// `start`, `after` a row, inside a `page` of the peer, or `done`.
    pub position: &'static str,
    pub deadline_ms: u64,
}

/// Bytes that everything but the rows may take: a first guess, so that small answers grow the buffer at most once.
const ENVELOPE_BYTES: usize = 1024;

/// Writes the body. One allocation of about the answer's size; every row is copied once.
#[must_use]
pub fn write_answer(parts: &AnswerParts<'_>) -> Bytes {
    let rows: usize = parts.items.iter().map(|row| row.json.len() + 1).sum();
    let mut out = BytesMut::with_capacity(rows + ENVELOPE_BYTES + 256 * parts.sources.len());
    let mut body = ObjectWriter::open(&mut out);
    if let Some(error) = parts.error {
        write_error(&mut body, error);
    }
    body.list("items", parts.items, |out, row| out.put_slice(&row.json));
    write_account(&mut body, parts);
    body.close();
    out.freeze()
}

/// Writes the last line of a streamed answer: all but the items, which came before.
#[must_use]
pub fn write_trailer(parts: &AnswerParts<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(ENVELOPE_BYTES + 256 * parts.sources.len());
    let mut body = ObjectWriter::open(&mut out);
    if let Some(error) = parts.error {
        write_error(&mut body, error);
    }
    write_account(&mut body, parts);
    body.close();
    out.put_u8(b'\n');
    out.freeze()
}

fn write_error(body: &mut ObjectWriter<'_>, error: AnswerError<'_>) {
    body.object("error", |inner| {
        inner.str("code", error.code);
        inner.str("message", error.message);
        inner.str("request_id", error.request_id);
    });
}

fn write_account(body: &mut ObjectWriter<'_>, parts: &AnswerParts<'_>) {
    body.bool("_partial", parts.partial);
    body.bool("_truncated", parts.truncated);
    body.object("_sources", |sources| {
        for report in parts.sources {
            sources.object(report.source.as_str(), |entry| write_source(entry, report));
        }
    });
    body.list("_notices", parts.notices, |out, notice| {
        let mut entry = ObjectWriter::open(out);
        entry.str("code", notice.code);
        entry.str("peer", notice.peer.as_str());
        entry.close();
    });
    if let Some(cursor) = parts.next_cursor {
        body.str("next_cursor", cursor);
    }
    body.str("trace_id", parts.trace_id);
    if let Some(explain) = parts.explain {
        body.object("_explain", |inner| write_explain(inner, explain));
    }
}

fn write_source(entry: &mut ObjectWriter<'_>, report: &SourceReport) {
    entry.str("status", report.status.as_str());
    entry.number("rows", report.rows as u64);
    entry.number("took_ms", millis(report.took));
    if let Some(age) = report.age {
        entry.number("age_ms", millis(age));
    }
    if let Some(fault) = &report.fault {
        entry.object("error", |inner| {
            inner.str("code", source_fault_code(&report.source, fault));
            inner.str("stage", fault.stage.as_str());
            inner.bool("retryable", fault.retryable);
            if let Some(after) = fault.retry_after {
                inner.number("retry_after_ms", millis(after));
            }
            if let Some(message) = &fault.message {
                inner.str("message", message);
            }
        });
    }
    if let Some(breaker) = report.breaker {
        entry.str("breaker", breaker.as_str());
    }
    if let Some(at) = report.last_ok_at {
        entry.time("last_ok_at", at);
    }
}

fn write_explain(inner: &mut ObjectWriter<'_>, explain: &Explain) {
    inner.str("verb", explain.verb);
    inner.str("resource", &explain.resource);
    inner.number("deadline_ms", explain.deadline_ms);
    inner.list("order", ["created_at desc", "_source", "id desc"], put_str);
    inner.list("sources", &explain.sources, |out, source| {
        let mut entry = ObjectWriter::open(out);
        entry.str("source", &source.source);
        if let Some(limit) = source.limit {
            entry.number("limit", limit.into());
        }
        entry.str("position", source.position);
        entry.number("deadline_ms", source.deadline_ms);
        entry.close();
    });
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `error.code` of a source. What a peer did is told as such; what this node's own rows did needs no peer in its name.
#[must_use]
pub fn source_fault_code(source: &SourceName, fault: &Fault) -> &'static str {
    match (source, fault.kind) {
        (SourceName::Peer(_), kind) => source_error_code(kind),
        (SourceName::Local, FaultKind::TimedOut) => "local_timeout",
        (SourceName::Local, kind) => render(kind).code,
    }
}

/// The same body as a client reads it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct AnswerBody {
    /// Rows in the order `created_at` descending, source, `id`; each with `_source`.
    #[serde(default)]
    #[schema(value_type = Vec<Object>, required = true)]
    pub items: Vec<Ordered<serde_json::Value>>,
    /// Some requested source did not answer.
    #[serde(rename = "_partial")]
    pub partial: bool,
    /// More rows exist than this answer holds.
    #[serde(rename = "_truncated")]
    pub truncated: bool,
    /// One entry per requested source, always.
    #[serde(rename = "_sources")]
    #[schema(value_type = std::collections::HashMap<String, SourceBody>)]
    pub sources: Ordered<SourceBody>,
    #[serde(rename = "_notices", default)]
    pub notices: Vec<NoticeBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    pub trace_id: String,
    #[serde(rename = "_explain", default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub explain: Option<Ordered<serde_json::Value>>,
}

impl AnswerBody {
    /// Adds a later page: its rows behind, its account of the sources on top, rows and times added up.
    pub fn absorb(&mut self, later: Self) {
        self.items.extend(later.items);
        self.partial |= later.partial;
        self.truncated = later.truncated;
        self.next_cursor = later.next_cursor;
        for (name, source) in later.sources.0 {
            match self.sources.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.absorb(source),
                None => self.sources.0.push((name, source)),
            }
        }
    }
}

impl SourceBody {
    /// What a source did over several pages: a failure on any page stays visible.
    fn absorb(&mut self, later: Self) {
        let (rows, took_ms) = (self.rows + later.rows, self.took_ms + later.took_ms);
        if self.error.is_none() && !(later.status == "empty" && self.rows > 0) {
            *self = later;
        }
        (self.rows, self.took_ms) = (rows, took_ms);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct SourceBody {
    /// `ok`, `empty`, `truncated`, `cached`; or why there is no answer: `timed_out`, `unreachable`, `breaker_open`, `denied`,
    /// `grant_expired`, `grant_revoked`, `grant_suspended`, `cert_expired`, `rate_limited`, `incompatible`, `error`.
    pub status: String,
    pub rows: u64,
    pub took_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SourceErrorBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ok_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct SourceErrorBody {
    pub code: String,
    pub stage: String,
    pub retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct NoticeBody {
    /// `federation_offline`: this peer does not answer; told once per session until it answers again.
    pub code: String,
    pub peer: String,
}
