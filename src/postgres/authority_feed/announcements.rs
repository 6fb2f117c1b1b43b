//! What the database announced and nobody has read yet: gathered, so that a burst costs one reading, and bounded.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use mosaic_actors::domain::identity::{GrantId, LinkId, UserId};
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use crate::postgres::pool::{DrivenConnection, SqlCause};

/// More different things than this are read all together: cheaper, and nothing grows without end.
const GATHERED_MAX: usize = 1_000;

/// Shared by the task that moves the connection and the one that reads.
#[derive(Clone, Default)]
pub(super) struct Announcements {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    batch: Mutex<Batch>,
    arrived: Notify,
}

/// What was gathered since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) authority: Option<AuthorityChanges>,
    pub(super) links: HashSet<LinkId>,
    pub(super) all_links: bool,
    pub(super) crl: bool,
}

/// An unbroken run of changes of authority, or the knowledge that it is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AuthorityChanges {
    first: i64,
    pub(super) last: i64,
    broken: bool,
    pub(super) grants: HashSet<GrantId>,
    pub(super) users: HashSet<UserId>,
}

impl AuthorityChanges {
    /// Whether these changes, applied to the state at `applied`, leave nothing out.
    pub(super) fn follows(&self, applied: i64) -> bool {
        !self.broken && self.first <= applied + 1
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    Grant(GrantId),
    User(UserId),
}

impl Announcements {
    /// Waits until something is there to take.
    pub(super) async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }

    pub(super) fn take(&self) -> Batch {
        std::mem::take(&mut *self.shared.batch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, channel: &str, payload: &str) {
        self.shared.batch.lock().unwrap_or_else(PoisonError::into_inner).add(channel, payload);
        self.shared.arrived.notify_one();
    }
}

impl Batch {
    fn add(&mut self, channel: &str, payload: &str) {
        match channel {
            "mosaic_authority" => self.add_authority(payload),
            "mosaic_links" => match payload.parse() {
                Ok(link) if self.links.len() < GATHERED_MAX => _ = self.links.insert(link),
                _ => self.all_links = true,
            },
            "mosaic_crl" => self.crl = true,
            other => tracing::debug!(channel = other, "an announcement on a channel that nobody listens to"),
        }
    }

    fn add_authority(&mut self, payload: &str) {
        let Some((subject, version)) = parse(payload) else {
            tracing::warn!("an announcement of authority cannot be read; reading everything");
            let first = i64::MAX;
            self.authority.get_or_insert_with(|| AuthorityChanges::starting(first)).broken = true;
            return;
        };
        let changes = self.authority.get_or_insert_with(|| AuthorityChanges::starting(version));
        changes.broken |= version > changes.last + 1 || changes.grants.len() + changes.users.len() >= GATHERED_MAX;
        changes.last = changes.last.max(version);
        if changes.broken {
            return;
        }
        match subject {
            Subject::Grant(grant) => _ = changes.grants.insert(grant),
            Subject::User(user) => {
                changes.users.insert(user);
                // A disabled user's links stop, an enabled one's start.
                self.all_links = true;
            }
        }
    }
}

impl AuthorityChanges {
    fn starting(first: i64) -> Self {
        Self { first, last: first.saturating_sub(1), broken: false, grants: HashSet::new(), users: HashSet::new() }
    }
}

/// `g:<grant>:<version>` or `u:<user>:<version>`.
fn parse(payload: &str) -> Option<(Subject, i64)> {
    let mut parts = payload.splitn(3, ':');
    let (kind, id, version) = (parts.next()?, parts.next()?, parts.next()?);
    let subject = match kind {
        "g" => Subject::Grant(id.parse().ok()?),
        "u" => Subject::User(id.parse().ok()?),
        _ => return None,
    };
    Some((subject, version.parse().ok()?))
}

/// Moves the connection until it ends, and gathers what it announces.
pub(super) async fn drive(mut connection: DrivenConnection, announcements: Announcements) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(news)) => announcements.add(news.channel(), news.payload()),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(cause = %SqlCause(&error), "the connection for announcements ended");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(payloads: &[String]) -> Batch {
        let mut batch = Batch::default();
        payloads.iter().for_each(|payload| batch.add("mosaic_authority", payload));
        batch
    }

    #[test]
    fn a_run_without_gaps_is_one_reading_of_what_it_names() {
        let (grant, user) = (GrantId::new(), UserId::new());
        let batch = batch(&[format!("g:{grant}:7"), format!("u:{user}:8"), format!("g:{grant}:9")]);
        assert!(batch.all_links);
        let changes = batch.authority.unwrap();
        assert_eq!((changes.last, changes.grants.clone(), changes.users.clone()), (9, [grant].into(), [user].into()));
        assert!(changes.follows(6) && changes.follows(8), "what overlaps is read again, at worst");
        assert!(!changes.follows(5), "change 6 was not announced");
    }

    #[test]
    fn a_gap_an_unreadable_text_or_too_much_means_reading_everything() {
        let grant = GrantId::new();
        assert!(!batch(&[format!("g:{grant}:7"), format!("g:{grant}:9")]).authority.unwrap().follows(6));
        for text in ["", "g", "g:x:1", "x:1:2", &format!("g:{grant}"), &format!("g:{grant}:x")] {
            assert!(!batch(&[text.to_owned()]).authority.unwrap().follows(6), "{text:?}");
        }
        let many: Vec<_> = (0..=1_000).map(|version| format!("g:{}:{version}", GrantId::new())).collect();
        let changes = batch(&many).authority.unwrap();
        assert!(!changes.follows(0));
        assert_eq!(changes.grants.len(), 1_000);
    }

    #[test]
    fn links_are_named_one_by_one_until_they_are_too_many() {
        let mut batch = Batch::default();
        let link = LinkId::new();
        batch.add("mosaic_links", &link.to_string());
        batch.add("mosaic_crl", "3");
        assert_eq!(batch, Batch { links: [link].into(), crl: true, ..Batch::default() });
        (0..1_000).for_each(|_| batch.add("mosaic_links", &LinkId::new().to_string()));
        assert!(batch.all_links);
        assert_eq!(batch.links.len(), 1_000);
    }
}
