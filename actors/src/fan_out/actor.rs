use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture, fut};
use tokio::sync::{mpsc, oneshot};

use super::assemble::{assemble, offline_peers};
use super::gather::{End, gather};
use super::handle::{Counters, FanOutLimits};
use super::notices::Notices;
use super::plan::{Answer, Block, Candidate, Planned, RunQuery, Step, plan};
use crate::domain::answer::Notice;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::SessionTokenId;
use crate::peer_registry::{LinkView, PeerRegistryHandle};
use crate::ports::local_rows::LocalRows;

/// What a session over capacity is told to wait: about one question.
const FULL_HINT: Duration = Duration::from_millis(500);

/// Runs questions beside each other; owns the count of them and the memory of notices.
pub(crate) struct FanOut {
    local: Arc<dyn LocalRows>,
    registry: PeerRegistryHandle,
    limits: FanOutLimits,
    counters: Arc<Counters>,
    notices: Notices,
}

/// A question, its plan and how each source ended.
struct Gathered {
    query: RunQuery,
    plan: Vec<Planned<LinkView>>,
    ends: Vec<End>,
    streamed: bool,
}

/// Answer a question. `caller_left` completes when nobody waits for the answer any more.
#[derive(Message)]
#[rtype(result = "Result<Answer, Fault>")]
pub(crate) struct Run {
    pub(super) query: RunQuery,
    pub(super) caller_left: oneshot::Receiver<()>,
    /// Where to send the receiving end of the blocks, if rows are wanted as they come.
    pub(super) blocks: Option<oneshot::Sender<mpsc::Receiver<Block>>>,
}

impl FanOut {
    pub(super) fn new(
        local: Arc<dyn LocalRows>,
        registry: PeerRegistryHandle,
        limits: FanOutLimits,
        counters: Arc<Counters>,
    ) -> Self {
        Self { local, registry, limits, counters, notices: Notices::new(limits.notices) }
    }

    /// Admits and plans.
    fn begin(&self, query: &RunQuery) -> Result<Vec<Planned<LinkView>>, Fault> {
        if self.counters.in_flight.load(Ordering::Relaxed) >= self.limits.max_in_flight {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Fault::new(FaultKind::RateLimited, Stage::Admission).after(FULL_HINT));
        }
        let links = self.registry.links_of(query.session.user, &query.session.teams);
        let candidates = links.into_iter().map(|link| Candidate {
            peer: link.peer.clone(),
            state: link.handle.health().state,
            capabilities: link.handle.capabilities(),
            link,
        });
        let plan = plan(&query.question, &query.sources, &query.require, candidates.collect())?;
        for source in &plan {
            if let (Some(link), Step::Refuse(_)) = (&source.link, &source.step) {
                link.handle.recheck_capabilities();
            }
        }
        self.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(plan)
    }

    /// Puts the answer together; `None` when its caller left or the gathering panicked.
    fn end(&mut self, gathered: Option<Gathered>) -> Result<Answer, Fault> {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        let Gathered { query, plan, ends, streamed } =
            gathered.ok_or_else(|| Fault::new(FaultKind::Internal, Stage::Plan))?;
        self.counters.answered.fetch_add(1, Ordering::Relaxed);
        let mut answer = assemble(&query.question, &plan, ends, streamed, |link: &LinkView| link.handle.health());
        answer.notices = self.notices_for(query.session.token, &plan, &answer);
        Ok(answer)
    }

    fn notices_for(&mut self, token: SessionTokenId, plan: &[Planned<LinkView>], answer: &Answer) -> Vec<Notice> {
        offline_peers(plan, answer)
            .filter(|(_, link)| self.notices.must_tell(token, link.link, link.handle.health().last_contact_at))
            .map(|(peer, _)| Notice { code: "federation_offline", peer: peer.clone() })
            .collect()
    }
}

impl Actor for FanOut {
    type Context = Context<Self>;
}

impl Handler<Run> for FanOut {
    type Result = ResponseActFuture<Self, Result<Answer, Fault>>;

    fn handle(&mut self, Run { query, caller_left, blocks }: Run, _: &mut Self::Context) -> Self::Result {
        let plan = match self.begin(&query) {
            Ok(plan) => plan,
            Err(fault) => return Box::pin(fut::ready(Err(fault))),
        };
        let (local, limits) = (Arc::clone(&self.local), self.limits);
        let blocks = blocks.map(|reader| {
            let (blocks, received) = mpsc::channel(plan.len().max(1));
            // A reader that has left says so by `caller_left` too.
            let _left = reader.send(received);
            blocks
        });
        // In a task of its own: the actor polls all that it runs itself whenever one part of it wakes.
        let gathered = tokio::spawn(async move {
            tokio::select! {
                biased;
                ends = gather(&plan, &query, &local, &limits, blocks.as_ref()) => {
                    Some(Gathered { query, plan, ends, streamed: blocks.is_some() })
                }
                _ = caller_left => None,
            }
        });
        Box::pin(gathered.into_actor(self).map(|gathered, fan_out, _| fan_out.end(gathered.ok().flatten())))
    }
}
