//! Which links must be read next. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::identity::LinkId;

/// More changed links than this are read all at once.
const SINGLE_READS_MAX: usize = 64;
/// The first wait after a failed load, doubling to the last.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// One reading of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    All,
    One(LinkId),
}

/// What changed since it was last read, and whether a load is under way.
#[derive(Debug, Default)]
pub(super) struct Loads {
    all: bool,
    some: BTreeSet<LinkId>,
    under_way: Option<Load>,
    failures: u32,
}

impl Loads {
    pub(super) fn want_all(&mut self) {
        self.all = true;
        self.some.clear();
    }

    pub(super) fn want(&mut self, link: LinkId) {
        if !self.all {
            self.some.insert(link);
            if self.some.len() > SINGLE_READS_MAX {
                self.want_all();
            }
        }
    }

    /// The next load to start; `None` while one is under way or nothing changed.
    pub(super) fn next(&mut self) -> Option<Load> {
        if self.under_way.is_some() {
            return None;
        }
        let next = if std::mem::take(&mut self.all) { Some(Load::All) } else { self.some.pop_first().map(Load::One) };
        self.under_way = next;
        next
    }

    pub(super) fn succeeded(&mut self) {
        self.under_way = None;
        self.failures = 0;
    }

    /// Puts the load back and tells how long to wait before the next.
    pub(super) fn failed(&mut self) -> Duration {
        match self.under_way.take() {
            Some(Load::All) => self.want_all(),
            Some(Load::One(link)) => self.want(link),
            None => {}
        }
        let wait = RETRY_FIRST.saturating_mul(2u32.saturating_pow(self.failures)).min(RETRY_LAST);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}
