//! `list` and `get`: the same rows by the same SQL, with and without everything that a node adds.

use std::process::Command;
use std::time::Duration;

use crate::Effort;
use crate::case::{Row, Target as Promise};
use crate::driver::{Crowd, Load, Pace, Target};
use crate::ground::{Ground, LIST, Nginx, revocation_list};
use crate::rounds::{Compared, Round, alternate};

use self::sql::Statement;

mod sql;

/// Of peers: so many that events share their commits, as they do where a node is busy.
const CONNECTIONS: usize = 64;
/// Of programs that talk to the database themselves: as many as the node reads over. More of them would be slower here.
const DATABASE_CONNECTIONS: usize = 8;
/// `pgbench` forks, connects and prepares within the time that it measures: in a second that would tell.
const PGBENCH_ROUND: Duration = Duration::from_secs(2);
const PGBENCH: &str = "strict audit; pgbench fetches text and neither encrypts nor audits";
/// Tasks that the subject may see: enough that no plan but the indexes' is good.
const ROWS: u64 = 100_000;

pub(crate) async fn list(effort: Effort) -> Vec<Row> {
    let ground = Ground::with_rows(ROWS).await;
    let mut rows = Vec::new();
    for limit in [1, 50, 200] {
        let ours = ground.list(limit);
        let statement = Statement::of_list(&ground, limit).await;
        let compared = beside_pgbench(effort, &ground, &ours, &statement).await;
        // The promise is about a page of the usual size.
        let promise = if limit == 50 { Promise::RatioAtLeast(0.4) } else { Promise::None };
        let row = row(&format!("list_{limit}"), "pgbench -M prepared", &compared, promise);
        let note = if limit == 50 { format!("{PGBENCH}; then ≥ 0.6×") } else { PGBENCH.to_owned() };
        rows.push(row.with_note(note));
        if limit == 50 {
            rows.push(beside_loop(effort, &ground, &ours, &statement).await);
            rows.push(beside_nginx(effort, &ground, &ours).await);
        }
    }
    rows.push(one_row(effort, &ground).await);
    rows
}

async fn beside_pgbench(effort: Effort, ground: &Ground, ours: &Target, statement: &Statement) -> Compared {
    let (pairs, length) = effort.rounds();
    let processes = [ground.node.family(), ground.cluster.family()];
    let seconds = length.max(PGBENCH_ROUND).as_secs();
    let ours = crowd(ours, length).await;
    let theirs = || async { statement.pgbench(DATABASE_CONNECTIONS, seconds) };
    let settle = async || ground.settle().await;
    alternate(pairs, (|| closed(&ours), &processes), (theirs, &[ground.cluster.family()]), settle).await
}

/// The same statement, prepared, in a loop over connections of this process: what a program of one's own would do.
async fn beside_loop(effort: Effort, ground: &Ground, ours: &Target, statement: &Statement) -> Row {
    let (pairs, length) = effort.rounds();
    let processes = [ground.node.family(), ground.cluster.family()];
    let ours = crowd(ours, length).await;
    let clients = statement.clients(ground, DATABASE_CONNECTIONS).await;
    let theirs = || statement.in_a_loop(&clients, length);
    let settle = async || ground.settle().await;
    let compared = alternate(pairs, (|| closed(&ours), &processes), (theirs, &[ground.cluster.family()]), settle).await;
    row("list_50_loop", "tokio-postgres in a loop", &compared, Promise::None)
        .with_note("without TLS, rights, audit and JSON")
}

async fn beside_nginx(effort: Effort, ground: &Ground, ours: &Target) -> Row {
    let (pairs, length) = effort.rounds();
    let body = ground.body_of(ours).await;
    let bytes = body.len();
    let nginx = Nginx::start(&ground.ca, &revocation_list(&ground.node).await, &[(LIST, body)]);
    let theirs = Target::new(nginx.address, &ground.tls(), LIST, None);
    let (ours, theirs) = (crowd(ours, length).await, crowd(&theirs, length).await);
    let processes = [ground.node.family(), ground.cluster.family()];
    let settle = async || ground.settle().await;
    let (our_side, their_side) = (|| closed(&ours), || closed(&theirs));
    let compared = alternate(pairs, (our_side, &processes), (their_side, &[nginx.family()]), settle).await;
    row("list_50_file", "nginx, a file", &compared, Promise::None)
        .with_note(format!("the same {bytes} bytes from a file; {}", compared.limits("nginx")))
}

async fn one_row(effort: Effort, ground: &Ground) -> Row {
    let page: serde_json::Value = serde_json::from_slice(&ground.body_of(&ground.list(1)).await).expect("JSON");
    let id = page["items"][0]["id"].as_str().expect("a row's id");
    let path = format!("/api/federation/v1/get/tasks/{id}");
    let ours = Target::new(ground.node.federation(), &ground.tls(), &path, Some("{}"));
    let statement = Statement::of_get(ground, id).await;
    let compared = beside_pgbench(effort, ground, &ours, &statement).await;
    row("get", "pgbench -M prepared", &compared, Promise::None).with_note(PGBENCH)
}

async fn crowd(target: &Target, length: Duration) -> Crowd {
    Crowd::gather(target, Load { connections: CONNECTIONS, length, pace: Pace::Closed }).await
}

async fn closed(crowd: &Crowd) -> Round {
    let measured = crowd.drive().await;
    Round { value: measured.per_second(), requests: measured.answers as f64 }
}

fn row(name: &str, against: &str, compared: &Compared, promise: Promise) -> Row {
    Row::beside(name, compared.ours.value(), (against, compared.theirs.value()), "requests/s", promise)
        .with_ratio(compared.ratio, promise)
        .with_cpu(Some(compared.ours.cpu_us()), Some(compared.theirs.cpu_us()))
}

/// Runs a program of Postgres' clients to its end.
fn output_of(command: &mut Command) -> String {
    let output = command.output().expect("pgbench runs: scripts/setup bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
