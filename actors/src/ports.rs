//! What the domain needs from outside: one trait per need. Adapters live in the root package; `run.rs` there names them all.

use std::future::Future;
use std::pin::Pin;

pub mod clock;

pub mod grant_store;
pub mod link_store;

pub mod local_rows;
pub mod peer_transport;

pub mod audit_log;

/// What a port's asynchronous method returns. It owns its arguments, so that it can be spawned, timed out and dropped.
pub type PortFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
