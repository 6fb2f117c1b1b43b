//! What a peer said, checked before anybody acts on it. The transport keeps the caps on bytes and time; this is what a list of
//! rows must be for the merge to be right.

use crate::domain::answer::Page;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::ports::peer_transport::{PeerAnswer, PeerQuestion};

/// Passes an answer that fits the question.
pub(super) fn check(question: &PeerQuestion, answer: PeerAnswer, cursor_bytes: usize) -> Result<PeerAnswer, Fault> {
    let problem = match (question, &answer) {
        (PeerQuestion::Capabilities, PeerAnswer::Capabilities(_)) => None,
        (PeerQuestion::Get { id, .. }, PeerAnswer::Item(page)) => match page.rows.as_slice() {
            [row] if row.position.id.as_str().eq_ignore_ascii_case(id.as_str()) => None,
            _ => Some("the peer answered with another row than the one asked for"),
        },
        (PeerQuestion::List { limit, cursor, .. }, PeerAnswer::Rows { page, next_cursor }) => {
            if page.rows.len() > limit.get() as usize {
                Some("the peer sent more rows than were asked for")
            } else if !is_ordered(page) {
                Some("the peer's rows are out of order")
            } else if next_cursor.as_ref().is_some_and(|next| next.len() > cursor_bytes) {
                Some("the peer's cursor is too long")
            } else if next_cursor.is_some() && next_cursor == cursor {
                Some("the peer's cursor does not advance")
            } else {
                None
            }
        }
        _ => Some("the peer answered another question than the one asked"),
    };
    problem.map_or(Ok(answer), |problem| Err(Fault::new(FaultKind::BadAnswer, Stage::Parse).with_message(problem)))
}

/// By time only: how ids sort among equal times is the peer's own matter.
fn is_ordered(page: &Page) -> bool {
    page.rows.is_sorted_by(|a, b| a.position.created_at >= b.position.created_at)
}
