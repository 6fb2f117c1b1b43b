//! Everything at once at a steady rate, for a while: latencies from the time at which a question was due, and memory over time.

use std::time::Duration;

use futures_util::future::join3;
use tokio::time::Instant;

use crate::Effort;
use crate::case::{Row, Target as Promise};
use crate::driver::{Load, Pace, Target, drive};
use crate::ground::Ground;

pub(crate) async fn mixed(effort: Effort) -> Vec<Row> {
    let ground = Ground::with_rows(100_000).await;
    let length = effort.pick(Duration::from_secs(10), Duration::from_secs(600));
    let load = |rate| Load { connections: 8, length, pace: Pace::Open(rate) };
    let page: serde_json::Value = serde_json::from_slice(&ground.body_of(&ground.list(1)).await).expect("JSON");
    let path = format!("/api/federation/v1/get/tasks/{}", page["items"][0]["id"].as_str().expect("an id"));
    let get = Target::new(ground.node.federation(), &ground.tls(), &path, Some("{}"));
    let (list, capabilities) = (ground.list(50), ground.capabilities());
    let asking = join3(drive(&list, load(200.0)), drive(&get, load(100.0)), drive(&capabilities, load(50.0)));
    let (measured, memory) = tokio::join!(asking, watch(&ground, length));
    let (list, get, capabilities) = measured;
    for part in [&list, &get, &capabilities] {
        // Asks that nothing failed.
        part.per_second();
    }
    let note = format!(
        "350 requests/s for {} s, of them 200 lists of 50; p50 {:.2} ms, max {:.1} ms",
        length.as_secs(),
        list.millis(50.0),
        list.millis(100.0)
    );
    vec![
        Row::alone("mixed_list_p99", list.millis(99.0), "ms", Promise::None).with_note(note),
        Row::alone("mixed_get_p99", get.millis(99.0), "ms", Promise::None),
        Row::alone("mixed_memory", memory.last, "MiB", Promise::None).with_note("resident at the end"),
        Row::alone("mixed_memory_slope", memory.slope, "KiB/min", Promise::None).with_note("over the second half"),
    ]
}

struct Memory {
    last: f64,
    slope: f64,
}

async fn watch(ground: &Ground, length: Duration) -> Memory {
    let start = Instant::now();
    let mut points = Vec::new();
    while start.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if start.elapsed() > length / 2 {
            points.push((start.elapsed().as_secs_f64() / 60.0, ground.node.family().resident_kib() as f64));
        }
    }
    Memory { last: points.last().map_or(0.0, |(_, kib)| kib / 1024.0), slope: slope(&points) }
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (over, under) = points
        .iter()
        .fold((0.0, 0.0), |(over, under), point| (over + (point.0 - x) * (point.1 - y), under + (point.0 - x).powi(2)));
    over / under
}
