//! A streamed answer (`Accept: application/x-ndjson`): rows as each source sends them, one JSON object per line, and the account of
//! all sources as the last line.
//!
//! The head waits for the first row: until then the answer can still be a failure with its status. A slow reader holds at most
//! one page of each source, which were asked once, before it began to read; nothing more is fetched until it asks for the next page.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::fan_out::{Block, Streaming};

use super::query::Asking;
use crate::http::ApiError;
use crate::telemetry::metrics::InFlight;

const NDJSON: &str = "application/x-ndjson";

/// Whether the client asked for a stream.
pub(super) fn is_wanted(request: &HttpRequest) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(NDJSON)))
}

struct Running {
    asking: Asking,
    streaming: Streaming,
    /// What came before the head was sent.
    first: Option<Block>,
    /// A stopping node waits for the last line.
    _under_way: InFlight,
}

/// Begins the answer with the first block, or gives it whole when no source has a row.
pub(super) async fn respond(asking: Asking, mut streaming: Streaming) -> Result<HttpResponse, ApiError> {
    let Some(first) = streaming.blocks.recv().await else {
        let answer = streaming.end.await?;
        if asking.failure(&answer).is_some() {
            return Ok(asking.respond(&answer));
        }
        return Ok(head().body(asking.trailer(&answer)));
    };
    let running = Running { _under_way: asking.under_way(), asking, streaming, first: Some(first) };
    Ok(head().streaming(stream::unfold(Some(running), |running| async {
        let (piece, running) = running?.next().await;
        Some((Ok::<_, std::convert::Infallible>(piece), running))
    })))
}

fn head() -> actix_web::HttpResponseBuilder {
    let mut head = HttpResponse::Ok();
    head.content_type(NDJSON).insert_header((header::CACHE_CONTROL, "no-store"));
    head
}

impl Running {
    /// The next piece of the body; behind the last one there is nothing that runs.
    async fn next(mut self) -> (Bytes, Option<Self>) {
        let block = match self.first.take() {
            Some(first) => Some(first),
            None => self.streaming.blocks.recv().await,
        };
        if let Some(block) = block {
            return (lines(&block), Some(self));
        }
        let trailer = match self.streaming.end.await {
            Ok(answer) => self.asking.trailer(&answer),
            Err(fault) => failed(&fault, &self.asking),
        };
        (trailer, None)
    }
}

fn lines(block: &Block) -> Bytes {
    let mut lines = BytesMut::with_capacity(block.rows.iter().map(|row| row.len() + 1).sum());
    for row in &block.rows {
        lines.put_slice(row);
        lines.put_u8(b'\n');
    }
    lines.freeze()
}

/// A last line without an account: the question ended in a defect of this node.
fn failed(fault: &Fault, asking: &Asking) -> Bytes {
    let rendering = crate::faults::render(fault.kind);
    let line = serde_json::json!({ "error": { "code": rendering.code, "message": rendering.message,
                                              "request_id": asking.request_id() } });
    Bytes::from(format!("{line}\n"))
}
