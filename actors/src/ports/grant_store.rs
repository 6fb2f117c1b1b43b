use time::OffsetDateTime;

use super::PortFuture;
use crate::domain::fault::Fault;
use crate::domain::grant::Grant;
use crate::domain::identity::GrantId;

/// Reads the owner side's grants. Who is told about changes is the adapter's matter: it calls the grant cache's handle.
pub trait GrantStore: Send + Sync + 'static {
    /// Every grant that is not yet past its end, and the database's clock at the time of reading.
    fn load_all(&self) -> PortFuture<Result<LoadedGrants, Fault>>;

    /// One grant; `None` when there is none of that id.
    fn load(&self, grant: GrantId) -> PortFuture<Result<Option<Grant>, Fault>>;
}

#[derive(Debug, Clone)]
pub struct LoadedGrants {
    pub grants: Vec<Grant>,
    /// The change counter that this reading includes.
    pub version: i64,
    /// The database's clock at the end of the reading, rather a moment later than earlier: it decides expiry on every replica alike.
    pub database_now: OffsetDateTime,
}
