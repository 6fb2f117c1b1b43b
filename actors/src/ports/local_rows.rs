use std::num::NonZeroU32;

use tokio::time::Instant;

use super::PortFuture;
use crate::domain::answer::Page;
use crate::domain::fault::Fault;
use crate::domain::query::{Filter, Position, ReadRight, RowId};

/// This site's own rows. The right is the only key: an adapter reads what its visibility names and nothing else.
///
/// A returned page went through no guard yet; `scope_evaluator::egress` is the second wall.
pub trait LocalRows: Send + Sync + 'static {
    /// At most `limit` rows (already capped by the right) behind `after`, in order.
    fn list(&self, right: ReadRight, query: ListRows, deadline: Instant) -> PortFuture<Result<Page, Fault>>;

    /// A page of one row or none; absent and invisible are the same.
    fn get(&self, right: ReadRight, id: RowId, deadline: Instant) -> PortFuture<Result<Page, Fault>>;

    /// Whether the right's resource has a row of this id at all, whoever may see it: the true reason of a 404, for the audit
    /// log and nobody else. It takes the same time for every row that there is.
    fn exists(&self, right: ReadRight, id: RowId, deadline: Instant) -> PortFuture<Result<bool, Fault>>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct ListRows {
    pub limit: NonZeroU32,
    pub after: Option<Position>,
    pub filter: Filter,
}
