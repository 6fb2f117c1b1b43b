//! Revocations that wait for an authority outside of the node, and the newest list that came from there.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use mosaic_actors::domain::identity::Serial;
use mosaic_actors::ports::PortFuture;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;

use super::pool::OrFault;
use crate::pki::authority::{CaError, Crl};
use crate::pki::ca_store::Revocation;
use crate::pki::revocation_outbox::{KeptList, RevocationOutbox, Waiting};

/// [`RevocationOutbox`] over the tables `revoked_certificates` and `authority_crl`.
#[derive(Clone)]
pub struct SqlRevocationOutbox {
    pool: Pool,
}

const PUT: &str = "
    INSERT INTO revoked_certificates (serial, revoked_at, not_after) VALUES ($1, $2, $3) ON CONFLICT (serial) DO NOTHING";

/// The lease is the row's next attempt: whoever updates the row first has it, and nobody holds a lock while the authority is asked.
const TAKE: &str = "
    UPDATE revoked_certificates
    SET attempts = attempts + 1, next_attempt_at = clock_timestamp() + $2::double precision * interval '1 second'
    WHERE serial IN (
        SELECT serial FROM revoked_certificates
        WHERE told_at IS NULL AND next_attempt_at <= clock_timestamp() AND not_after > clock_timestamp()
        ORDER BY next_attempt_at, serial LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING serial, not_after, attempts";

const TOLD: &str = "UPDATE revoked_certificates SET told_at = clock_timestamp() WHERE serial = $1 AND told_at IS NULL";

const PUT_BACK: &str = "
    UPDATE revoked_certificates SET next_attempt_at = clock_timestamp() + $2::double precision * interval '1 second'
    WHERE serial = $1 AND told_at IS NULL";

const TELL_MISSING_AGAIN: &str = "
    UPDATE revoked_certificates SET told_at = NULL, next_attempt_at = clock_timestamp()
    WHERE told_at < $2 AND not_after > clock_timestamp() AND serial <> ALL ($1)";

const COUNT: &str = "SELECT count(*) FROM revoked_certificates WHERE told_at IS NULL AND not_after > clock_timestamp()";

const LIST: &str = "SELECT crl, issuers FROM authority_crl WHERE root_sha256 = $1";

const KEEP: &str = "
    INSERT INTO authority_crl AS kept (root_sha256, number, crl, issuers, next_update) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (root_sha256) DO UPDATE
    SET number = excluded.number, crl = excluded.crl, issuers = excluded.issuers, next_update = excluded.next_update,
        fetched_at = now()
    WHERE kept.number < excluded.number";

impl SqlRevocationOutbox {
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Runs a statement of which nothing is read back.
    fn execute(
        &self,
        doing: &'static str,
        sql: &'static str,
        parameters: Vec<Box<dyn ToSql + Sync + Send>>,
    ) -> PortFuture<Result<(), CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = connection(&pool).await?;
            let parameters: Vec<&(dyn ToSql + Sync)> =
                parameters.iter().map(|parameter| parameter.as_ref() as &(dyn ToSql + Sync)).collect();
            client.execute(sql, &parameters).await.or_fault(doing).map(drop).map_err(CaError::Store)
        })
    }
}

impl RevocationOutbox for SqlRevocationOutbox {
    fn put(&self, revocation: Revocation) -> PortFuture<Result<(), CaError>> {
        let Revocation { serial, revoked_at, not_after } = revocation;
        let parameters: Vec<Box<dyn ToSql + Sync + Send>> =
            vec![Box::new(serial.as_bytes().to_vec()), Box::new(revoked_at), Box::new(not_after)];
        self.execute("record a revocation", PUT, parameters)
    }

    fn take(&self, most: u32, lease: Duration) -> PortFuture<Result<Vec<Waiting>, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = connection(&pool).await?;
            let rows = client
                .query(TAKE, &[&i64::from(most), &lease.as_secs_f64()])
                .await
                .or_fault("take revocations to tell")
                .map_err(CaError::Store)?;
            let waiting = rows.iter().filter_map(|row| {
                Some(Waiting {
                    serial: Serial::from_bytes(row.get("serial"))?,
                    not_after: row.get("not_after"),
                    attempts: row.get::<_, i32>("attempts").unsigned_abs(),
                })
            });
            Ok(waiting.collect())
        })
    }

    fn told(&self, serial: Serial) -> PortFuture<Result<(), CaError>> {
        self.execute("note a told revocation", TOLD, vec![Box::new(serial.as_bytes().to_vec())])
    }

    fn put_back(&self, serial: Serial, pause: Duration) -> PortFuture<Result<(), CaError>> {
        let parameters: Vec<Box<dyn ToSql + Sync + Send>> =
            vec![Box::new(serial.as_bytes().to_vec()), Box::new(pause.as_secs_f64())];
        self.execute("put a revocation back", PUT_BACK, parameters)
    }

    fn tell_missing_again(&self, named: Vec<Serial>, made: OffsetDateTime) -> PortFuture<Result<u64, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = connection(&pool).await?;
            let named: Vec<&[u8]> = named.iter().map(Serial::as_bytes).collect();
            let missing = client.execute(TELL_MISSING_AGAIN, &[&named, &made]).await;
            missing.or_fault("look for forgotten revocations").map_err(CaError::Store)
        })
    }

    fn waiting(&self) -> PortFuture<Result<u64, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = connection(&pool).await?;
            let row = client.query_one(COUNT, &[]).await.or_fault("count revocations").map_err(CaError::Store)?;
            Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
        })
    }

    fn list(&self, root_sha256: [u8; 32]) -> PortFuture<Result<Option<KeptList>, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = connection(&pool).await?;
            let row = client
                .query_opt(LIST, &[&root_sha256.as_slice()])
                .await
                .or_fault("read the kept revocation list")
                .map_err(CaError::Store)?;
            Ok(row.map(|row| KeptList { crl: row.get("crl"), issuers: row.get("issuers") }))
        })
    }

    fn keep(&self, root_sha256: [u8; 32], crl: Crl, issuers: Vec<Vec<u8>>) -> PortFuture<Result<(), CaError>> {
        let Ok(number) = i64::try_from(crl.number) else {
            return Box::pin(async {
                Err(CaError::Unusable("the number of the revocation list is above 2^63".into()))
            });
        };
        let parameters: Vec<Box<dyn ToSql + Sync + Send>> = vec![
            Box::new(root_sha256.to_vec()),
            Box::new(number),
            Box::new(crl.der),
            Box::new(issuers),
            Box::new(crl.next_update),
        ];
        self.execute("keep a revocation list", KEEP, parameters)
    }
}

async fn connection(pool: &Pool) -> Result<Object, CaError> {
    pool.get().await.or_fault("reach the revocations").map_err(CaError::Store)
}

#[cfg(test)]
mod tests;
