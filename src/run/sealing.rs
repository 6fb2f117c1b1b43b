//! Seals the audit log, round by round.

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::ports::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::admin_api::KeptCheckpoint;
use crate::postgres::audit::{AuditSealer, Checkpoint, Lookback};
use crate::telemetry::metrics::Metrics;

/// Every so many rounds all lanes are looked at, not only those that may still grow.
const FULL_LOOK_EVERY: u32 = 360;

/// How long the last round may take: what it does not seal, the next start or another replica seals.
const LAST_ROUND: Duration = Duration::from_secs(3);

/// A replica's sealer and where its newest checkpoint is kept.
pub(super) struct Sealing {
    pub(super) sealer: AuditSealer,
    pub(super) kept: KeptCheckpoint,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) every: Duration,
}

impl Sealing {
    /// Seals until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(self.every);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut full = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = rounds.tick() => {}
            }
            let lookback = if full == 0 { Lookback::All } else { Lookback::Recent };
            // A full look that failed, or that another replica kept from, is due again.
            if self.round(lookback).await {
                full = (full + 1) % FULL_LOOK_EVERY;
            }
        }
    }

    /// Once everything is written: the newest events of a node that stops need not wait for another.
    pub(super) async fn last_round(&self) {
        if tokio::time::timeout(LAST_ROUND, self.round(Lookback::Recent)).await.is_err() {
            tracing::warn!("the last seal of the audit log took too long; what is written is sealed later");
        }
    }

    async fn round(&self, lookback: Lookback) -> bool {
        let kept = self.kept.read();
        let now = self.clock.now();
        let sealed = match &kept {
            Ok(None) => self.sealer.seal(now, lookback).await,
            Ok(kept) => self.sealer.go_on(now, lookback, kept.as_ref()).await,
            Err(error) => {
                tracing::error!(%error, "audit.checkpoint in the state directory cannot be read, and is left as it is");
                self.sealer.go_on(now, lookback, None).await
            }
        };
        let round = match sealed {
            Ok(Some(round)) => round,
            Ok(None) => return false,
            Err(fault) => {
                tracing::warn!(%fault, "the audit log could not be sealed; tried again with the next round");
                return false;
            }
        };
        if round.broken > 0 {
            tracing::error!(
                events = round.broken,
                "audit events were altered or removed before they were sealed: run 'mosaic federation audit verify'"
            );
        }
        self.metrics.sealed(round.events, round.broken);
        if round.held_up > 0 {
            self.metrics.lanes_held_up(round.held_up as u64);
            tracing::warn!(
                lanes = round.held_up,
                "audit events were made with a master secret that this process does not have; what follows them is not sealed \
                 until a replica that has it does: add it to the file, or run 'mosaic federation audit verify'"
            );
        }
        if let Some(why) = &round.stopped {
            self.metrics.seals_disowned();
            tracing::error!(why, "the audit log is not sealed any more: run 'mosaic federation audit verify'");
        }
        match (kept, &round.head) {
            (Ok(kept), Some(head)) => self.keep(kept, head).await,
            (Err(_), Some(_)) => self.metrics.seals_disowned(),
            (_, None) => {}
        }
        round.stopped.is_none()
    }

    /// Keeps the newest checkpoint, unless its chain does not go through the one that is kept: that is then the only witness.
    async fn keep(&self, kept: Option<Checkpoint>, head: &Checkpoint) {
        let goes_on = match &kept {
            Some(kept) if kept == head => return,
            Some(kept) => self.sealer.goes_through(kept, head).await,
            None => Ok(true),
        };
        match goes_on {
            Ok(true) => {}
            Ok(false) => {
                self.metrics.seals_disowned();
                tracing::error!(
                    kept = kept.map(|kept| kept.position),
                    newest = head.position,
                    "the audit log does not go through the checkpoint that this node has kept, which is left as it is: \
                     it was cut, or is a restored backup; run 'mosaic federation audit verify'"
                );
                return;
            }
            Err(fault) => {
                tracing::warn!(%fault, "the newest checkpoint of the audit log could not be compared with the kept one");
                return;
            }
        }
        let (file, head) = (self.kept.clone(), head.clone());
        let written = tokio::task::spawn_blocking(move || file.keep(&head)).await;
        if let Err(error) = written.map_err(std::io::Error::other).and_then(|written| written) {
            tracing::warn!(%error, "the newest checkpoint of the audit log could not be kept");
        }
    }
}
