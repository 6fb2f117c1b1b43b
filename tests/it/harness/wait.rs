use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for a condition before a test gives up. Generous, because machines are shared: it only bounds a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until `probe` gives a value.
pub(crate) async fn until<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
