use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::checkpoint::{read_checkpoint, save_checkpoint};
use crate::cli::context::Context;
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::{AuditEventNameV1, AuditProblemV1, AuditVerificationV1, VerifyAuditV1};

/// Reading a log of hundreds of millions of events takes that long.
const PATIENCE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A checkpoint that was kept elsewhere: the log must go through it
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Write the newest checkpoint to this file when nothing is wrong
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Verify {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let checkpoint = self.checkpoint.as_deref().map(read_checkpoint).transpose()?;
        let node = context.admin()?.patient(PATIENCE);
        let found: AuditVerificationV1 =
            node.post(&Path::admin(["audit", "verify"]), &VerifyAuditV1 { checkpoint }).await?;
        let mut outcome = Outcome::new(&found, told(&found));
        outcome.failed = !found.ok;
        match (&self.save, &found.head) {
            (Some(file), Some(head)) if found.ok => {
                save_checkpoint(file, head)?;
                outcome = outcome.note(format!("checkpoint {} is kept in {}", head.position, file.display()));
            }
            (Some(_), _) => outcome = outcome.note("no checkpoint was written"),
            (None, _) => {}
        }
        Ok(outcome)
    }
}

fn told(found: &AuditVerificationV1) -> String {
    let mut text = match &found.problem {
        Some(problem) => format!("NOT as it was written: {}\n", problem_text(problem)),
        None => "every event is as it was written\n".to_owned(),
    };
    let mut line = |count: u64, what: &str| {
        if count > 0 {
            text += &format!("  {count} {what}\n");
        }
    };
    line(found.sealed, "sealed");
    line(found.by_seal_alone, "of them by their seal alone: the secret of their digests is gone");
    line(found.unsealed, "written, not sealed yet");
    line(found.before_sealing, "before sealing");
    if let Some(head) = &found.head {
        text += &format!("  {} seals, the last one with {} events, key {}\n", found.seals, head.events, head.key);
    }
    text
}

fn problem_text(problem: &AuditProblemV1) -> String {
    let mut text = problem.kind.clone();
    if let Some(event) = &problem.event {
        text += &event_text(event);
    }
    if let Some(seal) = problem.seal {
        text += &format!(", seal {seal}");
    }
    format!("{text}: {}", problem.detail)
}

fn event_text(event: &AuditEventNameV1) -> String {
    let mut text = " event".to_owned();
    let mut say = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!(" {what} {value}");
        }
    };
    say("number", event.number.map(|number| number.to_string()));
    say("of lane", event.lane.map(|lane| lane.to_string()));
    say("seq", event.seq.map(|seq| seq.to_string()));
    say("at", event.at.map(|at| at.to_string()));
    say("request", event.request_id.map(|id| id.to_string()));
    text
}
