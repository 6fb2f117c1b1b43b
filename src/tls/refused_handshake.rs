//! Why a handshake on the federation listener came to nothing, in fixed words.
//!
//! TLS hides the certificate of a client that it refuses. So each connection has a verifier of its own in front of the shared
//! gate, which remembers what was shown and what the gate said about it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use mosaic_actors::domain::identity::Serial;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::ClientGate;
use crate::pki::profile::{check_serial, parse_certificate};

/// Who was not let in, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HandshakeRefusal {
    NoCertificate,
    /// Of another CA, also one of the same name.
    UnknownCa,
    Expired,
    NotYetValid,
    Revoked,
    /// A server's, a CA's.
    NotAClients,
    /// This node has no revocation list that still counts.
    RevocationUnknown,
    Malformed,
    /// The certificate is fine; whoever showed it does not have its key.
    NotTheHolder,
    /// What came is not the TLS that this listener speaks.
    Protocol,
    /// The client stalled.
    TimedOut,
}

impl HandshakeRefusal {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownCa => "unknown_ca",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::Revoked => "certificate_revoked",
            Self::NotAClients => "not_a_client_certificate",
            Self::RevocationUnknown => "revocation_unknown",
            Self::Malformed => "certificate_malformed",
            Self::NotTheHolder => "not_the_holder",
            Self::Protocol => "tls_protocol",
            Self::TimedOut => "handshake_timeout",
        }
    }

    /// Whether a certificate of this site's was shown: not everybody can cause that.
    #[must_use]
    pub fn of_our_certificate(self) -> bool {
        matches!(self, Self::Revoked | Self::NotTheHolder)
    }
}

/// What one connection has shown so far.
#[derive(Debug, Default, Clone)]
pub struct Shown {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    serial: Option<Serial>,
    refused: Option<HandshakeRefusal>,
    passed: bool,
}

impl Shown {
    /// The serial number of the certificate, whoever issued it.
    #[must_use]
    pub fn serial(&self) -> Option<Serial> {
        self.lock().serial.clone()
    }

    /// Why the handshake ended with `error`; `None` when this node refused nothing: the client went away, or refused us.
    #[must_use]
    pub fn refusal(&self, error: &io::Error) -> Option<HandshakeRefusal> {
        let state = self.lock();
        if state.refused.is_some() {
            return state.refused;
        }
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())?;
        match tls {
            Error::NoCertificatesPresented => Some(HandshakeRefusal::NoCertificate),
            Error::AlertReceived(_) => None,
            Error::InvalidCertificate(_) | Error::DecryptError if state.passed => Some(HandshakeRefusal::NotTheHolder),
            Error::InvalidCertificate(why) => Some(of_certificate(why)),
            _ => Some(HandshakeRefusal::Protocol),
        }
    }

    fn note(&self, certificate: &CertificateDer<'_>, verdict: &Result<ClientCertVerified, Error>) {
        let mut state = self.lock();
        match verdict {
            Ok(_) => state.passed = true,
            Err(error) => {
                state.refused = Some(match error {
                    Error::InvalidCertificate(why) => of_certificate(why),
                    _ => HandshakeRefusal::Malformed,
                });
            }
        }
        // Also of one that passed: whoever shows it may not have its key.
        let parsed = parse_certificate(certificate).ok();
        state.serial = parsed.and_then(|parsed| check_serial(parsed.raw_serial()).ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // One connection's own; nothing inside panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_certificate(why: &CertificateError) -> HandshakeRefusal {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => HandshakeRefusal::UnknownCa,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => HandshakeRefusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => HandshakeRefusal::NotYetValid,
        CertificateError::Revoked => HandshakeRefusal::Revoked,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            HandshakeRefusal::NotAClients
        }
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => HandshakeRefusal::RevocationUnknown,
        // What webpki says of a CA's certificate at the end of a chain has no name of its own in rustls.
        CertificateError::Other(other) if is_ca_as_leaf(other) => HandshakeRefusal::NotAClients,
        _ => HandshakeRefusal::Malformed,
    }
}

fn is_ca_as_leaf(other: &rustls::OtherError) -> bool {
    matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// The gate as one connection sees it.
#[derive(Debug)]
pub(super) struct ConnectionGate {
    pub(super) gate: ClientGate,
    pub(super) shown: Shown,
}

impl ClientCertVerifier for ConnectionGate {
    fn offer_client_auth(&self) -> bool {
        self.gate.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.gate.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.gate.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.gate.verify_client_cert(end_entity, intermediates, now);
        self.shown.note(end_entity, &verdict);
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.gate.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.gate.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.gate.supported_verify_schemes()
    }
}
