//! Asks all sources of a plan at once and waits for each no longer than its deadline.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::handle::FanOutLimits;
use super::merge::{SourcePosition, Supply, given_before};
use super::plan::{Block, LocalPart, Planned, Question, RunQuery, Step};
use crate::domain::answer::{Page, SourceName};
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::query::ReadRight;
use crate::peer_registry::LinkView;
use crate::ports::local_rows::{ListRows, LocalRows};
use crate::ports::peer_transport::{PeerAnswer, PeerAsk, PeerQuestion};
use crate::scope_evaluator::egress;

/// So often is a peer asked for one page when all it sent was given out before: rows came in above.
const ROUNDS: u32 = 3;

/// How one source ended.
pub(super) struct End {
    pub(super) result: Result<Supply, Fault>,
    pub(super) took: Duration,
}

/// Asks every source that is to be asked; the ends are in the order of `plan`. Returns at the question's deadline at the latest;
/// calls still under way then are dropped. With `blocks`, which has room for all, rows are handed on as they come.
pub(super) async fn gather(
    plan: &[Planned<LinkView>],
    query: &RunQuery,
    local: &Arc<dyn LocalRows>,
    limits: &FanOutLimits,
    blocks: Option<&mpsc::Sender<Block>>,
) -> Vec<End> {
    let began = Instant::now();
    // Sources end a little before the answer must leave, so that each can still say what it was waiting for.
    let left = query.deadline.saturating_duration_since(began);
    let deadline = query.deadline - limits.reply_margin.min(left / 4);
    let mut tasks = JoinSet::new();
    let mut index_of: HashMap<Id, usize> = HashMap::with_capacity(plan.len());
    let mut ends: Vec<Option<End>> = Vec::with_capacity(plan.len());
    for (index, source) in plan.iter().enumerate() {
        ends.push(match &source.step {
            Step::Done => Some(End { result: Ok(Supply::nothing()), took: Duration::ZERO }),
            Step::Refuse(fault) => Some(End { result: Err(fault.clone()), took: Duration::ZERO }),
            Step::Ask => {
                let task = match &source.link {
                    None => tasks.spawn(ask_local(Arc::clone(local), query, &source.start, deadline)),
                    Some(link) => {
                        let deadline = deadline.min(began + limits.peer_budget);
                        tasks.spawn(ask_peer(link.clone(), query, source.start.clone(), deadline, limits.page_cap))
                    }
                };
                index_of.insert(task.id(), index);
                None
            }
        });
    }
    loop {
        let (id, result) = tokio::select! {
            biased;
            joined = tasks.join_next_with_id() => match joined {
                None => break,
                Some(Ok((id, result))) => (id, result),
                Some(Err(error)) => (error.id(), Err(Fault::new(FaultKind::Internal, Stage::Plan))),
            },
            () = sleep_until(query.deadline) => break,
        };
        let Some(index) = index_of.get(&id).copied() else { continue };
        if let (Some(blocks), Ok(supply), Some(source)) = (blocks, &result, plan.get(index)) {
            hand_on(blocks, source, supply);
        }
        if let Some(end) = ends.get_mut(index) {
            *end = Some(End { result, took: began.elapsed() });
        }
    }
    let silent = |source: &Planned<LinkView>| {
        let stage = if source.name == SourceName::Local { Stage::Database } else { Stage::FirstByte };
        End { result: Err(Fault::new(FaultKind::TimedOut, stage)), took: began.elapsed() }
    };
    plan.iter().zip(ends).map(|(source, end)| end.unwrap_or_else(|| silent(source))).collect()
}

fn hand_on(blocks: &mpsc::Sender<Block>, source: &Planned<LinkView>, supply: &Supply) {
    if supply.rows().is_empty() {
        return;
    }
    let rows = supply.rows().iter().map(|row| supply.page.row_json(row)).collect();
    // The channel has a place for every source; it is closed only when the caller has left.
    let _left = blocks.try_send(Block { source: source.name.clone(), rows });
}

/// Own rows, through the same second wall as rows that leave the site.
fn ask_local(
    rows: Arc<dyn LocalRows>,
    query: &RunQuery,
    start: &SourcePosition,
    deadline: Instant,
) -> impl Future<Output = Result<Supply, Fault>> + Send + 'static {
    let (question, session, start) = (query.question.clone(), query.session.clone(), start.clone());
    async move {
        let limit = match &question {
            Question::List { limit, .. } => *limit,
            Question::Get { .. } => NonZeroU32::MIN,
        };
        let right = ReadRight::of_session(&session, question.resource().clone(), limit);
        let reading = match question {
            Question::Get { id, .. } => rows.get(right.clone(), id, deadline),
            Question::List { local, .. } => {
                let SourcePosition::Local { after } = &start else {
                    return Err(Fault::new(FaultKind::Internal, Stage::Plan));
                };
                let filter = match local {
                    LocalPart::Read(filter) => filter,
                    LocalPart::UnknownHere => return Err(Fault::new(FaultKind::ScopeViolation, Stage::Plan)),
                };
                rows.list(right.clone(), ListRows { limit, after: after.clone(), filter }, deadline)
            }
        };
        let page = match timeout_at(deadline, reading).await {
            Err(_) => Err(Fault::new(FaultKind::TimedOut, Stage::Database)),
            // An own row that is not there is an answer, however the adapter says so.
            Ok(Err(fault)) if fault.kind == FaultKind::NotFound => Ok(Page::default()),
            Ok(page) => page,
        }?;
        let page = egress::check(&right, page).map_err(|violation| {
            tracing::error!(%violation, resource = %right.resource(), "own rows stopped by the egress guard");
            Fault::new(FaultKind::Internal, Stage::Egress)
        })?;
        Ok(Supply { base: start, page: page.into_page(), skip: 0, next_cursor: None })
    }
}

fn ask_peer(
    link: LinkView,
    query: &RunQuery,
    start: SourcePosition,
    deadline: Instant,
    page_cap: NonZeroU32,
) -> impl Future<Output = Result<Supply, Fault>> + Send + 'static {
    let (question, request, traceparent) = (query.question.clone(), query.request, query.traceparent.clone());
    async move {
        let ask = |question| PeerAsk { question, deadline, request, traceparent: traceparent.clone(), injected: None };
        match question {
            Question::Get { resource, id, .. } => {
                let page = match link.handle.ask(ask(PeerQuestion::Get { resource, id })).await {
                    Ok(PeerAnswer::Item(page)) => page,
                    Ok(_) => return Err(other_answer()),
                    Err(fault) if fault.kind == FaultKind::NotFound => Page::default(),
                    Err(fault) => return Err(fault),
                };
                Ok(Supply { base: start, page: Page { more: false, ..page }, skip: 0, next_cursor: None })
            }
            Question::List { resource, limit, filter_json, .. } => {
                let mut base = start;
                let mut round = 1;
                loop {
                    let SourcePosition::Peer { cursor, after, taken } = &base else {
                        return Err(Fault::new(FaultKind::Internal, Stage::Plan));
                    };
                    // A repeated round means that rows were skipped: take as many as may be had.
                    let wanted = if round == 1 { limit.saturating_add(*taken) } else { page_cap };
                    let question = PeerQuestion::List {
                        resource: resource.clone(),
                        limit: wanted.min(page_cap),
                        cursor: cursor.clone(),
                        filter: filter_json.clone(),
                    };
                    let PeerAnswer::Rows { page, next_cursor } = link.handle.ask(ask(question)).await? else {
                        return Err(other_answer());
                    };
                    let skip = given_before(&page, after.as_ref());
                    let supply = Supply { base: base.clone(), page, skip, next_cursor };
                    if !supply.rows().is_empty() || supply.next_cursor.is_none() || round == ROUNDS {
                        return Ok(supply);
                    }
                    base = supply.position_behind(0);
                    round += 1;
                }
            }
        }
    }
}

fn other_answer() -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::Parse)
}
