//! A pooled connection in use. It goes back to the pool clean, or not at all, whenever and however its user ends.

use std::ops::Deref;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use mosaic_actors::domain::fault::Fault;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::pool::{DatabaseUrl, DatabaseUrlError, OrFault as _, ThreadPools};

/// How long a left statement has to end after it was cancelled; then the connection is closed instead.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// Ends statements that nobody waits for. Postgres wants that over a connection of its own, encrypted like the others.
#[derive(Clone)]
pub struct QueryCanceller {
    tls: Option<MakeRustlsConnect>,
}

impl QueryCanceller {
    /// For connections of this URL's pools.
    pub fn new(url: &DatabaseUrl) -> Result<Self, DatabaseUrlError> {
        Ok(Self { tls: url.connector()? })
    }

    async fn cancel(&self, token: CancelToken) -> Result<(), Error> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }
}

/// Pools whose connections are taken as [`Lease`]s.
#[derive(Clone)]
pub(crate) struct Connections {
    pools: ThreadPools,
    canceller: QueryCanceller,
    /// What a left connection is told once its statement was cancelled.
    last_words: &'static str,
}

/// Ends a transaction that was left open.
const ROLLBACK: &str = "ROLLBACK";
/// Where no transaction can be open, the server would warn of a rollback; it answers to nothing as well.
const NOTHING: &str = "";

impl Connections {
    /// For transactions.
    pub(crate) fn new(pool: Pool, canceller: QueryCanceller) -> Self {
        Self { pools: ThreadPools::new(vec![pool]), canceller, last_words: ROLLBACK }
    }

    /// For single statements.
    pub(crate) fn of_statements(pools: ThreadPools, canceller: QueryCanceller) -> Self {
        Self { pools, canceller, last_words: NOTHING }
    }

    /// `doing` is for the log.
    pub(crate) async fn lease(&self, doing: &'static str) -> Result<Lease, Fault> {
        let object = self.pools.own().get().await.or_fault(doing)?;
        Ok(Lease {
            object: Some(object),
            canceller: self.canceller.clone(),
            last_words: self.last_words,
            working: false,
            dead: false,
        })
    }

    /// After one dead connection more are likely: the server restarted.
    pub(crate) fn forget_dead(&self) {
        for pool in self.pools.all() {
            pool.retain(|client, _| !client.is_closed());
        }
    }
}

/// One connection. Dropped at rest it returns to the pool; dropped at work, what it does is cancelled first.
pub(crate) struct Lease {
    /// Absent only while it is dropped.
    object: Option<Object>,
    canceller: QueryCanceller,
    last_words: &'static str,
    working: bool,
    /// The server said, or showed, that it ended; the pool may not know yet.
    dead: bool,
}

impl Lease {
    /// Nobody takes this connection again.
    pub(crate) fn bury(&mut self) {
        self.dead = true;
    }

    /// From here on the server may be busy with something of ours.
    pub(crate) fn start(&mut self) {
        self.working = true;
    }

    /// The server answered everything and is outside of any transaction.
    pub(crate) fn finish(&mut self) {
        self.working = false;
    }
}

impl Deref for Lease {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.object.as_ref().expect("invariant: a lease has its connection until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if self.dead || object.is_closed() {
            drop(Object::take(object));
            return;
        }
        if !self.working {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(settle(object, self.canceller.clone(), self.last_words))),
            // Nothing runs any more: closing the socket is all that can be done.
            Err(_) => drop(Object::take(object)),
        }
    }
}

async fn settle(object: Object, canceller: QueryCanceller, last_words: &'static str) {
    let settled = tokio::time::timeout(SETTLE_WITHIN, async {
        canceller.cancel(object.cancel_token()).await?;
        // Answered after everything that was sent before.
        object.batch_execute(last_words).await
    });
    if !matches!(settled.await, Ok(Ok(()))) {
        drop(Object::take(object));
    }
}

/// Whether the connection ended, or is about to because the server stops.
pub(crate) fn is_dead(error: &Error) -> bool {
    match error.code() {
        None => error.as_db_error().is_none(),
        Some(code) => [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code),
    }
}

/// Whether a prepared statement does not fit its table any more: "cached plan must not change result type".
pub(crate) fn is_outgrown(error: &Error) -> bool {
    error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
}
