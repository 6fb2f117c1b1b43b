//! Connections that stay with the thread that dialled them.

use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use deadpool_postgres::Pool;

/// One pool for each thread that asks, as far as there are pools: a connection is driven by the thread that dialled it, and
/// whoever uses it from another thread pays two wake-ups for every answer.
#[derive(Clone)]
pub struct ThreadPools(Arc<Shared>);

struct Shared {
    pools: Vec<Pool>,
    /// Which threads asked so far; the place in the list chooses the pool. Read on every use, written once per thread.
    threads: RwLock<Vec<ThreadId>>,
}

/// Threads that are remembered for each pool.
const REMEMBERED: usize = 16;

impl ThreadPools {
    /// There is at least one.
    #[must_use]
    pub fn new(pools: Vec<Pool>) -> Self {
        assert!(!pools.is_empty(), "invariant: there is at least one pool");
        Self(Arc::new(Shared { pools, threads: RwLock::default() }))
    }

    /// The current thread's.
    #[must_use]
    pub fn own(&self) -> &Pool {
        let me = thread::current().id();
        let place = |threads: &[ThreadId]| threads.iter().position(|thread| *thread == me);
        let known = place(&self.0.threads.read().unwrap_or_else(PoisonError::into_inner));
        let place = known.unwrap_or_else(|| {
            let mut threads = self.0.threads.write().unwrap_or_else(PoisonError::into_inner);
            // A thread that ended is replaced by another one; from then on two may share a pool, which costs time and nothing else.
            if threads.len() >= REMEMBERED * self.0.pools.len() {
                threads.clear();
            }
            threads.push(me);
            threads.len() - 1
        });
        &self.0.pools[place % self.0.pools.len()]
    }

    pub fn all(&self) -> impl Iterator<Item = &Pool> {
        self.0.pools.iter()
    }
}

impl From<Pool> for ThreadPools {
    fn from(pool: Pool) -> Self {
        Self::new(vec![pool])
    }
}
