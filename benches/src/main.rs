//! `make bench` and `make bench-quick`: what the node costs, beside what a user would take instead, in one run on one machine.
//!
//! ```text
//! ground    a durable Postgres, a node on it as a real process (release build), an nginx with the same CA and the same leaf kinds
//! driver    connections over mutual TLS with hand-written HTTP/1.1: closed loop, open loop, or a handshake per request
//! rounds    A B A B …, a ratio per pair, the median of the ratios; CPU time of both servers besides
//! cases     one file per question; each gives rows of the table
//! report    the table to standard output and `target/bench/table.md`, one object per case to `target/bench/summary.json`
//! ```
//!
//! Everything is started here on free ports and ends with this process. Timing decides nothing but the word in the last column.

use std::process::ExitCode;

mod case;
mod cases;
mod command;
mod cpu;
mod driver;
mod ground;
mod peers;
mod report;
mod rounds;

use case::Effort;

fn main() -> ExitCode {
    let asked = match command::Asked::from_arguments(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    if asked.list {
        cases::ALL.iter().for_each(|case| println!("{:<22} {}", case.name, case.what));
        return ExitCode::SUCCESS;
    }
    if let Some(node) = &asked.node {
        ground::use_node(node.clone());
    }
    mosaic::tls::install_default_provider();
    // One thread: the driver shares the machine with what it measures, and must never be the wider of the two.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            code = run(&asked) => code,
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    })
}

async fn run(asked: &command::Asked) -> ExitCode {
    let mut report = report::Report::new(asked.effort);
    for chosen in cases::chosen(&asked.cases) {
        eprintln!("— {}: {}", chosen.name, chosen.what);
        let rows = (chosen.run)(asked.effort).await;
        for row in rows {
            eprintln!("    {}", row.line());
            report.add(row);
        }
    }
    report.print();
    match report.write() {
        Ok(directory) => {
            eprintln!("written: {}/summary.json and table.md", directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the report could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}
