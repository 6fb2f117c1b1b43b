//! `list` as the subject's rows grow: the same question to the same node by two holders, one with few rows and one with many.

use serde_json::json;

use crate::Effort;
use crate::case::{Row, Target as Promise};
use crate::driver::{Crowd, Load, Pace, Target};
use crate::ground::{Ground, Holder, LIST, subject_named};
use crate::rounds::{Round, alternate};

const FEW: u64 = 10_000;

pub(crate) async fn growth(effort: Effort) -> Vec<Row> {
    let ground = Ground::with_rows(FEW).await;
    let mut rows = Vec::new();
    for many in effort.pick(vec![100_000, 1_000_000], vec![100_000, 1_000_000, 10_000_000]) {
        let name = format!("rich-{many}");
        let subject = subject_named(&ground.node, &name).await;
        ground.cluster.fill("work", &subject, many).await;
        let holder = Holder::enroll(&ground.node, "home", &name, json!({ "resources": ["tasks"] })).await;
        let body = json!({ "limit": 50 }).to_string();
        let target = Target::new(ground.node.federation(), &holder.tls(), LIST, Some(&body));
        let (pairs, length) = effort.rounds();
        let processes = [ground.node.family(), ground.cluster.family()];
        // Requests are what varies, time is what is told: the mean of a closed loop with few connections.
        let load = Load { connections: 2, length, pace: Pace::Closed };
        let round = async |crowd: &Crowd| {
            let measured = crowd.drive().await;
            Round { value: 2e3 / measured.per_second(), requests: measured.answers as f64 }
        };
        let (many_rows, few) = (Crowd::gather(&target, load).await, Crowd::gather(&ground.list(50), load).await);
        let settle = async || ground.settle().await;
        let compared = alternate(pairs, (|| round(&many_rows), &processes), (|| round(&few), &processes), settle).await;
        let promise = Promise::RatioAtMost(1.2);
        rows.push(
            Row::beside(
                format!("growth_{many}"),
                compared.ours.value(),
                ("10000 rows", compared.theirs.value()),
                "ms",
                promise,
            )
            .with_ratio(compared.ratio, promise)
            .with_cpu(Some(compared.ours.cpu_us()), Some(compared.theirs.cpu_us()))
            .with_note("list of 50 by a subject with so many rows"),
        );
    }
    rows
}
