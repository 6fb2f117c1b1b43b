//! Whether a peer's request is allowed, and with which right.
//!
//! ```text
//! identity + verb + resource ──▶ decide (pure table) ──▶ Permit { right } ──▶ rows ──▶ egress (second wall) ──▶ out
//!                     ▲                                    └▶ Denial { reason }
//!       grant snapshot, compiled rights (arc-swap)
//! ```
//!
//! A request is decided in the caller's own task on two snapshots: no mailbox, no lock. The actor behind the handle only
//! compiles rights ahead: once per grant and version. A grant that it has not compiled yet is compiled on the spot, so its
//! lag costs microseconds and never decides anything.

mod actor;
mod handle;

pub mod decide;
pub mod egress;

#[cfg(test)]
mod tests;

pub use decide::{AccessRequest, Denial, DenyReason, Permit, compile_visibility, preview_right};
pub use handle::{ScopeEvaluatorHandle, start};
