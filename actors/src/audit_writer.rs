//! Writes events down before anybody acts on them.
//!
//! ```text
//! record ──▶ queue ──▶ one append for everything that waits ──▶ committed: all its callers go on
//!   │ full: Unavailable at once                              └▶ failed: exactly its callers get Unavailable
//! ```
//!
//! What nobody waits for (the configuration's `relaxed`) goes the same way but for its end: a failed append puts it back, and it is
//! tried again until it is written. Its places are its own: however many wait, they take none from events that somebody waits for.
//!
//! A thread that serves requests has a writer of its own, beside the one for everybody else: an event that stays on its thread
//! wakes nobody. The bounds are for all of them together.
//!
//! While one append is under way the next batch gathers, so that the load decides how many events share a commit. Invariants:
//! `Ok` means committed; an event whose caller got no answer yet is either queued or in an append; the queue is bounded, and
//! whoever does not fit is told so at once; a caller that leaves does not take its event with it.

mod actor;
mod handle;

#[cfg(test)]
mod tests;

pub use handle::{AuditHandle, AuditLimits, AuditStats, start};
