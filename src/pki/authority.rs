//! The port to a certificate authority: what the node asks of the one it runs itself, or of another.

use std::fmt;

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{GrantId, Serial, SiteName, UserId};
use mosaic_actors::ports::PortFuture;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::step_ca::error::StepCaError;

/// Signs and revokes. The grant row decides who gets a certificate; an authority only certifies what it is told.
pub trait CertificateAuthority: Send + Sync + 'static {
    /// A client certificate for one grant. Callers check the answer with [`super::issued::check_issued`].
    fn issue(&self, request: ClientRequest) -> PortFuture<Result<IssuedCertificate, CaError>>;

    /// A server certificate for the listeners, with a key of its own; `names` are DNS names and IP addresses.
    /// It is valid from a little before `now`, so that a peer whose clock is behind takes it.
    fn issue_server(
        &self,
        names: Vec<String>,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> PortFuture<Result<ServerIdentity, CaError>>;

    /// Puts a serial number on the revocation list until the certificate's end, and returns the list with it. Doing it again
    /// changes nothing.
    fn revoke(
        &self,
        serial: Serial,
        not_after: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortFuture<Result<Crl, CaError>>;

    /// The revocation list, signed anew when it is due or when revocations were recorded that it does not list yet.
    fn crl(&self) -> PortFuture<Result<Crl, CaError>>;

    /// DER of the root: what peers pin, and what client certificates must lead to.
    fn root(&self) -> Vec<u8>;

    /// DER of every certificate that may have signed the revocation list: the root, and intermediates that lead to it. Known
    /// once [`CertificateAuthority::crl`] has answered.
    fn issuers(&self) -> Vec<Vec<u8>> {
        vec![self.root()]
    }

    /// How it stands with the authority, as last seen: nothing is asked.
    fn health(&self) -> CaHealth {
        CaHealth::default()
    }
}

/// How it stands with an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaHealth {
    /// It answered when it was asked last.
    pub reachable: bool,
    /// Revocations that it was not told yet. The grants are refused already; what waits is the list.
    pub revocations_waiting: u64,
}

impl Default for CaHealth {
    fn default() -> Self {
        Self { reachable: true, revocations_waiting: 0 }
    }
}

/// What is to be certified. Everything but the key comes from the grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// DER of the SubjectPublicKeyInfo, from [`super::csr::verify_csr`].
    pub public_key: Vec<u8>,
    /// PEM of the asker's request, as [`super::csr::verify_csr`] took it. For authorities that sign requests and not keys;
    /// its names and extensions never reach a certificate.
    pub csr_pem: String,
    pub grant: GrantId,
    pub subject: UserId,
    /// Only a label in the certificate's subject; never decides anything.
    pub peer: SiteName,
    /// Whole seconds are certified: both ends are cut down to one. An authority may begin up to five minutes earlier, so
    /// that a replica whose clock is behind takes the certificate too.
    pub not_before: OffsetDateTime,
    /// Never past the grant's expiry; the caller sees to it.
    pub not_after: OffsetDateTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// DER.
    pub certificate: Vec<u8>,
    /// DER of what leads from the certificate to the root: leaf excluded, root last.
    pub chain: Vec<Vec<u8>>,
    pub serial: Serial,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// A server certificate with its key.
#[derive(Clone)]
pub struct ServerIdentity {
    /// DER, leaf first, root last: an asker that knows only the root's fingerprint finds it here.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl ServerIdentity {
    /// When to ask for the next one: at two thirds of the life.
    #[must_use]
    pub fn renew_at(&self) -> OffsetDateTime {
        renew_at(self.not_before, self.not_after)
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Two thirds of a certificate's life: late enough to be rare, with a third left for a CA that is down.
#[must_use]
pub fn renew_at(not_before: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    not_before + (not_after - not_before) * 2 / 3
}

/// A signed certificate revocation list.
#[derive(Clone, PartialEq, Eq)]
pub struct Crl {
    pub der: Vec<u8>,
    /// Grows with every list (RFC 5280 5.2.3).
    pub number: u64,
    pub this_update: OffsetDateTime,
    /// From then on the list is stale and refuses every client.
    pub next_update: OffsetDateTime,
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl").field("number", &self.number).field("next_update", &self.next_update).finish()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// The authority's store failed, or cannot be reached.
    #[error("the certificate authority's store failed: {0}")]
    Store(Fault),
    /// The authority cannot be reached; asking again can help.
    #[error("the certificate authority cannot be reached: {0}")]
    Unavailable(Box<str>),
    #[error("a certificate authority exists already, with another certificate")]
    Exists,
    /// The given certificate or key cannot be a CA of this node.
    #[error("this certificate authority cannot be used: {0}")]
    Unusable(Box<str>),
    /// The sealed key does not open: another master secret, or an altered row.
    #[error("the key of the certificate authority does not open: {0}")]
    Sealed(#[from] crate::secrets::SealError),
    /// The request cannot be certified.
    #[error("this cannot be certified: {0}")]
    Refused(Box<str>),
    /// The step-ca of this site did not do it; the error knows a remedy.
    #[error(transparent)]
    StepCa(#[from] StepCaError),
}

impl CaError {
    /// What an operator does about it; empty where the text says it all.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::StepCa(error) => error.remedy(),
            Self::Sealed(_) => "Is this the master secret with which the site was made? Restore that file.".to_owned(),
            Self::Store(_) => "See the log for the database's own words.".to_owned(),
            _ => String::new(),
        }
    }

    /// For the edges: unreachable is 503, everything else a defect; the text stays in the log.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Store(fault) => fault.clone(),
            Self::Unavailable(_) => Fault::new(FaultKind::Unavailable, Stage::Authorize),
            Self::StepCa(error) if error.is_retryable() => Fault::new(FaultKind::Unavailable, Stage::Authorize),
            Self::Exists | Self::Unusable(_) | Self::Sealed(_) | Self::Refused(_) | Self::StepCa(_) => {
                Fault::new(FaultKind::Internal, Stage::Authorize)
            }
        }
    }
}
