//! The ends of all sources into one answer. Pure.

use super::account::{is_offline, status_of, status_of_answer, verdict};
use super::gather::End;
use super::merge::{CompositePosition, SourcePosition, Supply, merge};
use super::plan::{Answer, Planned, Question};
use crate::domain::answer::{BlendedRow, SourceName, SourceReport};
use crate::domain::fault::FaultKind;
use crate::domain::identity::SiteName;
use crate::peer_link::LinkHealth;

/// Blends and accounts. What was `streamed` was given out already, all of it: there is nothing to blend. `ends` is in the order of `plan`; `health` tells how a link is now.
pub(super) fn assemble<L>(
    question: &Question,
    plan: &[Planned<L>],
    ends: Vec<End>,
    streamed: bool,
    health: impl Fn(&L) -> LinkHealth,
) -> Answer {
    let limit = match question {
        Question::List { limit, .. } => limit.get() as usize,
        Question::Get { .. } => usize::MAX,
    };
    let answered: Vec<(usize, &SourceName, &Supply)> = plan
        .iter()
        .zip(&ends)
        .enumerate()
        .filter_map(|(index, (source, end))| end.result.as_ref().ok().map(|supply| (index, &source.name, supply)))
        .collect();
    let supplies: Vec<_> = answered.iter().map(|(_, name, supply)| (*name, *supply)).collect();
    let mut taken = vec![0; plan.len()];
    let mut items = Vec::new();
    let merged = if streamed { Vec::new() } else { merge(&supplies, limit) };
    for (index, _, supply) in answered.iter().filter(|_| streamed) {
        taken[*index] = supply.rows().len();
    }
    for (which, row) in merged {
        let (index, name, supply) = answered[which];
        let row = &supply.rows()[row];
        taken[index] += 1;
        items.push(BlendedRow {
            source: name.clone(),
            position: row.position.clone(),
            json: supply.page.row_json(row),
        });
    }
    let sources: Vec<SourceReport> = plan
        .iter()
        .zip(&ends)
        .zip(&taken)
        .map(|((source, end), taken)| report(source, end, *taken, source.link.as_ref().map(&health)))
        .collect();
    let pairs: Vec<_> = sources.iter().zip(plan.iter().map(|source| source.required)).collect();
    Answer {
        partial: sources.iter().any(|report| !report.status.is_answer()),
        truncated: plan.iter().zip(&ends).zip(&taken).any(|((_, end), taken)| has_more(end, *taken)),
        verdict: verdict(&pairs),
        next: matches!(question, Question::List { .. }).then(|| next(plan, &ends, &taken)).flatten(),
        notices: Vec::new(),
        items,
        sources,
    }
}

fn has_more(end: &End, taken: usize) -> bool {
    end.result.as_ref().is_ok_and(|supply| supply.has_more_behind(taken))
}

fn report<L>(source: &Planned<L>, end: &End, rows: usize, link: Option<LinkHealth>) -> SourceReport {
    let (status, fault) = match &end.result {
        Ok(_) => (status_of_answer(rows, has_more(end, rows)), None),
        Err(fault) if fault.kind == FaultKind::NotFound => (status_of(fault.kind), None),
        Err(fault) => (status_of(fault.kind), Some(fault.clone())),
    };
    SourceReport {
        source: source.name.clone(),
        status,
        rows,
        took: end.took,
        fault,
        breaker: link.map(|link| link.breaker),
        last_ok_at: link.and_then(|link| link.last_ok_at),
        age: None,
    }
}

/// Where the next page begins. There is one if some source has more rows, or if one that is missing may yet come back; a source
/// that will refuse again (a revoked grant, say) is no reason to keep paging.
fn next<L>(plan: &[Planned<L>], ends: &[End], taken: &[usize]) -> Option<CompositePosition> {
    let mut goes_on = false;
    let sources = plan.iter().zip(ends).zip(taken).map(|((source, end), taken)| {
        let position = match &end.result {
            Ok(supply) => supply.position_behind(*taken),
            Err(_) => source.start.clone(),
        };
        goes_on |= match &end.result {
            Ok(_) => position != SourcePosition::Done,
            Err(fault) => fault.retryable,
        };
        (source.name.clone(), position)
    });
    let sources = sources.collect();
    goes_on.then_some(CompositePosition { sources })
}

/// The peers that the session should be told are offline.
pub(super) fn offline_peers<'a, L>(
    plan: &'a [Planned<L>],
    answer: &'a Answer,
) -> impl Iterator<Item = (&'a SiteName, &'a L)> {
    plan.iter().zip(&answer.sources).filter(|(_, report)| is_offline(report.status)).filter_map(|(source, _)| {
        match (&source.name, &source.link) {
            (SourceName::Peer(peer), Some(link)) => Some((peer, link)),
            _ => None,
        }
    })
}
