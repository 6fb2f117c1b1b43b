//! What a link knows and decides, without the actor around it.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::admission::{Admission, Decision, Outcome, Refusal, Ticket};
use super::status::{LinkStatus, PeerLinkLimits, Published};
use super::watching::WatchStatus;
use crate::domain::answer::BreakerState;
use crate::domain::fault::{Fault, FaultKind, Stage};
use crate::domain::link::{Link, LinkCredentials, LinkState};
use crate::ports::peer_transport::PeerAnswer;

/// How much of the moving average a new latency makes.
const LATENCY_WEIGHT: f64 = 0.2;
/// What an asker over the in-flight cap is told to wait: about one call.
const FULL_HINT: Duration = Duration::from_millis(100);

pub(super) struct LinkCore {
    link: Link,
    limits: PeerLinkLimits,
    admission: Admission,
    /// While the peer says "suspended": not before then is it asked again.
    suspended_until: Option<Instant>,
    /// An admin wants to know whether the peer still refuses: one call goes out whatever the state says.
    recheck: bool,
    /// What the peer told and the store does not know yet; until it does, its own state is older than ours.
    unrecorded: Option<LinkState>,
    /// What the peer said last on the watch that is open: while there is one, nobody has to ask.
    watched: Option<LinkState>,
    /// Counts what was said there: a refusal of a call that began before says nothing any more.
    edition: u64,
    /// Not before then does contact from the peer let an open breaker probe again.
    contact_at: Option<Instant>,
    draining: bool,
    latency: Option<Duration>,
    last_ok_at: Option<OffsetDateTime>,
    last_contact_at: Option<OffsetDateTime>,
    last_fault: Option<(OffsetDateTime, Fault)>,
    restarts: u32,
    refused: u64,
    renewal_failures: u32,
}

/// What a newer version of the link changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Update {
    /// Nothing of the way to the peer.
    Same,
    /// The certificate: what was learned still holds.
    Renewed,
    /// Where or as whom it connects: what was learned on the old way is void.
    Moved,
}

/// One call that goes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permission {
    ticket: Ticket,
    began: Instant,
    deadline: Instant,
    /// The link's state when the call began: an answer says nothing about a state that came later.
    state: LinkState,
    /// Of what the watch had said by then.
    edition: u64,
}

/// What a call's end means beyond its own answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Learned {
    /// To be recorded.
    pub(super) state: Option<LinkState>,
    /// The peer refused what its capabilities seemed to allow.
    pub(super) capabilities_outdated: bool,
}

impl LinkCore {
    /// `before`: what an earlier incarnation of the link published last.
    pub(super) fn new(link: Link, limits: PeerLinkLimits, before: Option<&LinkStatus>, now: Instant) -> Self {
        Self {
            link,
            limits,
            admission: Admission::new(limits.admission, now),
            suspended_until: None,
            recheck: false,
            unrecorded: None,
            watched: None,
            edition: 0,
            contact_at: None,
            draining: false,
            latency: before.and_then(|status| status.latency),
            last_ok_at: before.and_then(|status| status.last_ok_at),
            last_contact_at: before.and_then(|status| status.last_contact_at),
            last_fault: before.and_then(|status| status.last_fault.clone()),
            restarts: before.map_or(0, |status| status.restarts + 1),
            refused: 0,
            renewal_failures: 0,
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn is_idle(&self) -> bool {
        self.admission.in_flight() == 0
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn unrecorded(&self) -> Option<LinkState> {
        self.unrecorded
    }

    pub(super) fn recorded(&mut self, state: LinkState) {
        self.unrecorded.take_if(|unrecorded| *unrecorded == state);
    }

    /// Lets one call out, or says why not, which costs no network.
    pub(super) fn admit(&mut self, deadline: Instant, now: Instant, wall: OffsetDateTime) -> Result<Permission, Fault> {
        let admitted = self.is_open(now, wall).and_then(|()| match self.admission.admit(now) {
            Decision::Admit(ticket) | Decision::Probe(ticket) => Ok(ticket),
            Decision::Refuse(refusal) => Err(refused(refusal)),
        });
        match admitted {
            Ok(ticket) => {
                self.recheck = false;
                if self.link.state == LinkState::Suspended {
                    self.suspended_until = Some(now + self.limits.suspended_probe);
                }
                Ok(Permission { ticket, began: now, deadline, state: self.link.state, edition: self.edition })
            }
            Err(fault) => {
                self.refused += 1;
                Err(fault)
            }
        }
    }

    /// Whether the grant's state and the certificate allow a call at all.
    fn is_open(&self, now: Instant, wall: OffsetDateTime) -> Result<(), Fault> {
        let refuse = |kind| Err(Fault::new(kind, Stage::Admission));
        if self.draining {
            return refuse(FaultKind::Unavailable);
        }
        match self.link.state {
            LinkState::Pending => return refuse(FaultKind::GrantPending),
            LinkState::Revoked if !self.recheck => return refuse(FaultKind::GrantRevoked),
            LinkState::Expired if !self.recheck => return refuse(FaultKind::GrantExpired),
            // It will be said on the watch when that changes.
            LinkState::Suspended if !self.recheck && self.watched == Some(LinkState::Suspended) => {
                return refuse(FaultKind::GrantSuspended);
            }
            LinkState::Suspended if !self.recheck => {
                let wait = self.suspended_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
                if !wait.is_zero() {
                    return Err(Fault::new(FaultKind::GrantSuspended, Stage::Admission).after(wait));
                }
            }
            _ => {}
        }
        if wall >= self.link.credentials.not_after {
            return Err(certificate_ended());
        }
        Ok(())
    }

    /// Takes the end of a call; `None` when its caller left before.
    pub(super) fn settle(
        &mut self,
        permission: Permission,
        result: Option<&Result<PeerAnswer, Fault>>,
        now: Instant,
        wall: OffsetDateTime,
        jitter: f64,
    ) -> Learned {
        let patient = permission.deadline.saturating_duration_since(permission.began) >= self.limits.admission.patience;
        let outcome = result.map_or(Outcome::Abandoned, |result| outcome_of(result, patient));
        self.admission.settle(permission.ticket, outcome, now, jitter);
        let Some(result) = result else { return Learned::default() };
        if matches!(outcome, Outcome::Answered | Outcome::Told(_)) {
            self.last_contact_at = Some(wall);
        }
        match result {
            Ok(_) => self.note_ok(now.saturating_duration_since(permission.began), wall),
            Err(fault) if fault.kind == FaultKind::NotFound => {
                self.note_ok(now.saturating_duration_since(permission.began), wall);
            }
            // What is wrong with a question says nothing about the link.
            Err(fault) if fault.kind == FaultKind::InvalidRequest => {}
            Err(fault) => self.last_fault = Some((wall, fault.clone())),
        }
        Learned {
            state: self.learn_state(permission, result, now),
            capabilities_outdated: matches!(result, Err(fault) if fault.kind == FaultKind::ScopeViolation),
        }
    }

    fn note_ok(&mut self, took: Duration, wall: OffsetDateTime) {
        self.last_ok_at = Some(wall);
        self.latency = Some(
            self.latency.map_or(took, |average| average.mul_f64(1.0 - LATENCY_WEIGHT) + took.mul_f64(LATENCY_WEIGHT)),
        );
    }

    fn learn_state(
        &mut self,
        permission: Permission,
        result: &Result<PeerAnswer, Fault>,
        now: Instant,
    ) -> Option<LinkState> {
        let told = match result {
            Err(fault) => match fault.kind {
                FaultKind::GrantRevoked => LinkState::Revoked,
                FaultKind::GrantExpired => LinkState::Expired,
                FaultKind::GrantSuspended => LinkState::Suspended,
                FaultKind::NotFound | FaultKind::ScopeViolation => LinkState::Active,
                _ => return None,
            },
            Ok(_) => LinkState::Active,
        };
        if told != LinkState::Active && permission.edition != self.edition {
            return None;
        }
        let barred = [LinkState::Suspended, LinkState::Revoked, LinkState::Expired];
        if told == LinkState::Active && !(barred.contains(&self.link.state) && permission.state == self.link.state) {
            return None;
        }
        if told == LinkState::Suspended {
            self.suspended_until = Some(now + self.limits.suspended_probe);
        }
        if told == self.link.state {
            return None;
        }
        self.link.state = told;
        self.unrecorded = Some(told);
        Some(told)
    }

    /// Takes what the peer said on its watch: it is heard in the order in which it happened, so it counts whatever was known.
    /// Returns the state to be recorded, if it is another one.
    pub(super) fn told(&mut self, told: LinkState, wall: OffsetDateTime) -> Option<LinkState> {
        self.last_contact_at = Some(wall);
        self.watched = Some(told);
        self.edition += 1;
        self.suspended_until = None;
        // That the certificate could not be renewed is this side's matter.
        let is_same = told == self.link.state || (told == LinkState::Active && self.link.state == LinkState::Degraded);
        if is_same {
            return None;
        }
        self.link.state = told;
        self.unrecorded = Some(told);
        Some(told)
    }

    /// A sign of life that says nothing about the grant.
    pub(super) fn heard(&mut self, wall: OffsetDateTime) {
        self.last_contact_at = Some(wall);
    }

    /// The watch ended: what it said last holds until an answer says otherwise.
    pub(super) fn unwatched(&mut self) {
        self.watched = None;
    }

    /// Whether a watch would have anything to tell.
    pub(super) fn can_watch(&self, wall: OffsetDateTime) -> bool {
        !self.draining
            && wall < self.link.credentials.not_after
            && matches!(self.link.state, LinkState::Active | LinkState::Degraded | LinkState::Suspended)
    }

    /// The peer was heard from: an open breaker lets the next call probe, but not so often that a peer that speaks to us and fails
    /// us is asked all the time. True when there is reason to probe.
    pub(super) fn contact(&mut self, now: Instant) -> bool {
        let probes = self.admission.state() == BreakerState::Open && self.contact_at.is_none_or(|at| now >= at);
        if probes {
            self.contact_at = Some(now + self.limits.contact_probe);
            self.admission.probe_at_once(now);
        }
        probes
    }

    /// Takes the link as the store has it now.
    pub(super) fn update(&mut self, mut link: Link, now: Instant) -> Update {
        if is_other_way(&self.link, &link) {
            self.admission = Admission::new(self.limits.admission, now);
            self.suspended_until = None;
            self.unrecorded = None;
            self.watched = None;
            self.edition += 1;
            self.contact_at = None;
            self.renewal_failures = 0;
            self.link = link;
            return Update::Moved;
        }
        if let Some(state) = self.unrecorded {
            link.state = state;
        } else if let Some(told) = self.watched {
            // What another replica wrote late.
            let degraded = told == LinkState::Active && link.state == LinkState::Degraded;
            link.state = if degraded { link.state } else { told };
        }
        // Read before a renewal that this replica has made since.
        if link.credentials.key_version < self.link.credentials.key_version {
            link.credentials = self.link.credentials.clone();
        }
        let renewed = is_other_certificate(&self.link.credentials, &link.credentials);
        self.link = link;
        if !renewed {
            return Update::Same;
        }
        self.renewal_failures = 0;
        // Should the old certificate have been what failed, the new one need not wait.
        self.admission.probe_at_once(now);
        Update::Renewed
    }

    /// Whether a renewal makes sense. One that was `asked` for may find out what the peer says now.
    pub(super) fn can_renew(&self, asked: bool, wall: OffsetDateTime) -> Result<(), Fault> {
        if self.draining {
            return Err(Fault::new(FaultKind::Unavailable, Stage::Admission));
        }
        if wall >= self.link.credentials.not_after {
            return Err(certificate_ended());
        }
        let refuse = |kind| Err(Fault::new(kind, Stage::Admission));
        match self.link.state {
            LinkState::Pending => refuse(FaultKind::GrantPending),
            LinkState::Suspended if !asked => refuse(FaultKind::GrantSuspended),
            LinkState::Revoked if !asked => refuse(FaultKind::GrantRevoked),
            LinkState::Expired if !asked => refuse(FaultKind::GrantExpired),
            _ => Ok(()),
        }
    }

    /// The store has these credentials now, and with them no degraded link.
    pub(super) fn renewed(&mut self, credentials: LinkCredentials, now: Instant) -> Update {
        let state = if self.link.state == LinkState::Degraded { LinkState::Active } else { self.link.state };
        self.recorded(LinkState::Degraded);
        self.update(Link { credentials, state, ..self.link.clone() }, now)
    }

    /// A renewal failed. Returns the state to be recorded, if it is another one.
    pub(super) fn renewal_failed(
        &mut self,
        fault: &Fault,
        failures: u32,
        alarming: bool,
        wall: OffsetDateTime,
    ) -> Option<LinkState> {
        self.renewal_failures = failures;
        self.note_fault(fault.clone(), wall);
        let state = match fault.kind {
            FaultKind::GrantRevoked => LinkState::Revoked,
            FaultKind::GrantExpired => LinkState::Expired,
            FaultKind::GrantSuspended => LinkState::Suspended,
            _ if alarming && self.link.state == LinkState::Active => LinkState::Degraded,
            _ => return None,
        };
        if state == self.link.state {
            return None;
        }
        self.link.state = state;
        self.unrecorded = Some(state);
        Some(state)
    }

    /// An admin, or the peer itself, gives reason to look now.
    pub(super) fn probe_at_once(&mut self, now: Instant) {
        self.admission.probe_at_once(now);
        self.recheck = true;
    }

    pub(super) fn note_fault(&mut self, fault: Fault, wall: OffsetDateTime) {
        self.last_fault = Some((wall, fault));
    }

    /// A permission whose call never went out.
    pub(super) fn take_back(&mut self, permission: Permission, now: Instant) {
        self.admission.settle(permission.ticket, Outcome::Abandoned, now, 0.0);
    }

    pub(super) fn published(&self) -> Published {
        let status = LinkStatus {
            link: self.link.id,
            peer: self.link.peer.clone(),
            owner: self.link.owner,
            shared_with: self.link.shared_with.clone(),
            state: self.link.state,
            breaker: self.admission.state(),
            breaker_retry_in: None,
            in_flight: self.admission.in_flight(),
            latency: self.latency,
            last_ok_at: self.last_ok_at,
            last_contact_at: self.last_contact_at,
            last_fault: self.last_fault.clone(),
            certificate_not_after: self.link.credentials.not_after,
            restarts: self.restarts,
            refused: self.refused,
            renewal_failures: self.renewal_failures,
            watch: WatchStatus::Off,
            injected: None,
        };
        Published { status, retry_at: self.admission.retry_at() }
    }
}

fn refused(refusal: Refusal) -> Fault {
    let fault = |kind, wait| Fault::new(kind, Stage::Admission).after(wait);
    match refusal {
        Refusal::BreakerOpen { retry_in } => fault(FaultKind::BreakerOpen, retry_in),
        Refusal::Told { retry_in } => fault(FaultKind::RateLimited, retry_in),
        Refusal::Full => fault(FaultKind::RateLimited, FULL_HINT),
    }
}

/// What counts against a peer (node.md, "Links"): silence, broken connections, 5xx and answers that cannot be used.
fn outcome_of(result: &Result<PeerAnswer, Fault>, patient: bool) -> Outcome {
    let Err(fault) = result else { return Outcome::Answered };
    // Our own certificate, or its key: nothing was sent.
    if fault.kind == FaultKind::CertificateExpired || is_unusable(fault) {
        return Outcome::Abandoned;
    }
    match fault.kind {
        FaultKind::TimedOut if !patient => Outcome::Abandoned,
        FaultKind::TimedOut
        | FaultKind::Unreachable
        | FaultKind::BadAnswer
        | FaultKind::Unavailable
        | FaultKind::Internal => Outcome::Failed,
        FaultKind::RateLimited => Outcome::Told(fault.retry_after),
        _ => Outcome::Answered,
    }
}

/// Whether what the link has was of no use, so that the peer was not even asked.
pub(super) fn is_unusable(fault: &Fault) -> bool {
    (fault.kind, fault.stage) == (FaultKind::Internal, Stage::Tls)
}

/// Nothing is dialled any more; the owner would refuse the handshake without saying why.
fn certificate_ended() -> Fault {
    Fault::new(FaultKind::CertificateExpired, Stage::Admission)
        .with_message("the link's certificate has ended; enrol again with a new invite of the other site")
}

/// Whether two versions of a link differ in where or as whom they connect.
fn is_other_way(old: &Link, new: &Link) -> bool {
    old.peer != new.peer
        || old.grant != new.grant
        || old.federation_url != new.federation_url
        || old.allow_private != new.allow_private
        || old.credentials.pinned_root != new.credentials.pinned_root
}

/// Whether they differ in the certificate alone.
fn is_other_certificate(old: &LinkCredentials, new: &LinkCredentials) -> bool {
    old.serial != new.serial
        || old.certificate_chain != new.certificate_chain
        || old.sealed_key != new.sealed_key
        || old.key_version != new.key_version
}
