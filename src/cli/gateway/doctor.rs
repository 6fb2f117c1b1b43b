use std::sync::Arc;

use clap::Args;
use mosaic_actors::ports::clock::Clock;

use crate::cli::context::Context;
use crate::cli::outcome::{Failure, Outcome};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::doctor::{self, Report};

/// Green: there. Yellow: the node works, but somebody should know. Red: the node cannot work, and the command exits 1.
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

impl Doctor {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let report = match Config::load_in(context.config_args(), context.around()) {
            Ok(config) => {
                let clock: Arc<dyn Clock> = Arc::new(SystemClock);
                doctor::examine(&config, &clock).await
            }
            Err(errors) => Report::of_bad_configuration(&errors),
        };
        let failed = !report.ok;
        Ok(Outcome { failed, ..Outcome::new(&report, format!("{report}\n")) })
    }
}
