use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::outcome::conclude;
use crate::demo::{self, Plan};

/// Everything stays in one directory; nothing is left behind unless --dir says where.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after the query instead of staying up
    #[arg(long)]
    once: bool,
    /// Where the two sites keep their state; kept at the end, and used again by the next demo [default: a directory that is removed]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Sample rows are a function of this number
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
}

impl Demo {
    pub(crate) fn run(self, context: &Context) -> ExitCode {
        let plan = Plan { once: self.once, dir: self.dir, seed: self.seed, json: context.json() };
        let result = super::on_small_runtime(demo::run(plan, context));
        conclude(result, context.json())
    }
}
