//! Local writes: a session inserts, changes and deletes rows that its user owns. Peers never come here.
//!
//! The owner of a row is always the session's user; a team must be one of the session's. Values are checked against the
//! catalog before the database sees them, and travel as one JSON parameter that the statement takes apart by type.

use std::sync::Arc;

use bytes::Bytes;
use deadpool_postgres::Pool;
use futures_util::{Stream, StreamExt as _};
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::Session;
use mosaic_actors::domain::query::RowId;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;

use super::catalog::{TableCatalog, TableMap};
use super::pool::is_rolled_back;
use super::row_json::PageWriter;
use super::rows::lease::{Connections, Lease, QueryCanceller, is_dead};
use super::rows::{millis_until, parameters, prepared};
use crate::config::Limits;

mod draft;
mod lines;
mod refusal;
mod sql;

#[cfg(test)]
mod tests;

use draft::{Draft, Purpose};
use lines::Lines;
use refusal::refusal;

/// How much one import may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    pub rows: usize,
    /// Of one line.
    pub line_bytes: usize,
    /// Of the whole import: it is held in memory until its last line was read, so that nothing is written of a bad one and
    /// no connection waits for a slow sender.
    pub bytes: usize,
    /// Rows of one statement.
    pub batch: usize,
}

impl From<&Limits> for ImportLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            rows: limits.import_rows as usize,
            line_bytes: limits.import_line,
            bytes: limits.import,
            batch: limits.import_batch,
        }
    }
}

/// Writes rows for sessions.
#[derive(Clone)]
pub struct RowWriter {
    connections: Connections,
    catalog: Arc<TableCatalog>,
    import: ImportLimits,
}

/// A row as it stands after a write, in the form in which reads give it.
#[derive(Clone)]
pub struct WrittenRow {
    pub id: RowId,
    pub json: Bytes,
}

/// What an import wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    pub rows: usize,
}

impl RowWriter {
    #[must_use]
    pub fn new(pool: Pool, catalog: Arc<TableCatalog>, canceller: QueryCanceller, import: ImportLimits) -> Self {
        Self { connections: Connections::new(pool, canceller), catalog, import }
    }

    /// Inserts the row that `body` (a JSON object) describes. Without an `id` it gets one; an `id` that is taken is 409.
    pub async fn insert(
        &self,
        session: &Session,
        resource: &ResourceName,
        body: &[u8],
        deadline: Instant,
    ) -> Result<WrittenRow, Fault> {
        let table = self.writable(resource)?;
        let draft = Draft::parse(body, table, session, Purpose::Insert)?;
        let statement = sql::insert(table, &draft.shape(), true);
        let owner = owner(table, session);
        let rows = draft::json_array(std::slice::from_ref(&draft));
        self.one(table, &statement, &[&rows, &*owner], deadline).await?.ok_or_else(no_row_came_back)
    }

    /// Changes the fields that `body` names of a row that the session's user owns; 404 for any other row.
    pub async fn update(
        &self,
        session: &Session,
        resource: &ResourceName,
        id: &RowId,
        body: &[u8],
        deadline: Instant,
    ) -> Result<WrittenRow, Fault> {
        let table = self.writable(resource)?;
        let draft = Draft::parse(body, table, session, Purpose::Update)?;
        if draft.is_empty() {
            return Err(Fault::invalid("the body names no field to change"));
        }
        let Some(key) = parameters::row_key(&table.id.storage, id) else { return Err(no_such_row()) };
        let statement = sql::update(table, &draft.shape());
        let owner = owner(table, session);
        self.one(table, &statement, &[&draft.json(), &*key, &*owner], deadline).await?.ok_or_else(no_such_row)
    }

    /// Deletes a row that the session's user owns; 404 for any other row.
    pub async fn delete(
        &self,
        session: &Session,
        resource: &ResourceName,
        id: &RowId,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let table = self.writable(resource)?;
        let Some(key) = parameters::row_key(&table.id.storage, id) else { return Err(no_such_row()) };
        let statement = sql::delete(table);
        let owner = owner(table, session);
        self.one(table, &statement, &[&*key, &*owner], deadline).await?.map(drop).ok_or_else(no_such_row)
    }

    /// Imports newline-delimited JSON objects, all of them or none. An error names the line, counted from 1.
    ///
    /// `body` ends with an error of its own where the sender stops; `deadline` bounds reading and writing together.
    pub async fn import(
        &self,
        session: &Session,
        resource: &ResourceName,
        body: impl Stream<Item = Result<Bytes, Fault>>,
        deadline: Instant,
    ) -> Result<Imported, Fault> {
        let table = self.writable(resource)?;
        let mut committing = false;
        let work = async {
            let drafts = self.read_import(session, table, body).await?;
            if !drafts.is_empty() {
                let mut lease = self.begin(deadline).await?;
                let written = write_import(&lease, table, &*owner(table, session), &drafts, self.import.batch).await;
                committing = written.is_ok();
                end(&mut lease, table, written.is_ok()).await?;
                written?;
            }
            Ok(Imported { rows: drafts.len() })
        };
        timeout_at(deadline, work).await.unwrap_or_else(|_| Err(timed_out(committing)))
    }

    fn writable(&self, resource: &ResourceName) -> Result<&TableMap, Fault> {
        let table = self
            .catalog
            .get(resource)
            .ok_or_else(|| Fault::new(FaultKind::NotFound, Stage::Request).with_message("no such resource"))?;
        if table.resource.writable {
            Ok(table)
        } else {
            let message = format!("{resource} cannot be written through this node");
            Err(Fault::new(FaultKind::Forbidden, Stage::Authorize).with_message(message))
        }
    }

    /// Runs one statement in a transaction of its own; the row that it returns, if any.
    async fn one(
        &self,
        table: &TableMap,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Option<WrittenRow>, Fault> {
        let mut committing = false;
        let work = async {
            let mut lease = self.begin(deadline).await?;
            let prepared = prepared(&lease, statement).await.map_err(|error| refusal(table, &error))?;
            committing = true;
            // Sent together: where the statement fails, COMMIT rolls back.
            let (rows, committed) = futures_util::join!(lease.query(&prepared, values), lease.batch_execute("COMMIT"));
            lease.finish();
            let rows = rows.map_err(|error| end_of(table, &error))?;
            committed.map_err(|error| end_of(table, &error))?;
            rows.first().map(|row| written(table, row)).transpose()
        };
        timeout_at(deadline, work).await.unwrap_or_else(|_| Err(timed_out(committing)))
    }

    /// A connection inside a transaction. It is tried twice: a pooled connection may have died, and nothing is written yet.
    async fn begin(&self, deadline: Instant) -> Result<Lease, Fault> {
        for last in [false, true] {
            let mut lease = self.connections.lease("write rows").await?;
            lease.start();
            let begin = format!("BEGIN; SET LOCAL statement_timeout = {}", millis_until(deadline));
            match lease.batch_execute(&begin).await {
                Ok(()) => return Ok(lease),
                Err(error) if !last && is_dead(&error) => self.connections.forget_dead(),
                Err(error) => return Err(super::pool::sql_fault("write rows", &error)),
            }
        }
        Err(Fault::new(FaultKind::Unavailable, Stage::Database))
    }

    async fn read_import(
        &self,
        session: &Session,
        table: &TableMap,
        body: impl Stream<Item = Result<Bytes, Fault>>,
    ) -> Result<Vec<Line>, Fault> {
        let mut lines = Lines::new(self.import.line_bytes, self.import.bytes);
        let mut drafts = Vec::new();
        let mut body = std::pin::pin!(body);
        loop {
            let chunk = body.next().await.transpose()?;
            let ended = chunk.is_none();
            match chunk {
                Some(chunk) => lines.push(&chunk)?,
                None => lines.end(),
            }
            while let Some((number, line)) = lines.next_line()? {
                if drafts.len() == self.import.rows {
                    let message = format!("line {number}: an import has at most {} rows", self.import.rows);
                    return Err(Fault::new(FaultKind::TooLarge, Stage::Request).with_message(message));
                }
                let draft = Draft::parse(&line, table, session, Purpose::Import).map_err(|fault| at(number, fault))?;
                drafts.push(Line { number, draft });
            }
            if ended {
                return Ok(drafts);
            }
        }
    }
}

struct Line {
    number: usize,
    draft: Draft,
}

fn at(line: usize, fault: Fault) -> Fault {
    match fault.message.clone() {
        // No line is to blame for the time.
        Some(message) if fault.kind != FaultKind::TimedOut => fault.with_message(format!("line {line}: {message}")),
        _ => fault,
    }
}

/// Runs of lines that name the same fields, a batch at a time.
async fn write_import(
    lease: &Lease,
    table: &TableMap,
    owner: &(dyn ToSql + Sync + Send),
    lines: &[Line],
    batch: usize,
) -> Result<(), Fault> {
    let runs = lines.chunk_by(|a, b| a.draft.shape() == b.draft.shape());
    for lines in runs.flat_map(|run| run.chunks(batch.max(1))) {
        let statement = sql::insert(table, &lines[0].draft.shape(), false);
        let prepared = prepared(lease, &statement).await.map_err(|error| refusal(table, &error))?;
        let rows = draft::json_array(lines.iter().map(|line| &line.draft));
        let values: [&(dyn ToSql + Sync); 2] = [&rows, owner];
        let (marked, outcome) =
            futures_util::join!(lease.batch_execute("SAVEPOINT batch"), lease.execute(&prepared, &values));
        marked.map_err(|error| refusal(table, &error))?;
        let Err(error) = outcome else { continue };
        let fault = refusal(table, &error);
        if error.as_db_error().is_none() || lines.len() == 1 {
            return Err(at(lines[0].number, fault));
        }
        return Err(blame(lease, table, owner, &prepared, lines).await.unwrap_or(fault));
    }
    Ok(())
}

/// Finds the line of a batch that the table refuses, by writing them one at a time.
async fn blame(
    lease: &Lease,
    table: &TableMap,
    owner: &(dyn ToSql + Sync + Send),
    prepared: &tokio_postgres::Statement,
    lines: &[Line],
) -> Option<Fault> {
    lease.batch_execute("ROLLBACK TO SAVEPOINT batch").await.ok()?;
    for line in lines {
        let row = draft::json_array([&line.draft]);
        let values: [&(dyn ToSql + Sync); 2] = [&row, owner];
        if let Err(error) = lease.execute(prepared, &values).await {
            return Some(at(line.number, refusal(table, &error)));
        }
    }
    None
}

async fn end(lease: &mut Lease, table: &TableMap, commit: bool) -> Result<(), Fault> {
    let ended = lease.batch_execute(if commit { "COMMIT" } else { "ROLLBACK" }).await;
    lease.finish();
    if commit { ended.map_err(|error| end_of(table, &error)) } else { Ok(()) }
}

fn owner(table: &TableMap, session: &Session) -> Box<dyn ToSql + Sync + Send> {
    parameters::tenant_key(&table.owner.storage, session.user.0)
}

fn written(table: &TableMap, row: &tokio_postgres::Row) -> Result<WrittenRow, Fault> {
    let mut page = PageWriter::new(table, 1);
    page.push(row).map_err(|error| {
        tracing::error!(%error, "a table changed; restart the node to read it anew");
        Fault::new(FaultKind::Internal, Stage::Database)
    })?;
    let page = page.finish(false);
    let id = page.rows.into_iter().next().ok_or_else(no_row_came_back)?.position.id;
    Ok(WrittenRow { id, json: page.json })
}

fn no_such_row() -> Fault {
    Fault::new(FaultKind::NotFound, Stage::Database).with_message("no such row")
}

fn no_row_came_back() -> Fault {
    tracing::error!("an insert returned no row; a rule or a trigger of the table keeps rows out");
    Fault::new(FaultKind::Internal, Stage::Database)
}

const NOTHING_WRITTEN: &str = "it was cut off before anything was written; try again, and an import in smaller parts";
const IN_DOUBT: &str =
    "the database did not say whether it was written, and it may have been; read before trying again";

/// Why a write failed whose commit was sent: the server undid it and says why, or its answer was lost on the way.
fn end_of(table: &TableMap, error: &tokio_postgres::Error) -> Fault {
    let fault = refusal(table, error);
    if is_rolled_back(error) { fault } else { fault.with_message(IN_DOUBT) }
}

/// After the commit was sent nobody but the database knows.
fn timed_out(committing: bool) -> Fault {
    let message = if committing { IN_DOUBT } else { NOTHING_WRITTEN };
    Fault::new(FaultKind::TimedOut, Stage::Database).with_message(message)
}
