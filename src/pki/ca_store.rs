//! Where the embedded authority keeps what must outlive it. The SQL is in `postgres::ca_store`.

use mosaic_actors::domain::identity::Serial;
use mosaic_actors::ports::PortFuture;
use time::OffsetDateTime;

use super::authority::{CaError, Crl};

/// The embedded authority's storage. There is one authority per site, shared by its replicas.
pub trait CaStore: Send + Sync + 'static {
    /// The authority, if there is one.
    fn load(&self) -> PortFuture<Result<Option<StoredCa>, CaError>>;

    /// Writes the authority down unless there is one already, and returns the one that is there: of two replicas that
    /// start together, both get the same.
    fn create(&self, new: NewCa) -> PortFuture<Result<StoredCa, CaError>>;

    /// Records a revocation without a new list. Recording it again changes nothing.
    fn record_revocation(&self, revocation: Revocation) -> PortFuture<Result<(), CaError>>;

    /// Every recorded revocation of a certificate that is not past its end at `now`.
    fn revocations(&self, now: OffsetDateTime) -> PortFuture<Result<Vec<Revocation>, CaError>>;

    /// Holds the authority's row against other replicas, hands what is stored to `sign`, and stores the list that it
    /// returns with the next number. When `sign` returns `None` nothing changes. Either way the current list comes back,
    /// `None` if there has never been one.
    fn renew_crl(&self, now: OffsetDateTime, sign: SignCrl) -> PortFuture<Result<Option<Crl>, CaError>>;
}

/// Decides on, and signs, the next revocation list.
pub type SignCrl = Box<dyn FnOnce(CrlDraft) -> Result<Option<Crl>, CaError> + Send>;

/// What the next revocation list is made from.
#[derive(Debug, Clone)]
pub struct CrlDraft {
    /// The number that the next list must carry.
    pub next_number: u64,
    /// DER of the current list.
    pub current: Option<Vec<u8>>,
    /// Everything that the next list must name.
    pub revocations: Vec<Revocation>,
}

#[derive(Debug, Clone)]
pub struct NewCa {
    /// DER.
    pub certificate: Vec<u8>,
    /// Sealed PKCS#8.
    pub sealed_key: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct StoredCa {
    /// DER.
    pub certificate: Vec<u8>,
    /// Sealed PKCS#8.
    pub sealed_key: Vec<u8>,
    /// DER of the current revocation list.
    pub crl: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub serial: Serial,
    pub revoked_at: OffsetDateTime,
    /// The certificate's end: from then on the list need not name it.
    pub not_after: OffsetDateTime,
}
