//! The database of a node, whichever tier it is: opened at boot, closed last.

use tokio::sync::watch;

use super::embedded::{self, EmbeddedError, EmbeddedOptions, EmbeddedPostgres, ServerState};
use super::migrations::{self, MigrationError};
use super::pool::{DatabaseUrl, DatabaseUrlError, PoolOptions, Pools};
use crate::config::{Config, Limits, PostgresConfig};

/// An open database. Dropping it stops the embedded server, if there is one; [`Self::close`] does so without blocking.
pub struct NodeDatabase {
    url: DatabaseUrl,
    embedded: Option<EmbeddedPostgres>,
}

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("the embedded database: {0}")]
    Embedded(#[from] EmbeddedError),
    #[error("postgres.url: {0}")]
    Url(#[from] DatabaseUrlError),
    #[error(transparent)]
    Migration(#[from] MigrationError),
}

impl DatabaseError {
    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Embedded(error) => error.remedy(),
            Self::Url(_) => "correct postgres.url, or MOSAIC_POSTGRES_URL".to_owned(),
            Self::Migration(error) => error.remedy().to_owned(),
        }
    }
}

impl NodeDatabase {
    /// Starts the embedded server or takes the given URL, and brings the schema up to this build. With a URL nothing else is
    /// started; that the database answers is seen by the migrations.
    pub async fn open(config: &Config) -> Result<Self, DatabaseError> {
        let database = Self::start(config).await?;
        let applied = migrations::run(&database.url).await?;
        if !applied.is_empty() {
            tracing::info!(migrations = applied.join(", "), "the schema was brought up to this build");
        }
        Ok(database)
    }

    /// Like [`Self::open`], without touching the schema.
    pub async fn start(config: &Config) -> Result<Self, DatabaseError> {
        match embedded_options(config) {
            None => Ok(Self { url: given_url(config)?, embedded: None }),
            Some(options) => {
                let starting = tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&options)).await;
                let embedded = starting.map_err(|e| EmbeddedError::Spawn(std::io::Error::other(e)))??;
                Ok(Self { url: DatabaseUrl::parse(embedded.url())?, embedded: Some(embedded) })
            }
        }
    }

    #[must_use]
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// The pools of a node; they dial when first used.
    pub fn pools(&self, limits: &Limits) -> Result<Pools, DatabaseError> {
        Ok(Pools::new(&self.url, &PoolOptions::sessions(limits), &PoolOptions::peers(limits))?)
    }

    /// The embedded server's state; `None` for a database by URL.
    #[must_use]
    pub fn server_state(&self) -> Option<watch::Receiver<ServerState>> {
        self.embedded.as_ref().map(EmbeddedPostgres::state)
    }

    /// Stops the embedded server, if there is one: last in the drain order, after everybody let go of the pools.
    pub async fn close(self) {
        if let Some(embedded) = self.embedded
            && tokio::task::spawn_blocking(move || embedded.stop()).await.is_err()
        {
            tracing::error!("stopping the embedded database failed");
        }
    }
}

/// How the embedded database of this configuration is started; `None` for a database by URL.
#[must_use]
pub fn embedded_options(config: &Config) -> Option<EmbeddedOptions> {
    match &config.postgres {
        PostgresConfig::Url(_) => None,
        PostgresConfig::Embedded { bin_dir, search_path } => Some(EmbeddedOptions {
            state_dir: config.state_dir.clone(),
            bin_dir: bin_dir.clone(),
            search_path: search_path.clone(),
            durable: true,
            limits: config.limits.clone(),
        }),
    }
}

/// Where the database of this configuration can be reached now, without starting anything; `None` when the embedded one
/// does not run.
pub fn reachable_url(config: &Config) -> Result<Option<DatabaseUrl>, DatabaseError> {
    match &config.postgres {
        PostgresConfig::Url(_) => Ok(Some(given_url(config)?)),
        PostgresConfig::Embedded { .. } => {
            let url = embedded::url_of_running(&config.state_dir);
            Ok(url.map(|url| DatabaseUrl::parse(&url)).transpose()?)
        }
    }
}

fn given_url(config: &Config) -> Result<DatabaseUrl, DatabaseUrlError> {
    match &config.postgres {
        PostgresConfig::Url(url) => DatabaseUrl::parse(url),
        PostgresConfig::Embedded { .. } => Err(DatabaseUrlError::NoDatabase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigArgs, Surroundings};
    use crate::postgres::migrations::SchemaState;
    use crate::postgres::testing::{TemporaryDirectory, TestDatabase};

    fn config(state: &TemporaryDirectory, set: &[String]) -> Config {
        let args = ConfigArgs { site: Some("home".to_owned()), set: set.to_vec(), ..ConfigArgs::default() };
        let around = Surroundings {
            environment: std::collections::BTreeMap::default(),
            is_root: false,
            current_dir: state.path().to_owned(),
        };
        let args = ConfigArgs { state_dir: Some(state.path().display().to_string()), ..args };
        Config::load_in(&args, &around).unwrap()
    }

    #[tokio::test]
    async fn the_embedded_database_is_open_migrated_and_gone_after_close() {
        let state = TemporaryDirectory::new();
        let config = config(&state, &[]);
        assert!(reachable_url(&config).unwrap().is_none());
        let database = NodeDatabase::open(&config).await.unwrap();
        let seen = migrations::state(&reachable_url(&config).unwrap().unwrap()).await.unwrap();
        assert!(matches!(seen, SchemaState::Current { .. }), "{seen:?}");
        let pools = database.pools(&config.limits).unwrap();
        pools.sessions.get().await.unwrap().query("SELECT id FROM users", &[]).await.unwrap();
        let state = database.server_state().unwrap();
        pools.close();
        database.close().await;
        assert_eq!(*state.borrow(), ServerState::Stopped);
        assert!(reachable_url(&config).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_database_by_url_is_migrated_and_left_running() {
        use secrecy::ExposeSecret;
        let (state, given) = (TemporaryDirectory::new(), TestDatabase::empty().await);
        let url = format!("postgres.url={}", given.url().expose_secret());
        let config = config(&state, &["tier=standalone".to_owned(), url]);
        let database = NodeDatabase::open(&config).await.unwrap();
        assert!(database.server_state().is_none());
        database.close().await;
        given.connect().await.query("SELECT id FROM users", &[]).await.unwrap();
    }
}
