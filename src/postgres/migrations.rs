//! From an empty database to this build's schema, once, whoever starts first.

use std::time::Duration;

use refinery::Migration;

use super::pool::{ConnectError, DatabaseUrl, PoolOptions, SqlCause};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The advisory lock that replicas starting together queue on. Any constant will do: "mosaic" in ASCII.
const LOCK: i64 = 0x6d6f_7361_6963;

/// Migrations on a large table may take this long; the lock's waiters wait as long.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error("the database cannot be reached: {0}")]
    Connect(#[from] ConnectError),
    #[error("the migration lock cannot be taken: {}", SqlCause(.0))]
    Lock(tokio_postgres::Error),
    #[error("{0}")]
    Failed(String),
    #[error("the database is at schema version {found}, this build knows {known}: it was migrated by a newer build")]
    Newer { found: u32, known: u32 },
    #[error("migration {version} in the database is not the one of this build: it was changed after it ran")]
    Divergent { version: u32 },
}

impl MigrationError {
    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Connect(_) | Self::Lock(_) => "start the database, and check the URL and that its user may log in",
            Self::Failed(_) => {
                "read the database's message; the user of the URL must own the database or have CREATE on its schema public"
            }
            Self::Newer { .. } => "run the newer build of mosaic, or restore the backup taken before it was installed",
            Self::Divergent { .. } => "run the build that made this database, or restore a backup",
        }
    }
}

/// What a database holds of this build's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaState {
    /// No migration ever ran.
    Empty,
    /// Some migrations of this build are still to run.
    Behind {
        version: u32,
        pending: usize,
    },
    Current {
        version: u32,
    },
}

/// Brings the database to this build's schema; returns the names of the migrations that ran just now. Each is a
/// transaction: a crash leaves whole migrations only, and the next start goes on from there.
pub async fn run(url: &DatabaseUrl) -> Result<Vec<String>, MigrationError> {
    let options = PoolOptions {
        statement_timeout: STATEMENT_TIMEOUT,
        application_name: "mosaic migrations".to_owned(),
        ..PoolOptions::default()
    };
    let mut client = url.connect(&options).await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(MigrationError::Lock)?;
    // The lock is the session's: it ends with this connection, however this function returns.
    state_of(&client).await?;
    let report = embedded::migrations::runner()
        .set_abort_divergent(true)
        .set_abort_missing(true)
        .run_async(&mut client)
        .await
        .map_err(|e| MigrationError::Failed(failure(&e)))?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// Looks, changes nothing. Fails when the database belongs to a newer or a different build.
pub async fn state(url: &DatabaseUrl) -> Result<SchemaState, MigrationError> {
    let client = url.connect(&PoolOptions::default()).await?;
    state_of(&client).await
}

/// See [`state`]; on a connection that is already there.
pub async fn state_of(client: &tokio_postgres::Client) -> Result<SchemaState, MigrationError> {
    let known = known();
    let last = known.last().map_or(0, version_of);
    let applied = applied(client).await.map_err(MigrationError::Lock)?;
    for (version, checksum) in &applied {
        match known.iter().find(|migration| version_of(migration) == *version) {
            Some(migration) if migration.checksum().to_string() != *checksum => {
                return Err(MigrationError::Divergent { version: *version });
            }
            Some(_) => {}
            None if *version > last => return Err(MigrationError::Newer { found: *version, known: last }),
            None => return Err(MigrationError::Divergent { version: *version }),
        }
    }
    Ok(match applied.last() {
        None => SchemaState::Empty,
        Some((version, _)) if applied.len() == known.len() => SchemaState::Current { version: *version },
        Some((version, _)) => SchemaState::Behind { version: *version, pending: known.len() - applied.len() },
    })
}

/// The migrations of this build, in order.
fn known() -> Vec<Migration> {
    let mut migrations = embedded::migrations::runner().get_migrations().clone();
    migrations.sort_by_key(version_of);
    migrations
}

fn version_of(migration: &Migration) -> u32 {
    migration.version().unsigned_abs()
}

/// refinery's own record: version and checksum, in order; empty when it never ran here.
async fn applied(client: &tokio_postgres::Client) -> Result<Vec<(u32, String)>, tokio_postgres::Error> {
    if client.query_one("SELECT to_regclass('refinery_schema_history') IS NULL", &[]).await?.get(0) {
        return Ok(Vec::new());
    }
    let rows =
        client.query("SELECT version::int4, checksum FROM refinery_schema_history ORDER BY version", &[]).await?;
    Ok(rows.iter().map(|row| (row.get::<_, i32>(0).unsigned_abs(), row.get(1))).collect())
}

fn failure(error: &refinery::Error) -> String {
    match error.kind() {
        refinery::error::Kind::Connection(doing, source) => match source.downcast_ref::<tokio_postgres::Error>() {
            Some(sql) => format!("{doing}: {}", SqlCause(sql)),
            None => doing.clone(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
