//! Renewing a link's certificate: a new key, one request with the old certificate, and a distrustful look at the answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::link::{Link, LinkCredentials};
use mosaic_actors::ports::clock::Clock;
use tokio::time::Instant;

use super::address::PeerUrl;
use super::connection::{Dial, TlsSource};
use super::exchange::{Pool, RawAnswer, exchange};
use super::limits::PeerLimits;
use super::refusal::{Missing, refusal};
use super::scan::scan;
use crate::pki::csr::{NewKey, new_key_and_csr};
use crate::pki::issued::{Received, check_received};
use crate::pki::link_key::seal_link_key;
use crate::secrets::Sealer;
use crate::wire::federation_v1::{BASE_PATH, RenewAnswer, RenewRequest};

/// Largest answer to a renewal: a few certificates.
const ANSWER_BYTES_MAX: usize = 128 * 1024;
const DEPTH_MAX: usize = 8;

/// What a renewal is made with.
pub(super) struct Renewal {
    pub(super) url: PeerUrl,
    /// With the certificate that the link has.
    pub(super) tls: TlsSource,
    pub(super) sealer: Sealer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: PeerLimits,
}

impl Renewal {
    /// Asks the owner for the next certificate of `link`.
    pub(super) async fn run(self, link: &Link, deadline: Instant) -> Result<LinkCredentials, Fault> {
        let key = new_key_and_csr().map_err(|error| {
            tracing::error!(link = %link.id, %error, "no key could be made");
            Fault::new(FaultKind::Internal, Stage::Request)
        })?;
        let request = request(&self.url, &key)?;
        let limits = PeerLimits {
            answer_bytes: ANSWER_BYTES_MAX,
            // The owner signs and commits before its first byte.
            first_byte: self.limits.enrollment,
            ..self.limits
        };
        let dial = Dial { url: &self.url, allow_private: link.allow_private, tls: &self.tls };
        let answer = exchange(&Pool::new(limits), &request, &dial, deadline).await?;
        if answer.status != StatusCode::OK {
            return Err(refusal(&answer, Missing::Path));
        }
        self.accept(link, &parse(&answer)?, &key)
    }

    fn accept(&self, link: &Link, answer: &RenewAnswer, key: &NewKey) -> Result<LinkCredentials, Fault> {
        let old = &link.credentials;
        let now = self.clock.now();
        let Received { chain, serial, not_before, not_after } =
            check_received(&answer.certificate, &answer.chain, &old.pinned_root, &key.public_key, now).map_err(
                |error| {
                    tracing::warn!(link = %link.id, %error, "the certificate from a renewal is refused");
                    unusable("the other site issued a certificate that cannot be used")
                },
            )?;
        if serial == old.serial {
            return Err(unusable("the other site issued a certificate with the serial number of the old one"));
        }
        let key_version = old.key_version.saturating_add(1);
        Ok(LinkCredentials {
            serial,
            not_before,
            not_after,
            certificate_chain: chain,
            sealed_key: seal_link_key(&self.sealer, link.id, key_version, &key.pkcs8),
            key_version,
            pinned_root: old.pinned_root.clone(),
        })
    }
}

fn request(url: &PeerUrl, key: &NewKey) -> Result<Request<Bytes>, Fault> {
    let defect = || Fault::new(FaultKind::Internal, Stage::Send);
    let body = serde_json::to_vec(&RenewRequest { csr: key.csr_pem.clone() }).map_err(|_| defect())?;
    Request::builder()
        .method(Method::POST)
        .uri(format!("{BASE_PATH}/renew"))
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("mosaic/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(Bytes::from(body))
        .map_err(|_| defect())
}

fn parse(answer: &RawAnswer) -> Result<RenewAnswer, Fault> {
    let unreadable = || unusable("the other site's answer is not that of a renewal");
    if !answer.is_json() {
        return Err(unreadable());
    }
    let text = scan(&answer.body, DEPTH_MAX).map_err(|_| unreadable())?;
    serde_json::from_str(text).map_err(|_| unreadable())
}

fn unusable(message: &'static str) -> Fault {
    Fault::new(FaultKind::BadAnswer, Stage::Parse).with_message(message)
}

#[cfg(test)]
mod tests;
