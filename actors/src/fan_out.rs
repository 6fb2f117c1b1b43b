//! One question, many sources, one answer.
//!
//! ```text
//! plan (pure) ──▶ gather: one task per source, each with its own deadline ──▶ merge (pure) ──▶ answer + account of each source
//! ```
//!
//! The local database is a source like any other and waits for nobody. Invariants: every requested source is accounted for,
//! whatever happened to it; the answer leaves at the question's deadline; what one source does (silence, a panic, a lie) changes
//! nothing for the rows of another; paging gives no row twice and loses none; memory per question is bounded by sources × page,
//! and questions under way are counted and capped.

mod account;
mod actor;
mod assemble;
mod gather;
mod handle;
mod merge;
mod notices;
mod plan;

#[cfg(test)]
mod tests;

pub use handle::{FanOutHandle, FanOutLimits, FanOutStats, Streaming, start};
pub use merge::{CompositePosition, SourcePosition};
pub use plan::{Answer, Block, LocalPart, Question, RunQuery, Verdict};
