//! What can be wrong with a step-ca, and what to do about it.

use std::path::PathBuf;

use super::provisioner_key::KeyError;
use crate::pki::crl::CrlError;
use crate::pki::issued::Mismatch;

/// Why step-ca did not do what it was asked. Each kind has a [`StepCaError::remedy`] for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepCaError {
    #[error("step-ca cannot be reached: {0}")]
    Unreachable(Box<str>),
    #[error("step-ca did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    #[error("the server at the authority's address does not present a certificate of the pinned root")]
    NotTrusted,
    #[error("step-ca has no root with the fingerprint {0}")]
    RootUnknown(Box<str>),
    #[error("{} does not hold the certificate with the pinned fingerprint", .0.display())]
    RootFile(PathBuf),
    #[error("step-ca has no JWK provisioner {wanted}; it has: {found}")]
    ProvisionerMissing { wanted: Box<str>, found: Box<str> },
    #[error("step-ca does not hand out the encrypted key of provisioner {0}")]
    ProvisionerKeyHidden(Box<str>),
    #[error("provisioner {0} lets certificates renew at step-ca itself")]
    RenewalAllowed(Box<str>),
    #[error("the key of the provisioner cannot be used: {0}")]
    ProvisionerKey(#[from] KeyError),
    #[error("the file {} {reason}", path.display())]
    PasswordFile { path: PathBuf, reason: Box<str> },
    #[error("the file {} {reason}", path.display())]
    KeyFile { path: PathBuf, reason: Box<str> },
    #[error("step-ca refused the one-time token: {0}")]
    TokenRefused(Box<str>),
    #[error("step-ca refused the one-time token because the clocks differ: this machine's is {0} s ahead")]
    ClockSkew(i64),
    #[error("step-ca signed without the provisioner template of this federation: {0}")]
    TemplateMissing(Mismatch),
    #[error("the provisioner template failed: {0}")]
    Template(Box<str>),
    #[error("step-ca does not sign this: {0}")]
    Policy(Box<str>),
    #[error("step-ca signed something else than it was asked for: {0}")]
    WrongCertificate(Mismatch),
    #[error("step-ca publishes no revocation list")]
    CrlDisabled,
    #[error("{0}")]
    Crl(#[from] CrlError),
    #[error("step-ca revoked the certificate, but its revocation list does not name it yet")]
    CrlBehind,
    #[error("the revocation list of step-ca is past its end")]
    CrlStale,
    #[error("step-ca offers the revocation list {offered}, and {kept} was seen already")]
    CrlOlder { offered: u64, kept: u64 },
    #[error("step-ca answered {status}: {message}")]
    Answer { status: u16, message: Box<str> },
    #[error("the answer of step-ca cannot be read: {0}")]
    Malformed(&'static str),
    #[error("{0}")]
    Config(Box<str>),
}

impl StepCaError {
    /// Whether asking again, without changing anything, can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => true,
            Self::Answer { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// What the operator does about it, one or two sentences.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => {
                "Start step-ca, and check ca.url: curl --insecure <ca.url>/health answers {\"status\":\"ok\"}.".to_owned()
            }
            Self::NotTrusted | Self::RootUnknown(_) | Self::RootFile(_) => {
                "Compare ca.root_sha256 with what the authority's machine prints: step certificate fingerprint \
                 $(step path)/certs/root_ca.crt. Check that the host of ca.url stands in dnsNames of ca.json."
                    .to_owned()
            }
            Self::ProvisionerMissing { wanted, .. } => format!(
                "Add the provisioner with compose/step-ca/init, or set ca.provisioner to its name (now {wanted}); \
                 restart step-ca after changing ca.json."
            ),
            Self::ProvisionerKeyHidden(_) | Self::KeyFile { .. } => {
                "Copy the provisioner's encryptedKey from ca.json into a file and set ca.provisioner_key_file.".to_owned()
            }
            Self::RenewalAllowed(name) => {
                format!("Set claims.disableRenewal to true on provisioner {name} in ca.json and restart step-ca.")
            }
            Self::ProvisionerKey(_) | Self::PasswordFile { .. } => {
                "Check that ca.password_file holds the password of the provisioner's key (not the authority's own) and has \
                 mode 0600."
                    .to_owned()
            }
            Self::TokenRefused(_) => {
                "See step-ca's log. Usual reasons: ca.url names a host that is not in dnsNames of ca.json, the provisioner's \
                 key was replaced, or step-ca was restarted while this machine's clock is behind."
                    .to_owned()
            }
            Self::ClockSkew(_) => "Let NTP set both clocks: timedatectl set-ntp true.".to_owned(),
            Self::TemplateMissing(_) | Self::Template(_) | Self::WrongCertificate(_) => {
                "Install compose/step-ca/mosaic.tpl, with the arc of ca.extension_arc in it: step ca provisioner update mosaic \
                 --x509-template mosaic.tpl --ca-config $(step path)/config/ca.json; then restart step-ca."
                    .to_owned()
            }
            Self::Policy(_) => {
                "Compare claims of the provisioner in ca.json (minTLSCertDuration 1m, maxTLSCertDuration 2160h) and its \
                 policy with the lifetimes and names of this node."
                    .to_owned()
            }
            Self::CrlDisabled | Self::CrlBehind => {
                "Set in ca.json: \"crl\": {\"enabled\": true, \"generateOnRevoke\": true, \"cacheDuration\": \"1h\", \
                 \"renewPeriod\": \"20m\"}, and restart step-ca."
                    .to_owned()
            }
            Self::CrlStale => {
                "Check that step-ca renews its list (crl.renewPeriod in ca.json) and that both clocks are right."
                    .to_owned()
            }
            Self::CrlOlder { .. } => {
                "Was step-ca's database restored from a backup? Let its list grow past that number, or, if you know why, forget the \
                 kept one: DELETE FROM authority_crl, and restart every replica."
                    .to_owned()
            }
            Self::Crl(_) => "See what step-ca serves at /crl; it must be signed by the root or an intermediate of it.".to_owned(),
            Self::Answer { .. } | Self::Malformed(_) => {
                "See step-ca's log, and check that its version is at least the one in scripts/step-ca.".to_owned()
            }
            Self::Config(_) => "Correct section [ca] of the configuration.".to_owned(),
        }
    }
}
