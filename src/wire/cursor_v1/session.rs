//! The cursor of a session's query: a position per source, so that paging goes on in each where it stopped.

use mosaic_actors::domain::answer::SourceName;
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::{SiteName, UserId};
use mosaic_actors::domain::query::{Position, RowId, SourceSelector, Verb};
use mosaic_actors::fan_out::{CompositePosition, SourcePosition};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{VERSION, foreign, micros, open, seal};
use crate::secrets::MacKey;

/// What a session's cursor continues: it means nothing to another user or another question.
#[derive(Debug, Clone, Copy)]
pub struct SessionCursorBinding<'a> {
    pub user: UserId,
    pub verb: Verb,
    pub resource: &'a ResourceName,
    /// [`canonical_where`](crate::wire::where_v1::canonical_where); empty without a filter.
    pub filter: &'a [u8],
    pub sources: &'a SourceSelector,
}

/// The cursor behind a blended page. It grows with the number of sources; the edge compares it with its limit.
#[must_use]
pub fn encode_session_cursor(key: &MacKey, binding: SessionCursorBinding<'_>, position: &CompositePosition) -> String {
    let wire = WireComposite {
        v: VERSION,
        s: position
            .sources
            .iter()
            .map(|(source, position)| WireSource { n: source.as_str().into(), p: WirePosition::from(position) })
            .collect(),
    };
    let payload = serde_json::to_vec(&wire).expect("invariant: texts and numbers are JSON");
    bound(&binding, |parts| seal(key, payload, parts))
}

/// The positions in a session's cursor of at most `chars_max` characters; 400 for any that this key did not make for this
/// binding.
pub fn decode_session_cursor(
    key: &MacKey,
    binding: SessionCursorBinding<'_>,
    cursor: &str,
    chars_max: usize,
) -> Result<CompositePosition, Fault> {
    let payload = bound(&binding, |parts| open(key, cursor, chars_max, parts))?;
    let wire: WireComposite = serde_json::from_slice(&payload).map_err(|_| foreign())?;
    let sources = wire.s.into_iter().map(WireSource::parsed).collect::<Option<_>>();
    sources.filter(|_| wire.v == VERSION).map(|sources| CompositePosition { sources }).ok_or_else(foreign)
}

fn bound<T>(binding: &SessionCursorBinding<'_>, with: impl FnOnce(&[&[u8]]) -> T) -> T {
    let (kind, peer) = match binding.sources {
        SourceSelector::Local => ("local", ""),
        SourceSelector::All => ("all", ""),
        SourceSelector::Peer(peer) => ("federated", peer.as_str()),
    };
    with(&[
        b"session",
        binding.user.0.as_bytes(),
        binding.verb.as_str().as_bytes(),
        binding.resource.as_str().as_bytes(),
        binding.filter,
        kind.as_bytes(),
        peer.as_bytes(),
    ])
}

// Short names: this is repeated per source, inside base64.

#[derive(Serialize, Deserialize)]
struct WireComposite {
    v: u8,
    s: Vec<WireSource>,
}

#[derive(Serialize, Deserialize)]
struct WireSource {
    n: Box<str>,
    #[serde(flatten)]
    p: WirePosition,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "k")]
enum WirePosition {
    #[serde(rename = "l")]
    Local {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        a: Option<WireAfter>,
    },
    #[serde(rename = "p")]
    Peer {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        c: Option<Box<str>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        a: Option<WireAfter>,
        t: u32,
    },
    #[serde(rename = "d")]
    Done,
}

/// Microseconds since 1970 and an id.
#[derive(Serialize, Deserialize)]
struct WireAfter(i64, Box<str>);

impl From<&SourcePosition> for WirePosition {
    fn from(position: &SourcePosition) -> Self {
        let after = |after: &Option<Position>| after.as_ref().map(WireAfter::from);
        match position {
            SourcePosition::Local { after: a } => Self::Local { a: after(a) },
            SourcePosition::Peer { cursor, after: a, taken } => {
                Self::Peer { c: cursor.clone(), a: after(a), t: *taken }
            }
            SourcePosition::Done => Self::Done,
        }
    }
}

impl From<&Position> for WireAfter {
    fn from(position: &Position) -> Self {
        Self(micros(position.created_at), position.id.as_str().into())
    }
}

impl WireAfter {
    fn parsed(self) -> Option<Position> {
        let created_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).ok()?;
        Some(Position { created_at, id: RowId::parse(&self.1).ok()? })
    }
}

impl WireSource {
    fn parsed(self) -> Option<(SourceName, SourcePosition)> {
        let name =
            if &*self.n == "local" { SourceName::Local } else { SourceName::Peer(SiteName::parse(&self.n).ok()?) };
        let after = |after: Option<WireAfter>| match after {
            None => Some(None),
            Some(after) => after.parsed().map(Some),
        };
        let position = match self.p {
            WirePosition::Local { a } => SourcePosition::Local { after: after(a)? },
            WirePosition::Peer { c, a, t } => SourcePosition::Peer { cursor: c, after: after(a)?, taken: t },
            WirePosition::Done => SourcePosition::Done,
        };
        Some((name, position))
    }
}
