//! The authority of a site that runs smallstep's step-ca.
//!
//! The node holds no key of the authority, only the password of one provisioner. With it, it opens the provisioner's key
//! (published encrypted, at `/provisioners`) and signs a one-time token per request: for one audience, five minutes, one
//! certificate request. The provisioner's template (`compose/step-ca/mosaic.tpl`) turns the token's claims into a
//! certificate; the request contributes its key only. Client and server certificates come from the same provisioner: the claim
//! `mosaic.use` selects which of the two, and the template knows no third (ADR 13).
//!
//! Nothing that comes back is believed: the certificate is compared with what was asked, its chain and the revocation list
//! are verified up to the pinned root. A certificate that is not what was asked for is revoked at once.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mosaic_actors::domain::identity::{GrantId, Serial, SiteName, UserId};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::clock::Clock;
use openssl::bn::BigNum;
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use self::api::{Api, Provisioner, RevokeBody, SignBody};
use self::config::{Password, StepCaConfig};
use self::error::StepCaError;
use self::provisioner_key::ProvisionerKey;
use self::token::{Issuer, Permission, TemplateClaims};
use super::authority::{CaError, CertificateAuthority, ClientRequest, Crl, IssuedCertificate, ServerIdentity};
use super::ca_material::BACKDATE;
use super::crl::{CrlError, revoked_serials, verify_crl_by};
use super::csr::new_key_and_csr;
use super::extension_arc::ExtensionArc;
use super::issued::{Mismatch, check_issued};
use super::pem::{csr_from_pem, csr_to_pem, to_hex};
use super::profile::{ProfileError, parse_certificate};

pub mod config;
pub mod error;
pub mod provisioner_key;
pub mod setup;
#[doc(hidden)]
pub mod testing;

mod api;
mod checks;
mod jwe;
mod root;
mod token;

#[cfg(test)]
mod tests;

/// How long a fetched revocation list is handed out before step-ca is asked again. Revocations of this node are on it at
/// once; others' (made at the authority itself) after this time.
const CRL_FETCH_EVERY: Duration = Duration::seconds(30);

/// What step-ca takes off a life before it insists that something is left, though it does not backdate when told the beginning:
/// a certificate of exactly this life is an internal error there.
const STEP_CA_BACKDATE: Duration = Duration::minutes(1);

/// Life of the certificate that a dry run lets sign.
const PROBE_LIFETIME: Duration = Duration::minutes(5);

/// The adapter to a step-ca. Clones share one state.
#[derive(Clone)]
pub struct StepCa {
    inner: Arc<Inner>,
}

struct Inner {
    api: Api,
    config: StepCaConfig,
    password: Arc<Password>,
    root: Vec<u8>,
    root_sha256: String,
    arc: ExtensionArc,
    clock: Arc<dyn Clock>,
    /// Opened at first need, and again when step-ca refuses a token: the provisioner's key can be replaced.
    key: Mutex<Option<Arc<ProvisionerKey>>>,
    /// The root and verified intermediates.
    issuers: ArcSwap<Vec<Vec<u8>>>,
    crl: Mutex<Option<FetchedCrl>>,
}

struct FetchedCrl {
    crl: Crl,
    at: OffsetDateTime,
}

/// What a dry run found, part by part. The first three hold in the order given: a later part is not looked at when an
/// earlier one fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// step-ca answers, with a certificate of the pinned root.
    pub reachable: Result<(), StepCaError>,
    /// The provisioner is there, its key opens with the password, and step-ca does not renew by itself.
    pub provisioner: Option<Result<(), StepCaError>>,
    /// A certificate signed for nobody is exactly what was asked for.
    pub template: Option<Result<(), StepCaError>>,
    /// The revocation list, verified.
    pub crl: Option<Result<Crl, StepCaError>>,
}

impl StepCa {
    /// Reads the password and the root. With a root file the authority need not be up.
    pub async fn open(config: StepCaConfig, arc: ExtensionArc, clock: Arc<dyn Clock>) -> Result<Self, CaError> {
        config.check()?;
        let password = Arc::new(config.read_password()?);
        let root = root::find(&config).await?;
        let tls = crate::tls::authority_client_config(&root);
        let inner = Inner {
            api: Api::new(config.url.clone(), tls, config.timeout)?,
            root_sha256: to_hex(&config.root_sha256),
            issuers: ArcSwap::from_pointee(vec![root.clone()]),
            key: Mutex::default(),
            crl: Mutex::default(),
            config,
            password,
            root,
            arc,
            clock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Verifies a list that was kept, with the issuers that were kept beside it. They are learnt from it as long as step-ca was not
    /// asked for them itself.
    pub(crate) fn adopt(&self, issuers: Vec<Vec<u8>>, crl: &[u8]) -> Result<Crl, CrlError> {
        let inner = &self.inner;
        let known = inner.issuers.load_full();
        if known.len() > 1 {
            return verify_crl_by(crl, &known).or_else(|_| verify_crl_by(crl, &inner.leading_to_root(issuers)));
        }
        let issuers = inner.leading_to_root(issuers);
        let crl = verify_crl_by(crl, &issuers)?;
        inner.issuers.store(Arc::new(issuers));
        Ok(crl)
    }

    /// Tries every part: for `doctor` and for setting up. The certificate that is signed on the way is for a key that is gone
    /// and a grant that does not exist.
    pub async fn examine(&self) -> Examination {
        let reachable = self.inner.api.health().await;
        let mut found = Examination { reachable, provisioner: None, template: None, crl: None };
        if found.reachable.is_err() {
            return found;
        }
        let provisioner = self.inner.examine_provisioner().await;
        // A provisioner that lets renew signs all the same.
        let can_sign = matches!(provisioner, Ok(()) | Err(StepCaError::RenewalAllowed(_)));
        found.provisioner = Some(provisioner);
        if can_sign {
            found.template = Some(self.inner.issue_probe().await);
        }
        found.crl = Some(self.inner.fetch_crl(self.inner.clock.now()).await);
        found
    }
}

impl CertificateAuthority for StepCa {
    fn issue(&self, request: ClientRequest) -> PortFuture<Result<IssuedCertificate, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.issue(&request).await })
    }

    fn issue_server(
        &self,
        names: Vec<String>,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> PortFuture<Result<ServerIdentity, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.issue_server(&names, now, lifetime).await })
    }

    fn revoke(
        &self,
        serial: Serial,
        not_after: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortFuture<Result<Crl, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.revoke(&serial, not_after, now).await?) })
    }

    fn crl(&self) -> PortFuture<Result<Crl, CaError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.current_crl().await?) })
    }

    fn root(&self) -> Vec<u8> {
        self.inner.root.clone()
    }

    fn issuers(&self) -> Vec<Vec<u8>> {
        self.inner.issuers.load().as_ref().clone()
    }
}

/// What step-ca is asked to sign.
struct Signing<'a> {
    csr: &'a [u8],
    /// The certificate's common name.
    subject: &'a str,
    names: &'a [String],
    template: &'a TemplateClaims,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Inner {
    async fn issue(&self, request: &ClientRequest) -> Result<IssuedCertificate, CaError> {
        let (mut not_before, not_after) = (whole_second(request.not_before), whole_second(request.not_after));
        if not_after - not_before == STEP_CA_BACKDATE {
            not_before -= Duration::SECOND;
        }
        if not_after <= not_before {
            return Err(CaError::Refused("its life would end before it starts".into()));
        }
        self.learn_issuers().await?;
        if not_after > checks::last_end(&self.issuers.load())? {
            return Err(CaError::Refused("it would outlive the authority".into()));
        }
        let csr = csr_from_pem(&request.csr_pem).map_err(|error| CaError::Refused(error.to_string().into()))?;
        let names =
            checks::names_in_request(&csr).ok_or_else(|| CaError::Refused("the request is malformed".into()))?;
        let signing = Signing {
            csr: &csr,
            subject: request.peer.as_str(),
            names: &names,
            template: &TemplateClaims::client(request),
            not_before,
            not_after,
        };
        let issued = self.sign(&signing).await?;
        match check_issued(&issued, request, &self.arc) {
            Ok(()) => Ok(issued),
            Err(mismatch) => {
                self.withdraw(&issued).await;
                Err(wrong(mismatch).into())
            }
        }
    }

    async fn issue_server(
        &self,
        names: &[String],
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<ServerIdentity, CaError> {
        let first = names.first().ok_or_else(|| CaError::Refused("a server certificate needs a name".into()))?;
        self.learn_issuers().await?;
        let key = new_key_and_csr().map_err(|error| CaError::Unusable(error.to_string().into()))?;
        let csr = csr_from_pem(&key.csr_pem).map_err(|error| CaError::Refused(error.to_string().into()))?;
        let not_after = whole_second(now + lifetime).min(checks::last_end(&self.issuers.load())?);
        if not_after <= whole_second(now) {
            return Err(CaError::Refused("its life would end before it starts".into()));
        }
        let signing = Signing {
            csr: &csr,
            subject: first,
            names,
            template: &TemplateClaims::Server,
            not_before: whole_second(now - BACKDATE),
            not_after,
        };
        let issued = self.sign(&signing).await?;
        if let Err(mismatch) =
            checks::check_server(&issued, names, &key.public_key, &(signing.not_before..not_after), now)
        {
            self.withdraw(&issued).await;
            return Err(wrong(mismatch).into());
        }
        let (not_before, not_after) = (issued.not_before, issued.not_after);
        let chain = std::iter::once(issued.certificate).chain(issued.chain).collect();
        Ok(ServerIdentity { chain, key: key.pkcs8, not_before, not_after })
    }

    /// One certificate, as it came, with the root at the end of its chain.
    async fn sign(&self, signing: &Signing<'_>) -> Result<IssuedCertificate, StepCaError> {
        let url = self.api.url("/1.0/sign");
        let permission = Permission {
            audience: url.as_str(),
            subject: signing.subject,
            names: signing.names,
            csr: Some(signing.csr),
            template: Some(signing.template),
        };
        let csr = csr_to_pem(signing.csr);
        let mut key = self.key().await?;
        loop {
            let now = self.clock.now();
            let token = self.token(&key, now, permission)?;
            let (not_before, not_after) = (signing.not_before, signing.not_after);
            let refusal = match self.api.sign(&SignBody { csr: &csr, ott: &token, not_before, not_after }).await? {
                Ok(chain) => return self.read_issued(chain),
                Err(refusal) => refusal.of_token(now),
            };
            key = self.next_key(key, refusal).await?;
        }
    }

    fn read_issued(&self, mut chain: Vec<Vec<u8>>) -> Result<IssuedCertificate, StepCaError> {
        let malformed = |_| StepCaError::Malformed("a certificate");
        if chain.is_empty() {
            return Err(StepCaError::Malformed("an empty chain"));
        }
        let certificate = chain.remove(0);
        if chain.last() != Some(&self.root) {
            chain.push(self.root.clone());
        }
        let (serial, not_before, not_after) = {
            let parsed = parse_certificate(&certificate).map_err(malformed)?;
            let serial = Serial::from_bytes(parsed.raw_serial()).ok_or(StepCaError::Malformed("a serial number"))?;
            let validity = parsed.validity();
            (serial, validity.not_before.to_datetime(), validity.not_after.to_datetime())
        };
        Ok(IssuedCertificate { certificate, chain, serial, not_before, not_after })
    }

    /// Best effort: nobody was given the certificate.
    async fn withdraw(&self, issued: &IssuedCertificate) {
        if let Err(error) = self.revoke(&issued.serial, issued.not_after, self.clock.now()).await {
            tracing::warn!(serial = %issued.serial, %error, "a certificate that is not as asked for could not be revoked");
        }
    }

    async fn revoke(
        &self,
        serial: &Serial,
        not_after: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Crl, StepCaError> {
        let refused = self.post_revocation(&decimal(serial)?).await.err();
        if let Some(error @ (StepCaError::Unreachable(_) | StepCaError::TimedOut(_))) = refused {
            return Err(error);
        }
        // Revoking again is refused, and so the list decides whether it is done. It drops certificates past their end.
        let crl = self.fetch_crl(now).await?;
        match refused {
            _ if not_after < now || revoked_serials(&crl.der)?.contains(serial) => Ok(crl),
            Some(refused) => Err(refused),
            None => Err(StepCaError::CrlBehind),
        }
    }

    async fn post_revocation(&self, serial: &str) -> Result<(), StepCaError> {
        let url = self.api.url("/1.0/revoke");
        let permission = Permission { audience: url.as_str(), subject: serial, names: &[], csr: None, template: None };
        let mut key = self.key().await?;
        loop {
            let now = self.clock.now();
            let token = self.token(&key, now, permission)?;
            let body =
                RevokeBody { serial, ott: &token, reason_code: 0, reason: "withdrawn by the node", passive: true };
            let refusal = match self.api.revoke(&body).await? {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal.of_token(now),
            };
            key = self.next_key(key, refusal).await?;
        }
    }

    async fn current_crl(&self) -> Result<Crl, StepCaError> {
        let now = self.clock.now();
        if let Some(fetched) = self.crl.lock().await.as_ref().filter(|fetched| now - fetched.at < CRL_FETCH_EVERY) {
            return Ok(fetched.crl.clone());
        }
        self.fetch_crl(now).await
    }

    /// The list as it is now at the authority, verified.
    async fn fetch_crl(&self, now: OffsetDateTime) -> Result<Crl, StepCaError> {
        let der = self.api.crl().await?;
        let mut verdict = verify_crl_by(&der, &self.issuers.load());
        if verdict == Err(CrlError::Signature) {
            self.refresh_issuers().await?;
            verdict = verify_crl_by(&der, &self.issuers.load());
        }
        let crl = verdict?;
        let mut kept = self.crl.lock().await;
        // Two fetches may overtake each other; the newer list stays.
        if kept.as_ref().is_none_or(|kept| kept.crl.number <= crl.number || kept.crl.next_update <= now) {
            *kept = Some(FetchedCrl { crl: crl.clone(), at: now });
        }
        Ok(crl)
    }

    async fn learn_issuers(&self) -> Result<(), StepCaError> {
        if self.issuers.load().len() > 1 { Ok(()) } else { self.refresh_issuers().await }
    }

    async fn refresh_issuers(&self) -> Result<(), StepCaError> {
        let offered = self.api.intermediates().await?;
        self.issuers.store(Arc::new(self.leading_to_root(offered)));
        Ok(())
    }

    fn leading_to_root(&self, offered: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut issuers = vec![self.root.clone()];
        issuers.extend(checks::intermediates_of(&self.root, offered, self.clock.now()));
        issuers
    }

    fn token(
        &self,
        key: &ProvisionerKey,
        now: OffsetDateTime,
        permission: Permission<'_>,
    ) -> Result<String, StepCaError> {
        let issuer = Issuer { key, provisioner: &self.config.provisioner, root: &self.root_sha256, now };
        Ok(issuer.sign(permission)?)
    }

    async fn key(&self) -> Result<Arc<ProvisionerKey>, StepCaError> {
        let mut kept = self.key.lock().await;
        if let Some(key) = kept.as_ref() {
            return Ok(Arc::clone(key));
        }
        let key = self.open_key(self.provisioner().await?).await?;
        Ok(Arc::clone(kept.insert(key)))
    }

    /// After a refused token: the key that step-ca has now, if it is another one; else the refusal stands.
    async fn next_key(
        &self,
        refused: Arc<ProvisionerKey>,
        refusal: StepCaError,
    ) -> Result<Arc<ProvisionerKey>, StepCaError> {
        if !matches!(refusal, StepCaError::TokenRefused(_)) {
            return Err(refusal);
        }
        let provisioner = self.provisioner().await?;
        if provisioner.key_id() == refused.id() {
            return Err(refusal);
        }
        let key = self.open_key(provisioner).await?;
        *self.key.lock().await = Some(Arc::clone(&key));
        Ok(key)
    }

    async fn provisioner(&self) -> Result<Provisioner, StepCaError> {
        let mut all = self.api.provisioners().await?;
        let wanted = &self.config.provisioner;
        match all.iter().position(|found| found.kind == "JWK" && found.name == wanted.as_ref()) {
            Some(index) => Ok(all.swap_remove(index)),
            None => {
                let names: Vec<String> = all.iter().map(|found| format!("{} ({})", found.name, found.kind)).collect();
                Err(StepCaError::ProvisionerMissing { wanted: wanted.clone(), found: names.join(", ").into() })
            }
        }
    }

    async fn open_key(&self, provisioner: Provisioner) -> Result<Arc<ProvisionerKey>, StepCaError> {
        let id = provisioner.key_id().to_owned();
        let encrypted = match &self.config.provisioner_key_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| StepCaError::KeyFile { path: path.clone(), reason: error.to_string().into() })?,
            None if provisioner.encrypted_key.is_empty() => {
                return Err(StepCaError::ProvisionerKeyHidden(provisioner.name.into()));
            }
            None => provisioner.encrypted_key,
        };
        let password = Arc::clone(&self.password);
        // Deriving the key from the password is made to be slow.
        let open = move || ProvisionerKey::open(&encrypted, password.expose(), &id);
        let opened = tokio::task::spawn_blocking(open).await;
        let key = opened.map_err(|_| StepCaError::Malformed("the provisioner's key"))??;
        Ok(Arc::new(key))
    }

    async fn examine_provisioner(&self) -> Result<(), StepCaError> {
        let provisioner = self.provisioner().await?;
        let name = provisioner.name.clone();
        let renewal_disabled = provisioner.claims.as_ref().is_some_and(|claims| claims.disable_renewal);
        let key = self.open_key(provisioner).await?;
        *self.key.lock().await = Some(key);
        if renewal_disabled { Ok(()) } else { Err(StepCaError::RenewalAllowed(name.into())) }
    }

    async fn issue_probe(&self) -> Result<(), StepCaError> {
        let key = new_key_and_csr().map_err(|_| StepCaError::Malformed("no key could be made"))?;
        let now = self.clock.now();
        let request = ClientRequest {
            public_key: key.public_key,
            csr_pem: key.csr_pem,
            grant: GrantId::new(),
            subject: UserId::new(),
            peer: SiteName::parse("probe").expect("invariant: probe is a site name"),
            not_before: now,
            not_after: now + PROBE_LIFETIME,
        };
        match self.issue(&request).await {
            Ok(_) => Ok(()),
            Err(CaError::StepCa(error)) => Err(error),
            Err(error) => Err(StepCaError::Config(error.to_string().into())),
        }
    }
}

impl Provisioner {
    fn key_id(&self) -> &str {
        self.key.as_ref().map_or("", |key| &key.kid)
    }
}

/// A certificate without the identity extensions was not signed through our template; anything else is a template gone wrong.
fn wrong(mismatch: Mismatch) -> StepCaError {
    match mismatch {
        Mismatch::Profile(ProfileError::Missing(_)) => StepCaError::TemplateMissing(mismatch),
        _ => StepCaError::WrongCertificate(mismatch),
    }
}

/// How step-ca names serial numbers.
fn decimal(serial: &Serial) -> Result<String, StepCaError> {
    BigNum::from_slice(serial.as_bytes())
        .and_then(|number| number.to_dec_str().map(|text| text.to_string()))
        .map_err(|_| StepCaError::Malformed("a serial number"))
}

/// X.509 times have no fractions.
fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).expect("invariant: zero is a valid nanosecond")
}
