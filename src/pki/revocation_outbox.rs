//! Where revocations wait for an authority outside of the node, and where its list is kept. The SQL is in
//! `postgres::revocation_outbox`.

use std::time::Duration;

use mosaic_actors::domain::identity::Serial;
use mosaic_actors::ports::PortFuture;
use time::OffsetDateTime;

use super::authority::{CaError, Crl};
use super::ca_store::Revocation;

/// The outbox of a site, shared by its replicas.
pub trait RevocationOutbox: Send + Sync + 'static {
    /// Puts a revocation in. Doing it again changes nothing.
    fn put(&self, revocation: Revocation) -> PortFuture<Result<(), CaError>>;

    /// Takes revocations that are due, the oldest first, at most `most`. For the time of `lease` no replica gets them again; whoever
    /// dies with them in hand loses nothing.
    fn take(&self, most: u32, lease: Duration) -> PortFuture<Result<Vec<Waiting>, CaError>>;

    /// The authority was told: its list names the certificate.
    fn told(&self, serial: Serial) -> PortFuture<Result<(), CaError>>;

    /// It could not be told; due again after `pause`.
    fn put_back(&self, serial: Serial, pause: Duration) -> PortFuture<Result<(), CaError>>;

    /// A list that was made at `made` names `named`. What the authority was told before that, is not past its end and is missing there,
    /// the authority forgot: it waits again. How many that are.
    fn tell_missing_again(&self, named: Vec<Serial>, made: OffsetDateTime) -> PortFuture<Result<u64, CaError>>;

    /// How many wait, due or not.
    fn waiting(&self) -> PortFuture<Result<u64, CaError>>;

    /// The newest list of the authority with this root that any replica verified.
    fn list(&self, root_sha256: [u8; 32]) -> PortFuture<Result<Option<KeptList>, CaError>>;

    /// Keeps a verified list, unless one with its number or a higher one is kept.
    fn keep(&self, root_sha256: [u8; 32], crl: Crl, issuers: Vec<Vec<u8>>) -> PortFuture<Result<(), CaError>>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub serial: Serial,
    pub not_after: OffsetDateTime,
    /// Including this one.
    pub attempts: u32,
}

/// A list as some replica verified it; whoever reads it verifies it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptList {
    /// DER.
    pub crl: Vec<u8>,
    /// DER: the root, and intermediates that lead to it.
    pub issuers: Vec<Vec<u8>>,
}
