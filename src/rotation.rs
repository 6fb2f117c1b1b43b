//! Rotation of the master secret: a new one is listed, every replica learns it, the site seals with it, every blob is sealed
//! anew, the audit log is sealed with it, the old one is retired. See ADR 18.
//!
//! ```text
//! list the new one in the file ─▶ all replicas know it ─▶ switch ─▶ all replicas seal with it ─▶ seal anew, the audit too ─▶ retire ─▶ clean the file
//! ```
//!
//! What was done is in the file and in the database, and nothing else is needed to go on: after a crash between any two steps
//! replicas start and work, and running the command again finishes the rotation that was begun instead of beginning another.

use std::time::Duration;

use deadpool_postgres::Pool;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::ports::clock::Clock;
use serde::Serialize;
use tokio::time::Instant;

use crate::config::MasterSecretSource;
use crate::crash_points;
use crate::postgres::audit::{AuditKeys, AuditStore, HandedOver};
use crate::postgres::master_secrets::{MasterSecrets, Replica, ResealError, Retiring};
use crate::secrets::{KeyId, MasterSecret, SecretError};

/// Between two looks at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Session lock of the database that one rotation holds. Any constant will do: "secret" in ASCII.
const LOCK: i64 = 0x7365_6372_6574;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The id of the secret that seals now.
    pub sealing: String,
    /// Ids of those that nothing is sealed with any more.
    pub retired: Vec<String>,
    /// Blobs that this run sealed anew.
    pub resealed: u64,
    /// An earlier run had begun it.
    pub resumed: bool,
    /// The source still lists retired secrets, and cannot be written from here.
    pub left_to_remove: bool,
    /// The audit log holds something that is not as it was written, and that nobody can seal.
    pub audit_unsealable: bool,
}

/// Why it is not done. Every variant leaves a site that works, and a rotation that can be run again.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("the master secret cannot be read: {0}")]
    Unreadable(SecretError),
    #[error("the new master secret cannot be written: {0}")]
    Unwritable(SecretError),
    #[error("the master secret comes from MOSAIC_MASTER_SECRET, which cannot be written from here")]
    FromEnvironment,
    #[error("this site seals with master secret {0}, which is not in the one that is configured here")]
    NotHere(KeyId),
    #[error("master secret {0} is still in use, and not in what is configured here")]
    NotListed(KeyId),
    #[error("another rotation of this site is under way")]
    UnderWay,
    #[error("{}", told(*secret, *seals, replicas))]
    Behind { secret: KeyId, seals: bool, replicas: Vec<Replica> },
    #[error("{0}")]
    Reseal(#[from] ResealError),
    #[error("{0} sealed values are still under the old secret: they were written just now")]
    Left(u64),
    #[error("other replicas were sealing the audit log all the time")]
    AuditBusy,
    #[error(
        "something was being written to the links or the audit log all the time: the old secret is not retired yet"
    )]
    WritersBusy,
    #[error("{0}")]
    Database(#[from] Fault),
}

impl RotationError {
    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "run this as the node's user, with the node's configuration",
            Self::Unwritable(_) => {
                "run this as the node's user; where the file is read-only (a systemd credential, a mounted secret), put a new line \
                 from 'openssl rand -base64 32' before the one that is there, restart every replica, then run this again"
            }
            Self::FromEnvironment => {
                "put a new line from 'openssl rand -base64 32' before the one that is there (the value has two lines then), restart \
                 every replica with it, then run this again with the same value"
            }
            Self::NotHere(_) => "copy master_secret_file from a machine where a replica of this site runs",
            Self::NotListed(_) => {
                "put its line back behind the others, or copy master_secret_file from a machine that has it, then run this again; \
                 where it is lost for good, delete its row of the table master_secrets: what is under it cannot be opened then"
            }
            Self::UnderWay => "wait for it to end, then run this again",
            Self::Behind { .. } => {
                "copy master_secret_file to their machines (they read it again by themselves; one that was given the secret by \
                 environment or credential needs a restart), then run this again"
            }
            Self::Reseal(ResealError::Blob { .. }) => {
                "the old secret stays in use for it; restore that row from a backup, or remove it (a link: add the peer again), then run this again"
            }
            Self::Left(_) | Self::AuditBusy => "run this again",
            Self::WritersBusy => {
                "look in pg_stat_activity for a transaction that has been open for long, and end it; then run this again"
            }
            Self::Reseal(_) | Self::Database(_) => "see that the database can be reached, then run this again",
        }
    }
}

fn told(secret: KeyId, seals: bool, replicas: &[Replica]) -> String {
    let who: Vec<String> = replicas.iter().map(|replica| format!("{} ({})", replica.host, replica.id)).collect();
    let what = if seals { "do not seal with" } else { "do not know" };
    format!("these replicas {what} master secret {secret} yet: {}", who.join(", "))
}

/// The audit log, as far as a rotation needs to know it.
pub struct AuditOf<'a> {
    pub site: &'a SiteName,
    pub clock: &'a dyn Clock,
    /// Most events of one seal.
    pub batch: usize,
}

/// Rotates, or finishes what an earlier run began. `patience` bounds each wait for replicas.
pub async fn rotate(
    source: &MasterSecretSource,
    pool: Pool,
    audit: AuditOf<'_>,
    patience: Duration,
) -> Result<Rotated, RotationError> {
    // Held until this function ends, however it ends: the lock goes with the connection, which nobody else gets.
    let alone = pool.get().await.map_err(|_| unavailable())?;
    let alone = deadpool_postgres::Object::take(alone);
    let taken = alone.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.map_err(|_| unavailable())?;
    if !taken.get::<_, bool>(0) {
        return Err(RotationError::UnderWay);
    }
    let store = MasterSecrets::new(pool.clone());
    let mut secret = source.read().map_err(RotationError::Unreadable)?;
    let before = store.settle(secret.sealing()).await?;
    if !secret.seal_with(before) {
        return Err(RotationError::NotHere(before));
    }
    // Begun elsewhere, or its line was removed too early. A new secret would not help: what is under this one must open.
    if let Some(missing) = store.opening().await?.into_iter().find(|id| !secret.ids().contains(id)) {
        return Err(RotationError::NotListed(missing));
    }
    let begun = secret.ids().len() > 1;
    if !begun {
        secret = list_new(source, &secret)?;
        crash_points::reach("rotation.file_listed");
    }
    // The newest stands first. Where it seals already, an earlier run came that far.
    let next = secret.ids()[0];
    let run = Run { store, patience };
    run.store.list(&secret.ids()).await?;
    if next != before {
        run.wait(next, false).await?;
        still(&alone).await?;
        run.store.switch(next).await?;
    }
    secret.seal_with(next);
    crash_points::reach("rotation.switched");
    run.wait(next, true).await?;
    let resealed = run.store.reseal(&secret.sealer(), || crash_points::reach("rotation.one_resealed")).await?;
    crash_points::reach("rotation.resealed");
    let log = AuditStore::new(pool, AuditKeys::new(&secret, audit.site));
    run.hand_over(&log, &audit).await?;
    crash_points::reach("rotation.audit_sealed");
    let resealed = resealed + run.retire(&secret).await?;
    crash_points::reach("rotation.retired");
    // What was on its way under the old secret when its replica changed has come by now.
    let audit_unsealable = run.hand_over(&log, &audit).await? == HandedOver::Unsealable;
    run.store.flush().await?;
    still(&alone).await?;
    let left_to_remove = !clean(source, &secret, next);
    crash_points::reach("rotation.file_cleaned");
    drop(alone);
    let retired = run.store.retired().await?;
    Ok(Rotated {
        sealing: next.to_string(),
        retired: retired.iter().map(ToString::to_string).collect(),
        resealed,
        resumed: begun,
        left_to_remove,
        audit_unsealable,
    })
}

struct Run {
    store: MasterSecrets,
    patience: Duration,
}

impl Run {
    /// Until every replica that lives knows the secret, or also seals with it.
    async fn wait(&self, secret: KeyId, seals: bool) -> Result<(), RotationError> {
        let give_up = Instant::now() + self.patience;
        loop {
            let mut behind = self.store.replicas().await?;
            behind.retain(|replica| !if seals { replica.sealing == secret } else { replica.knows.contains(&secret) });
            if behind.is_empty() {
                return Ok(());
            }
            if Instant::now() >= give_up {
                return Err(RotationError::Behind { secret, seals, replicas: behind });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Until no event of the audit log needs an old secret. One that nobody can seal is left as it is: it is told of, and must
    /// not keep a secret from being replaced.
    async fn hand_over(&self, log: &AuditStore, audit: &AuditOf<'_>) -> Result<HandedOver, RotationError> {
        const LOOKS: usize = 5;
        let give_up = Instant::now() + self.patience;
        let mut unsealable = 0;
        loop {
            match log.hand_over(audit.clock.now(), audit.batch).await? {
                HandedOver::Whole => return Ok(HandedOver::Whole),
                HandedOver::Unsealable if unsealable == LOOKS => return Ok(HandedOver::Unsealable),
                HandedOver::Unsealable => unsealable += 1,
                HandedOver::Busy if Instant::now() >= give_up => return Err(RotationError::AuditBusy),
                HandedOver::Busy => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Retires the old secrets. What was sealed with one since we looked, by a replica that was taken for gone, is sealed anew
    /// a few times. Whoever writes is let go first.
    async fn retire(&self, secret: &MasterSecret) -> Result<u64, RotationError> {
        const PASSES: usize = 5;
        let give_up = Instant::now() + self.patience;
        let (mut passes, mut resealed) = (0, 0);
        loop {
            match self.store.retire_others().await? {
                Retiring::Done => return Ok(resealed),
                Retiring::Left(left) if passes == PASSES => return Err(RotationError::Left(left)),
                Retiring::Left(_) => {
                    passes += 1;
                    resealed += self.store.reseal(&secret.sealer(), || ()).await?;
                }
                Retiring::Busy if Instant::now() >= give_up => return Err(RotationError::WritersBusy),
                Retiring::Busy => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// Makes a secret and lists it in the file before the one that is there.
fn list_new(source: &MasterSecretSource, secret: &MasterSecret) -> Result<MasterSecret, RotationError> {
    let MasterSecretSource::File(file) = source else { return Err(RotationError::FromEnvironment) };
    let listed = secret.with_a_new_one().map_err(RotationError::Unwritable)?;
    listed.replace(file).map_err(RotationError::Unwritable)?;
    Ok(listed)
}

/// Leaves nothing but the secret that seals; `false` where that has to be done by hand.
fn clean(source: &MasterSecretSource, secret: &MasterSecret, sealing: KeyId) -> bool {
    if secret.ids() == [sealing] {
        return true;
    }
    let (MasterSecretSource::File(file), Some(only)) = (source, secret.only(sealing)) else { return false };
    only.replace(file).is_ok()
}

/// Whether the connection that holds the lock lives: another rotation may run otherwise.
async fn still(alone: &tokio_postgres::Client) -> Result<(), RotationError> {
    alone.simple_query("").await.map(drop).map_err(|_| unavailable())
}

fn unavailable() -> RotationError {
    use mosaic_actors::domain::fault::{FaultKind, Stage};
    RotationError::Database(Fault::new(FaultKind::Unavailable, Stage::Database))
}
