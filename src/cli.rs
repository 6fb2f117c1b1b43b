//! The command line `mosaic`: one command per file, on top of the same API that everybody else uses.
//!
//! Exit codes: 0 done, 1 failed, 2 misused. With `--json` every command prints one JSON document on standard output, also when
//! it fails; what is said on standard error is for people.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) mod context;
pub(crate) mod node;
pub(crate) mod outcome;

pub(crate) mod rows_table;
pub(crate) mod table;
pub(crate) mod terminal;

mod completions;
mod demo;
mod federation;
mod filter;
pub(crate) mod gateway;
mod get;
mod lists;
mod names;
pub(crate) mod query;
mod team;
mod times;
mod token;
mod user;

use context::{Context, Global};
use outcome::{Failure, Outcome, conclude};

/// One node per site: answers from its own rows and, over mutual TLS, from every site that granted access.
#[derive(Debug, Parser)]
#[command(name = "mosaic", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  mosaic demo                                       two sites on this machine, joined and filled
  mosaic gateway init && mosaic gateway serve       a node of your own
  mosaic federation grant create --peer home --user ada --resource tasks
  mosaic federation peer add 'mosaic-invite:…'
  mosaic query tasks --source all --where status=open";

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up, run and check this site's node
    #[command(subcommand)]
    Gateway(gateway::GatewayCommand),
    /// Grants to other sites, links to other sites, status and audit
    #[command(subcommand)]
    Federation(federation::FederationCommand),
    /// People
    #[command(subcommand)]
    User(user::UserCommand),
    /// Teams
    #[command(subcommand)]
    Team(team::TeamCommand),
    /// Bearer tokens of sessions and admins
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List rows of a resource, from here and from every peer
    Query(query::Query),
    /// Show one row
    Get(get::Get),
    /// Two complete sites on this machine, joined and filled with sample data
    Demo(demo::Demo),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Runs the program's command line.
#[must_use]
pub fn main() -> ExitCode {
    // A mistake on the command line exits 2, help and version exit 0: clap's own rules.
    let cli = Cli::parse();
    // Not only a node holds keys: so do those who rotate, check and set up. A node says in its log when this fails.
    let _without = crate::doctor::core_dumps_off();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return conclude(Err(Failure::failed("another crypto provider is already installed")), cli.global.json);
    }
    let context = Context::new(cli.global);
    match cli.command {
        // These run for as long as they like, each on a runtime of its own kind.
        Command::Gateway(gateway::GatewayCommand::Serve(serve)) => serve.run(&context),
        Command::Demo(demo) => demo.run(&context),
        command => conclude(on_small_runtime(run(command, &context)), context.json()),
    }
}

async fn run(command: Command, context: &Context) -> Result<Outcome, Failure> {
    match command {
        Command::Gateway(command) => command.run(context).await,
        Command::Federation(command) => command.run(context).await,
        Command::User(command) => command.run(context).await,
        Command::Team(command) => command.run(context).await,
        Command::Token(command) => command.run(context).await,
        Command::Query(command) => command.run(context).await,
        Command::Get(command) => command.run(context).await,
        Command::Completions(command) => command.run(),
        Command::Demo(_) => unreachable!("invariant: the demo has its own runtime"),
    }
}

/// One thread is enough to wait for one answer.
fn on_small_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start a runtime: {e}")))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_explains_itself() {
        Cli::command().debug_assert();
        let mut open = vec![Cli::command()];
        while let Some(command) = open.pop() {
            assert!(command.get_about().is_some(), "'{}' says nothing about itself", command.get_name());
            open.extend(command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned());
        }
    }

    #[test]
    fn the_promised_commands_exist() {
        for line in [
            "mosaic gateway init --site home --state-dir x",
            "mosaic gateway serve --config mosaic.toml",
            "mosaic gateway doctor --json",
            "mosaic gateway rotate-secret --wait 5",
            "mosaic federation grant create --peer home --user ada --scope scope.json",
            "mosaic federation grant list --status active --json",
            "mosaic federation grant revoke 01900000-0000-7000-8000-000000000000",
            "mosaic federation peer add mosaic-invite:abc --user ada --as work --allow-private",
            "mosaic federation status",
            "mosaic federation audit list --from 24h",
            "mosaic user add ada --display-name Ada",
            "mosaic team add-member platform ada",
            "mosaic token create --user ada --save",
            "mosaic query tasks --source all --where status=open --limit 20 --json",
            "mosaic get tasks 0190 --source federated:work",
            "mosaic demo --once --json",
            "mosaic completions bash",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["mosaic", "token", "create"]).is_err());
        assert!(Cli::try_parse_from(["mosaic", "query"]).is_err());
    }
}
