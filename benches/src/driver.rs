//! The load: HTTP/1.1 written by hand over TLS, as cheap as it can be, the same way to every server.
//!
//! Closed loop: each connection asks as soon as it was answered. Open loop: questions are due at fixed times whether or not
//! the answers keep up, and a latency counts from the time at which its question was due (coordinated omission).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

mod tls;

pub(crate) use tls::client_tls;

/// Where to ask, and what.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Absent for the listener of sessions.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The whole request, head and body.
    pub(crate) request: Bytes,
}

impl Target {
    /// `GET`, or `POST` where there is a body.
    pub(crate) fn new(address: SocketAddr, tls: &Arc<ClientConfig>, path: &str, body: Option<&str>) -> Self {
        let request = match body {
            None => format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n"),
            Some(body) => format!(
                "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        Self { address, tls: Some(Arc::clone(tls)), request: Bytes::from(request) }
    }

    /// A session's question, over plain HTTP as sessions on the same machine ask. `accept` chooses whole or streamed answers.
    pub(crate) fn question(address: SocketAddr, token: &str, accept: &str, body: &str) -> Self {
        let request = format!(
            "POST /api/v1/query HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\naccept: {accept}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { address, tls: None, request: Bytes::from(request) }
    }
}

/// How hard, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) length: Duration,
    pub(crate) pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// As fast as answers come.
    Closed,
    /// So many questions per second, all connections together.
    Open(f64),
    /// As fast as answers come, a new connection for each.
    Handshakes,
}

/// What came of it.
pub(crate) struct Measured {
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Answers that were not 200, and connections that broke; the first one's words.
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
}

impl Measured {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3).expect("sensible bounds");
        Self { answers: 0, seconds: 0.0, latency, failures: 0, first_failure: None }
    }

    fn note(&mut self, due: Instant, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.answers += 1;
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.latency.saturating_record(micros.max(1));
            }
            Err(words) => {
                self.failures += 1;
                self.first_failure.get_or_insert(words);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.latency.add(other.latency).expect("equal bounds");
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    pub(crate) fn per_second(&self) -> f64 {
        assert!(self.failures == 0, "{} requests failed, the first: {:?}", self.failures, self.first_failure);
        self.answers as f64 / self.seconds
    }

    /// A percentile in milliseconds.
    pub(crate) fn millis(&self, percentile: f64) -> f64 {
        self.latency.value_at_quantile(percentile / 100.0) as f64 / 1e3
    }
}

/// Puts the load on the target. Connections are open before the time starts to run, except where handshakes are the load.
pub(crate) async fn drive(target: &Target, load: Load) -> Measured {
    Crowd::gather(target, load).await.drive().await
}

/// The connections that put a load on a target, round after round.
pub(crate) struct Crowd {
    target: Target,
    load: Load,
    connections: RefCell<Vec<Option<Connection>>>,
}

impl Crowd {
    /// Opens the connections and asks once on each, except where handshakes are the load: whoever counts CPU time does so from here
    /// on. A connection that has asked nothing yet is closed after seconds, and it may have to wait for the other side's round.
    pub(crate) async fn gather(target: &Target, load: Load) -> Self {
        let connections = match load.pace {
            Pace::Handshakes => (0..load.connections).map(|_| None).collect(),
            Pace::Closed | Pace::Open(_) => {
                let opening = (0..load.connections).map(|_| async {
                    let mut connection = Connection::open(target).await.expect("a connection");
                    connection.ask(&target.request).await.expect("a first answer");
                    Some(connection)
                });
                join_all(opening).await
            }
        };
        Self { target: target.clone(), load, connections: RefCell::new(connections) }
    }

    /// One round.
    pub(crate) async fn drive(&self) -> Measured {
        let Load { length, pace, .. } = self.load;
        let schedule = Rc::new(Schedule { start: Instant::now(), length, pace, next: Default::default() });
        // A task each: one task for all would look at every connection whenever one has news.
        let running: Vec<_> = self
            .connections
            .take()
            .into_iter()
            .map(|connection| spawn_local(one(self.target.clone(), connection, Rc::clone(&schedule))))
            .collect();
        let mut all = Measured::new();
        for part in running {
            let (measured, connection) = part.await.expect("a connection's task does not panic");
            all.add(measured);
            self.connections.borrow_mut().push(connection);
        }
        all.seconds = schedule.start.elapsed().as_secs_f64();
        all
    }
}

/// When the next question is due, across all connections.
struct Schedule {
    start: Instant,
    length: Duration,
    pace: Pace,
    next: std::cell::Cell<u64>,
}

impl Schedule {
    /// `None`: the time is up.
    fn next(&self) -> Option<Instant> {
        let due = match self.pace {
            Pace::Closed | Pace::Handshakes => Instant::now(),
            Pace::Open(rate) => {
                let number = self.next.replace(self.next.get() + 1);
                self.start + Duration::from_secs_f64(number as f64 / rate)
            }
        };
        (due < self.start + self.length).then_some(due)
    }
}

async fn one(
    target: Target,
    mut connection: Option<Connection>,
    schedule: Rc<Schedule>,
) -> (Measured, Option<Connection>) {
    let mut measured = Measured::new();
    while let Some(due) = schedule.next() {
        sleep_until(due).await;
        let outcome = match &mut connection {
            Some(open) => open.ask(&target.request).await,
            None => {
                async {
                    let mut fresh = Connection::open(&target).await?;
                    fresh.ask(&target.request).await
                }
                .await
            }
        };
        let broken = outcome.is_err();
        measured.note(due, outcome);
        if broken && connection.is_some() {
            connection = Connection::open(&target).await.ok();
        }
    }
    (measured, connection)
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection and what it has read.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    read: BytesMut,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Result<Self, String> {
        let tcp = TcpStream::connect(target.address).await.map_err(|error| format!("connect: {error}"))?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::IpAddress(target.address.ip().into());
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let connector = TlsConnector::from(Arc::clone(tls));
                Box::new(connector.connect(name, tcp).await.map_err(|error| format!("handshake: {error}"))?)
            }
        };
        Ok(Self { stream, read: BytesMut::with_capacity(64 * 1024) })
    }

    /// A streamed answer, read to its end: its lines, and when each of them had arrived.
    pub(crate) async fn stream(&mut self, request: &[u8]) -> Result<Vec<(Duration, Bytes)>, String> {
        let asked = Instant::now();
        self.stream.write_all(request).await.map_err(|error| format!("connection: {error}"))?;
        let (status, head, _) = self.head().await?;
        if status != 200 {
            return Err(format!("status {status}"));
        }
        self.read.advance(head);
        let (mut lines, mut text) = (Vec::new(), BytesMut::new());
        loop {
            let by = asked.elapsed();
            while let Some(chunk) = next_chunk(&mut self.read)? {
                if chunk.is_empty() {
                    return Ok(lines);
                }
                text.extend_from_slice(&chunk);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    lines.push((by, text.split_to(end + 1).freeze()));
                }
            }
            self.more().await?;
        }
    }

    /// One question and its whole answer, which must be a 200.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        let answer = self.answer(request).await?;
        if answer.status == 200 { Ok(()) } else { Err(format!("status {}: {}", answer.status, answer.text())) }
    }

    /// One question and its answer, whatever it is.
    pub(crate) async fn answer(&mut self, request: &[u8]) -> Result<Answer, String> {
        let io = |error: std::io::Error| format!("connection: {error}");
        self.stream.write_all(request).await.map_err(io)?;
        self.stream.flush().await.map_err(io)?;
        let (status, head, length) = self.head().await?;
        while self.read.len() < head + length {
            self.more().await?;
        }
        let mut whole = self.read.split_to(head + length);
        Ok(Answer { status, body: whole.split_off(head).freeze() })
    }

    /// Reads until the head of an answer is whole: its status, its length, and that of the body.
    async fn head(&mut self) -> Result<(u16, usize, usize), String> {
        loop {
            if let Some(found) = parse_head(&self.read)? {
                return Ok(found);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), String> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) => Err("closed before the end of an answer".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("connection: {error}")),
        }
    }
}

/// Status and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Status, length of the head, length of the body; nothing when the head is not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let status = status.ok_or("no status")?;
    let mut length = 0;
    for line in head.split(|byte| *byte == b'\n') {
        const NAME: &[u8] = b"content-length:";
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let value = std::str::from_utf8(&line[NAME.len()..]).ok().and_then(|text| text.trim().parse().ok());
            length = value.ok_or("a length that is none")?;
        }
    }
    Ok(Some((status, end + 4, length)))
}

/// The next chunk of a body that comes in chunks (RFC 9112 7.1), empty at its end; nothing when it is not whole.
fn next_chunk(read: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(end) = read.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
    let size = std::str::from_utf8(&read[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let (start, size) = (end + 2, size.ok_or("a chunk without a size")?);
    if read.len() < start + size + 2 {
        return Ok(None);
    }
    let mut chunk = read.split_to(start + size + 2);
    chunk.truncate(start + size);
    Ok(Some(chunk.split_off(start).freeze()))
}
