//! Which master secret seals, which processes know it, and every sealed blob: what a rotation works on. See ADR 18.
//!
//! Only ids are in the database. A blob changes by compare-and-swap, so that a rotation and a renewal never lose each other's
//! write, and a trigger refuses a blob under a secret that is retired.

use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use tokio_postgres::GenericClient;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::pool::OrFault;
use crate::secrets::{KeyId, MasterSecret, SealContext, SealError, Sealer};

#[cfg(test)]
mod tests;

/// A column of sealed blobs. Identifiers and expressions are ours, never input.
#[derive(Debug, Clone, Copy)]
pub struct SealedColumn {
    pub table: &'static str,
    pub column: &'static str,
    /// The row's name as it is authenticated: a text.
    row: &'static str,
    /// The key's version as it is authenticated.
    key_version: &'static str,
}

/// Every column of sealed blobs. A column that is missing here would not survive a rotation: a test compares this with the
/// schema, in which their names begin with `sealed_`.
pub const SEALED_COLUMNS: &[SealedColumn] = &[
    SealedColumn {
        table: "embedded_ca",
        column: "sealed_key",
        row: "encode(sha256(certificate), 'hex')",
        key_version: "1",
    },
    SealedColumn { table: "links", column: "sealed_key", row: "id::text", key_version: "key_version" },
];

/// A process that serves this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub id: Uuid,
    pub host: String,
    pub knows: Vec<KeyId>,
    pub sealing: KeyId,
}

/// What stands in the way of sealing a column anew.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    #[error("{0}")]
    Database(#[from] Fault),
    #[error("row {row} of {table} does not open: {reason}")]
    Blob { table: &'static str, row: String, reason: SealError },
}

/// The ids of every secret that this site has had.
#[derive(Debug, Default)]
pub(crate) struct OnRecord {
    pub(crate) sealing: Option<KeyId>,
    /// A rotation was begun with these, and is not done.
    pub(crate) opening: Vec<KeyId>,
    pub(crate) retired: Vec<KeyId>,
}

impl OnRecord {
    /// Before there are pools.
    pub(crate) async fn read(client: &tokio_postgres::Client) -> Result<Self, tokio_postgres::Error> {
        let mut record = Self::default();
        for row in client.query("SELECT key_id, state FROM master_secrets ORDER BY changed_at", &[]).await? {
            let Some(id) = KeyId::from_bytes(row.get(0)) else { continue };
            match row.get(1) {
                "sealing" => record.sealing = Some(id),
                "opening" => record.opening.push(id),
                _ => record.retired.push(id),
            }
        }
        Ok(record)
    }
}

/// The tables `master_secrets` and `replicas`, and whatever is sealed.
#[derive(Clone)]
pub struct MasterSecrets {
    pool: Pool,
}

impl MasterSecrets {
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The id of the secret that this site seals with; the first caller's, when none was on record.
    pub async fn settle(&self, first: KeyId) -> Result<KeyId, Fault> {
        const DOING: &str = "read which master secret seals";
        let client = self.pool.get().await.or_fault(DOING)?;
        if let Some(sealing) = sealing(&**client).await? {
            return Ok(sealing);
        }
        let insert = "INSERT INTO master_secrets (key_id, state) VALUES ($1, 'sealing') ON CONFLICT DO NOTHING";
        client.execute(insert, &[&first.as_bytes()]).await.or_fault(DOING)?;
        sealing(&**client).await?.ok_or_else(|| Fault::new(FaultKind::Internal, Stage::Database))
    }

    /// Writes down that this process lives for at least `alive`, what it knows and what it seals with; returns what it should
    /// seal with.
    pub async fn report(
        &self,
        replica: Uuid,
        host: &str,
        secret: &MasterSecret,
        alive: Duration,
    ) -> Result<Option<KeyId>, Fault> {
        const DOING: &str = "report the master secrets of this replica";
        let client = self.pool.get().await.or_fault(DOING)?;
        let ids = secret.ids();
        let known: Vec<&[u8]> = ids.iter().map(KeyId::as_bytes).collect();
        client
            .execute(
                "INSERT INTO replicas (id, host, secrets, sealing, alive_until)
                 VALUES ($1, $2, $3, $4, now() + $5::double precision * interval '1 second')
                 ON CONFLICT (id) DO UPDATE SET secrets = $3, sealing = $4, alive_until = EXCLUDED.alive_until",
                &[&replica, &host, &known, &secret.sealing().as_bytes(), &alive.as_secs_f64()],
            )
            .await
            .or_fault(DOING)?;
        sealing(&**client).await
    }

    /// This process ends, and nobody needs to wait for it. Forgets also those that ended without a word long ago.
    pub async fn leave(&self, replica: Uuid) -> Result<(), Fault> {
        const DOING: &str = "take this replica off the record";
        let client = self.pool.get().await.or_fault(DOING)?;
        let gone = "DELETE FROM replicas WHERE id = $1 OR alive_until < now() - interval '1 day'";
        client.execute(gone, &[&replica]).await.or_fault(DOING).map(drop)
    }

    /// The processes that live, as far as they said.
    pub async fn replicas(&self) -> Result<Vec<Replica>, Fault> {
        const DOING: &str = "read the replicas of this site";
        let client = self.pool.get().await.or_fault(DOING)?;
        let rows = client
            .query(
                "SELECT id, host, secrets, sealing FROM replicas
                 WHERE alive_until > now() ORDER BY started_at, id",
                &[],
            )
            .await
            .or_fault(DOING)?;
        let id = |bytes: &[u8]| KeyId::from_bytes(bytes).ok_or_else(impossible);
        rows.iter()
            .map(|row| {
                let known: Vec<&[u8]> = row.get("secrets");
                Ok(Replica {
                    id: row.get("id"),
                    host: row.get("host"),
                    knows: known.into_iter().map(id).collect::<Result<_, _>>()?,
                    sealing: id(row.get("sealing"))?,
                })
            })
            .collect()
    }

    /// Ids that no blob may be under any more.
    pub async fn retired(&self) -> Result<Vec<KeyId>, Fault> {
        self.in_state("retired").await
    }

    /// Ids that do not seal and are not retired: a rotation was begun with them, and is not done.
    pub async fn opening(&self) -> Result<Vec<KeyId>, Fault> {
        self.in_state("opening").await
    }

    /// Whether what is made with this secret is refused.
    pub async fn is_retired(&self, secret: KeyId) -> Result<bool, Fault> {
        const DOING: &str = "read whether a master secret is retired";
        const RETIRED: &str = "SELECT EXISTS (SELECT FROM master_secrets WHERE key_id = $1 AND state = 'retired')";
        let client = self.pool.get().await.or_fault(DOING)?;
        let statement = client.prepare_cached(RETIRED).await.or_fault(DOING)?;
        Ok(client.query_one(&statement, &[&secret.as_bytes()]).await.or_fault(DOING)?.get(0))
    }

    async fn in_state(&self, state: &'static str) -> Result<Vec<KeyId>, Fault> {
        const DOING: &str = "read the states of the master secrets";
        let client = self.pool.get().await.or_fault(DOING)?;
        let rows = client.query("SELECT key_id FROM master_secrets WHERE state = $1", &[&state]).await;
        let rows = rows.or_fault(DOING)?;
        rows.iter().map(|row| KeyId::from_bytes(row.get(0)).ok_or_else(impossible)).collect()
    }

    /// Puts secrets on record that blobs may be under, as after a rotation by hand, so that they can be retired.
    pub async fn list(&self, secrets: &[KeyId]) -> Result<(), Fault> {
        const DOING: &str = "list the master secrets";
        let client = self.pool.get().await.or_fault(DOING)?;
        let secrets: Vec<&[u8]> = secrets.iter().map(KeyId::as_bytes).collect();
        let insert = "INSERT INTO master_secrets (key_id, state) SELECT id, 'opening' FROM unnest($1::bytea[]) AS id
                      ON CONFLICT DO NOTHING";
        client.execute(insert, &[&secrets]).await.or_fault(DOING).map(drop)
    }

    /// From now on the site seals with `next`.
    pub async fn switch(&self, next: KeyId) -> Result<(), Fault> {
        const DOING: &str = "switch to the new master secret";
        let mut client = self.pool.get().await.or_fault(DOING)?;
        let transaction = client.transaction().await.or_fault(DOING)?;
        let statements = [
            "UPDATE master_secrets SET state = 'opening', changed_at = now() WHERE state = 'sealing' AND key_id <> $1",
            "INSERT INTO master_secrets (key_id, state) VALUES ($1, 'sealing')
             ON CONFLICT (key_id) DO UPDATE SET state = 'sealing', changed_at = now() WHERE master_secrets.state = 'opening'",
        ];
        for statement in statements {
            transaction.execute(statement, &[&next.as_bytes()]).await.or_fault(DOING)?;
        }
        if sealing(&*transaction).await? != Some(next) {
            return Err(Fault::new(FaultKind::Conflict, Stage::Database)
                .with_message(format!("master secret {next} was retired before; a retired one does not come back")));
        }
        transaction.commit().await.or_fault(DOING)
    }

    /// Seals every blob anew that is not under the secret that seals; opens all of them, and stops at the first that does not
    /// open in its place. `each` is called behind every blob that was written. Returns how many were.
    pub async fn reseal(&self, sealer: &Sealer, mut each: impl FnMut()) -> Result<u64, ResealError> {
        let mut resealed = 0;
        for column in SEALED_COLUMNS {
            for blob in self.blobs(column).await? {
                let context = SealContext { table: column.table, row: &blob.row, key_version: blob.key_version };
                let new = sealer.reseal(&context, &blob.sealed).map_err(|reason| ResealError::Blob {
                    table: column.table,
                    row: blob.row.clone(),
                    reason,
                })?;
                if let Some(new) = new {
                    resealed += self.swap(column, &blob, &new).await?;
                    each();
                }
            }
        }
        Ok(resealed)
    }

    async fn blobs(&self, column: &SealedColumn) -> Result<Vec<Blob>, Fault> {
        const DOING: &str = "read what is sealed";
        let client = self.pool.get().await.or_fault(DOING)?;
        let SealedColumn { table, column, row, key_version } = column;
        let sql = format!("SELECT {row}, ({key_version})::int4, {column} FROM {table} WHERE {column} IS NOT NULL");
        let rows = client.query(&sql, &[]).await.or_fault(DOING)?;
        Ok(rows
            .iter()
            .map(|row| Blob { row: row.get(0), key_version: row.get::<_, i32>(1).unsigned_abs(), sealed: row.get(2) })
            .collect())
    }

    /// Nothing happens to a blob that changed since it was read: the next pass sees it.
    async fn swap(&self, column: &SealedColumn, blob: &Blob, new: &[u8]) -> Result<u64, Fault> {
        const DOING: &str = "write what was sealed anew";
        let client = self.pool.get().await.or_fault(DOING)?;
        let SealedColumn { table, column, row, .. } = column;
        let sql = format!("UPDATE {table} SET {column} = $1 WHERE {row} = $2 AND {column} = $3");
        client.execute(&sql, &[&new, &blob.row, &blob.sealed]).await.or_fault(DOING)
    }

    /// Retires every secret but the one that seals, unless a blob is still under one. Writers of blobs and of the audit log wait
    /// meanwhile; one that comes behind is refused. It is on disk when this returns, and with it all that was written before,
    /// whatever the server's default is: the file may lose the secret then.
    pub async fn retire_others(&self) -> Result<Retiring, Fault> {
        const DOING: &str = "retire the old master secret";
        let mut client = self.pool.get().await.or_fault(DOING)?;
        match retire_others(&mut client).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(Retiring::Busy),
            retired => retired.or_fault(DOING),
        }
    }

    /// Returns when all that was committed before is on disk: what is written goes there in its order.
    pub async fn flush(&self) -> Result<(), Fault> {
        const DOING: &str = "see that everything is on disk";
        let mut client = self.pool.get().await.or_fault(DOING)?;
        let transaction = client.transaction().await.or_fault(DOING)?;
        // A transaction that writes nothing waits for nothing.
        let touch = "UPDATE master_secrets SET changed_at = changed_at WHERE state = 'sealing'";
        transaction.batch_execute(&format!("{DURABLY}; {touch}")).await.or_fault(DOING)?;
        transaction.commit().await.or_fault(DOING)
    }
}

/// A commit waits until it is on disk, also where the server's default is another.
const DURABLY: &str = "SET LOCAL synchronous_commit = on";

/// How long retiring may wait for each lock: whoever comes behind waits for it too, on every replica.
const RETIRE_WAIT: &str = "SET LOCAL lock_timeout = '500ms'";

/// What became of retiring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retiring {
    Done,
    /// So many blobs are under another secret than the one that seals. Nothing has changed.
    Left(u64),
    /// Somebody was writing for longer than others may be held up. Nothing has changed; it may be tried again.
    Busy,
}

async fn retire_others(client: &mut Client) -> Result<Retiring, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let tables: Vec<&str> = SEALED_COLUMNS.iter().map(|column| column.table).collect();
    // In the order of those who write to both. The log's partitions are written through it: they need no lock of their own.
    let locks = format!(
        "{DURABLY}; {RETIRE_WAIT}; LOCK TABLE {} IN SHARE MODE;
         LOCK TABLE ONLY audit_seals, ONLY federation_audit_log IN SHARE MODE",
        tables.join(", ")
    );
    transaction.batch_execute(&locks).await?;
    let mut left = 0;
    for SealedColumn { table, column, .. } in SEALED_COLUMNS {
        let sql = format!(
            "SELECT count(*) FROM {table} WHERE substring({column} FROM 2 FOR {bytes})
                 <> (SELECT key_id FROM master_secrets WHERE state = 'sealing')",
            bytes = KeyId::BYTES
        );
        left += transaction.query_one(&sql, &[]).await?.get::<_, i64>(0).unsigned_abs();
    }
    if left > 0 {
        return Ok(Retiring::Left(left));
    }
    let retire = "UPDATE master_secrets SET state = 'retired', changed_at = now() WHERE state = 'opening'";
    transaction.execute(retire, &[]).await?;
    transaction.commit().await?;
    Ok(Retiring::Done)
}

struct Blob {
    row: String,
    key_version: u32,
    sealed: Vec<u8>,
}

async fn sealing(client: &impl GenericClient) -> Result<Option<KeyId>, Fault> {
    let row = client.query_opt("SELECT key_id FROM master_secrets WHERE state = 'sealing'", &[]).await;
    let row = row.or_fault("read which master secret seals")?;
    row.map(|row| KeyId::from_bytes(row.get(0)).ok_or_else(impossible)).transpose()
}

/// The schema allows nothing else than eight bytes.
fn impossible() -> Fault {
    Fault::new(FaultKind::Internal, Stage::Database)
}
