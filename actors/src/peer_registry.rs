//! Which links run, and whose they are.
//!
//! ```text
//! link store ──load──▶ registry ──start / update / stop──▶ peer_link …
//!    ▲ "link changed"     │ └──a link's actor is gone──▶ started anew, counted
//!                         └──directory (arc-swap)──▶ `links_of` every question, without asking anybody
//! ```
//!
//! Loads run one after the other, so that an older reading never overwrites a newer one; ids that changed meanwhile gather for
//! the next. Invariants: a user sees own links and those shared with own teams, nothing else; one peer name means one link for
//! one user; a link whose row is gone is stopped; a link that panicked comes back, later each time.

mod actor;
mod directory;
mod handle;
mod loads;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use handle::start_with;
pub use handle::{LinkView, PeerRegistryHandle, PeerRegistryLimits, start};
