//! The rows port on Postgres: one statement per page, its result written to JSON as it arrives.
//!
//! A read is one flight on the wire: a statement in a transaction of its own, on a connection that was told before that it only
//! reads and how long a statement may take ([`habits`]). So the server cannot write by it, cannot work on it for long past the
//! deadline, and the connection is clean afterwards without a round trip of its own.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt as _;
use futures_util::future::{FutureExt as _, try_join};
use mosaic_actors::domain::answer::Page;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::UserId;
use mosaic_actors::domain::query::{Filter, ReadRight, RowId, Visibility};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::local_rows::{ListRows, LocalRows};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Error, Statement};

use super::catalog::{TableCatalog, TableMap};
use super::pool::{OrFault as _, ThreadPools, sql_fault};
use super::read_sql::{ReadSql, TenantShape, exists_sql, get_sql, list_sql};
use super::row_json::{FormChanged, PageWriter};
use crate::config::Limits;

mod habits;
pub(crate) mod lease;
pub(crate) mod parameters;

#[cfg(test)]
mod tests;

use habits::Habits;
pub use habits::READ_SETTINGS;
pub use lease::QueryCanceller;
use lease::{Connections, Lease};
use parameters::{Parameters, Values};

/// This site's rows in Postgres.
#[derive(Clone)]
pub struct PgLocalRows {
    connections: Connections,
    habits: Habits,
    catalog: Arc<TableCatalog>,
    page_bytes: usize,
}

impl PgLocalRows {
    /// Reads by way of `pools`, whose connections nobody else may use: they will only read. Sessions and peers have pools of
    /// their own, and so an adapter each.
    #[must_use]
    pub fn new(pools: impl Into<ThreadPools>, catalog: Arc<TableCatalog>, canceller: QueryCanceller) -> Self {
        let connections = Connections::of_statements(pools.into(), canceller);
        Self { connections, habits: Habits::default(), catalog, page_bytes: Limits::default().page }
    }

    /// A page that grows beyond this ([`Limits::page`]) ends early, with at least one row.
    #[must_use]
    pub fn with_page_bytes(self, page_bytes: usize) -> Self {
        Self { page_bytes, ..self }
    }

    async fn list(self, tenant: Tenant, right: ReadRight, query: ListRows, deadline: Instant) -> Result<Page, Fault> {
        let table = self.table(&right)?;
        let limit = query.limit.min(right.max_rows()).get();
        self.list_of(table, &tenant, &query, limit, deadline).await
    }

    /// The visible rows of a tenant, behind the query's position.
    async fn list_of(
        &self,
        table: &TableMap,
        tenant: &Tenant,
        query: &ListRows,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page, Fault> {
        let Some(shape) = TenantShape::of(&tenant.visibility, table) else { return Ok(Page::default()) };
        // One more than is given out: its presence says that there is more.
        let rows = limit.saturating_add(1);
        let sql = list_sql(table, shape, &query.filter, query.after.is_some(), rows);
        let values = Values { table, tenant, filter: &query.filter, after: query.after.as_ref(), id: None, rows };
        let Some(parameters) = values.parameters(&sql)? else {
            return Err(Fault::invalid("cursor: is not one of this resource; start again without a cursor"));
        };
        self.read(&Read { table, sql: &sql, parameters: &parameters, limit, bytes: self.page_bytes }, deadline).await
    }

    async fn get(self, tenant: Tenant, right: ReadRight, id: RowId, deadline: Instant) -> Result<Page, Fault> {
        let table = self.table(&right)?;
        self.get_of(table, &tenant, &id, deadline).await
    }

    async fn get_of(&self, table: &TableMap, tenant: &Tenant, id: &RowId, deadline: Instant) -> Result<Page, Fault> {
        let Some(shape) = TenantShape::of(&tenant.visibility, table) else { return Ok(Page::default()) };
        let sql = get_sql(table, shape);
        let values = Values { table, tenant, filter: &Filter::default(), after: None, id: Some(id), rows: 1 };
        // An id that the table's type cannot hold is an id of no row.
        let Some(parameters) = values.parameters(&sql)? else { return Ok(Page::default()) };
        self.read(&Read { table, sql: &sql, parameters: &parameters, limit: 1, bytes: self.page_bytes }, deadline).await
    }

    async fn exists(self, tenant: Tenant, right: ReadRight, id: RowId, deadline: Instant) -> Result<bool, Fault> {
        let table = self.table(&right)?;
        let sql = exists_sql(table);
        let values = Values { table, tenant: &tenant, filter: &Filter::default(), after: None, id: Some(&id), rows: 1 };
        let Some(parameters) = values.parameters(&sql)? else { return Ok(false) };
        let looking = async {
            let mut lease = self.connections.lease("look for a row").await?;
            lease.start();
            let statement = prepared(&lease, &sql.text).await.or_fault("look for a row")?;
            let preface = self.habits.preface(&lease, deadline.saturating_duration_since(Instant::now()));
            if let Some(text) = &preface.text {
                lease.batch_execute(text).await.or_fault("look for a row")?;
                self.habits.learn(&lease, &preface);
            }
            let mut rows =
                std::pin::pin!(lease.query_raw(&statement, parameters.iter()).await.or_fault("look for a row")?);
            let mut found = false;
            while let Some(row) = rows.try_next().await.or_fault("look for a row")? {
                found = row.get(0);
            }
            lease.finish();
            Ok(found)
        };
        timeout_at(deadline, looking).await.unwrap_or_else(|_| Err(Fault::new(FaultKind::TimedOut, Stage::Database)))
    }

    fn table(&self, right: &ReadRight) -> Result<&TableMap, Fault> {
        self.catalog.get(right.resource()).map(AsRef::as_ref).ok_or_else(|| {
            tracing::error!(resource = %right.resource(), "a right names a resource that the catalog does not have");
            Fault::new(FaultKind::Internal, Stage::Database)
        })
    }

    /// Reads before the deadline. A connection that turns out to be dead, or a statement that the table outgrew, is replaced
    /// once: reading twice changes nothing.
    async fn read(&self, read: &Read<'_>, deadline: Instant) -> Result<Page, Fault> {
        let reading = async {
            match self.attempt(read, deadline).await {
                Err(Failure::Stale) => {
                    self.connections.forget_dead();
                    self.attempt(read, deadline).await
                }
                first => first,
            }
        };
        match timeout_at(deadline, reading).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(Failure::Fault(fault))) => Err(fault),
            Ok(Err(Failure::Stale)) => Err(Fault::new(FaultKind::Unavailable, Stage::Database)),
            Err(_) => Err(Fault::new(FaultKind::TimedOut, Stage::Database)),
        }
    }

    async fn attempt(&self, read: &Read<'_>, deadline: Instant) -> Result<Page, Failure> {
        let mut lease = self.connections.lease("read rows").await.map_err(Failure::Fault)?;
        // Dropped from here on, by the deadline or by the caller, the lease cancels what the server still does.
        lease.start();
        let outcome = self.one_flight(&lease, read, deadline).await;
        match &outcome {
            // The server still sends: the lease cancels that too.
            Ok(Flight::Cut(_)) => {}
            _ => lease.finish(),
        }
        match outcome {
            Ok(Flight::Whole(page) | Flight::Cut(page)) => Ok(page),
            Err(error) => Err(failure(&mut lease, error)),
        }
    }
}

impl PgLocalRows {
    async fn one_flight(
        &self,
        client: &ClientWrapper,
        read: &Read<'_>,
        deadline: Instant,
    ) -> Result<Flight, FlightError> {
        let statement = prepared(client, &read.sql.text).await?;
        let preface = self.habits.preface(client, deadline.saturating_duration_since(Instant::now()));
        let say = async {
            match &preface.text {
                Some(text) => client.batch_execute(text).await,
                None => Ok(()),
            }
        };
        // `try_join` polls in this order, and the first poll of each sends it.
        match try_join(say.map(Ok), collect(client, &statement, read)).await {
            Ok((said, page)) => {
                said?;
                let page = page?;
                self.habits.learn(client, &preface);
                Ok(Flight::Whole(page))
            }
            Err(page) => Ok(Flight::Cut(page)),
        }
    }
}

impl LocalRows for PgLocalRows {
    fn list(&self, right: ReadRight, query: ListRows, deadline: Instant) -> PortFuture<Result<Page, Fault>> {
        let (rows, tenant) = (self.clone(), Tenant::of(&right));
        Box::pin(rows.list(tenant, right, query, deadline))
    }

    fn get(&self, right: ReadRight, id: RowId, deadline: Instant) -> PortFuture<Result<Page, Fault>> {
        let (rows, tenant) = (self.clone(), Tenant::of(&right));
        Box::pin(rows.get(tenant, right, id, deadline))
    }

    fn exists(&self, right: ReadRight, id: RowId, deadline: Instant) -> PortFuture<Result<bool, Fault>> {
        let (rows, tenant) = (self.clone(), Tenant::of(&right));
        Box::pin(rows.exists(tenant, right, id, deadline))
    }
}

/// Whose rows a statement may find. Made from a right, and from nothing else outside of tests.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub subject: UserId,
    pub visibility: Visibility,
}

impl Tenant {
    fn of(right: &ReadRight) -> Self {
        Self { subject: right.subject(), visibility: right.visibility().clone() }
    }
}

struct Read<'a> {
    table: &'a TableMap,
    sql: &'a ReadSql,
    parameters: &'a Parameters,
    limit: u32,
    bytes: usize,
}

enum Flight {
    Whole(Page),
    /// The page was full of bytes before the server had sent every row.
    Cut(Page),
}

/// Why one attempt gave no page.
enum Failure {
    /// Another connection or a new statement may succeed.
    Stale,
    Fault(Fault),
}

enum FlightError {
    Sql(Error),
    Form(FormChanged),
}

impl From<Error> for FlightError {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

/// The outer error is no failure: it leaves the flight early, with the page that was full.
async fn collect(
    client: &ClientWrapper,
    statement: &Statement,
    read: &Read<'_>,
) -> Result<Result<Page, FlightError>, Page> {
    let limit = read.limit as usize;
    let mut page = PageWriter::new(read.table, limit);
    let rows = match client.query_raw(statement, read.parameters.iter()).await {
        Ok(rows) => rows,
        Err(error) => return Ok(Err(error.into())),
    };
    let mut rows = std::pin::pin!(rows);
    loop {
        match rows.try_next().await {
            Ok(Some(_)) if page.rows() == limit => return Ok(Ok(page.finish(true))),
            Ok(Some(row)) => {
                if let Err(error) = page.push(&row) {
                    return Ok(Err(FlightError::Form(error)));
                }
                if page.bytes() > read.bytes && page.rows() > 1 {
                    page.pop();
                    return Err(page.finish(true));
                }
            }
            Ok(None) => return Ok(Ok(page.finish(false))),
            Err(error) => return Ok(Err(error.into())),
        }
    }
}

/// Most prepared statements per connection. Shapes of filters are many; those in use at a time are few.
const STATEMENTS_MAX: usize = 256;

pub(crate) async fn prepared(client: &ClientWrapper, text: &str) -> Result<Statement, Error> {
    if client.statement_cache.size() >= STATEMENTS_MAX {
        client.statement_cache.clear();
    }
    client.prepare_cached(text).await
}

/// At least 1: to Postgres 0 means no timeout.
pub(crate) fn millis_until(deadline: Instant) -> u128 {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)).as_millis()
}

fn failure(lease: &mut Lease, error: FlightError) -> Failure {
    match error {
        FlightError::Form(error) => {
            tracing::error!(%error, "a table changed; restart the node to read it anew");
            Failure::Fault(Fault::new(FaultKind::Internal, Stage::Database))
        }
        FlightError::Sql(error) if lease::is_dead(&error) => {
            lease.bury();
            Failure::Stale
        }
        FlightError::Sql(error) if lease::is_outgrown(&error) => {
            lease.statement_cache.clear();
            Failure::Stale
        }
        FlightError::Sql(error) => Failure::Fault(sql_fault("read rows", &error)),
    }
}
