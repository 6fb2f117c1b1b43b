//! Whose links there are. Pure.

use std::collections::{BTreeMap, HashMap};

use super::handle::LinkView;
use crate::domain::identity::{LinkId, SiteName, TeamId, UserId};

/// All running links, found by who may use them.
#[derive(Default)]
pub(super) struct Directory {
    links: HashMap<LinkId, LinkView>,
    by_owner: HashMap<UserId, Vec<LinkId>>,
    by_team: HashMap<TeamId, Vec<LinkId>>,
    by_peer: HashMap<SiteName, Vec<LinkId>>,
}

impl Directory {
    pub(super) fn new(links: impl IntoIterator<Item = (LinkView, Vec<TeamId>)>) -> Self {
        let mut directory = Self::default();
        for (view, shared_with) in links {
            directory.by_peer.entry(view.peer.clone()).or_default().push(view.link);
            directory.by_owner.entry(view.owner).or_default().push(view.link);
            for team in shared_with {
                directory.by_team.entry(team).or_default().push(view.link);
            }
            directory.links.insert(view.link, view);
        }
        directory
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&LinkView> {
        self.links.get(&link)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LinkView> {
        self.links.values()
    }

    /// Every link to the site that is called so here.
    pub(super) fn links_to(&self, peer: &SiteName) -> impl Iterator<Item = &LinkView> {
        self.by_peer.get(peer).into_iter().flatten().filter_map(|link| self.links.get(link))
    }

    /// One link per peer name, sorted by it. Of several an own one wins, then the oldest.
    pub(super) fn links_of(&self, user: UserId, teams: &[TeamId]) -> Vec<LinkView> {
        let own = self.by_owner.get(&user).into_iter().flatten();
        let shared = teams.iter().filter_map(|team| self.by_team.get(team)).flatten();
        let mut chosen: BTreeMap<&SiteName, &LinkView> = BTreeMap::new();
        for view in own.chain(shared).filter_map(|link| self.links.get(link)) {
            let rank = |view: &LinkView| (view.owner != user, view.created_at, view.link);
            let best = chosen.entry(&view.peer).or_insert(view);
            if rank(view) < rank(best) {
                *best = view;
            }
        }
        chosen.into_values().cloned().collect()
    }
}
