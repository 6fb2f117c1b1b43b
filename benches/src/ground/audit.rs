use std::time::{Duration, Instant};

use tokio_postgres::Client;

/// Longest wait for the sealer: some ten of its rounds.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// How many events have no seal yet. Walks the index from lane to lane, so that asking costs nothing that could be measured.
const UNSEALED: &str = "
    WITH RECURSIVE lanes AS (
        (SELECT lane FROM federation_audit_log ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT next.lane FROM federation_audit_log next WHERE next.lane > lanes.lane ORDER BY next.lane LIMIT 1)
        FROM lanes WHERE lanes.lane IS NOT NULL
    )
    SELECT COALESCE(sum(
        (SELECT number FROM federation_audit_log log WHERE log.lane = lanes.lane ORDER BY number DESC LIMIT 1)
        - COALESCE((SELECT max(last) FROM audit_seals WHERE audit_seals.lane = lanes.lane), 0)), 0)::bigint
    FROM lanes WHERE lane IS NOT NULL";

/// Looks at how far a node's audit log is sealed.
pub(super) struct Audit {
    client: Client,
}

impl Audit {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Waits until every event has its seal; says so where that takes too long.
    pub(super) async fn sealed(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let unsealed: i64 = self.client.query_one(UNSEALED, &[]).await.expect("what is not sealed").get(0);
            if unsealed == 0 {
                return;
            }
            if Instant::now() >= deadline {
                eprintln!("    {unsealed} events are not sealed yet: the next round pays for them");
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
