use time::OffsetDateTime;

/// The wall clock. Durations are measured with `tokio::time::Instant`, which tests can pause; dates come from here.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> OffsetDateTime;
}
