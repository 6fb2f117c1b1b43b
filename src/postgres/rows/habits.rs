//! What the server keeps in mind about a connection that only reads, so that it need not be told with every page.
//!
//! A connection is told once that it reads only and how to plan; how long a statement may run, whenever that changes. So a page
//! is one statement in a transaction of its own, and not five around it (ADR 30).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, StatementCache};

/// A plan that is made without knowing the values takes a filter by time for a handful of rows, and would collect and sort
/// them all; the indexes have them in order. Compiling a statement that returns a page never pays.
pub const READ_SETTINGS: [(&str, &str); 3] = [("enable_bitmapscan", "off"), ("enable_seqscan", "off"), ("jit", "off")];

/// Bounds of a statement's time, in milliseconds. A deadline is rounded up to one of these, so that questions with about the
/// same deadline leave the connection as it is; on time ends them the caller, who cancels the statement.
const STEPS_MS: [u64; 13] = [20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000, 120_000];

/// Connections that are remembered before those that ended are forgotten.
const PRUNE_ABOVE: usize = 64;

/// The connections that were told, each with the time that its statements may take now.
#[derive(Clone, Default)]
pub(super) struct Habits {
    /// By the address of the connection's statement cache, which no other connection can have while it is held here.
    told: Arc<Mutex<HashMap<usize, (Weak<StatementCache>, u64)>>>,
}

/// What has to be said before a statement.
pub(super) struct Preface {
    /// Absent: nothing.
    pub(super) text: Option<String>,
    millis: u64,
}

impl Habits {
    /// What this connection has to be told before a statement that may take as long as `left`.
    pub(super) fn preface(&self, client: &ClientWrapper, left: Duration) -> Preface {
        let millis = step(left);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = match told.get(&key(client)) {
            Some((_, known)) if *known == millis => return Preface { text: None, millis },
            Some(_) => String::new(),
            None => {
                let mut text = "SET default_transaction_read_only = on; ".to_owned();
                for (name, value) in READ_SETTINGS {
                    let _ = write!(text, "SET {name} = {value}; ");
                }
                text
            }
        };
        // Forgotten until the server has taken it: whoever is cut off in between tells it everything again.
        told.remove(&key(client));
        let _ = write!(text, "SET statement_timeout = {millis}");
        Preface { text: Some(text), millis }
    }

    /// The server took the preface.
    pub(super) fn learn(&self, client: &ClientWrapper, preface: &Preface) {
        if preface.text.is_none() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= PRUNE_ABOVE {
            told.retain(|_, (cache, _)| cache.strong_count() > 0);
        }
        told.insert(key(client), (Arc::downgrade(&client.statement_cache), preface.millis));
    }
}

fn key(client: &ClientWrapper) -> usize {
    Arc::as_ptr(&client.statement_cache) as usize
}

/// The first step that is long enough.
fn step(left: Duration) -> u64 {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    STEPS_MS.into_iter().find(|step| *step >= millis).unwrap_or(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_may_take_at_least_as_long_as_its_caller_waits() {
        for millis in [0, 1, 19, 20, 21, 999, 2_999, 3_000, 4_999, 5_001, 119_999, 120_001] {
            assert!(step(Duration::from_millis(millis)) >= millis);
        }
        assert_eq!(step(Duration::from_micros(4_999_999)), step(Duration::from_millis(4_200)));
    }
}
