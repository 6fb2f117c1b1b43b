use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::outcome::{Failure, Outcome, conclude, say};
use crate::run::{self, BootError, Ready};
use crate::telemetry::logs;

/// A node that was told to end and has not ended so long after is ended: longer than the longest drain.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Logs go to standard error. When the node is ready, standard output says where it listens; with --json as one line.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// End when standard input ends: whoever started the node holds the other end of the pipe
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl Serve {
    /// Runs the node on this thread until it is told to end.
    pub(crate) fn run(self, context: &Context) -> ExitCode {
        let json = context.json();
        match self.serve(context, json) {
            // The ready line was all that there is to say.
            Ok(()) => conclude(Ok(Outcome::default()), json),
            Err(failure) => conclude(Err(failure), json),
        }
    }

    fn serve(self, context: &Context, json: bool) -> Result<(), Failure> {
        let config = context.config()?;
        logs::start(config.log.format, &config.log.filter).map_err(|e| Failure::failed(e.to_string()))?;
        if self.until_stdin_ends {
            let watch = std::thread::Builder::new().name("stdin".to_owned()).spawn(end_with_stdin);
            watch.map_err(|e| Failure::failed(format!("cannot start a thread: {e}")))?;
        }
        actix_rt::System::new().block_on(run::serve(config, move |ready| tell(ready, json))).map_err(
            |BootError { step, cause, remedy }| {
                let failure = Failure::failed(format!("{step}: {cause}"));
                if remedy.is_empty() { failure } else { failure.remedy(remedy) }
            },
        )
    }
}

fn tell(ready: &Ready, json: bool) {
    if json {
        say(&format!("{}\n", serde_json::to_string(ready).expect("invariant: addresses are JSON")));
    } else {
        let Ready { site, api_url, federation_url, enrollment_url, .. } = ready;
        say(&format!(
            "site {site} is up\n  api         {api_url}\n  federation  {federation_url}\n  enrollment  {enrollment_url}\n"
        ));
    }
}

/// The parent's end of the pipe closes when the parent ends, however it ends: the node must not outlive it.
fn end_with_stdin() {
    let mut nothing = [0; 64];
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut nothing), Ok(1..)) {}
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    std::thread::sleep(END_WITHIN);
    std::process::exit(1);
}
