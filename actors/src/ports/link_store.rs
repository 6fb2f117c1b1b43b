use super::PortFuture;
use crate::domain::fault::Fault;
use crate::domain::identity::{LinkId, Serial};
use crate::domain::link::{Link, LinkCredentials, LinkState};

/// The links of this site.
pub trait LinkStore: Send + Sync + 'static {
    fn load_all(&self) -> PortFuture<Result<Vec<Link>, Fault>>;

    fn load(&self, link: LinkId) -> PortFuture<Result<Option<Link>, Fault>>;

    /// Writes down what the peer told about the link's state, so that it survives a restart.
    fn record_state(&self, link: LinkId, state: LinkState) -> PortFuture<Result<(), Fault>>;

    /// Runs `renewal` and stores its credentials, if the link still has the certificate `current` and no other replica renews
    /// it meanwhile; else `renewal` is dropped without having run. A degraded link becomes active with it.
    fn renew(
        &self,
        link: LinkId,
        current: Serial,
        renewal: PortFuture<Result<LinkCredentials, Fault>>,
    ) -> PortFuture<Result<Renewed, Fault>>;
}

/// How a renewal ended.
#[derive(Debug, Clone)]
pub enum Renewed {
    /// These credentials are in the store now.
    Here(Box<LinkCredentials>),
    /// Another replica was faster: the link as the store has it.
    Elsewhere(Box<Link>),
    /// Another replica is at it.
    UnderWay,
}
