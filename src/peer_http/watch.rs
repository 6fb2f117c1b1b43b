//! The asker's end of a watch: one request whose answer goes on for as long as both sides are there.
//!
//! A connection of its own, outside of the pool. Acknowledgements are lines of the request's body, which stays open beside the answer:
//! after a revocation no new connection would be let in to say that it was heard.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::ports::peer_transport::{PeerNews, Standing, WatchEar};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, timeout_at};

use super::connection::Connection;
use super::exchange::{head_fault, read};
use super::refusal::{Missing, refusal};
use super::transport::Endpoint;
use crate::wire::federation_v1::{BASE_PATH, WATCH_MEDIA_TYPE, WatchAcknowledgement, WatchLine};

/// Longest line: ours have under 100 bytes.
const LINE_BYTES_MAX: usize = 1024;
/// A watch that says more than this in a second is none.
const LINES_PER_SECOND_MAX: u32 = 64;
const SECOND: Duration = Duration::from_secs(1);

type Acknowledgements = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Opens a watch and passes on what is said there. It only ever ends with the reason why.
pub(super) async fn listen(endpoint: &Endpoint, ear: WatchEar) -> Result<Infallible, Fault> {
    let WatchEar { news, acknowledged } = ear;
    let (response, _connection) = open(endpoint, acknowledged).await?;
    let mut incoming = response.into_body();
    let (mut lines, mut rate) = (BytesMut::new(), Rate::new());
    loop {
        let Some(frame) = incoming.frame().await else {
            return Err(Fault::new(FaultKind::Unreachable, Stage::Body));
        };
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a watch broke off");
            Fault::new(FaultKind::Unreachable, Stage::Body)
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        lines.extend_from_slice(&piece);
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line = lines.split_to(end + 1);
            rate.count(Instant::now())?;
            if news.send(parse(&line[..end])?).await.is_err() {
                return Err(Fault::new(FaultKind::Unavailable, Stage::Admission));
            }
        }
        if lines.len() > LINE_BYTES_MAX {
            return Err(bad("a line of the peer's watch is too long"));
        }
    }
}

async fn open(
    endpoint: &Endpoint,
    acknowledged: mpsc::Receiver<u64>,
) -> Result<(Response<Incoming>, Connection<Acknowledgements>), Fault> {
    endpoint.in_date()?;
    let limits = &endpoint.limits;
    let deadline = Instant::now() + limits.connect + limits.tls + limits.first_byte;
    let mut connection: Connection<Acknowledgements> = endpoint.dial().connect(limits, deadline).await?;
    let request = Request::post(format!("{BASE_PATH}/watch"))
        .header(HOST, endpoint.url.authority())
        .header(USER_AGENT, concat!("mosaic/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, WATCH_MEDIA_TYPE)
        .header(CONTENT_TYPE, WATCH_MEDIA_TYPE)
        .body(body(acknowledged))
        .map_err(|_| Fault::new(FaultKind::Internal, Stage::Send))?;
    connection.listen();
    let head_by = deadline.min(Instant::now() + limits.first_byte);
    let response = match timeout_at(head_by, connection.sender.send_request(request)).await {
        Err(_) => return Err(Fault::new(FaultKind::TimedOut, Stage::FirstByte)),
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a watch could not be opened");
            return Err(match connection.refusal() {
                Some(refusal) => refusal,
                None if connection.has_heard() => head_fault(&error),
                None => Fault::new(FaultKind::Unreachable, Stage::FirstByte),
            });
        }
    };
    if response.status() != StatusCode::OK {
        let answer = read(response, limits, Instant::now() + limits.first_byte).await?;
        return Err(refusal(&answer, Missing::Path));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(WATCH_MEDIA_TYPE)) {
        return Err(bad("the peer's watch is not lines of JSON"));
    }
    Ok((response, connection))
}

fn body(acknowledged: mpsc::Receiver<u64>) -> Acknowledgements {
    let lines = stream::unfold(acknowledged, |mut acknowledged| async move {
        let line = WatchAcknowledgement { acknowledged: acknowledged.recv().await? };
        let mut bytes = serde_json::to_vec(&line).ok()?;
        bytes.push(b'\n');
        Some((Ok(Frame::data(Bytes::from(bytes))), acknowledged))
    });
    StreamBody::new(Box::pin(lines))
}

fn parse(line: &[u8]) -> Result<PeerNews, Fault> {
    let unreadable = || bad("a line of the peer's watch is not readable");
    if line.len() > LINE_BYTES_MAX {
        return Err(unreadable());
    }
    let line: WatchLine = serde_json::from_slice(line).map_err(|_| unreadable())?;
    let standing = match line.event.as_str() {
        "grant_active" => Standing::Active { changed: false },
        "grant_changed" => Standing::Active { changed: true },
        "grant_suspended" => Standing::Suspended,
        "grant_revoked" => Standing::Revoked,
        "grant_expired" => Standing::Expired,
        "closing" => return Ok(PeerNews::Closing),
        "superseded" => return Ok(PeerNews::Superseded),
        _ => return Ok(PeerNews::Heartbeat),
    };
    let number = line.number.ok_or_else(unreadable)?;
    Ok(PeerNews::Grant { number, standing })
}

/// How many lines came in this second.
struct Rate {
    since: Instant,
    lines: u32,
}

impl Rate {
    fn new() -> Self {
        Self { since: Instant::now(), lines: 0 }
    }

    fn count(&mut self, now: Instant) -> Result<(), Fault> {
        if now.duration_since(self.since) >= SECOND {
            *self = Self { since: now, lines: 0 };
        }
        self.lines += 1;
        if self.lines > LINES_PER_SECOND_MAX {
            return Err(bad("the peer's watch says too much"));
        }
        Ok(())
    }
}

fn bad(message: &'static str) -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::Parse).with_message(message)
}
