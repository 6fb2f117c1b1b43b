//! Before a master secret is retired: what only it can vouch for is sealed, and the chain ends with a seal of the one that stays.

use mosaic_actors::domain::audit::{AuditAction, AuditEvent, AuditOutcome};
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::RequestId;
use mosaic_actors::ports::audit_log::AuditLog;
use time::OffsetDateTime;

use super::AuditStore;
use super::seal::BEFORE_SEALING;
use super::sealer::{LANES, Lookback, newest_seal};
use crate::postgres::pool::OrFault;

const WHAT: &str = "seal the audit log for the new master secret";

/// The event of a rotation: so there is always something to seal with the secret that stays.
const ROTATED: AuditAction = AuditAction::GrantChanged("rotate_secret");

/// What came of handing over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedOver {
    /// Another replica was sealing: to be tried again.
    Busy,
    /// Whoever knows nothing but the secret that seals can verify the log.
    Whole,
    /// Something stays that nobody can seal: it is not as this site wrote it.
    Unsealable,
}

impl AuditStore {
    /// Seals what was written under other secrets than the one that seals now, which must all be known here.
    pub async fn hand_over(&self, now: OffsetDateTime, batch: usize) -> Result<HandedOver, Fault> {
        let sealer = self.sealer(batch);
        match sealer.seal(now, Lookback::All).await? {
            None => return Ok(HandedOver::Busy),
            Some(round) if round.stopped.is_some() => return Ok(HandedOver::Unsealable),
            Some(_) => {}
        }
        if !self.ends_with_ours().await? {
            self.append(vec![rotated(now)]).await?;
            if sealer.seal(now, Lookback::All).await?.is_none() {
                return Ok(HandedOver::Busy);
            }
        }
        let whole = self.ends_with_ours().await? && !self.others_are_unsealed().await?;
        Ok(if whole { HandedOver::Whole } else { HandedOver::Unsealable })
    }

    /// Whether the newest seal names the secret that seals now.
    async fn ends_with_ours(&self) -> Result<bool, Fault> {
        let client = self.pool.get().await.or_fault(WHAT)?;
        let newest = newest_seal(&**client).await?;
        Ok(newest.is_some_and(|newest| newest.key == self.keys.seals.sealing().as_bytes()))
    }

    /// Whether behind the last seal of a lane there is an event under another secret.
    async fn others_are_unsealed(&self) -> Result<bool, Fault> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM ({LANES}) AS ends (id, sealed) WHERE EXISTS (
                 SELECT FROM federation_audit_all WHERE lane = ends.id AND number > ends.sealed AND key_id <> $2))"
        );
        let client = self.pool.get().await.or_fault(WHAT)?;
        let key = self.keys.seals.sealing();
        Ok(client.query_one(&sql, &[&BEFORE_SEALING, &key.as_bytes()]).await.or_fault(WHAT)?.get(0))
    }
}

fn rotated(at: OffsetDateTime) -> AuditEvent {
    AuditEvent::bare(at, RequestId::new(), ROTATED, AuditOutcome::Allowed)
}
