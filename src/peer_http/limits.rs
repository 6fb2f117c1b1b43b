//! What one peer may cost: the part of the node's limits that this client enforces.

use std::time::Duration;

use crate::config::Limits;

/// Limits of one exchange with a peer and of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// Name resolution and TCP together: a host that does not answer in this time is down for a person who waits.
    pub connect: Duration,
    /// The TLS handshake: two round trips and two signatures, with room for a busy peer.
    pub tls: Duration,
    /// From the request sent to the whole head of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the body: a peer that drips is treated like one that is silent.
    pub idle: Duration,
    /// Bytes of one answer.
    pub answer_bytes: usize,
    /// Nesting of one answer.
    pub answer_depth: usize,
    /// Bytes of an answer's head. hyper needs at least 8 KiB.
    pub head_bytes: usize,
    /// Idle connections kept per link.
    pub idle_connections: usize,
    /// How long a connection may lie idle: shorter than what a server usually allows.
    pub idle_max: Duration,
    /// How old a connection may get, so that changes of addresses and certificates are noticed.
    pub age_max: Duration,
    /// The kernel asks after a connection that was quiet for so long, and ends one on which nothing was acknowledged for so long.
    pub keepalive: Duration,
    pub unacknowledged: Duration,
    /// One enrolment from resolving to the answer: the owner's CA signs in between.
    pub enrollment: Duration,
}

impl From<&Limits> for PeerLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            connect: limits.peer_connect,
            tls: limits.peer_tls,
            first_byte: limits.peer_first_byte,
            idle: limits.peer_idle,
            answer_bytes: limits.peer_answer,
            answer_depth: limits.peer_answer_depth,
            head_bytes: limits.peer_head,
            idle_connections: limits.peer_connections,
            idle_max: limits.peer_connection_idle,
            age_max: limits.peer_connection_age,
            keepalive: limits.peer_keepalive,
            unacknowledged: limits.peer_unacknowledged,
            enrollment: limits.enroll,
        }
    }
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}
