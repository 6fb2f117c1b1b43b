//! One request, one whole answer, over a pooled or a fresh connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response, StatusCode};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::ports::peer_transport::InjectedFault;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::{Connection, Dial};
use super::limits::PeerLimits;

/// A peer's answer, read to its end and within every cap; not yet believed.
pub(super) struct RawAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl RawAnswer {
    /// Whether the answer says that it is JSON.
    pub(super) fn is_json(&self) -> bool {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        content_type.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
    }
}

/// The idle connections of one link. They close when they have lain idle for too long, or with the pool.
pub(super) struct Pool {
    idle: Arc<Mutex<IdleConnections>>,
    limits: PeerLimits,
}

#[derive(Default)]
struct IdleConnections {
    /// The one that was used last is last.
    entries: VecDeque<Idle>,
    /// A task waits to close those that lie too long.
    is_swept: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(limits: PeerLimits) -> Self {
        Self { idle: Arc::default(), limits }
    }

    /// The connection that was used last and still looks alive.
    fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        idle.entries.retain(|entry| entry.is_good(&self.limits, now));
        idle.entries.pop_back().map(|entry| entry.connection)
    }

    fn give_back(&self, connection: Connection, now: Instant) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = lock(&self.idle);
        if idle.entries.len() >= self.limits.idle_connections {
            idle.entries.pop_front();
        }
        idle.entries.push_back(Idle { connection, since: now });
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.idle), self.limits));
        }
    }
}

impl Idle {
    fn is_good(&self, limits: &PeerLimits, now: Instant) -> bool {
        !self.connection.sender.is_closed()
            && now.duration_since(self.since) < limits.idle_max
            && now.duration_since(self.connection.opened) < limits.age_max
    }
}

/// Closes what lies idle for too long, until nothing is idle or the pool is gone.
async fn sweep(pool: Weak<Mutex<IdleConnections>>, limits: PeerLimits) {
    let mut next = Instant::now() + limits.idle_max;
    loop {
        sleep_until(next).await;
        let Some(idle) = pool.upgrade() else { return };
        let (mut idle, now) = (lock(&idle), Instant::now());
        idle.entries.retain(|entry| entry.is_good(&limits, now));
        match idle.entries.iter().map(|entry| entry.since).min() {
            Some(oldest) => next = oldest + limits.idle_max,
            None => {
                idle.is_swept = false;
                return;
            }
        }
    }
}

fn lock(idle: &Mutex<IdleConnections>) -> MutexGuard<'_, IdleConnections> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`exchange`], with what an admin makes go wrong: what depends on no answer costs no network.
pub(super) async fn exchange_with(
    injected: Option<InjectedFault>,
    pool: &Pool,
    request: &Request<Bytes>,
    dial: &Dial<'_>,
    deadline: Instant,
) -> Result<RawAnswer, Fault> {
    let silent_until = |until, stage| async move {
        sleep_until(until).await;
        Err(Fault::new(FaultKind::TimedOut, stage))
    };
    let began = Instant::now();
    let head_by = deadline.min(began + pool.limits.first_byte);
    match injected {
        None => exchange(pool, request, dial, deadline).await,
        Some(InjectedFault::Reset) => Err(Fault::new(FaultKind::Unreachable, Stage::FirstByte)),
        Some(InjectedFault::Error) => {
            Ok(RawAnswer { status: StatusCode::SERVICE_UNAVAILABLE, headers: HeaderMap::new(), body: Bytes::new() })
        }
        Some(InjectedFault::Delay(delay)) if began + delay >= head_by => silent_until(head_by, Stage::FirstByte).await,
        Some(InjectedFault::Delay(delay)) => {
            sleep_until(began + delay).await;
            exchange(pool, request, dial, deadline).await
        }
        Some(InjectedFault::StallAfter(bytes)) => {
            let answer = exchange(pool, request, dial, deadline).await?;
            if (answer.body.len() as u64) < bytes {
                return Ok(answer);
            }
            silent_until(deadline.min(Instant::now() + pool.limits.idle), Stage::Body).await
        }
    }
}

/// Sends a request and reads the whole answer. Retries once, on a fresh connection, only when a pooled one turned out to be
/// dead before the peer said a byte.
pub(super) async fn exchange(
    pool: &Pool,
    request: &Request<Bytes>,
    dial: &Dial<'_>,
    deadline: Instant,
) -> Result<RawAnswer, Fault> {
    let limits = pool.limits;
    if let Some(connection) = pool.take(Instant::now()) {
        match attempt(connection, request, &limits, deadline).await {
            Ok((answer, connection)) => return Ok(keep(pool, answer, connection)),
            Err(Attempt::Dead) => {}
            Err(Attempt::Failed(fault)) => return Err(fault),
        }
    }
    match attempt(dial.connect(&limits, deadline).await?, request, &limits, deadline).await {
        Ok((answer, connection)) => Ok(keep(pool, answer, connection)),
        Err(Attempt::Failed(fault)) => Err(fault),
        Err(Attempt::Dead) => Err(Fault::new(FaultKind::Unreachable, Stage::FirstByte)),
    }
}

/// A connection that answered with an error may be about to be closed by the peer: only good ones are kept.
fn keep(pool: &Pool, answer: RawAnswer, connection: Connection) -> RawAnswer {
    if answer.status.as_u16() < 500 {
        pool.give_back(connection, Instant::now());
    }
    answer
}

enum Attempt {
    /// The connection broke before the peer said anything.
    Dead,
    Failed(Fault),
}

impl From<Fault> for Attempt {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

async fn attempt(
    mut connection: Connection,
    request: &Request<Bytes>,
    limits: &PeerLimits,
    deadline: Instant,
) -> Result<(RawAnswer, Connection), Attempt> {
    connection.listen();
    let head_by = deadline.min(Instant::now() + limits.first_byte);
    let sending = async {
        connection.sender.ready().await?;
        connection.sender.send_request(copy_of(request)).await
    };
    let response = match timeout_at(head_by, sending).await {
        Err(_) => return Err(Fault::new(FaultKind::TimedOut, Stage::FirstByte).into()),
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a request to a peer failed");
            return Err(match connection.refusal() {
                Some(refusal) => refusal.into(),
                None if connection.has_heard() => head_fault(&error).into(),
                None => Attempt::Dead,
            });
        }
    };
    let answer = read(response, limits, deadline).await?;
    Ok((answer, connection))
}

/// `Request` cannot be cloned because of its extensions; ours has none.
fn copy_of(request: &Request<Bytes>) -> Request<Full<Bytes>> {
    let mut copy = Request::new(Full::new(request.body().clone()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// A head that came but is none: too large, or not HTTP. Broken off in the middle, the peer is gone.
pub(super) fn head_fault(error: &hyper::Error) -> Fault {
    if error.is_parse() {
        bad("the peer's answer is not HTTP, or its head is too large")
    } else {
        Fault::new(FaultKind::Unreachable, Stage::FirstByte)
    }
}

/// Reads the whole body. Whatever goes wrong discards all of it and, by dropping it, closes the connection.
pub(super) async fn read(
    response: Response<Incoming>,
    limits: &PeerLimits,
    deadline: Instant,
) -> Result<RawAnswer, Fault> {
    let (head, mut incoming) = response.into_parts();
    if head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(bad("the peer's answer is compressed, which was not asked for"));
    }
    let announced = incoming.size_hint().lower();
    if announced > limits.answer_bytes as u64 {
        return Err(too_large());
    }
    let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    loop {
        let piece_by = deadline.min(Instant::now() + limits.idle);
        let frame = match timeout_at(piece_by, incoming.frame()).await {
            Err(_) => return Err(Fault::new(FaultKind::TimedOut, Stage::Body)),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a peer's answer broke off");
                return Err(Fault::new(FaultKind::Unreachable, Stage::Body));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers say nothing that this protocol knows.
        let Ok(piece) = frame.into_data() else { continue };
        if body.len() + piece.len() > limits.answer_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(RawAnswer { status: head.status, headers: head.headers, body: body.freeze() })
}

fn too_large() -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::Body).with_message("the peer's answer is too large")
}

fn bad(message: &'static str) -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::FirstByte).with_message(message)
}
