use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::PortFuture;
use crate::domain::answer::{Capabilities, Page};
use crate::domain::catalog::ResourceName;
use crate::domain::fault::Fault;
use crate::domain::identity::RequestId;
use crate::domain::link::{Link, LinkCredentials};
use crate::domain::query::RowId;

/// One peer over one client certificate. The adapter enforces every cap on the answer (bytes, rows, depth, time between
/// bytes), drops what was not asked, and rewrites `_source` to the pinned name: what it returns is safe to blend.
pub trait PeerTransport: Send + Sync + 'static {
    /// Asks once, before `ask.deadline`. Dropping the future closes the connection, so that the peer cancels too.
    fn ask(&self, ask: PeerAsk) -> PortFuture<Result<PeerAnswer, Fault>>;

    /// Opens the peer's watch on a connection of its own and passes on what is said there, in order, until it ends; then says why it
    /// ended. The adapter bounds the opening, the length of a line and how many come; not how long the peer may be silent.
    /// Dropping the future closes the connection.
    fn watch(&self, ear: WatchEar) -> PortFuture<Fault>;
}

/// Where a watch's news go, and where acknowledgements come from.
#[derive(Debug)]
pub struct WatchEar {
    /// What waits for a full channel is not read from the peer.
    pub news: mpsc::Sender<PeerNews>,
    /// Numbers of news that were acted on.
    pub acknowledged: mpsc::Receiver<u64>,
}

/// One thing that an owner says on its watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerNews {
    /// How the grant stands now; to be acknowledged by `number`. The first news of a watch.
    Grant { number: u64, standing: Standing },
    /// The peer is there.
    Heartbeat,
    /// The peer's node stops; another one, or the same again, will answer.
    Closing,
    /// Newer watches of this grant took the place of this one.
    Superseded,
}

/// How a grant stands, as its owner tells its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It opens what its capabilities say. `changed`: they may differ from before.
    Active {
        changed: bool,
    },
    Suspended,
    Revoked,
    Expired,
}

/// Makes the transport of a link. Dialling itself is lazy: an error here means that the link's material is unusable.
pub trait PeerDialer: Send + Sync + 'static {
    fn transport(&self, link: &Link) -> Result<Arc<dyn PeerTransport>, Fault>;

    /// Asks the peer, with the link's certificate and before `deadline`, for the next one, for a new key. What comes back was
    /// checked, its key is sealed, and nothing of it is stored yet.
    fn renew(&self, link: &Link, deadline: Instant) -> PortFuture<Result<LinkCredentials, Fault>>;
}

#[derive(Debug, Clone)]
pub struct PeerAsk {
    pub question: PeerQuestion,
    /// Absolute; what is left of it travels to the peer.
    pub deadline: Instant,
    pub request: RequestId,
    /// W3C `traceparent` to send on.
    pub traceparent: Option<Box<str>>,
    /// What an admin makes go wrong with it.
    pub injected: Option<InjectedFault>,
}

/// A fault that an admin puts into a link, to see what it does to the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// The peer takes so much longer to say its first byte.
    Delay(Duration),
    /// It says so many bytes of its answer's body, and then nothing more.
    StallAfter(u64),
    /// It answers 503, without having been asked.
    Error,
    /// The connection is reset, without having been made.
    Reset,
}

#[derive(Debug, Clone)]
pub enum PeerQuestion {
    Capabilities,
    List {
        resource: ResourceName,
        limit: NonZeroU32,
        /// The peer's own opaque cursor.
        cursor: Option<Box<str>>,
        /// The `where` object as canonical JSON; the peer checks it against its own catalog.
        filter: Option<Bytes>,
    },
    Get {
        resource: ResourceName,
        id: RowId,
    },
}

#[derive(Debug, Clone)]
pub enum PeerAnswer {
    Capabilities(Capabilities),
    /// Rows of a list, and the peer's cursor behind the last one.
    Rows {
        page: Page,
        next_cursor: Option<Box<str>>,
    },
    /// The row of a get: a page of exactly one.
    Item(Page),
}
