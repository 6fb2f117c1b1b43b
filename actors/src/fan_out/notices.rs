//! Who was already told that a peer is offline. Pure.

use std::collections::{HashMap, VecDeque};

use time::OffsetDateTime;

use crate::domain::identity::{LinkId, SessionTokenId};

type Key = (SessionTokenId, LinkId);

/// Remembers, per session token and link, when the peer had last been heard from at the time of the notice. As long as that is
/// still the last time, the notice is not repeated.
pub(super) struct Notices {
    told: HashMap<Key, Option<OffsetDateTime>>,
    /// Oldest first: beyond the capacity the oldest is forgotten, and may be told once more.
    order: VecDeque<Key>,
    capacity: usize,
}

impl Notices {
    pub(super) fn new(capacity: usize) -> Self {
        Self { told: HashMap::new(), order: VecDeque::new(), capacity }
    }

    /// Whether this session must be told now; remembers that it was.
    pub(super) fn must_tell(
        &mut self,
        token: SessionTokenId,
        link: LinkId,
        last_contact: Option<OffsetDateTime>,
    ) -> bool {
        let key = (token, link);
        if let Some(told) = self.told.get_mut(&key) {
            return std::mem::replace(told, last_contact) != last_contact;
        }
        if self.order.len() >= self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
        self.told.insert(key, last_contact);
        self.order.push_back(key);
        true
    }
}
