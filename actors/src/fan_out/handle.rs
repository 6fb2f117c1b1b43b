use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Addr};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::actor::{FanOut, Run};
use super::plan::{Answer, Block, RunQuery};
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::peer_registry::PeerRegistryHandle;
use crate::ports::local_rows::LocalRows;

/// The answer leaves at the deadline; only an actor that is stuck has nothing to say this long after it.
const GRACE: Duration = Duration::from_millis(100);

/// Bounds of all questions.
#[derive(Debug, Clone, Copy)]
pub struct FanOutLimits {
    /// Most questions under way; one more is refused at once.
    pub max_in_flight: usize,
    /// How long one peer may take, however long the caller would wait.
    pub peer_budget: Duration,
    /// Most rows asked of a peer at once: the cap of a page at the session API.
    pub page_cap: NonZeroU32,
    /// By how much sources must end before the answer leaves, so that their reasons are part of it.
    pub reply_margin: Duration,
    /// So many notices are remembered as given.
    pub notices: usize,
}

impl Default for FanOutLimits {
    fn default() -> Self {
        Self {
            max_in_flight: 256,
            peer_budget: Duration::from_secs(3),
            page_cap: const { NonZeroU32::new(200).expect("two hundred is not zero") },
            reply_margin: Duration::from_millis(20),
            notices: 10_000,
        }
    }
}

/// Counters since the start, and what is under way now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FanOutStats {
    pub in_flight: usize,
    pub answered: u64,
    pub refused: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) in_flight: AtomicUsize,
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// Answers sessions' questions. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct FanOutHandle {
    actor: Addr<FanOut>,
    counters: Arc<Counters>,
}

/// Starts the actor on the current arbiter.
#[must_use]
pub fn start(local: Arc<dyn LocalRows>, registry: PeerRegistryHandle, limits: FanOutLimits) -> FanOutHandle {
    let counters = Arc::new(Counters::default());
    let fan_out = FanOut::new(local, registry, limits, Arc::clone(&counters));
    let actor = FanOut::create(|ctx| {
        // Refusals are counted by the actor; the mailbox must not hold them up.
        ctx.set_mailbox_capacity(limits.max_in_flight + 16);
        fan_out
    });
    FanOutHandle { actor, counters }
}

/// A question whose rows come block by block. Dropping it ends the calls to the peers.
pub struct Streaming {
    /// One per source that has rows, as it arrives; then it ends.
    pub blocks: mpsc::Receiver<Block>,
    /// Completes behind the last block, with the account of all sources and no items.
    pub end: Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send>>,
}

impl FanOutHandle {
    /// Answers a question by its deadline. Fails only when it cannot be asked at all: an unknown source, a `require` that was not
    /// selected, a foreign cursor, too many questions under way. Dropping the future ends the calls to the peers.
    pub async fn run(&self, query: RunQuery) -> Result<Answer, Fault> {
        ask(self.actor.clone(), query, None).await
    }

    /// As [`Self::run`], with each source's rows as soon as they are there. Every source gives up to the question's limit, and
    /// the next page begins behind all that was given out.
    pub async fn stream(&self, query: RunQuery) -> Result<Streaming, Fault> {
        let (reader, mut begun) = oneshot::channel();
        let mut end: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(ask(self.actor.clone(), query, Some(reader)));
        tokio::select! {
            biased;
            Ok(blocks) = &mut begun => Ok(Streaming { blocks, end }),
            ended = &mut end => {
                let answer = ended?;
                // Quicker than this task: its blocks are there all the same.
                let blocks = begun.try_recv().map_err(|_| Fault::new(FaultKind::Internal, Stage::Admission))?;
                Ok(Streaming { blocks, end: Box::pin(std::future::ready(Ok(answer))) })
            }
        }
    }

    #[must_use]
    pub fn stats(&self) -> FanOutStats {
        FanOutStats {
            in_flight: self.counters.in_flight.load(Ordering::Relaxed),
            answered: self.counters.answered.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
        }
    }
}

async fn ask(
    actor: Addr<FanOut>,
    query: RunQuery,
    blocks: Option<oneshot::Sender<mpsc::Receiver<Block>>>,
) -> Result<Answer, Fault> {
    let deadline = query.deadline + GRACE;
    let (_here, caller_left) = oneshot::channel();
    match timeout_at(deadline, actor.send(Run { query, caller_left, blocks })).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Fault::new(FaultKind::Internal, Stage::Admission)),
        Err(_) => Err(Fault::new(FaultKind::TimedOut, Stage::Admission)),
    }
}
