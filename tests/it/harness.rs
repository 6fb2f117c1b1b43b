//! What the tests stand on: nodes, clients, sites joined by a link, and peers that misbehave.

pub(crate) mod api;
pub(crate) mod asker;
pub(crate) mod node;
pub(crate) mod sites;
pub(crate) mod wait;
