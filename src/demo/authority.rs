//! The CA certificate of a running site, as its database has it.

use secrecy::SecretString;

use crate::cli::outcome::Failure;
use crate::config::Limits;
use crate::pki::ca_store::CaStore;
use crate::pki::pem::certificate_to_pem;
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::pool::{DatabaseUrl, PoolOptions};

/// PEM; `None` while the site has no CA.
pub(super) async fn certificate(database: &SecretString, limits: &Limits) -> Result<Option<String>, Failure> {
    let options = PoolOptions {
        max_size: 1,
        wait: limits.pool_wait,
        create: limits.database_connect,
        recycle: limits.database_check,
        statement_timeout: limits.statement,
        application_name: "mosaic demo".to_owned(),
    };
    let url = DatabaseUrl::parse(database).map_err(|e| Failure::failed(e.to_string()))?;
    let pool = url.pool(&options).map_err(|e| Failure::failed(e.to_string()))?;
    let stored = SqlCaStore::new(pool.clone()).load().await.map_err(|e| Failure::failed(e.to_string()))?;
    pool.close();
    Ok(stored.map(|stored| certificate_to_pem(&stored.certificate)))
}
