//! From the request that revokes to the refusal on every replica, on connections that were open all along.

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use crate::Effort;
use crate::case::{Row, Target as Promise};
use crate::driver::{Connection, Target};
use crate::ground::{CAPABILITIES, Ground, Holder, Node};
use crate::rounds::median;

pub(crate) async fn revoke(effort: Effort) -> Vec<Row> {
    let ground = Ground::with_rows(1_000).await;
    let url = ground.cluster.url("work");
    let others = [ground.node.replica(&url), ground.node.replica(&url)];
    let replicas = [&ground.node, &others[0], &others[1]];
    let mut times = Vec::new();
    for _ in 0..effort.pick(130, 1_000) {
        times.extend(one(&ground, replicas).await);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    let note = format!(
        "{} refusals; from sending the revocation; replicas otherwise idle; p50 {:.1} ms",
        times.len(),
        median(times.clone())
    );
    vec![
        Row::alone("revoke_p99", at(0.99), "ms", Promise::OursAtMost(100.0)).with_note(note),
        Row::alone("revoke_max", at(1.0), "ms", Promise::OursAtMost(1_000.0)),
    ]
}

/// Milliseconds until each replica refused.
async fn one(ground: &Ground, replicas: [&Node; 3]) -> Vec<f64> {
    let holder = Holder::enroll(&ground.node, "leaver", "ada", json!({ "resources": ["tasks"] })).await;
    let targets = replicas.map(|node| Target::new(node.federation(), &holder.tls(), CAPABILITIES, None));
    let mut connections = Vec::new();
    for target in &targets {
        let mut connection = Connection::open(target).await.expect("a connection");
        // A replica learns of a new grant as it learns of its end.
        while connection.answer(&target.request).await.map(|answer| answer.status) != Ok(200) {
            connection = Connection::open(target).await.expect("a connection");
        }
        connections.push(connection);
    }
    let admin = ground.node.admin();
    let path = format!("/api/admin/v1/grants/{}/revoke", holder.grant);
    let sent = Instant::now();
    let refused = targets.iter().zip(connections).map(|(target, mut connection)| async move {
        loop {
            let answer = connection.answer(&target.request).await.expect("an answer on the open connection");
            if answer.status != 200 {
                assert_eq!(answer.status, 403, "{}", answer.text());
                return sent.elapsed().as_secs_f64() * 1e3;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    let nothing = json!({});
    let (_, times) = futures_util::future::join(admin.post(&path, &nothing), join_all(refused)).await;
    times
}
