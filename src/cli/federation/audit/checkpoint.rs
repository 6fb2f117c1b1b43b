use std::path::{Path as File, PathBuf};

use clap::Args;

use crate::cli::context::{Context, write_private};
use crate::cli::node::Path;
use crate::cli::outcome::{Failure, Outcome};
use crate::wire::admin_v1::CheckpointV1;

#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    /// Write it to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Checkpoint {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let checkpoint: CheckpointV1 = context.admin()?.get(&Path::admin(["audit", "checkpoint"])).await?;
        match &self.save {
            None => Ok(Outcome::new(&checkpoint, document(&checkpoint))),
            Some(file) => {
                save_checkpoint(file, &checkpoint)?;
                let text = format!("checkpoint {} is kept in {}\n", checkpoint.position, file.display());
                Ok(Outcome::new(&checkpoint, text))
            }
        }
    }
}

fn document(checkpoint: &CheckpointV1) -> String {
    let text = serde_json::to_string_pretty(checkpoint).expect("invariant: our DTOs are JSON");
    text + "\n"
}

pub(super) fn save_checkpoint(file: &File, checkpoint: &CheckpointV1) -> Result<(), Failure> {
    write_private(file, &document(checkpoint)).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
}

pub(super) fn read_checkpoint(file: &File) -> Result<CheckpointV1, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::misused(format!("--checkpoint: {}: {error}", file.display())))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::misused(format!("--checkpoint: {} holds no checkpoint: {error}", file.display()))
            .remedy("make one with 'mosaic federation audit checkpoint --save <file>'")
    })
}
