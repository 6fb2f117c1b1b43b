use super::PortFuture;
use crate::domain::fault::Fault;
use crate::domain::identity::LinkId;
use crate::domain::link::{Link, LinkState};

/// The links of this site.
pub trait LinkStore: Send + Sync + 'static {
    fn load_all(&self) -> PortFuture<Result<Vec<Link>, Fault>>;

    fn load(&self, link: LinkId) -> PortFuture<Result<Option<Link>, Fault>>;

    /// Writes down what the peer told about the link's state, so that it survives a restart.
    fn record_state(&self, link: LinkId, state: LinkState) -> PortFuture<Result<(), Fault>>;
}
