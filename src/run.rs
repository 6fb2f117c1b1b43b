//! The node as a process: the only place that names every adapter.
//!
//! Start order, each step only after the one before it:
//! 1. the machine: state directory, ports, core dumps; by the same probes as `gateway doctor`
//! 2. database: the private one starts (tier `local`), the schema is brought up to date, the database is claimed for this site
//!    and this replica says which master secrets it knows and learns which one seals
//! 3. catalog: declared resources are compared with the tables
//! 4. listeners are bound, so that a taken port ends the start before anything is served; nothing is accepted yet
//! 5. certificates: the CA opens, the revocation list and the server certificate are loaded
//! 6. actors: audit writer, grant cache, scope evaluator, links, fan-out
//! 7. the authority feed connects; the node waits until rights are fresh
//! 8. the doors open: federation, enrolment, and the API last, because whoever sees it ready may use everything
//!
//! Drain order: doors stop accepting and finish what they have (10 s), links drain, the audit is flushed and sealed, the feed stops, pools
//! close, the private database stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::ports::clock::Clock;
use serde::Serialize;

use crate::clock::SystemClock;
use crate::config::Config;

mod authority;
mod database;
mod doors;
mod error;
mod housekeeping;
mod limits;
mod node;
mod refusals;
mod replica;
mod sealing;
mod services;

pub use error::BootError;
use node::Node;

/// Where a node that is ready can be reached: the line that `gateway serve --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    pub site: String,
    /// `http://…` or `https://…` of the API.
    pub api_url: String,
    pub api: SocketAddr,
    pub federation: SocketAddr,
    pub enrollment: SocketAddr,
    /// What invites say.
    pub federation_url: String,
    pub enrollment_url: String,
    pub state_dir: String,
}

/// A node that serves. Dropping it without [`Running::stop`] ends its tasks, but not gracefully.
pub struct Running {
    node: Node,
    ready: Ready,
}

/// Starts a node. Must be called inside an actix system.
pub async fn start(config: Config) -> Result<Running, BootError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (node, ready) = Node::start(config, clock).await?;
    Ok(Running { node, ready })
}

impl Running {
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Drains and stops, in the order above.
    pub async fn stop(self) {
        self.node.stop().await;
    }
}

/// Starts a node, tells `ready` where it is, and serves until the process is asked to end (SIGTERM or SIGINT; a second one ends
/// it at once).
pub async fn serve(config: Config, ready: impl FnOnce(&Ready)) -> Result<(), BootError> {
    if let Err(error) = crate::doctor::core_dumps_off() {
        tracing::warn!(%error, "core dumps could not be turned off; a crash may write keys and rows to disk");
    }
    config.arm_crash_point();
    if let Err(error) = crate::doctor::open_files_up() {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let mut ends = Ends::listen()?;
    let running = tokio::select! {
        started = start(config) => started?,
        name = ends.next() => {
            tracing::info!(signal = name, "asked to end while starting");
            return Ok(());
        }
    };
    ready(running.ready());
    let name = ends.next().await;
    tracing::info!(signal = name, "asked to end; draining");
    tokio::select! {
        () = running.stop() => tracing::info!("stopped"),
        name = ends.next() => tracing::warn!(signal = name, "asked again; ending without draining"),
        () = tokio::time::sleep(LONGEST_DRAIN) => tracing::warn!("draining took too long; ending"),
    }
    Ok(())
}

/// Longest time from the signal to the end: requests (10 s), links, audit, database.
const LONGEST_DRAIN: Duration = Duration::from_secs(45);

/// The signals that end a node.
struct Ends {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Ends {
    fn listen() -> Result<Self, BootError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| BootError::new("signals", error, "report this as a defect"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
