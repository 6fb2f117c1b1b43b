//! Which database a configuration means: the embedded one or a URL.

use super::embedded::{self, EmbeddedOptions};
use super::pool::{DatabaseUrl, DatabaseUrlError};
use crate::config::{Config, PostgresConfig};

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
pub fn reachable_url(config: &Config) -> Result<Option<DatabaseUrl>, DatabaseUrlError> {
    match &config.postgres {
        PostgresConfig::Url(url) => DatabaseUrl::parse(url).map(Some),
        PostgresConfig::Embedded { .. } => {
            let url = embedded::url_of_running(&config.state_dir);
            url.map(|url| DatabaseUrl::parse(&url)).transpose()
        }
    }
}
