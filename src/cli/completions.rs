use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::outcome::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<Outcome, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "mosaic", &mut script);
        let script = String::from_utf8(script).map_err(|e| Failure::failed(format!("the script is not text: {e}")))?;
        let json = serde_json::json!({ "shell": self.shell.to_string(), "script": script });
        Ok(Outcome::new(&json, script))
    }
}
