//! This process among those that serve the site: which master secrets it knows, and which one it seals with (ADR 18).

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::domain::fault::Fault;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::BootError;
use super::database::Database;
use crate::config::{Config, MasterSecretSource};
use crate::postgres::master_secrets::MasterSecrets;
use crate::secrets::{KeyId, MasterSecret};

#[derive(Clone)]
pub(super) struct Replica {
    id: Uuid,
    host: String,
    source: MasterSecretSource,
    secret: Arc<MasterSecret>,
    store: MasterSecrets,
    every: Duration,
}

/// A replica that missed this many reports, and this much time besides, is taken for gone: a rotation waits for it no longer.
const REPORTS_MISSED: u32 = 5;
const GRACE: Duration = Duration::from_secs(5);

/// How long going off the record may take: a rotation forgets who does not report any more.
const LEAVE: Duration = Duration::from_secs(3);

impl Replica {
    /// Before anything is sealed or opened: learns which secret seals, and goes on record.
    pub(super) async fn enter(
        config: &Config,
        database: &Database,
        secret: &Arc<MasterSecret>,
    ) -> Result<Self, BootError> {
        let replica = Self {
            id: Uuid::now_v7(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            source: config.master_secret.clone(),
            secret: Arc::clone(secret),
            store: MasterSecrets::new(database.sessions()),
            every: config.limits.secrets_reread,
        };
        let sealing = replica.store.settle(secret.sealing()).await.map_err(unreadable)?;
        if !secret.seal_with(sealing) {
            return Err(not_here(sealing));
        }
        replica.report().await.map_err(unreadable)?;
        Ok(replica)
    }

    /// Reads the file again and does as the database says, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => self.look(&mut told).await,
            }
        }
    }

    /// `told`: that the file lists what is retired is said once.
    async fn look(&self, told: &mut bool) {
        if let MasterSecretSource::File(file) = &self.source {
            let source = self.source.clone();
            let read = tokio::task::spawn_blocking(move || source.read().map_err(|error| error.to_string())).await;
            match read.map_err(|error| error.to_string()).flatten() {
                Ok(read) => self.adopt(&read, told).await,
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "the master secret's file cannot be read; going on with what was read before");
                }
            }
        }
        if let Err(fault) = self.follow().await {
            tracing::debug!(%fault, "which master secret seals could not be read; tried again");
        }
    }

    /// Learns what is new and not retired.
    async fn adopt(&self, read: &MasterSecret, told: &mut bool) {
        let Ok(retired) = self.store.retired().await else { return };
        let old: Vec<String> = read.ids().iter().filter(|id| retired.contains(id)).map(ToString::to_string).collect();
        if !old.is_empty() && !std::mem::replace(told, true) {
            tracing::warn!(
                retired = old.join(", "),
                "the master secret's file lists retired secrets: remove them from it"
            );
        }
        self.secret.adopt(read, &retired);
    }

    async fn report(&self) -> Result<Option<KeyId>, Fault> {
        let alive = self.every * REPORTS_MISSED + GRACE;
        self.store.report(self.id, &self.host, &self.secret, alive).await
    }

    async fn follow(&self) -> Result<(), Fault> {
        let before = self.secret.sealing();
        let Some(sealing) = self.report().await? else { return Ok(()) };
        if sealing == before {
            return Ok(());
        }
        if !self.secret.seal_with(sealing) {
            tracing::error!(secret = %sealing, "this site seals with a master secret that this replica does not have; copy the file here");
            return Ok(());
        }
        tracing::info!(from = %before, to = %sealing, "sealing with another master secret");
        // The rotation waits for exactly this.
        self.report().await.map(drop)
    }

    /// Off the record: a rotation need not wait for this process.
    pub(super) async fn leave(&self) {
        match tokio::time::timeout(LEAVE, self.store.leave(self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::debug!(%fault, "this replica stays on record until it is forgotten"),
            Err(_) => {
                tracing::warn!("going off the record took too long; this replica stays on it until it is forgotten")
            }
        }
    }
}

fn unreadable(fault: Fault) -> BootError {
    BootError::new("master secret", fault, "see the log for the database's own words")
}

fn not_here(sealing: KeyId) -> BootError {
    BootError::told(
        "master secret",
        format!("this site seals with master secret {sealing}, which is not in the one that is configured here"),
        "copy master_secret_file from a machine where a replica of this site runs, or restore it from a backup",
    )
}
