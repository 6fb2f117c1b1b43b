//! What the process itself takes: time to get ready, memory at rest, memory for each connected link.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Effort;
use crate::case::{Row, Target as Promise};
use crate::cases::fan_out::{Home, SHORT_IDLE};
use crate::ground::{Cluster, Node};
use crate::rounds::median;

/// From the spawn to the line that says ready, with a running and migrated database.
pub(crate) async fn start(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start();
    let mut node = Node::start("work", &cluster.create("work").await, None, "");
    let first = node.start_time;
    let mut times = Vec::new();
    for _ in 0..effort.pick(5, 15) {
        node.end();
        node.begin();
        times.push(node.start_time.as_secs_f64() * 1e3);
    }
    let note = format!("the first, with migrations and a new CA: {} ms", first.as_millis());
    vec![Row::alone("start_to_ready", median(times), "ms", Promise::OursAtMost(300.0)).with_note(note)]
}

/// At rest, and with every further link: connected, and used a moment ago.
pub(crate) async fn memory(effort: Effort) -> Vec<Row> {
    let cluster = Cluster::start();
    let node = Node::start("work", &cluster.create("work").await, None, "");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = node.family().resident_kib() as f64 / 1024.0;
    drop(node);

    let (few, many) = (8, effort.pick(72, 136));
    let each = |with_few: f64, with_many: f64| (with_many - with_few) / (many - few) as f64;
    let home = Home::with_limits(&cluster, many, 1, AT_ONCE, few, SHORT_IDLE).await;
    let with_few = home.resident_at_rest().await;
    home.join(few..many).await;
    let connected = each(with_few, home.resident_at_rest().await);
    drop(home);
    let home = Home::with_peers(&cluster, many, 1, AT_ONCE, few).await;
    let with_few = home.resident_in_use().await;
    home.join(few..many).await;
    let used = each(with_few, home.resident_in_use().await);
    let range = format!("from {few} to {many} links");
    vec![
        Row::alone("memory_idle", idle, "MiB", Promise::OursAtMost(30.0)).with_note("resident, tier standalone"),
        Row::alone("memory_per_link", connected, "KiB", Promise::OursAtMost(64.0))
            .with_note(format!("{range}, each connected by its watch; what it asks with has closed for rest")),
        Row::alone("memory_per_link_used", used, "KiB", Promise::None)
            .with_note(format!("{range}, each with its watch and a connection that was used a moment ago")),
    ]
}

const AT_ONCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::ZERO;
