//! Pages of several sources into one page, and where each source goes on. Pure.
//!
//! Order: `created_at` descending, source name ascending, then the source's own order. A source that has more rows than it sent
//! is a horizon: behind its last row nothing can be given out yet, because its next row might come first.

use std::cmp::Ordering;

use crate::domain::answer::{Page, RowIndex, SourceName};
use crate::domain::query::Position;

#[cfg(test)]
mod tests;

/// Where every source of a question goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompositePosition {
    pub sources: Vec<(SourceName, SourcePosition)>,
}

/// Where one source goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcePosition {
    Local {
        after: Option<Position>,
    },
    /// On the page that begins at `cursor`, behind the row `after`, which was its `taken`-th when it was given out. Rows may have
    /// come or gone since: `after` decides, `taken` only says how many rows to ask for.
    Peer {
        cursor: Option<Box<str>>,
        after: Option<Position>,
        taken: u32,
    },
    /// The last row was given out.
    Done,
}

impl CompositePosition {
    #[must_use]
    pub fn of(&self, source: &SourceName) -> Option<&SourcePosition> {
        self.sources.iter().find(|(name, _)| name == source).map(|(_, position)| position)
    }
}

impl SourcePosition {
    /// Before the first row.
    #[must_use]
    pub fn start_of(source: &SourceName) -> Self {
        match source {
            SourceName::Local => Self::Local { after: None },
            SourceName::Peer(_) => Self::Peer { cursor: None, after: None, taken: 0 },
        }
    }

    pub(super) fn fits(&self, source: &SourceName) -> bool {
        matches!(
            (self, source),
            (Self::Done, _) | (Self::Local { .. }, SourceName::Local) | (Self::Peer { .. }, SourceName::Peer(_))
        )
    }
}

/// What one source sent for this page.
#[derive(Debug, Clone)]
pub(super) struct Supply {
    /// Where its page begins.
    pub(super) base: SourcePosition,
    pub(super) page: Page,
    /// So many rows at the start of the page were given out before.
    pub(super) skip: usize,
    /// A peer's cursor behind the page.
    pub(super) next_cursor: Option<Box<str>>,
}

impl Supply {
    /// Nothing, and nothing to come.
    pub(super) fn nothing() -> Self {
        Self { base: SourcePosition::Done, page: Page::default(), skip: 0, next_cursor: None }
    }

    pub(super) fn rows(&self) -> &[RowIndex] {
        self.page.rows.get(self.skip..).unwrap_or_default()
    }

    /// Whether asking again, behind this page, would bring more. A peer that says so without a cursor cannot be asked.
    fn goes_on(&self) -> bool {
        match self.base {
            SourcePosition::Local { .. } => self.page.more,
            SourcePosition::Peer { .. } => self.next_cursor.is_some(),
            SourcePosition::Done => false,
        }
    }

    /// Whether rows exist behind the first `taken` ones of [`Self::rows`].
    pub(super) fn has_more_behind(&self, taken: usize) -> bool {
        taken < self.rows().len() || self.page.more || self.next_cursor.is_some()
    }

    /// Where the source goes on when the first `taken` of [`Self::rows`] were given out.
    pub(super) fn position_behind(&self, taken: usize) -> SourcePosition {
        let given = self.rows();
        let last = taken.checked_sub(1).and_then(|last| given.get(last)).map(|row| row.position.clone());
        let consumed = taken >= given.len();
        if consumed && !self.goes_on() {
            return SourcePosition::Done;
        }
        match &self.base {
            SourcePosition::Done => SourcePosition::Done,
            SourcePosition::Local { after } => SourcePosition::Local { after: last.or_else(|| after.clone()) },
            SourcePosition::Peer { after, .. } if consumed => SourcePosition::Peer {
                cursor: self.next_cursor.clone(),
                // Needed only while its place was not reached: rows that came since may fill pages before it.
                after: after
                    .clone()
                    .filter(|after| last.is_none() && !self.page.rows.iter().any(|r| r.position == *after)),
                taken: 0,
            },
            SourcePosition::Peer { .. } if last.is_none() => self.base.clone(),
            SourcePosition::Peer { cursor, .. } => SourcePosition::Peer {
                cursor: cursor.clone(),
                after: last,
                taken: u32::try_from(self.skip + taken).unwrap_or(u32::MAX),
            },
        }
    }
}

/// How many rows at the start of `page` were given out before, if `after` was the last of them.
pub(super) fn given_before(page: &Page, after: Option<&Position>) -> usize {
    let Some(after) = after else { return 0 };
    if let Some(index) = page.rows.iter().position(|row| row.position == *after) {
        return index + 1;
    }
    // The row itself is gone: skip what sorts before it.
    page.rows.iter().take_while(|row| !sorts_behind(&row.position, after)).count()
}

/// `created_at` descending, `id` descending.
fn sorts_behind(position: &Position, after: &Position) -> bool {
    (position.created_at, &position.id) < (after.created_at, &after.id)
}

/// The first `limit` rows of all sources in order: for each its source and its index among the source's [`Supply::rows`].
pub(super) fn merge(supplies: &[(&SourceName, &Supply)], limit: usize) -> Vec<(usize, usize)> {
    let mut taken = vec![0; supplies.len()];
    let mut order = Vec::with_capacity(limit.min(supplies.iter().map(|(_, supply)| supply.rows().len()).sum()));
    while order.len() < limit {
        let mut best: Option<usize> = None;
        for (index, (_, supply)) in supplies.iter().enumerate() {
            match supply.rows().get(taken[index]) {
                None if supply.goes_on() => return order,
                None => {}
                Some(_) if best.is_none_or(|best| is_before(supplies, &taken, index, best)) => best = Some(index),
                Some(_) => {}
            }
        }
        let Some(best) = best else { break };
        order.push((best, taken[best]));
        taken[best] += 1;
    }
    order
}

fn is_before(supplies: &[(&SourceName, &Supply)], taken: &[usize], a: usize, b: usize) -> bool {
    let head = |index: usize| {
        let (name, supply) = supplies[index];
        (supply.rows().get(taken[index]).map(|row| row.position.created_at), name.as_str())
    };
    let ((time_a, name_a), (time_b, name_b)) = (head(a), head(b));
    time_b.cmp(&time_a).then(name_a.cmp(name_b)) == Ordering::Less
}
