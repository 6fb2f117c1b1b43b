//! Events that nobody waits for: those of answers that hold no row (ADR 29).
//!
//! Such an answer leaves when its event stands in the writer's queue. As soon as one event could not be written, every answer
//! waits for its commit again, until one has succeeded: a node that cannot write its audit answers nobody, with one exception
//! per failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use mosaic_actors::audit_writer::AuditHandle;
use mosaic_actors::domain::audit::AuditEvent;
use mosaic_actors::domain::fault::Fault;

/// Whether the last event was written, as far as is known. Clones share it.
#[derive(Clone, Default)]
pub struct Unawaited {
    failed: Arc<AtomicBool>,
}

impl Unawaited {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `Ok` when the event is queued behind events that were written, or is committed itself.
    pub(super) async fn record(&self, audit: &AuditHandle, event: AuditEvent) -> Result<(), Fault> {
        let (audit, this) = (audit.clone(), self.clone());
        let mut recording = Box::pin(async move {
            let outcome = audit.record(event).await;
            this.failed.store(outcome.is_err(), Ordering::Release);
            outcome
        });
        if self.failed.load(Ordering::Acquire) {
            return recording.await;
        }
        // The first poll queues the event, or says that there is no room.
        match futures_util::poll!(&mut recording) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                actix_web::rt::spawn(async move {
                    if let Err(fault) = recording.await {
                        tracing::error!(%fault, "an event of an answer without rows was lost");
                    }
                });
                Ok(())
            }
        }
    }
}
