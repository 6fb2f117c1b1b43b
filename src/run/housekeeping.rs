//! What the node does without being asked.

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::ports::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::postgres::audit::AuditStore;
use crate::postgres::grants::Grants;

/// Between two looks at the audit's partitions. They are made weeks ahead, so that a missed look costs nothing.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3_600);

/// Between two looks for grants that are past their end. Decisions compare the time themselves; this is for what admins read.
const EXPIRY_EVERY: Duration = Duration::from_secs(60);

/// Keeps the audit's partitions ahead, moves its old months, and marks grants that have ended, until `stop`.
pub(super) async fn run(
    audit: AuditStore,
    audit_hot: Duration,
    grants: Grants,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut partitions = tokio::time::interval(PARTITIONS_EVERY);
    let mut expiry = tokio::time::interval(EXPIRY_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = partitions.tick() => {
                if let Err(fault) = audit.ensure_partitions(clock.now()).await {
                    tracing::warn!(%fault, "the audit's next partitions could not be made; tried again in an hour");
                }
                match audit.move_cold(clock.now(), audit_hot).await {
                    Ok(moved) if moved.is_empty() => {}
                    Ok(moved) => tracing::info!(months = ?moved, "old months of the audit log moved to the cold table"),
                    Err(fault) => tracing::warn!(%fault, "old months of the audit log stay where they are; tried again in an hour"),
                }
            }
            _ = expiry.tick() => {
                if let Err(fault) = grants.expire_overdue().await {
                    tracing::warn!(%fault, "ended grants could not be marked; tried again in a minute");
                }
            }
        }
    }
}
