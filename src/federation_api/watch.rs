//! `POST watch`: an answer that stays open and says how the grant stands, as long as it stands; see ADR 25.
//!
//! ```text
//! grant cache publishes ─▶ is what was said still so? ── no ──▶ line, numbered ──▶ asker ──▶ acknowledged (request body) ──▶ audit
//! ```
//!
//! Authority is decided anew for every line, on the snapshot that decides about requests. The stream holds no connection to the
//! database, is none of the requests that a stopping node waits for, and has no place among those that a grant may run at once.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use mosaic_actors::domain::audit::AuditAction;
use mosaic_actors::domain::grant::Grant;
use mosaic_actors::domain::identity::PeerIdentity;
use mosaic_actors::domain::query::Verb;
use mosaic_actors::grant_cache::GrantChanges;
use mosaic_actors::scope_evaluator::{AccessRequest, DenyReason};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::Services;
use super::inbound::Inbound;
use super::watches::{Leave, Place};
use crate::http::ApiError;
use crate::wire::federation_v1::{WATCH_MEDIA_TYPE, WatchAcknowledgement, WatchLine};

/// Longest line of an acknowledgement.
const LINE_BYTES_MAX: usize = 128;
/// News that wait for their acknowledgement; of more, the oldest count as never acknowledged.
const WAITING_MAX: usize = 32;
/// Acknowledgements of nothing that waits; whoever sends more is not listened to any more. Some come for news that waited too long.
const STRAY_MAX: u32 = 64;

/// Says how the grant stands, at once and whenever that changes, with heartbeats in between. A suspended grant may be watched too.
#[utoipa::path(post, path = "/api/federation/v1/watch", tag = "federation",
    request_body(content = WatchAcknowledgement, content_type = "application/x-ndjson",
        description = "A line for each event that was acted on, as long as the answer lasts"),
    responses((status = 200, content_type = "application/x-ndjson", body = WatchLine, description = "A line per event; ends with the grant"),
        (status = 401, description = "The certificate is not one of a grant"),
        (status = 403, description = "The grant does not count (any more); `reason` where the holder may know"),
        (status = 429, description = "Over the grant's limits, or too many watches")),
    security(("client_certificate" = [])))]
pub(crate) async fn watch(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let mut inbound = Inbound::begin(services, &request, AuditAction::Watch, None);
    let span = inbound.span();
    async move {
        // Before the first look: what changes between the look and the wait is news.
        let changes = inbound.services.watches.grants.changes();
        let (identity, place) = inbound.admit_watch(&request).await?;
        inbound.allow(0, 0).await?;
        let now = Instant::now();
        let stream = Stream {
            heartbeat_at: now + place.watches.bounds.heartbeat,
            inbound,
            identity,
            place,
            changes,
            payload: Some(payload),
            line: BytesMut::new(),
            said: None,
            known: None,
            stray: 0,
            number: 0,
            waiting: VecDeque::new(),
            last: None,
        };
        Ok(HttpResponse::Ok()
            .content_type(WATCH_MEDIA_TYPE)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .streaming(stream::unfold(Some(stream), |stream| async {
                let (line, stream) = stream?.next().await?;
                Some((Ok::<_, std::convert::Infallible>(line), stream))
            })))
    }
    .instrument(span)
    .await
}

/// How the grant stands for this holder.
#[derive(Debug, Clone)]
enum Standing {
    /// The rights are not known to be current: nothing may be said about them.
    Unknown,
    Active(Arc<Grant>),
    Suspended,
    Revoked,
    Expired,
    /// Whatever else refuses a request: the certificate, or who it is of, counts no more.
    Ended,
}

impl Standing {
    /// The word for it, as news after `before`; nothing where it is none. `known` is the active grant that was told last, if it was
    /// not suspended since: what changed while the rights were unknown is a change.
    fn news(&self, before: Option<&Self>, known: Option<&Arc<Grant>>) -> Option<&'static str> {
        match (self, before) {
            (Self::Active(grant), Some(Self::Active(known))) => is_other(grant, known).then_some("grant_changed"),
            (Self::Active(grant), _) if known.is_some_and(|known| is_other(grant, known)) => Some("grant_changed"),
            (Self::Unknown, Some(Self::Unknown)) | (Self::Suspended, Some(Self::Suspended)) => None,
            (Self::Active(_), _) => Some("grant_active"),
            (Self::Unknown, _) => Some("rights_unknown"),
            (Self::Suspended, _) => Some("grant_suspended"),
            (Self::Revoked, _) => Some("grant_revoked"),
            (Self::Expired, _) => Some("grant_expired"),
            (Self::Ended, _) => Some("ended"),
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::Ended)
    }
}

/// Whether what the holder may read differs: not for another certificate.
fn is_other(grant: &Arc<Grant>, known: &Arc<Grant>) -> bool {
    !Arc::ptr_eq(grant, known)
        && (grant.version, grant.expires_at, &grant.scope, &grant.subject_teams, grant.limits)
            != (known.version, known.expires_at, &known.scope, &known.subject_teams, known.limits)
}

/// One watch.
struct Stream {
    inbound: Inbound,
    identity: PeerIdentity,
    place: Place,
    changes: GrantChanges,
    /// Acknowledgements; gone when the asker sends no more.
    payload: Option<web::Payload>,
    /// The line that is not whole yet.
    line: BytesMut,
    said: Option<Standing>,
    /// The active grant that was told last, unless it was suspended since.
    known: Option<Arc<Grant>>,
    number: u64,
    waiting: VecDeque<Waiting>,
    stray: u32,
    heartbeat_at: Instant,
    /// Everything is said; until then the last acknowledgement is waited for.
    last: Option<Instant>,
}

/// News that were not acknowledged yet.
struct Waiting {
    number: u64,
    event: &'static str,
    /// Of the grant, when this was said.
    version: Option<i64>,
    since: Instant,
}

impl Stream {
    /// The next line; `None` ends the answer, a line without a stream behind it is the last.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        loop {
            if self.last.is_some() && self.waiting.is_empty() {
                return None;
            }
            if let Some(line) = self.look() {
                return Some((line, Some(self)));
            }
            let (ends, beats) = (self.last, self.wake_at());
            tokio::select! {
                biased;
                leave = self.place.lost() => return Some((goodbye(leave), None)),
                () = self.changes.changed(), if ends.is_none() => {}
                piece = next_piece(&mut self.payload) => self.acknowledged(piece),
                () = sleep_until(ends.unwrap_or(beats)) => {
                    if ends.is_some() {
                        return None;
                    }
                    if Instant::now() >= self.heartbeat_at {
                        return Some((self.line("heartbeat", None), Some(self)));
                    }
                }
            }
        }
    }

    /// What is to be said now, if anything.
    fn look(&mut self) -> Option<Bytes> {
        if self.last.is_some() {
            return None;
        }
        let (standing, version) = self.standing();
        let event = standing.news(self.said.as_ref(), self.known.as_ref())?;
        let now = Instant::now();
        let numbered = event.starts_with("grant_").then(|| {
            self.number += 1;
            if self.waiting.len() >= WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Waiting { number: self.number, event, version, since: now });
            self.number
        });
        if standing.is_last() {
            self.last = Some(now + self.place.watches.bounds.receipt);
            self.waiting.retain(|waiting| Some(waiting.number) == numbered);
        }
        tracing::debug!(event, "a watch says how its grant stands");
        match &standing {
            Standing::Active(grant) => self.known = Some(Arc::clone(grant)),
            Standing::Unknown => {}
            _ => self.known = None,
        }
        self.said = Some(standing);
        Some(self.line(event, numbered))
    }

    /// With the version of the grant that it is the standing of.
    fn standing(&self) -> (Standing, Option<i64>) {
        let request = AccessRequest { verb: Verb::Capabilities, resource: None };
        match self.inbound.services.evaluator.authorize(&self.identity, request) {
            Ok(permit) => {
                let version = permit.grant.version;
                (Standing::Active(permit.grant), Some(version))
            }
            Err(denial) => {
                let standing = match denial.reason {
                    DenyReason::StateUnknown => Standing::Unknown,
                    DenyReason::GrantSuspended => Standing::Suspended,
                    DenyReason::GrantRevoked => Standing::Revoked,
                    DenyReason::GrantExpired => Standing::Expired,
                    _ => Standing::Ended,
                };
                (standing, denial.grant.map(|grant| grant.version))
            }
        }
    }

    fn line(&mut self, event: &str, number: Option<u64>) -> Bytes {
        self.heartbeat_at = Instant::now() + self.place.watches.bounds.heartbeat;
        let version = match &self.said {
            Some(Standing::Active(grant)) if number.is_some() => Some(grant.version),
            _ => None,
        };
        written(&WatchLine { event: event.to_owned(), number, version })
    }

    /// When to look again although nothing was published: for the next heartbeat, or because the grant ends by its date.
    fn wake_at(&self) -> Instant {
        let Some(Standing::Active(grant)) = &self.said else { return self.heartbeat_at };
        let now = self.place.watches.grants.snapshot().now(&*self.inbound.services.clock);
        let left = std::time::Duration::try_from(grant.expires_at - now).unwrap_or_default();
        self.heartbeat_at.min(Instant::now() + left.max(std::time::Duration::from_millis(1)))
    }

    /// Takes a piece of the request's body. Whoever sends what is no acknowledgement is not listened to any more.
    fn acknowledged(&mut self, piece: Option<Bytes>) {
        let Some(piece) = piece else {
            self.payload = None;
            return;
        };
        self.line.extend_from_slice(&piece);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line = self.line.split_to(end + 1);
            match serde_json::from_slice::<WatchAcknowledgement>(&line) {
                Ok(line) => self.receipt(line.acknowledged),
                Err(_) => self.stray = STRAY_MAX,
            }
            if self.stray >= STRAY_MAX {
                self.payload = None;
                return;
            }
        }
        if self.line.len() > LINE_BYTES_MAX {
            self.payload = None;
        }
    }

    /// Has it written down that the holder acted on a change, and how long that took. News do not wait for that.
    fn receipt(&mut self, number: u64) {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.number == number) else {
            self.stray += 1;
            return;
        };
        let Some(waiting) = self.waiting.remove(at) else { return };
        // The first is no change: it tells a holder that comes back how things stand.
        if number > 1 {
            self.inbound.receipt(waiting.event, waiting.version, waiting.since.elapsed());
        }
    }
}

/// The next piece of the body; waits for ever when there is none any more.
async fn next_piece(payload: &mut Option<web::Payload>) -> Option<Bytes> {
    match payload {
        Some(payload) => payload.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}

fn goodbye(leave: Leave) -> Bytes {
    let event = match leave {
        Leave::Closing => "closing",
        Leave::Superseded => "superseded",
    };
    written(&WatchLine { event: event.to_owned(), number: None, version: None })
}

fn written(line: &WatchLine) -> Bytes {
    let mut writer = BytesMut::with_capacity(96).writer();
    serde_json::to_writer(&mut writer, line).expect("invariant: a line of a watch is JSON");
    let mut bytes = writer.into_inner();
    bytes.put_u8(b'\n');
    bytes.freeze()
}
