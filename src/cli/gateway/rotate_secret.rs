use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use crate::cli::context::Context;
use crate::cli::lists::sheet;
use crate::cli::outcome::{Failure, Outcome};
use crate::clock::SystemClock;
use crate::config::{Config, PostgresConfig};
use crate::postgres::embedded::{self, EmbeddedOptions, EmbeddedPostgres};
use crate::postgres::migrations::{self, SchemaState};
use crate::postgres::pool::{DatabaseUrl, PoolOptions};
use crate::rotation::{self, AuditOf, Rotated};

/// What the help says below the options.
const WHAT_IT_DOES: &str = "\
Puts a new secret before the old one in master_secret_file, waits until every running replica knows it, switches to it, seals every
private key in the database anew and the audit log up to now, retires the old secret and removes it from the file. Replicas keep running: they read the file
again by themselves. Those with a file of their own need it copied; the command names them and can be run again. Where the secret
comes from MOSAIC_MASTER_SECRET or a systemd credential, it says which line to add and, at the end, which to remove.

If it is interrupted, however, run it again: it finishes what was begun; 'mosaic gateway doctor' says whether anything is left. Running
processes forget the old secret as soon as it is retired: cursors of before are refused with 400, and a listing then begins anew. Query hashes in the audit log differ from those before. Keep a backup of the new
file; backups of the database from before need the old one.";

/// See [`WHAT_IT_DOES`].
#[derive(Debug, Args)]
#[command(after_help = WHAT_IT_DOES)]
pub(crate) struct RotateSecret {
    /// Longest wait for replicas to follow, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
}

impl RotateSecret {
    pub(crate) async fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let config = context.config()?;
        config.arm_crash_point();
        let database = Database::open(&config).await?;
        let done = self.rotate(&config, &database.url).await;
        database.close().await;
        done
    }

    async fn rotate(&self, config: &Config, url: &SecretString) -> Result<Outcome, Failure> {
        let url = DatabaseUrl::parse(url).map_err(|e| Failure::failed(format!("postgres.url: {e}")))?;
        match migrations::state(&url).await {
            Ok(SchemaState::Current { .. }) => {}
            Ok(_) => {
                return Err(Failure::failed("the database has not this build's schema yet")
                    .remedy("start the node of this build once: mosaic gateway serve"));
            }
            Err(error) => return Err(Failure::failed(error.to_string()).remedy(error.remedy())),
        }
        let options = PoolOptions { max_size: 2, ..PoolOptions::single("mosaic rotation", &config.limits) };
        let pool = url.pool(&options).map_err(|e| Failure::failed(format!("postgres.url: {e}")))?;
        let audit = AuditOf { site: &config.site, clock: &SystemClock, batch: config.limits.audit_seal_batch };
        let rotated = rotation::rotate(&config.master_secret, pool, audit, Duration::from_secs(self.wait)).await;
        let rotated = rotated.map_err(|error| Failure::failed(error.to_string()).remedy(error.remedy()))?;
        Ok(told(&rotated))
    }
}

fn told(rotated: &Rotated) -> Outcome {
    let text = sheet([
        ("seals now", rotated.sealing.clone()),
        ("retired", rotated.retired.join(", ")),
        ("sealed anew", rotated.resealed.to_string()),
    ]);
    let mut outcome = Outcome::new(rotated, text)
        .note("keep a backup of the new master secret; nothing here is under the old one any more");
    if rotated.audit_unsealable {
        outcome = outcome
            .note("the audit log holds something that is not as it was written: run 'mosaic federation audit verify'");
    }
    if rotated.left_to_remove {
        return outcome
            .note("remove every line but the first where the master secret is kept: it cannot be written from here");
    }
    outcome
}

/// The node's database; that of tier `local` is started for as long as the command runs, when no node runs it.
struct Database {
    url: SecretString,
    server: Option<EmbeddedPostgres>,
}

impl Database {
    async fn open(config: &Config) -> Result<Self, Failure> {
        let (bin_dir, search_path) = match &config.postgres {
            PostgresConfig::Url(url) => return Ok(Self { url: url.clone(), server: None }),
            PostgresConfig::Embedded { bin_dir, search_path } => (bin_dir.clone(), search_path.clone()),
        };
        if let Some(url) = embedded::url_of_running(&config.state_dir) {
            return Ok(Self { url, server: None });
        }
        if !config.postgres_dir().join("data/PG_VERSION").is_file() {
            return Err(Failure::failed("there is no database yet, and so nothing that is sealed")
                .remedy("start the node once: mosaic gateway serve"));
        }
        let (state_dir, limits) = (config.state_dir.clone(), config.limits.clone());
        let options = EmbeddedOptions { state_dir, bin_dir, search_path, durable: true, limits };
        let started = tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&options)).await;
        let started = started.map_err(|e| Failure::failed(e.to_string()))?;
        let server = started.map_err(|e| {
            let remedy = e.remedy();
            Failure::failed(e.to_string()).remedy(remedy)
        })?;
        Ok(Self { url: server.url().clone(), server: Some(server) })
    }

    async fn close(self) {
        if let Some(server) = self.server {
            // It ends with this process in any case.
            let _stopped = tokio::task::spawn_blocking(|| server.stop()).await;
        }
    }
}
