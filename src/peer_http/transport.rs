//! The verbs of the protocol, asked of one peer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use mosaic_actors::domain::answer::Capabilities;
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::ports::peer_transport::{PeerAnswer, PeerAsk, PeerQuestion, PeerTransport, WatchEar};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::Instrument;

use super::address::PeerUrl;
use super::connection::{Dial, TlsSource};
use super::exchange::{Pool, RawAnswer, exchange_with};
use super::limits::PeerLimits;
use super::refusal::{Missing, refusal};
use super::rows::{Expected, RowsError, parse_item, parse_list};
use super::scan::scan;
use super::watch;
use crate::wire::federation_v1::{BASE_PATH, CapabilitiesAnswer, DEADLINE_HEADER, ListRequest, PROTOCOL};

/// What one transport speaks with, and to whom.
pub(super) struct Endpoint {
    pub(super) peer: SiteName,
    pub(super) url: PeerUrl,
    pub(super) allow_private: bool,
    /// Past it no connection is tried: the peer would refuse the handshake without saying why.
    pub(super) certificate_not_after: OffsetDateTime,
    pub(super) tls: TlsSource,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: PeerLimits,
}

/// One peer over one client certificate.
pub struct HttpTransport {
    endpoint: Arc<Endpoint>,
    pool: Arc<Pool>,
}

impl HttpTransport {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let pool = Arc::new(Pool::new(endpoint.limits));
        Self { endpoint: Arc::new(endpoint), pool }
    }
}

impl PeerTransport for HttpTransport {
    fn ask(&self, ask: PeerAsk) -> PortFuture<Result<PeerAnswer, Fault>> {
        let (endpoint, pool) = (Arc::clone(&self.endpoint), Arc::clone(&self.pool));
        let (verb, resource) = names(&ask.question);
        let span = tracing::info_span!(
            "federation.request",
            side = "asker",
            request_id = %ask.request,
            peer = %endpoint.peer,
            verb,
            resource,
            outcome = tracing::field::Empty,
            latency_ms = tracing::field::Empty,
            cached = false
        );
        let work = async move {
            let started = Instant::now();
            let result = endpoint.ask(&pool, &ask).await;
            let outcome = result.as_ref().map_or_else(|fault| fault.stage.as_str(), |_| "ok");
            let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::record_all!(tracing::Span::current(), outcome = outcome, latency_ms = elapsed);
            if let Err(fault) = &result {
                tracing::debug!(%fault, "a peer did not answer");
            }
            result
        };
        Box::pin(work.instrument(span))
    }

    fn watch(&self, ear: WatchEar) -> PortFuture<Fault> {
        let endpoint = Arc::clone(&self.endpoint);
        Box::pin(async move {
            match watch::listen(&endpoint, ear).await {
                Err(fault) => fault,
                Ok(never) => match never {},
            }
        })
    }
}

fn names(question: &PeerQuestion) -> (&'static str, &str) {
    match question {
        PeerQuestion::Capabilities => ("capabilities", ""),
        PeerQuestion::List { resource, .. } => ("list", resource.as_str()),
        PeerQuestion::Get { resource, .. } => ("get", resource.as_str()),
    }
}

impl Endpoint {
    /// Whether it makes sense to connect.
    pub(super) fn in_date(&self) -> Result<(), Fault> {
        if self.clock.now() >= self.certificate_not_after {
            return Err(Fault::new(FaultKind::CertificateExpired, Stage::Tls));
        }
        Ok(())
    }

    pub(super) fn dial(&self) -> Dial<'_> {
        Dial { url: &self.url, allow_private: self.allow_private, tls: &self.tls }
    }

    async fn ask(&self, pool: &Pool, ask: &PeerAsk) -> Result<PeerAnswer, Fault> {
        self.in_date()?;
        let left = ask.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::new(FaultKind::TimedOut, Stage::Send));
        }
        let request = self.request(ask, u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1))?;
        let answer = exchange_with(ask.injected, pool, &request, &self.dial(), ask.deadline).await?;
        self.interpret(&answer, &ask.question)
    }

    fn request(&self, ask: &PeerAsk, left_ms: u64) -> Result<Request<Bytes>, Fault> {
        let (method, path, body) = match &ask.question {
            PeerQuestion::Capabilities => (Method::GET, format!("{BASE_PATH}/capabilities"), Bytes::new()),
            PeerQuestion::List { resource, limit, cursor, filter } => {
                let request = ListRequest {
                    limit: Some(*limit),
                    cursor: cursor.as_deref().map(str::to_owned),
                    filter: filter.as_ref().map(raw).transpose()?,
                };
                let body = serde_json::to_vec(&request).map_err(|_| defect())?;
                (Method::POST, format!("{BASE_PATH}/list/{resource}"), body.into())
            }
            PeerQuestion::Get { resource, id } => {
                let path = format!("{BASE_PATH}/get/{resource}/{}", path_segment(id.as_str()));
                (Method::POST, path, Bytes::from_static(b"{}"))
            }
        };
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(HOST, self.url.authority())
            .header(USER_AGENT, concat!("mosaic/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(DEADLINE_HEADER, left_ms);
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(traceparent) = ask.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            request = request.header("traceparent", traceparent);
        }
        request.body(body).map_err(|_| defect())
    }

    fn interpret(&self, answer: &RawAnswer, question: &PeerQuestion) -> Result<PeerAnswer, Fault> {
        if answer.status != StatusCode::OK {
            let missing = if matches!(question, PeerQuestion::Get { .. }) { Missing::Thing } else { Missing::Path };
            return Err(refusal(answer, missing));
        }
        if !answer.is_json() {
            return Err(bad_answer("the peer's answer is not JSON"));
        }
        match question {
            PeerQuestion::Capabilities => capabilities(&answer.body).map(PeerAnswer::Capabilities),
            PeerQuestion::List { resource, limit, .. } => {
                let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
                let (page, next_cursor) =
                    parse_list(&answer.body, self.expected(resource), limit).map_err(|error| lying(&error))?;
                Ok(PeerAnswer::Rows { page, next_cursor })
            }
            PeerQuestion::Get { resource, id } => {
                let page = parse_item(&answer.body, self.expected(resource), id).map_err(|error| lying(&error))?;
                Ok(PeerAnswer::Item(page))
            }
        }
    }

    fn expected<'a>(&'a self, resource: &'a ResourceName) -> Expected<'a> {
        Expected { peer: &self.peer, resource: resource.as_str(), depth: self.limits.answer_depth }
    }
}

/// What a peer says about itself, within reason: names that are none are left out, since nothing could be asked of them.
fn capabilities(body: &[u8]) -> Result<Capabilities, Fault> {
    /// Largest account of capabilities: a catalog of a few hundred resources.
    const BYTES_MAX: usize = 64 * 1024;
    const DEPTH_MAX: usize = 16;
    let unreadable = || bad_answer("the peer's capabilities are not readable");
    if body.len() > BYTES_MAX {
        return Err(unreadable());
    }
    let text = scan(body, DEPTH_MAX).map_err(|_| unreadable())?;
    protocol_of(text).ok_or_else(unreadable).and_then(|protocol| {
        if protocol == PROTOCOL { Ok(()) } else { Err(Fault::new(FaultKind::Incompatible, Stage::Parse)) }
    })?;
    let mut answer: CapabilitiesAnswer = serde_json::from_str(text).map_err(|_| unreadable())?;
    SiteName::parse(&answer.site).map_err(|_| unreadable())?;
    let is_name = |name: &String| ResourceName::parse(name).is_ok();
    answer.resources.retain(is_name);
    answer.excluded_resources.retain(is_name);
    answer.supported_verbs.retain(is_name);
    Ok(answer.into())
}

/// The protocol number alone: a later protocol may tell the rest in another shape.
fn protocol_of(text: &str) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Protocol {
        protocol: u32,
    }
    text.trim_start()
        .starts_with('{')
        .then(|| serde_json::from_str::<Protocol>(text).ok())
        .flatten()
        .map(|p| p.protocol)
}

fn raw(json: &Bytes) -> Result<Box<RawValue>, Fault> {
    serde_json::from_slice(json).map_err(|_| defect())
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
fn path_segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && text.len() > 2) {
            segment.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

fn lying(error: &RowsError) -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::Parse).with_message(error.to_string())
}

fn bad_answer(message: &'static str) -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::Parse).with_message(message)
}

fn defect() -> Fault {
    Fault::new(FaultKind::Internal, Stage::Send)
}

#[cfg(test)]
mod tests;
