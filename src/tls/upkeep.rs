//! Keeps what the listeners present and check fresh: the revocation list in the gate and the server's certificate.
//!
//! [`Upkeep::once`] runs before the listeners open; [`Upkeep::run`] from then on. A failure changes nothing: the last good
//! list and certificate stay until they end, and the next try comes soon.

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::ports::clock::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client_gate::{ClientGate, GateError};
use super::kept_identity::KeptIdentity;
use super::swappable_identity::{IdentityError, SwappableIdentity};
use crate::pki::authority::{CaError, CertificateAuthority};

/// How often the list and the certificate are looked at. The look costs two small queries. A notification comes sooner;
/// this is for revocations that were recorded by a replica that died before it signed the list.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Everything that upkeep touches.
#[derive(Clone)]
pub struct Upkeep {
    pub authority: Arc<dyn CertificateAuthority>,
    pub gate: ClientGate,
    pub identity: SwappableIdentity,
    /// DNS names and IP addresses of the listeners.
    pub server_names: Vec<String>,
    pub server_lifetime: time::Duration,
    pub clock: Arc<dyn Clock>,
    /// Where the identity outlives the process; `None` where the authority is the node's own.
    pub kept: Option<KeptIdentity>,
}

#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl UpkeepError {
    /// What an operator does about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Authority(error) => error.remedy(),
            Self::Gate(_) | Self::Identity(_) => "See the log for the reason.".to_owned(),
        }
    }
}

impl Upkeep {
    /// What a start needs: a list and a certificate that hold. Asked for anew; what is kept will do when the authority is away.
    pub async fn begin(&self) -> Result<(), UpkeepError> {
        let now = self.clock.now();
        if let Some(kept) = self.kept.as_ref().and_then(|kept| kept.load(now)) {
            self.identity.replace(&kept)?;
        }
        let Err(error) = self.once().await else { return Ok(()) };
        let list_holds = self.gate.crl().is_some_and(|crl| now < crl.next_update);
        if list_holds && self.identity.not_after().is_some_and(|end| now < end) {
            let remedy = error.remedy();
            tracing::warn!(%error, remedy, "started with the certificate and the revocation list that were kept");
            return Ok(());
        }
        Err(error)
    }

    /// Loads the current revocation list into the gate, and renews the server's certificate when it is due. Both are tried
    /// even when one fails; the first failure is returned.
    pub async fn once(&self) -> Result<(), UpkeepError> {
        let gate = self.refresh_gate().await;
        let identity = self.renew_identity().await;
        gate.and(identity)
    }

    /// Looks again every few seconds, and at once when `crl_news` changes. Ends with `stop`.
    pub async fn run(self, mut crl_news: watch::Receiver<u64>, stop: CancellationToken) {
        let mut pause = LOOK_EVERY;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // A sender that is gone has no more news; the pause goes on.
                Ok(()) = crl_news.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.once().await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    let remedy = error.remedy();
                    tracing::warn!(%error, remedy, "the revocation list or the server certificate could not be refreshed");
                    RETRY_AFTER
                }
            };
        }
    }

    async fn refresh_gate(&self) -> Result<(), UpkeepError> {
        let crl = self.authority.crl().await?;
        if self.gate.update_by(&self.authority.root(), &self.authority.issuers(), &crl.der)? {
            tracing::info!(number = crl.number, next_update = %crl.next_update, "loaded a revocation list");
        }
        Ok(())
    }

    async fn renew_identity(&self) -> Result<(), UpkeepError> {
        let now = self.clock.now();
        if !self.identity.is_due(now) {
            return Ok(());
        }
        let next = self.authority.issue_server(self.server_names.clone(), now, self.server_lifetime).await?;
        self.identity.replace(&next)?;
        if let Some(Err(error)) = self.kept.as_ref().map(|kept| kept.store(&next)) {
            tracing::warn!(%error, "the server certificate could not be kept; the next start needs the authority");
        }
        tracing::info!(not_after = %next.not_after, "presenting a new server certificate");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
