use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
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
