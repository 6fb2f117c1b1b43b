//! The second wall: before rows leave, each one is compared with the right under which it was read. It knows nothing of the SQL
//! that found them.

use crate::domain::answer::Page;
use crate::domain::query::ReadRight;

/// A page of which every row may leave. Only [`check`] makes one.
#[derive(Debug)]
pub struct CheckedPage(Page);

impl CheckedPage {
    #[must_use]
    pub fn page(&self) -> &Page {
        &self.0
    }

    #[must_use]
    pub fn into_page(self) -> Page {
        self.0
    }
}

/// The rows port returned what the right does not allow: a defect, never a refusal. The answer must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EgressViolation {
    #[error("a row of another tenant")]
    ForeignRow,
    #[error("more rows than the right allows")]
    TooManyRows,
    #[error("a row that lies outside of the page's bytes")]
    BrokenPage,
}

impl EgressViolation {
    /// For the audit log and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignRow => "egress_foreign_row",
            Self::TooManyRows => "egress_too_many_rows",
            Self::BrokenPage => "egress_broken_page",
        }
    }
}

/// Lets a page pass if each of its rows may leave under `right`.
pub fn check(right: &ReadRight, page: Page) -> Result<CheckedPage, EgressViolation> {
    if page.rows.len() > right.max_rows().get() as usize {
        return Err(EgressViolation::TooManyRows);
    }
    let mut end = 0;
    for row in &page.rows {
        if !right.allows(row.owner, row.team) {
            return Err(EgressViolation::ForeignRow);
        }
        // Bytes that no row accounts for could hold anything: between two rows there is the comma and nothing else.
        let start = if end == 0 { 0 } else { end + 1 };
        if row.range.start != start || row.range.end <= row.range.start || row.range.end > page.json.len() {
            return Err(EgressViolation::BrokenPage);
        }
        end = row.range.end;
    }
    if end == page.json.len() { Ok(CheckedPage(page)) } else { Err(EgressViolation::BrokenPage) }
}
