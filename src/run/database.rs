//! Step 2: from a configuration to a database that is migrated and this site's.

use std::sync::Arc;

use deadpool_postgres::Pool;
use mosaic_actors::ports::clock::Clock;
use secrecy::SecretString;

use super::node::check;
use super::{BootError, limits};
use crate::config::{Config, PostgresConfig, Tier};
use crate::doctor;
use crate::postgres::embedded::{EmbeddedOptions, EmbeddedPostgres};
use crate::postgres::pool::{DatabaseUrl, PoolOptions, Pools, SqlCause};
use crate::postgres::{migrations, site};
use crate::secrets::Token;

const STEP: &str = "database";

/// The open database. In tier `local` it owns the server.
pub(super) struct Database {
    pub(super) url: DatabaseUrl,
    pub(super) pools: Pools,
    /// How the feed's own connection behaves.
    pub(super) feed_options: PoolOptions,
    server: Option<EmbeddedPostgres>,
}

impl Database {
    pub(super) async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, BootError> {
        let (server, url) = match &config.postgres {
            PostgresConfig::Url(url) => (None, url.clone()),
            PostgresConfig::Embedded { bin_dir, search_path } => {
                let options = EmbeddedOptions {
                    state_dir: config.state_dir.clone(),
                    bin_dir: bin_dir.clone(),
                    search_path: search_path.clone(),
                    durable: true,
                    limits: config.limits.clone(),
                };
                let server = start_server(options).await?;
                let url = server.url().clone();
                (Some(server), url)
            }
        };
        let url = parse(&url)?;
        check(doctor::check_database(config, &url, clock).await)?;
        let applied = migrations::run(&url).await.map_err(|error| {
            let remedy = error.remedy();
            BootError::new(STEP, error, remedy)
        })?;
        if !applied.is_empty() {
            tracing::info!(migrations = applied.len(), "schema brought up to date");
        }
        if config.tier == Tier::Federated {
            add_vectors(config, &url).await?;
        }
        let sessions = limits::pool(&config.limits, "sessions", config.limits.sessions_pool);
        let peers = limits::pool(&config.limits, "peers", config.limits.peers_pool);
        let pools = Pools::new(&url, &sessions, &peers, config.limits.workers_here())
            .map_err(|error| BootError::new(STEP, error, "correct postgres.url"))?;
        warm(&pools);
        let feed_options = limits::pool(&config.limits, "feed", 1);
        let database = Self { url, pools, feed_options, server };
        database.claim(config).await?;
        Ok(database)
    }

    async fn claim(&self, config: &Config) -> Result<(), BootError> {
        site::claim(&self.pools.sessions, &config.site).await.map_err(|error| {
            BootError::new(STEP, error, "correct 'site', or point postgres.url to a database of this site's own")
        })?;
        let Some(token) = first_admin_token(config)? else { return Ok(()) };
        let hash = Token::hash(token.expose());
        match site::admit_first_admin(&self.pools.sessions, &hash).await {
            Ok(true) => tracing::info!("the first admin token is on record"),
            Ok(false) => {}
            Err(fault) => return Err(BootError::new(STEP, fault, "see the log for the database's own words")),
        }
        Ok(())
    }

    /// Closes the pools and, in tier `local`, stops the server.
    pub(super) async fn close(self) {
        self.pools.close();
        if let Some(server) = self.server {
            // It ends with this process in any case.
            let _stopped = tokio::task::spawn_blocking(|| server.stop()).await;
        }
    }

    pub(super) fn sessions(&self) -> Pool {
        self.pools.sessions.clone()
    }
}

/// Adds the extension of tier `federated`. The probes have seen that it can be added, or is there.
async fn add_vectors(config: &Config, url: &DatabaseUrl) -> Result<(), BootError> {
    let remedy = "as a superuser, in this database: CREATE EXTENSION vector";
    let client = url.connect(&PoolOptions::single("start", &config.limits)).await;
    let client = client.map_err(|error| BootError::new(STEP, error, "is the database up?"))?;
    // Replicas that start together: the loser of the race finds it there.
    let added = client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector").await;
    let there = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')";
    match (added, client.query_one(there, &[]).await) {
        (Ok(()), _) => Ok(()),
        (Err(_), Ok(row)) if row.get(0) => Ok(()),
        (Err(error), _) => Err(BootError::told(STEP, SqlCause(&error).to_string(), remedy)),
    }
}

/// Dials the first connection that reads for sessions aside, so that the first question does not wait for it.
fn warm(pools: &Pools) {
    for pool in pools.session_rows.all() {
        let pool = pool.clone();
        actix_rt::spawn(async move {
            if let Err(error) = pool.get().await {
                tracing::debug!(%error, "no connection yet; the first question dials");
            }
        });
    }
}

async fn start_server(options: EmbeddedOptions) -> Result<EmbeddedPostgres, BootError> {
    let started = tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&options)).await;
    let started = started.map_err(|error| BootError::new(STEP, error, "report this as a defect"))?;
    started.map_err(|error| {
        let remedy = error.remedy();
        BootError::new(STEP, error, remedy)
    })
}

fn parse(url: &SecretString) -> Result<DatabaseUrl, BootError> {
    DatabaseUrl::parse(url).map_err(|error| BootError::new(STEP, error, "correct postgres.url"))
}

/// The token that `gateway init` wrote, if the file is (still) there.
fn first_admin_token(config: &Config) -> Result<Option<Token>, BootError> {
    let file = config.admin_token_file();
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(BootError::new(
                "state directory",
                error,
                format!("make {} readable for this user", file.display()),
            ));
        }
    };
    Token::parse(Token::ADMIN, text.trim()).map(Some).ok_or_else(|| {
        let remedy = format!("remove {}, or run `mosaic gateway init` again", file.display());
        BootError::told("state directory", "the first admin token's file does not hold a token", remedy)
    })
}
