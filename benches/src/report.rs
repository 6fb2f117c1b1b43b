//! The table, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::Effort;
use crate::case::{Row, number};

/// Every row so far.
pub(crate) struct Report {
    rows: Vec<Row>,
    machine: Machine,
}

/// Where and when.
struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    at: String,
    effort: &'static str,
}

impl Report {
    pub(crate) fn new(effort: Effort) -> Self {
        Self { rows: Vec::new(), machine: Machine::here(effort) }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("{}", self.table());
    }

    /// `target/bench/` of the workspace, wherever this was called from.
    pub(crate) fn write(&self) -> io::Result<PathBuf> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        fs::create_dir_all(&directory)?;
        let directory = directory.canonicalize()?;
        fs::write(directory.join("table.md"), self.table())?;
        let machine = &self.machine;
        let document = json!({
            "at": machine.at, "processor": machine.processor, "cores": machine.cores, "kernel": machine.kernel,
            "effort": machine.effort, "cases": self.rows,
        });
        fs::write(directory.join("summary.json"), serde_json::to_string_pretty(&document)? + "\n")?;
        Ok(directory)
    }

    fn table(&self) -> String {
        let Machine { processor, cores, kernel, at, effort } = &self.machine;
        let mut text = format!("{at}, {effort}: {processor}, {cores} cores, Linux {kernel}\n\n");
        text.push_str("| case | ours | beside | theirs | ratio | target | holds | CPU/request, ours : theirs |\n");
        text.push_str("|---|---:|---|---:|---:|---|---|---:|\n");
        for row in &self.rows {
            let optional = |value: Option<f64>| value.map_or("–".to_owned(), number);
            let ratio = row.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}×"));
            let holds = row.holds.map_or("–", |holds| if holds { "yes" } else { "**no**" });
            let cpu = match (row.ours_cpu_us, row.theirs_cpu_us) {
                (Some(ours), Some(theirs)) => format!("{} : {} µs", number(ours), number(theirs)),
                (Some(ours), None) => format!("{} µs", number(ours)),
                _ => "–".to_owned(),
            };
            let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
            let against = if row.against.is_empty() { "–" } else { &row.against };
            let _ = writeln!(
                text,
                "| `{}`{note} | {} {} | {against} | {} | {ratio} | {} | {holds} | {cpu} |",
                row.name,
                number(row.ours),
                row.unit,
                optional(row.theirs),
                row.target
            );
        }
        text
    }
}

impl Machine {
    fn here(effort: Effort) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        #[expect(clippy::disallowed_methods, reason = "a report has a date")]
        let now = time::OffsetDateTime::now_utc().replace_nanosecond(0).expect("no fraction");
        Self {
            processor: processor.map_or("an unknown processor", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            at: now.format(&Rfc3339).expect("a date"),
            effort: effort.pick("quick", "full"),
        }
    }
}
