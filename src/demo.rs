//! The main job on one machine: two complete nodes, `home` and `work`, joined in both directions and filled with sample rows.
//!
//! Each node is this very program as a process of its own, with its own state directory, database, CA and listeners. Everything
//! is set up the way a person would: through the admin API, the import API and two invites.

use std::path::PathBuf;

use crate::cli::context::Context;
use crate::cli::outcome::{Failure, Outcome, say};
use crate::cli::query;
use crate::wire::session_v1::QueryBody;

mod authority;
mod chance;
mod directory;
mod fill;
mod join;
mod process;
mod report;
mod rows;
mod sites;
mod words;

use directory::DemoDirectory;
use process::{NodeProcess, Ports};
use report::{NodeReport, Report};
use sites::SITES;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// End after the query.
    pub(crate) once: bool,
    /// Kept at the end. Without one: a temporary directory that is removed.
    pub(crate) dir: Option<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// Rows that the demo's own query shows.
const SHOWN_ROWS: u32 = 20;

/// Runs the demo until its query is answered (`once`) or until it is interrupted.
pub(crate) async fn run(plan: Plan, context: &Context) -> Result<Outcome, Failure> {
    let mut ends = Ends::listen()?;
    let directory = DemoDirectory::open(plan.dir.clone())?;
    let mut nodes = Vec::new();
    let outcome = tokio::select! {
        outcome = show(&plan, context, &directory, &mut nodes) => outcome,
        () = ends.next() => Err(Failure::failed("interrupted")),
    };
    if outcome.is_ok() && !plan.once {
        ends.next().await;
        progress(&plan, "stopping both nodes");
    }
    // Whatever happened: first the nodes end, then their directory goes.
    process::stop(nodes).await;
    drop(directory);
    outcome
}

/// Starts, sets up, asks, and tells.
async fn show(
    plan: &Plan,
    context: &Context,
    directory: &DemoDirectory,
    nodes: &mut Vec<NodeProcess>,
) -> Result<Outcome, Failure> {
    progress(plan, &format!("starting home and work in {}", directory.path().display()));
    // A kept site is started again, and its links hold addresses.
    let ports = if plan.once && plan.dir.is_none() { Ports::Any } else { Ports::Usual };
    for site in &SITES {
        nodes.push(NodeProcess::launch(site.name, directory, context.around(), ports)?);
    }
    for node in nodes.iter_mut() {
        node.wait_until_ready().await?;
    }
    let report = match directory.earlier_report()? {
        Some(earlier) => earlier.at(nodes),
        None => set_up(plan, nodes, directory).await?,
    };
    let outcome = first_query(plan, context, &report).await?;
    if plan.once {
        return Ok(outcome);
    }
    let json = serde_json::to_string(&report.for_programs(nodes).await?).expect("invariant: a report is JSON");
    say(&if plan.json { format!("{json}\n") } else { format!("{}{}", outcome.text, report.text(directory)) });
    Ok(Outcome::default())
}

/// People, rows, grants and links; from then on the directory holds a complete demo.
async fn set_up(plan: &Plan, nodes: &[NodeProcess], directory: &DemoDirectory) -> Result<Report, Failure> {
    let mut reports: Vec<NodeReport> = Vec::new();
    for (site, node) in SITES.iter().zip(nodes) {
        progress(plan, &format!("{}: adding people and {} rows", site.name, site.rows()));
        reports.push(fill::fill(site, node, plan.seed).await?);
    }
    progress(plan, "joining the two sites: grants, invites, enrolment");
    let grants = join::join(nodes, &reports).await?;
    let report = Report::new(directory, reports, grants);
    directory.keep_report(&report)?;
    Ok(report)
}

/// What the whole thing is for: one question at home, rows from both sites.
async fn first_query(plan: &Plan, context: &Context, report: &Report) -> Result<Outcome, Failure> {
    let home = report.node("home")?;
    let session = home.session("ada")?;
    let body = QueryBody {
        verb: "list".to_owned(),
        resource: "tasks".to_owned(),
        source: Some("all".to_owned()),
        limit: Some(SHOWN_ROWS),
        ..QueryBody::default()
    };
    let queried = query::ask(&session, &body).await?;
    let text = format!(
        "{}home$ mosaic query tasks --source all --limit {SHOWN_ROWS}\n\n{}",
        if plan.json { "" } else { "\n" },
        query::page_text(&queried.body, false, context.terminal())
    );
    Ok(Outcome { text, json: Some(queried.json), failed: queried.status != 200, notes: Vec::new() })
}

/// Tells people what takes so long; programs wait in silence.
fn progress(plan: &Plan, text: &str) {
    if !plan.json {
        say(&format!("{text} …\n"));
    }
}

/// The signals that end the demo.
struct Ends {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Ends {
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|e| Failure::failed(format!("cannot listen for signals: {e}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
