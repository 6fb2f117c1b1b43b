//! The domain of a Mosaic node.
//!
//! Values and decisions live in [`domain`], the needs of the domain towards the outside in [`ports`], and every piece of
//! state that has a life cycle or an order in an actor. This crate knows no HTTP, SQL, TLS, X.509 or serde: those are the
//! edges, in the root package, which depends on this crate and never the other way round.

pub mod domain;
pub mod ports;

// The asking side: one question of a session, on its way down to the peers.
pub mod fan_out;
pub mod peer_registry;

pub mod peer_link;

// The owner side: whether a peer's request is allowed, and the record of it.
pub mod grant_cache;
pub mod scope_evaluator;

pub mod audit_writer;

#[cfg(test)]
mod fakes;
