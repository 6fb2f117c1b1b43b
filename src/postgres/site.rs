//! Which site a database belongs to, and how its first admin gets in.

use deadpool_postgres::Pool;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::SiteName;
use time::OffsetDateTime;
use uuid::Uuid;

use super::pool::OrFault;

/// Why a database is not this site's.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error("this database belongs to site '{0}'")]
    Other(String),
    #[error("the database cannot be asked which site it belongs to: {0}")]
    Database(#[from] Fault),
}

/// Puts the site's name on record, or compares it: a node that was pointed at another site's database must not serve it.
pub async fn claim(pool: &Pool, name: &SiteName) -> Result<(), SiteError> {
    const DOING: &str = "claim the database for this site";
    let client = pool.get().await.or_fault(DOING)?;
    // Replicas that start at once agree: one inserts, all read.
    let insert = "INSERT INTO site (id, name) VALUES ($1, $2) ON CONFLICT (only_row) DO NOTHING";
    client.execute(insert, &[&Uuid::now_v7(), &name.as_str()]).await.or_fault(DOING)?;
    let row = client.query_one("SELECT name FROM site", &[]).await.or_fault(DOING)?;
    let recorded: String = row.get(0);
    if recorded == name.as_str() { Ok(()) } else { Err(SiteError::Other(recorded)) }
}

/// Puts the first admin token on record, if there is none at all; tells whether it did.
pub async fn admit_first_admin(pool: &Pool, token_sha256: &[u8; 32]) -> Result<bool, Fault> {
    const DOING: &str = "put the first admin token on record";
    let client = pool.get().await.or_fault(DOING)?;
    let inserted = client
        .execute(
            "INSERT INTO admin_tokens (id, token_sha256, label)
             SELECT $1, $2, 'first' WHERE NOT EXISTS (SELECT FROM admin_tokens) ON CONFLICT DO NOTHING",
            &[&Uuid::now_v7(), &token_sha256.as_slice()],
        )
        .await
        .or_fault(DOING)?;
    Ok(inserted == 1)
}

/// The database's clock.
pub async fn database_now(pool: &Pool) -> Result<OffsetDateTime, Fault> {
    const DOING: &str = "read the database's clock";
    let client = pool.get().await.or_fault(DOING)?;
    client.query_one("SELECT clock_timestamp()", &[]).await.map(|row| row.get(0)).or_fault(DOING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::testing::TestDatabase;

    #[tokio::test]
    async fn a_database_belongs_to_one_site() {
        let database = TestDatabase::new().await;
        let pool = database.pool();
        let site = |name| SiteName::parse(name).unwrap();
        claim(&pool, &site("work")).await.unwrap();
        claim(&pool, &site("work")).await.unwrap();
        assert!(matches!(claim(&pool, &site("home")).await, Err(SiteError::Other(name)) if name == "work"));
    }

    #[tokio::test]
    async fn only_a_database_without_any_admin_admits_the_first() {
        let database = TestDatabase::new().await;
        let pool = database.pool();
        assert!(admit_first_admin(&pool, &[1; 32]).await.unwrap());
        assert!(!admit_first_admin(&pool, &[2; 32]).await.unwrap(), "a later file must not open a running site");
    }
}
