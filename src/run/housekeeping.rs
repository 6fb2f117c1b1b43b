//! What the node does without being asked.

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::ports::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::postgres::audit::AuditStore;

/// Between two looks. The audit's partitions are made weeks ahead, so that a missed look costs nothing.
const EVERY: Duration = Duration::from_secs(3_600);

/// Makes the audit's partitions ahead, until `stop`.
pub(super) async fn run(audit: AuditStore, clock: Arc<dyn Clock>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(fault) = audit.ensure_partitions(clock.now()).await {
            tracing::warn!(%fault, "the audit's next partitions could not be made; tried again in an hour");
        }
    }
}
