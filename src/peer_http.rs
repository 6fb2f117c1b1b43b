//! The mutual TLS client: one [`HttpTransport`] per link, HTTP/1.1 only.
//!
//! A peer is hostile until its answer is parsed. Every phase has its own deadline and its own stage in the fault (resolve,
//! connect, TLS, send, first byte, body, parse); bytes, rows, depth and header size are capped; redirects are not followed and
//! nothing is decompressed; an answer is used whole or not at all.
//!
//! This sits directly on hyper's HTTP/1.1 connection and not on a general client: those time connect and TLS as one, cannot
//! bound the age of a pooled connection or the size of a head, and retry by rules of their own.

pub mod address;
pub mod connection;
pub mod dialer;
pub mod enroll;
pub mod exchange;
pub mod limits;
pub mod refusal;
mod renew;
pub mod rows;
pub mod scan;
pub mod transport;
mod watch;

pub use address::{PeerUrl, PeerUrlError};
pub use dialer::HttpDialer;
pub use enroll::{Enrolled, EnrollmentClient};
pub use limits::PeerLimits;

#[cfg(test)]
pub(crate) mod testing;
