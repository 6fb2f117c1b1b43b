//! Redeeming an invite: a new key, one request to the owner's enrolment listener, and a distrustful look at the answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{GrantId, LinkId, Serial, SiteName, UserId};
use mosaic_actors::domain::link::LinkCredentials;
use mosaic_actors::ports::clock::Clock;
use time::OffsetDateTime;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::address::PeerUrl;
use super::connection::{Dial, TlsSource};
use super::exchange::{Pool, RawAnswer, exchange};
use super::limits::PeerLimits;
use super::refusal::{Missing, refusal};
use super::scan::scan;
use crate::pki::csr::{NewKey, new_key_and_csr};
use crate::pki::invite::Invite;
use crate::pki::issued::{Received, check_received};
use crate::pki::link_key::{FIRST_KEY_VERSION, seal_link_key};
use crate::secrets::Sealer;
use crate::tls::{PinnedRoot, enroll_client_config};
use crate::wire::federation_v1::{BASE_PATH, EnrollAnswer, EnrollRequest};

/// Largest answer to an enrolment: a few certificates.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

/// Redeems invites of other sites.
#[derive(Clone)]
pub struct EnrollmentClient {
    clock: Arc<dyn Clock>,
    limits: PeerLimits,
}

/// What an enrolment yields: everything that a link is made of, but for whose it is.
pub struct Enrolled {
    /// What the owner's site calls itself; the same as in the invite.
    pub site: SiteName,
    pub grant: GrantId,
    pub subject: UserId,
    /// `https://host:port`.
    pub federation_url: String,
    pub enroll_url: String,
    /// DER of the root that the invite's fingerprint names.
    pub pinned_root: Vec<u8>,
    /// DER, leaf first, without the root.
    pub certificate_chain: Vec<Vec<u8>>,
    pub serial: Serial,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// PKCS#8 DER of the key made for this enrolment. Seal it before it is stored.
    pub key_pkcs8: Zeroizing<Vec<u8>>,
}

impl Enrolled {
    /// The credentials of the link `link`, its key sealed for that link's row.
    #[must_use]
    pub fn credentials(&self, link: LinkId, sealer: &Sealer) -> LinkCredentials {
        LinkCredentials {
            serial: self.serial.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            certificate_chain: self.certificate_chain.clone(),
            sealed_key: seal_link_key(sealer, link, FIRST_KEY_VERSION, &self.key_pkcs8),
            key_version: FIRST_KEY_VERSION,
            pinned_root: self.pinned_root.clone(),
        }
    }
}

impl EnrollmentClient {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, limits: PeerLimits) -> Self {
        let limits = PeerLimits {
            answer_bytes: ANSWER_BYTES_MAX,
            // The owner claims, signs and commits before its first byte.
            first_byte: limits.enrollment,
            ..limits
        };
        Self { clock, limits }
    }

    /// Redeems `invite`. Every fault has a message that tells a person what to do.
    ///
    /// After a fault behind [`Stage::Send`] the invite may be spent: it takes a new one.
    pub async fn enroll(&self, invite: &Invite, allow_private: bool) -> Result<Enrolled, Fault> {
        if invite.is_expired(self.clock.now()) {
            return Err(Fault::new(FaultKind::Gone, Stage::Request)
                .with_message("the invite has expired; ask the other site for a new one"));
        }
        let url = peer_url(invite.enroll_url.as_str())?;
        peer_url(invite.federation_url.as_str())?;
        let key = new_key_and_csr().map_err(|error| {
            tracing::error!(%error, "no key could be made");
            Fault::new(FaultKind::Internal, Stage::Request)
        })?;
        let (config, root) = enroll_client_config(invite.ca_sha256);
        let config = Arc::new(config);
        let tls: TlsSource = Arc::new(move || Ok(Arc::clone(&config)));
        let dial = Dial { url: &url, allow_private, tls: &tls };
        let request = request(&url, invite, &key)?;
        let deadline = Instant::now() + self.limits.enrollment;
        let answer = exchange(&Pool::new(self.limits), &request, &dial, deadline).await.map_err(explained)?;
        self.accept(&answer, invite, key, &root)
    }

    fn accept(&self, answer: &RawAnswer, invite: &Invite, key: NewKey, root: &PinnedRoot) -> Result<Enrolled, Fault> {
        if answer.status != StatusCode::OK {
            return Err(explained(refusal(answer, Missing::Thing)));
        }
        let body = parse(answer)?;
        if body.site != invite.site.as_str() {
            return Err(unusable("the other site gave another name than its invite"));
        }
        let grant = canonical(&body.grant_id).map(GrantId);
        let subject = canonical(&body.subject_user_id).map(UserId);
        let (Some(grant), Some(subject)) = (grant, subject) else {
            return Err(unusable("the other site named no grant or no subject"));
        };
        let pinned_root = root.get().ok_or_else(|| unusable("the other site did not show its root certificate"))?;
        let Received { chain, serial, not_before, not_after } =
            check_received(&body.certificate, &body.chain, &pinned_root, &key.public_key, self.clock.now()).map_err(
                |error| {
                    tracing::warn!(%error, "the certificate from an enrolment is refused");
                    unusable("the other site issued a certificate that cannot be used")
                },
            )?;
        Ok(Enrolled {
            site: invite.site.clone(),
            grant,
            subject,
            federation_url: origin(invite.federation_url.as_str()),
            enroll_url: origin(invite.enroll_url.as_str()),
            pinned_root,
            certificate_chain: chain,
            serial,
            not_before,
            not_after,
            key_pkcs8: key.pkcs8,
        })
    }
}

fn peer_url(text: &str) -> Result<PeerUrl, Fault> {
    PeerUrl::parse(text).map_err(|error| Fault::invalid(format!("an address in the invite {error}")))
}

fn origin(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

fn request(url: &PeerUrl, invite: &Invite, key: &NewKey) -> Result<Request<Bytes>, Fault> {
    let defect = || Fault::new(FaultKind::Internal, Stage::Send);
    let body = serde_json::to_vec(&EnrollRequest { csr: key.csr_pem.clone() }).map_err(|_| defect())?;
    let token = Zeroizing::new(format!("Bearer {}", invite.token.expose()));
    let mut authorization = HeaderValue::from_str(&token).map_err(|_| defect())?;
    authorization.set_sensitive(true);
    Request::builder()
        .method(Method::POST)
        .uri(format!("{BASE_PATH}/enroll"))
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("mosaic/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, authorization)
        .body(Bytes::from(body))
        .map_err(|_| defect())
}

fn parse(answer: &RawAnswer) -> Result<EnrollAnswer, Fault> {
    const DEPTH_MAX: usize = 8;
    let unreadable = || unusable("the other site's answer is not that of an enrolment");
    if !answer.is_json() {
        return Err(unreadable());
    }
    let text = scan(&answer.body, DEPTH_MAX).map_err(|_| unreadable())?;
    serde_json::from_str(text).map_err(|_| unreadable())
}

/// A UUID in its one canonical form.
fn canonical(text: &str) -> Option<uuid::Uuid> {
    uuid::Uuid::parse_str(text).ok().filter(|id| id.as_hyphenated().to_string() == text)
}

fn unusable(message: &'static str) -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::Parse).with_message(message)
}

/// Adds what a person can do about it; the peer's own words are never shown.
fn explained(fault: Fault) -> Fault {
    let text = match (fault.kind, fault.stage) {
        _ if fault.stage == Stage::Resolve && fault.message.is_some() => return fault,
        (FaultKind::NotFound | FaultKind::Unauthorized, _) => {
            "the other site does not know this invite; ask for a new one"
        }
        (FaultKind::Gone, _) => "the invite was used or has expired; ask the other site for a new one",
        (FaultKind::Conflict, _) => "the invite is being redeemed by somebody else; ask the other site for a new one",
        (FaultKind::RateLimited, _) => "the other site asks to wait before trying again",
        (FaultKind::InvalidRequest | FaultKind::TooLarge, _) => "the other site refused the certificate request",
        (FaultKind::TimedOut | FaultKind::Unreachable, Stage::Resolve) => "the host in the invite does not resolve",
        (FaultKind::TimedOut | FaultKind::Unreachable, Stage::Connect) => {
            "the other site's enrolment listener does not accept connections"
        }
        (FaultKind::TimedOut, Stage::Tls) => "the other site's enrolment listener does not answer",
        (FaultKind::Unreachable, Stage::Tls) => "the other site did not prove to be the one that the invite names",
        (FaultKind::TimedOut | FaultKind::Unreachable, _) => "the other site did not finish its answer",
        (FaultKind::Unavailable, _) => "the other site cannot enrol now; ask for a new invite and try again",
        _ => return fault,
    };
    fault.with_message(text)
}

#[cfg(test)]
mod tests;
