use clap::Args;

use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::cli::times::{minute, minute_or_dash};
use crate::wire::admin_v1::StatusV1;
use crate::wire::link_v1::{LinkHealthV1, LinkWatchV1};
use crate::wire::session_v1::StatusBody;

/// The whole node for an admin; a session sees its own links.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only the links of the session token's user
    #[arg(long)]
    mine: bool,
}

impl Status {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        if self.mine || context.admin().is_err() {
            let status: StatusBody = context.session()?.get(&Path::session(["status"])).await?;
            return Ok(Outcome::new(&status, mine(&status, context.terminal())));
        }
        let status: StatusV1 = context.admin()?.get(&Path::admin(["status"])).await?;
        Ok(Outcome::new(&status, everything(&status, context.terminal())))
    }
}

fn columns() -> Table {
    Table::new()
        .column("peer", Room::Keeps)
        .column("state", Room::Keeps)
        .column("breaker", Room::Keeps)
        .column("latency", Room::Keeps)
        .column("last answer", Room::Keeps)
        .column("last failure", Room::GivesWay)
        .column("watch", Room::Optional)
        .column("certificate until", Room::Optional)
}

fn mine(status: &StatusBody, terminal: Option<usize>) -> String {
    if status.links.is_empty() {
        return format!("site {}: no links; its rows are all that a query finds\n", status.site);
    }
    let mut table = columns();
    for link in &status.links {
        table.row(cells(&link.peer, &link.health));
    }
    format!("site {}\n\n{}", status.site, table.render(terminal))
}

fn everything(status: &StatusV1, terminal: Option<usize>) -> String {
    let mut text = format!("site {}, mosaic {}\n", status.site, status.version);
    text.push_str(&if status.authority.fresh {
        format!("rights: current (version {})\n", status.authority.version)
    } else {
        "rights: unknown; peers get 503 until the database's changes arrive again\n".to_owned()
    });
    let grants: Vec<String> = status.grants.iter().map(|(state, count)| format!("{count} {state}")).collect();
    text.push_str(&format!("grants: {}\n", crate::cli::lists::joined(grants)));
    if status.links.is_empty() {
        text.push_str("links: -\n");
        return text;
    }
    let mut table = columns();
    for link in &status.links {
        table.row(cells(&link.peer, &link.health));
    }
    text.push('\n');
    text.push_str(&table.render(terminal));
    text
}

fn cells(peer: &str, health: &LinkHealthV1) -> [String; 8] {
    let failure = health.last_failure.as_ref().map(|f| format!("{} at {}, {}", f.code, f.stage, minute(f.at)));
    [
        peer.to_owned(),
        state(health),
        breaker(&health.breaker, health.breaker_retry_in_ms),
        latency(health.latency_ms),
        minute_or_dash(health.last_ok_at),
        failure.unwrap_or_default(),
        watch(&health.watch),
        minute(health.certificate_not_after),
    ]
}

/// The state, and that somebody plays with it.
pub(super) fn state(health: &LinkHealthV1) -> String {
    match &health.injected {
        Some(injected) => format!("{}, {} injected until {}", health.state, injected.fault, minute(injected.until)),
        None => health.state.clone(),
    }
}

/// Whether the peer tells changes, and since when it does or does not.
pub(super) fn watch(watch: &LinkWatchV1) -> String {
    let reason = watch.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    match watch.since {
        Some(since) => format!("{} since {}{reason}", watch.state, minute(since)),
        None => watch.state.clone(),
    }
}

fn breaker(state: &str, retry_in_ms: Option<u64>) -> String {
    match retry_in_ms {
        Some(wait) if state == "open" => format!("open, {} s", wait.div_ceil(1000)),
        _ => state.to_owned(),
    }
}

fn latency(milliseconds: Option<f64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
}
