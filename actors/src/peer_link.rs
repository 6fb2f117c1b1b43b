//! One link: the only way to one peer under one grant.
//!
//! ```text
//! ask ──▶ state of the grant ──▶ certificate in date ──▶ 429 wait ──▶ breaker ──▶ in-flight cap ──▶ transport
//!          each refusal costs no network                                             answer, checked ◀──┘
//! ```
//!
//! The actor owns what has an order: the breaker, what the peer told about its grant, the capabilities, the transport that is
//! swapped when the certificate is. Everything observable is published as a snapshot; nobody asks the actor how it is.
//!
//! Invariants: the actor never waits, calls run beside it; every call ends at its deadline, or when its caller leaves; of a
//! half-open breaker exactly one call probes; a swap of the transport leaves calls in flight on the old one; nothing that
//! the peer says is acted on before [`answer`] checked it.
//!
//! The certificate is renewed beside all that ([`renewal`] decides when): one replica asks, the store tells the others. A call that
//! the peer refused because the certificate it went out with was taken over meanwhile is asked once more with the new one.
//!
//! Beside the calls one request stays open on which the owner says how the grant stands ([`watching`]): what it says counts at once.
//! Without it the link is as good as its last answer; no call ever waits for it, and its failures say nothing about calls.

mod actor;
mod answer;
mod core;
mod handle;
mod jitter;
mod messages;
mod renewing;
mod status;
mod watching;

pub mod admission;
pub mod renewal;

#[cfg(test)]
mod tests;

pub use handle::{LinkParts, PeerLinkHandle};
pub(crate) use handle::{Placement, start};
pub(crate) use jitter::jitter;
pub(crate) use messages::LinkDied;
pub use status::{Injection, LinkHealth, LinkStatus, PeerLinkLimits};
pub use watching::{WatchLimits, WatchStatus};
