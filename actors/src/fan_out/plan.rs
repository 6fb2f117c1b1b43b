//! Which sources a question goes to, and where each of them begins. Pure.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::merge::{CompositePosition, SourcePosition};
use crate::domain::answer::{BlendedRow, Capabilities, Notice, SourceName, SourceReport};
use crate::domain::catalog::ResourceName;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::identity::{RequestId, Session, SiteName};
use crate::domain::link::LinkState;
use crate::domain::query::{Filter, RowId, SourceSelector, Verb};

/// A session's question.
#[derive(Debug, Clone)]
pub struct RunQuery {
    pub session: Session,
    pub question: Question,
    pub sources: SourceSelector,
    /// Sources without which the answer counts as failed.
    pub require: Vec<SourceName>,
    /// The answer leaves then, with whatever is there.
    pub deadline: Instant,
    pub request: RequestId,
    pub traceparent: Option<Box<str>>,
}

#[derive(Debug, Clone)]
pub enum Question {
    List {
        resource: ResourceName,
        /// Rows of all sources together.
        limit: NonZeroU32,
        local: LocalPart,
        /// `where` for the peers, as canonical JSON.
        filter_json: Option<Bytes>,
        /// Where the page before this one ended.
        resume: Option<CompositePosition>,
    },
    Get {
        resource: ResourceName,
        id: RowId,
        local: LocalPart,
    },
}

/// What the question means for this site's own rows.
#[derive(Debug, Clone)]
pub enum LocalPart {
    /// The filter, typed by the local catalog; empty for `Get`.
    Read(Filter),
    /// The resource is not in the local catalog.
    UnknownHere,
}

/// What one source sent, handed on as soon as it was there.
#[derive(Clone)]
pub struct Block {
    pub source: SourceName,
    /// One JSON object each, in the source's own order.
    pub rows: Vec<Bytes>,
}

/// What there is to tell, however much of it failed.
#[derive(Clone)]
pub struct Answer {
    pub items: Vec<BlendedRow>,
    /// Some requested source is missing.
    pub partial: bool,
    /// Some source that answered has more rows.
    pub truncated: bool,
    /// One per requested source, by name with `local` first.
    pub sources: Vec<SourceReport>,
    pub notices: Vec<Notice>,
    /// Where the next page begins: there are more rows, or a missing source may yet come back.
    pub next: Option<CompositePosition>,
    pub verdict: Verdict,
}

/// Whether the answer counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Answered,
    AllFailed,
    AllTimedOut,
    RequiredFailed,
    RequiredTimedOut,
}

impl Question {
    pub(super) fn verb(&self) -> Verb {
        match self {
            Self::List { .. } => Verb::List,
            Self::Get { .. } => Verb::Get,
        }
    }

    pub(super) fn resource(&self) -> &ResourceName {
        match self {
            Self::List { resource, .. } | Self::Get { resource, .. } => resource,
        }
    }

    pub(super) fn local(&self) -> &LocalPart {
        match self {
            Self::List { local, .. } | Self::Get { local, .. } => local,
        }
    }

    fn resume(&self) -> Option<&CompositePosition> {
        match self {
            Self::List { resume, .. } => resume.as_ref(),
            Self::Get { .. } => None,
        }
    }
}

/// A link that the session may ask over, and what is known of it.
pub(super) struct Candidate<L> {
    pub(super) peer: SiteName,
    pub(super) state: LinkState,
    pub(super) capabilities: Option<Arc<Capabilities>>,
    pub(super) link: L,
}

/// One requested source.
pub(super) struct Planned<L> {
    pub(super) name: SourceName,
    pub(super) required: bool,
    /// `None` for the local source.
    pub(super) link: Option<L>,
    /// Where its rows begin; kept for the next page if this one gets nothing of it.
    pub(super) start: SourcePosition,
    pub(super) step: Step,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Ask,
    /// An earlier page had its last row.
    Done,
    /// Known to be refused: no call.
    Refuse(Fault),
}

/// Plans a question over the session's links. Fails only for what cannot be asked at all.
pub(super) fn plan<L>(
    question: &Question,
    selector: &SourceSelector,
    require: &[SourceName],
    links: Vec<Candidate<L>>,
) -> Result<Vec<Planned<L>>, Fault> {
    if let Some(unknown) = unknown_source(selector, require, &links) {
        return Err(Fault::new(FaultKind::UnknownSource, Stage::Plan)
            .with_message(format!("there is no source 'federated:{unknown}' for this session; `status` lists yours")));
    }
    let mut sources = Vec::with_capacity(links.len() + 1);
    if matches!(selector, SourceSelector::Local | SourceSelector::All) {
        let step = match question.local() {
            LocalPart::Read(_) => Step::Ask,
            LocalPart::UnknownHere => Step::Refuse(Fault::new(FaultKind::ScopeViolation, Stage::Plan)),
        };
        sources.push(planned(question, SourceName::Local, None, require, step)?);
    }
    for candidate in links {
        let selected = match selector {
            SourceSelector::Local => false,
            SourceSelector::All => true,
            SourceSelector::Peer(name) => candidate.peer == *name,
        };
        if selected {
            let step = prune(&candidate, question).map_or(Step::Ask, Step::Refuse);
            sources.push(planned(question, SourceName::Peer(candidate.peer), Some(candidate.link), require, step)?);
        }
    }
    if let Some(name) = require.iter().find(|name| !sources.iter().any(|source| source.name == **name)) {
        return Err(Fault::new(FaultKind::InvalidRequest, Stage::Plan)
            .with_message(format!("require names '{name}', which `source` does not select")));
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

fn unknown_source<'a, L>(
    selector: &'a SourceSelector,
    require: &'a [SourceName],
    links: &[Candidate<L>],
) -> Option<&'a SiteName> {
    let selected = match selector {
        SourceSelector::Peer(name) => Some(name),
        SourceSelector::Local | SourceSelector::All => None,
    };
    let required = require.iter().filter_map(|name| match name {
        SourceName::Peer(name) => Some(name),
        SourceName::Local => None,
    });
    selected.into_iter().chain(required).find(|name| !links.iter().any(|candidate| candidate.peer == **name))
}

fn planned<L>(
    question: &Question,
    name: SourceName,
    link: Option<L>,
    require: &[SourceName],
    step: Step,
) -> Result<Planned<L>, Fault> {
    let resumed = question.resume().and_then(|position| position.of(&name)).cloned();
    let start = resumed.unwrap_or_else(|| SourcePosition::start_of(&name));
    if !start.fits(&name) {
        return Err(Fault::invalid("cursor does not belong to these sources"));
    }
    let step = if start == SourcePosition::Done { Step::Done } else { step };
    Ok(Planned { required: require.contains(&name), name, link, start, step })
}

/// Why the peer need not be asked, as its own capabilities say. A link that is barred tells its reason itself.
fn prune<L>(candidate: &Candidate<L>, question: &Question) -> Option<Fault> {
    if !matches!(candidate.state, LinkState::Active | LinkState::Degraded) {
        return None;
    }
    let capabilities = candidate.capabilities.as_ref()?;
    let names = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    let resource = question.resource().as_str();
    if !names(&capabilities.resources, resource) || names(&capabilities.excluded_resources, resource) {
        return Some(Fault::new(FaultKind::ScopeViolation, Stage::Plan));
    }
    if !names(&capabilities.supported_verbs, question.verb().as_str()) {
        return Some(Fault::new(FaultKind::Incompatible, Stage::Plan));
    }
    None
}
