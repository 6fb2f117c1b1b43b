use clap::Args;
use mosaic_actors::ports::clock::Clock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::cli::context::Context;
use crate::cli::lists::{PageArguments, listed};
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::table::{Room, Table};
use crate::cli::times::{parse_duration, parse_moment};
use crate::clock::SystemClock;
use crate::wire::admin_v1::{AuditEventV1, PageV1};

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only events of this grant
    #[arg(long, value_name = "ID")]
    grant: Option<Uuid>,
    /// Only events of this peer
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Only this verb (list, get, …), enroll, handshake, or change of a grant (create, revoke, …)
    #[arg(long)]
    action: Option<String>,
    /// Only events with this outcome
    #[arg(long, value_parser = ["allowed", "denied", "failed"])]
    outcome: Option<String>,
    /// From this time on; a duration such as 24h counts back from now. With a time, events in the cold table are listed too
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

impl List {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let path = Path::admin(["audit"])
            .with("grant", self.grant)
            .with("peer", self.peer)
            .with("action", self.action)
            .with("outcome", self.outcome)
            .with("from", moment("--from", self.from.as_deref())?)
            .with("to", moment("--to", self.to.as_deref())?)
            .with("limit", self.page.limit)
            .with("cursor", self.page.cursor);
        let page: PageV1<AuditEventV1> = context.admin()?.get(&path).await?;
        Ok(listed(&page, &table(&page.items), context.terminal(), "no events"))
    }
}

/// A time of the past: unlike elsewhere a duration counts back.
fn moment(argument: &str, text: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let now = SystemClock.now();
    let at = match parse_duration(text).ok().and_then(|ago| time::Duration::try_from(ago).ok()) {
        Some(ago) => now.checked_sub(ago).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        None => parse_moment(argument, text, now)?,
    };
    Ok(at.format(&Rfc3339).ok())
}

fn table(events: &[AuditEventV1]) -> Table {
    let mut table = Table::new()
        .column("at", Room::Keeps)
        .column("peer", Room::Keeps)
        .column("action", Room::Keeps)
        .column("resource", Room::Keeps)
        .column("outcome", Room::Keeps)
        .column("reason", Room::GivesWay)
        .numbers("rows")
        .numbers("bytes")
        .numbers("ms")
        .numbers("suppressed")
        .column("from", Room::Optional)
        .column("grant", Room::Optional)
        .column("request", Room::Optional);
    for event in events {
        table.row([
            second(event.at),
            event.peer.clone().unwrap_or_default(),
            event.action.clone(),
            event.resource.clone().unwrap_or_default(),
            event.outcome.clone(),
            event.reason.clone().unwrap_or_default(),
            event.rows.to_string(),
            event.bytes_out.to_string(),
            format!("{:.1}", event.latency_us as f64 / 1000.0),
            Some(event.suppressed).filter(|count| *count > 0).map(|count| count.to_string()).unwrap_or_default(),
            event.remote_addr.clone().unwrap_or_default(),
            event.grant_id.map(|id| id.to_string()).unwrap_or_default(),
            event.request_id.to_string(),
        ]);
    }
    table
}

fn second(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second())
}
