//! The embedded authority's row and its revocations.

use deadpool_postgres::{Object, Pool};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::Serial;
use mosaic_actors::ports::PortFuture;
use time::OffsetDateTime;
use tokio_postgres::{GenericClient, Row};

use super::pool::OrFault;
use crate::pki::authority::{CaError, Crl};
use crate::pki::ca_store::{CaStore, CrlDraft, NewCa, Revocation, SignCrl, StoredCa};
use crate::pki::embedded_ca::stored_crl;

#[cfg(test)]
mod tests;

/// [`CaStore`] over the tables `embedded_ca` and `revoked_certificates`.
#[derive(Clone)]
pub struct SqlCaStore {
    pool: Pool,
}

impl SqlCaStore {
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

impl CaStore for SqlCaStore {
    fn load(&self) -> PortFuture<Result<Option<StoredCa>, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move { load(&connection(&pool).await?).await.map_err(CaError::Store) })
    }

    fn create(&self, new: NewCa) -> PortFuture<Result<StoredCa, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = connection(&pool).await?;
            insert(&client, &new).await.map_err(CaError::Store)?;
            // A statement of its own: it sees the row that another replica committed while ours waited for it.
            load(&client).await.map_err(CaError::Store)?.ok_or_else(missing)
        })
    }

    fn record_revocation(&self, revocation: Revocation) -> PortFuture<Result<(), CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move { record(&connection(&pool).await?, &revocation).await.map_err(CaError::Store) })
    }

    fn revocations(&self, now: OffsetDateTime) -> PortFuture<Result<Vec<Revocation>, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move { revocations(&**connection(&pool).await?, now).await })
    }

    fn renew_crl(&self, now: OffsetDateTime, sign: SignCrl) -> PortFuture<Result<Option<Crl>, CaError>> {
        let pool = self.pool.clone();
        Box::pin(async move { renew_crl(&mut connection(&pool).await?, now, sign).await })
    }
}

async fn connection(pool: &Pool) -> Result<Object, CaError> {
    pool.get().await.or_fault("reach the certificate authority's row").map_err(CaError::Store)
}

async fn load(client: &Object) -> Result<Option<StoredCa>, Fault> {
    let row = client
        .query_opt("SELECT certificate, sealed_key, crl FROM embedded_ca", &[])
        .await
        .or_fault("read the certificate authority")?;
    Ok(row.map(|row| StoredCa { certificate: row.get(0), sealed_key: row.get(1), crl: row.get(2) }))
}

async fn insert(client: &Object, new: &NewCa) -> Result<(), Fault> {
    client
        .execute(
            "INSERT INTO embedded_ca (certificate, sealed_key) VALUES ($1, $2) ON CONFLICT (only_row) DO NOTHING",
            &[&new.certificate, &new.sealed_key],
        )
        .await
        .or_fault("write the certificate authority")
        .map(|_| ())
}

async fn record(client: &Object, revocation: &Revocation) -> Result<(), Fault> {
    client
        .execute(
            "INSERT INTO revoked_certificates (serial, revoked_at, not_after) VALUES ($1, $2, $3) \
             ON CONFLICT (serial) DO NOTHING",
            &[&revocation.serial.as_bytes(), &revocation.revoked_at, &revocation.not_after],
        )
        .await
        .or_fault("record a revocation")
        .map(|_| ())
}

async fn revocations(client: &impl GenericClient, now: OffsetDateTime) -> Result<Vec<Revocation>, CaError> {
    client
        .query(
            "SELECT serial, revoked_at, not_after FROM revoked_certificates WHERE not_after > $1 ORDER BY serial",
            &[&now],
        )
        .await
        .or_fault("read the revocations")
        .map_err(CaError::Store)?
        .iter()
        .map(revocation)
        .collect()
}

fn revocation(row: &Row) -> Result<Revocation, CaError> {
    let serial = Serial::from_bytes(row.get(0))
        .ok_or_else(|| CaError::Unusable("a revocation has an impossible serial number".into()))?;
    Ok(Revocation { serial, revoked_at: row.get(1), not_after: row.get(2) })
}

/// One transaction under the row's lock: of two replicas the second sees what the first one signed.
async fn renew_crl(client: &mut Object, now: OffsetDateTime, sign: SignCrl) -> Result<Option<Crl>, CaError> {
    let transaction = client.transaction().await.or_fault("begin a revocation list").map_err(CaError::Store)?;
    let row = transaction
        .query_opt("SELECT crl_number, crl FROM embedded_ca FOR UPDATE", &[])
        .await
        .or_fault("lock the certificate authority")
        .map_err(CaError::Store)?
        .ok_or_else(missing)?;
    let (number, current): (i64, Option<Vec<u8>>) = (row.get(0), row.get(1));
    let next_number = number.checked_add(1).and_then(|next| u64::try_from(next).ok()).ok_or_else(numbers_used_up)?;
    let revocations = revocations(&*transaction, now).await?;
    let Some(signed) = sign(CrlDraft { next_number, current: current.clone(), revocations })? else {
        return current.as_deref().map(stored_crl).transpose();
    };
    if signed.number != next_number {
        return Err(CaError::Unusable("the revocation list carries another number than it was given".into()));
    }
    transaction
        .execute(
            "UPDATE embedded_ca SET crl_number = crl_number + 1, crl = $1, crl_next_update = $2",
            &[&signed.der, &signed.next_update],
        )
        .await
        .or_fault("write a revocation list")
        .map_err(CaError::Store)?;
    transaction.commit().await.or_fault("commit a revocation list").map_err(CaError::Store)?;
    Ok(Some(signed))
}

fn numbers_used_up() -> CaError {
    CaError::Unusable("the numbers for revocation lists are used up".into())
}

/// The row was there when the authority was opened.
fn missing() -> CaError {
    tracing::error!("the certificate authority's row is gone from the database");
    CaError::Store(Fault::new(FaultKind::Internal, Stage::Database))
}
