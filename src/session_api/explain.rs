//! `_explain`: how a query was run, in terms of the protocol. Nothing of SQL, addresses or other users.

use std::time::Duration;

use mosaic_actors::domain::answer::SourceName;
use mosaic_actors::fan_out::{Answer, CompositePosition, Question, SourcePosition};

use super::question::Prepared;
use crate::wire::session_v1::{Explain, ExplainedSource};

/// The plan behind an answer, one entry per requested source.
pub(super) fn explain(prepared: &Prepared, answer: &Answer, deadline: Duration, peer_budget: Duration) -> Explain {
    let (limit, resume) = match &prepared.question {
        Question::List { limit, resume, .. } => (Some(limit.get()), resume.as_ref()),
        Question::Get { .. } => (None, None),
    };
    let sources = answer
        .sources
        .iter()
        .map(|report| ExplainedSource {
            source: report.source.to_string(),
            limit,
            position: position(&report.source, resume),
            deadline_ms: millis(match report.source {
                SourceName::Local => deadline,
                SourceName::Peer(_) => deadline.min(peer_budget),
            }),
        })
        .collect();
    let resource = prepared.resource.to_string();
    Explain { verb: prepared.verb.as_str(), resource, deadline_ms: millis(deadline), sources }
}

fn position(source: &SourceName, resume: Option<&CompositePosition>) -> &'static str {
    match resume.and_then(|resume| resume.of(source)) {
        None | Some(SourcePosition::Local { after: None } | SourcePosition::Peer { cursor: None, after: None, .. }) => {
            "start"
        }
        Some(SourcePosition::Local { .. } | SourcePosition::Peer { cursor: None, .. }) => "after",
        Some(SourcePosition::Peer { .. }) => "page",
        Some(SourcePosition::Done) => "done",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
