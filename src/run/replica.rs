//! This process among those that serve the site: which master secrets it knows, and which one it seals with (ADR 18).

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::domain::fault::Fault;
use mosaic_actors::peer_registry::PeerRegistryHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::BootError;
use super::database::Database;
use crate::config::{Config, MasterSecretSource};
use crate::postgres::audit::AuditKeys;
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

/// How long links may take to be read anew before a retired secret is forgotten; else it is tried again with the next look.
/// Shorter than the grace, because this replica does not report meanwhile.
const LINKS_WITHIN: Duration = Duration::from_secs(3);

/// What was found when the file and the database were last looked at.
#[derive(Default)]
struct Listed {
    /// Retired secrets that the file lists.
    retired: Vec<KeyId>,
    told: bool,
    /// The secret that seals, if it is not known here.
    lacking: Option<KeyId>,
}

impl Listed {
    /// Whether these are to be told of: once, and not while a rotation is just about to remove them.
    fn is_news(&mut self, retired: Vec<KeyId>) -> bool {
        if self.retired != retired {
            (self.retired, self.told) = (retired, false);
            return false;
        }
        !self.retired.is_empty() && !std::mem::replace(&mut self.told, true)
    }
}

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
        // Nothing is opened yet, and nothing that is sealed is under one of these.
        secret.forget(&replica.store.retired().await.map_err(unreadable)?);
        replica.report().await.map_err(unreadable)?;
        Ok(replica)
    }

    /// Reads the file again and does as the database says, until `stop`: from time to time, and at once when the audit log refuses
    /// what is made with the secret that seals here. Where that changes nothing, as in a replica that lacks the new one, refusals
    /// wait for the next time: every request would cause a look.
    pub(super) async fn run(self, links: PeerRegistryHandle, keys: AuditKeys, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut listed, mut heeds_refusals) = (Listed::default(), true);
        loop {
            let was_refused = tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => false,
                () = keys.refused(), if heeds_refusals => true,
            };
            let before = self.secret.sealing();
            self.look(&links, &mut listed).await;
            heeds_refusals = !was_refused || self.secret.sealing() != before;
        }
    }

    async fn look(&self, links: &PeerRegistryHandle, listed: &mut Listed) {
        let retired = match self.store.retired().await {
            Ok(retired) => retired,
            Err(fault) => {
                tracing::debug!(%fault, "which master secrets are retired could not be read; tried again");
                return;
            }
        };
        if let MasterSecretSource::File(file) = &self.source {
            let source = self.source.clone();
            let read = tokio::task::spawn_blocking(move || source.read().map_err(|error| error.to_string())).await;
            match read.map_err(|error| error.to_string()).flatten() {
                Ok(read) => self.adopt(&read, &retired, listed),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "the master secret's file cannot be read; going on with what was read before");
                }
            }
        }
        if let Err(fault) = self.follow(listed).await {
            tracing::debug!(%fault, "which master secret seals could not be read; tried again");
            return;
        }
        self.forget(&retired, links).await;
    }

    /// Learns what is new and not retired.
    fn adopt(&self, read: &MasterSecret, retired: &[KeyId], listed: &mut Listed) {
        let old: Vec<KeyId> = read.ids().into_iter().filter(|id| retired.contains(id)).collect();
        let shown = list(&old);
        if listed.is_news(old) {
            let remedy = clean_by(&read.ids(), self.secret.sealing());
            tracing::warn!(retired = shown, remedy, "master_secret_file lists retired secrets, which nothing needs");
        }
        self.secret.adopt(read, retired);
    }

    /// No blob is under a retired secret, but a link may still have in memory what the database had before: it first gets what is
    /// there now.
    async fn forget(&self, retired: &[KeyId], links: &PeerRegistryHandle) {
        let sealing = self.secret.sealing();
        if !self.secret.ids().iter().any(|id| *id != sealing && retired.contains(id)) {
            return;
        }
        if timeout(LINKS_WITHIN, links.read_anew()).await.is_err() {
            tracing::debug!("links could not be read anew in time; retired master secrets are forgotten later");
            return;
        }
        let forgotten = self.secret.forget(retired);
        tracing::info!(forgotten = list(&forgotten), "retired master secrets are forgotten");
        if let Err(fault) = self.report().await {
            tracing::debug!(%fault, "the next report says what this replica knows");
        }
    }

    async fn report(&self) -> Result<Option<KeyId>, Fault> {
        let alive = self.every * REPORTS_MISSED + GRACE;
        self.store.report(self.id, &self.host, &self.secret, alive).await
    }

    async fn follow(&self, listed: &mut Listed) -> Result<(), Fault> {
        let before = self.secret.sealing();
        let Some(sealing) = self.report().await? else { return Ok(()) };
        if sealing == before {
            return Ok(());
        }
        if !self.secret.seal_with(sealing) {
            if listed.lacking.replace(sealing) != Some(sealing) {
                tracing::error!(secret = %sealing, "this site seals with a master secret that this replica does not have; copy the file here");
            }
            return Ok(());
        }
        listed.lacking = None;
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

/// What removes retired secrets from a file. The command takes what stands first for new, if it does not seal.
fn clean_by(listed: &[KeyId], sealing: KeyId) -> String {
    match listed.iter().position(|id| *id == sealing) {
        Some(0) => "run 'mosaic gateway rotate-secret' here again, or remove every secret but the first".to_owned(),
        Some(place) => format!("remove every secret but number {}", place + 1),
        None => "copy master_secret_file from a machine where a replica of this site runs".to_owned(),
    }
}

fn list(ids: &[KeyId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_seals_is_the_one_to_keep_wherever_it_stands() {
        let id = |byte| KeyId::from_bytes(&[byte; KeyId::BYTES]).unwrap();
        assert!(clean_by(&[id(2), id(1)], id(2)).contains("rotate-secret"));
        assert_eq!(clean_by(&[id(1), id(2)], id(2)), "remove every secret but number 2");
        assert!(clean_by(&[id(1)], id(2)).starts_with("copy master_secret_file"));
    }

    #[test]
    fn retired_secrets_in_the_file_are_told_once_and_not_when_they_are_first_seen() {
        let id = |byte| KeyId::from_bytes(&[byte; KeyId::BYTES]).unwrap();
        let mut listed = Listed::default();
        let news: Vec<bool> =
            [vec![id(1)], vec![id(1)], vec![id(1)], vec![], vec![]].map(|ids| listed.is_news(ids)).into();
        assert_eq!(news, [false, true, false, false, false]);
    }
}
