//! From a parsed request to a question for the fan-out: what it names is looked up in this site's catalog.

use std::num::NonZeroU32;

use bytes::Bytes;
use mosaic_actors::domain::catalog::{Catalog, ResourceName};
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::UserId;
use mosaic_actors::domain::query::{Filter, SourceSelector, Verb};
use mosaic_actors::fan_out::{CompositePosition, LocalPart, Question};
use serde_json::value::RawValue;

use crate::secrets::MacKey;
use crate::wire::cursor_v1::{SessionCursorBinding, decode_session_cursor, encode_session_cursor};
use crate::wire::session_v1::{Asked, QueryRequest};
use crate::wire::where_v1::{WhereLimits, canonical_where_within, parse_where_within};

/// Makes the question, and remembers what its next cursor will be bound to.
pub(super) struct Questioner<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) cursor_key: &'a MacKey,
    pub(super) cursor_max_bytes: usize,
    pub(super) filter: WhereLimits,
    pub(super) user: UserId,
    /// Whether this user has a link at all: without one, this site is the only that could know a resource.
    pub(super) has_links: bool,
}

/// A question, ready to be run.
pub(super) struct Prepared {
    pub(super) question: Question,
    pub(super) resource: ResourceName,
    pub(super) verb: Verb,
    /// Canonical `where`; empty without one.
    filter: Bytes,
}

impl Questioner<'_> {
    /// 400 for a resource or field that cannot be asked here, and for a foreign cursor.
    pub(super) fn prepare(&self, request: &QueryRequest) -> Result<Prepared, Fault> {
        match &request.asked {
            Asked::List { resource, limit, filter, cursor } => {
                self.prepare_list(request, resource, *limit, filter.as_deref(), cursor.as_deref())
            }
            Asked::Get { resource, id } => {
                let local = self.local(resource, None, &request.source)?;
                let question = Question::Get { resource: resource.clone(), id: id.clone(), local };
                Ok(Prepared { question, resource: resource.clone(), verb: Verb::Get, filter: Bytes::new() })
            }
        }
    }

    fn prepare_list(
        &self,
        request: &QueryRequest,
        resource: &ResourceName,
        limit: NonZeroU32,
        filter: Option<&RawValue>,
        cursor: Option<&str>,
    ) -> Result<Prepared, Fault> {
        let local = self.local(resource, filter, &request.source)?;
        let filter_json = filter.map(|raw| canonical_where_within(raw, &self.filter)).transpose()?;
        let filter = filter_json.clone().unwrap_or_default();
        let binding = self.binding(Verb::List, resource, &filter, &request.source);
        let resume = cursor
            .map(|cursor| decode_session_cursor(self.cursor_key, binding, cursor, self.cursor_max_bytes))
            .transpose()?;
        let question = Question::List { resource: resource.clone(), limit, local, filter_json, resume };
        Ok(Prepared { question, resource: resource.clone(), verb: Verb::List, filter })
    }

    /// The local part. A peer may know resources and fields that this site does not, so that a question for one peer alone is
    /// checked by that peer.
    fn local(
        &self,
        resource: &ResourceName,
        filter: Option<&RawValue>,
        source: &SourceSelector,
    ) -> Result<LocalPart, Fault> {
        match (self.catalog.get(resource), source) {
            (_, SourceSelector::Peer(_)) => Ok(LocalPart::UnknownHere),
            (Some(known), _) => {
                let filter = filter.map(|raw| parse_where_within(raw, known, &self.filter)).transpose()?;
                Ok(LocalPart::Read(filter.unwrap_or_else(Filter::default)))
            }
            (None, SourceSelector::All) if self.has_links => Ok(LocalPart::UnknownHere),
            (None, SourceSelector::Local | SourceSelector::All) => Err(Fault::invalid(format!(
                "'resource' is '{resource}', which this site does not have; GET /api/v1/whoami lists what it has"
            ))),
        }
    }

    /// The cursor behind an answer. None when no page follows, or when it would be too large to come back.
    pub(super) fn next_cursor(
        &self,
        prepared: &Prepared,
        source: &SourceSelector,
        next: Option<&CompositePosition>,
    ) -> Option<String> {
        let binding = self.binding(prepared.verb, &prepared.resource, &prepared.filter, source);
        let next = next?;
        let cursor = encode_session_cursor(self.cursor_key, binding, next);
        if cursor.len() > self.cursor_max_bytes {
            tracing::warn!(
                sources = next.sources.len(),
                bytes = cursor.len(),
                "a cursor over too many sources was left out"
            );
            return None;
        }
        Some(cursor)
    }

    fn binding<'a>(
        &self,
        verb: Verb,
        resource: &'a ResourceName,
        filter: &'a [u8],
        sources: &'a SourceSelector,
    ) -> SessionCursorBinding<'a> {
        SessionCursorBinding { user: self.user, verb, resource, filter, sources }
    }
}
