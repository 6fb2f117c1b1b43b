//! A pooled connection in use. It goes back to the pool clean, or not at all, whenever and however its user ends.

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use mosaic_actors::domain::fault::Fault;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::pool::{DatabaseUrl, DatabaseUrlError, OrFault as _};

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
    lanes: Arc<Lanes>,
    canceller: QueryCanceller,
    /// What a left connection is told once its statement was cancelled.
    last_words: &'static str,
}

/// Ends a transaction that was left open.
const ROLLBACK: &str = "ROLLBACK";
/// Where no transaction can be open, the server would warn of a rollback; it answers to nothing as well.
const NOTHING: &str = "";

/// One pool for each thread that asks, as far as there are pools: a connection is driven by the thread that dialled it, and
/// whoever uses it from another thread pays two wake-ups for every answer.
struct Lanes {
    pools: Vec<Pool>,
    /// Which threads asked so far; the place in the list is the lane. Read on every lease, written once per thread.
    threads: RwLock<Vec<ThreadId>>,
}

impl Lanes {
    fn own(&self) -> &Pool {
        let me = thread::current().id();
        let place = |threads: &[ThreadId]| threads.iter().position(|thread| *thread == me);
        let known = place(&self.threads.read().unwrap_or_else(PoisonError::into_inner));
        let lane = known.unwrap_or_else(|| {
            let mut threads = self.threads.write().unwrap_or_else(PoisonError::into_inner);
            // Threads come and go only in tests; then lanes are shared, which costs time and nothing else.
            if threads.len() >= THREADS_MAX {
                threads.clear();
            }
            threads.push(me);
            threads.len() - 1
        });
        &self.pools[lane % self.pools.len()]
    }
}

/// Most threads that are remembered.
const THREADS_MAX: usize = 64;

impl Connections {
    /// For transactions.
    pub(crate) fn new(pool: Pool, canceller: QueryCanceller) -> Self {
        let lanes = Arc::new(Lanes { pools: vec![pool], threads: RwLock::default() });
        Self { lanes, canceller, last_words: ROLLBACK }
    }

    /// For single statements, over a pool for each thread that asks; there is at least one pool.
    pub(crate) fn of_statements(pools: Vec<Pool>, canceller: QueryCanceller) -> Self {
        assert!(!pools.is_empty(), "invariant: rows are read over at least one pool");
        Self { lanes: Arc::new(Lanes { pools, threads: RwLock::default() }), canceller, last_words: NOTHING }
    }

    /// `doing` is for the log.
    pub(crate) async fn lease(&self, doing: &'static str) -> Result<Lease, Fault> {
        let object = self.lanes.own().get().await.or_fault(doing)?;
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
        for pool in &self.lanes.pools {
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
