use super::PortFuture;
use crate::domain::audit::AuditEvent;
use crate::domain::fault::Fault;

/// Where events are written down.
pub trait AuditLog: Send + Sync + 'static {
    /// Commits all events together; on `Ok` they survive a crash. On an error none is known to be written.
    fn append(&self, events: Vec<AuditEvent>) -> PortFuture<Result<(), Fault>>;
}
