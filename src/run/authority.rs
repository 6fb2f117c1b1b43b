//! Steps 5 to 7: certificates, rights, and what keeps both fresh.

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::grant_cache::GrantCacheHandle;
use mosaic_actors::peer_registry::PeerRegistryHandle;
use mosaic_actors::ports::clock::Clock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::database::Database;
use super::{BootError, limits};
use crate::config::{CaKind, Config, MasterSecretSource};
use crate::pki::authority::CertificateAuthority;
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::outboxed_ca::OutboxedCa;
use crate::pki::step_ca::StepCa;
use crate::pki::step_ca::config::StepCaConfig;
use crate::postgres::authority_feed::{self, AuthorityFeed, FeedSinks};
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::revocation_outbox::SqlRevocationOutbox;
use crate::secrets::MasterSecret;
use crate::tls::upkeep::Upkeep;
use crate::tls::{ClientGate, KeptIdentity, SwappableIdentity};

const STEP: &str = "certificates";

/// Longest wait at the start for rights to be fresh.
const FRESH_WITHIN: Duration = Duration::from_secs(30);

/// The site's CA and what its listeners present and check.
pub(super) struct Pki {
    pub(super) ca: Arc<dyn CertificateAuthority>,
    pub(super) arc: ExtensionArc,
    pub(super) gate: ClientGate,
    pub(super) identity: SwappableIdentity,
    upkeep: Upkeep,
}

impl Pki {
    pub(super) async fn open(
        config: &Config,
        database: &Database,
        master: &MasterSecret,
        server_names: Vec<String>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, BootError> {
        let arc = config.ca.extension_arc.clone();
        let ca: Arc<dyn CertificateAuthority> = match &config.ca.kind {
            CaKind::Embedded => {
                let options = CaOptions { arc: arc.clone(), crl_lifetime: lifetime(config.limits.crl) };
                let store = Arc::new(SqlCaStore::new(database.sessions()));
                Arc::new(embedded_ca(config, store, master, options, clock).await?)
            }
            CaKind::StepCa(step_ca) => Arc::new(outboxed_ca(config, step_ca, database, clock).await?),
        };
        let (gate, identity) = (ClientGate::new(), SwappableIdentity::new());
        let kept = match &config.ca.kind {
            CaKind::Embedded => None,
            CaKind::StepCa(_) => {
                let file = config.server_identity_file();
                Some(KeptIdentity::new(file, master.sealer(), &server_names, &ca.root()))
            }
        };
        let upkeep = Upkeep {
            authority: Arc::clone(&ca),
            gate: gate.clone(),
            identity: identity.clone(),
            server_names,
            server_lifetime: lifetime(config.limits.server_certificate),
            clock: Arc::clone(clock),
            kept,
        };
        upkeep.begin().await.map_err(|error| {
            let remedy = error.remedy();
            BootError::new(STEP, error, remedy)
        })?;
        Ok(Self { ca, arc, gate, identity, upkeep })
    }

    /// Keeps list and certificate fresh until `stop`.
    pub(super) fn keep(&self, news: watch::Receiver<u64>, stop: CancellationToken) {
        actix_rt::spawn(self.upkeep.clone().run(news, stop));
    }
}

/// The secret that seals keys and authenticates cursors.
pub(super) fn master_secret(config: &Config) -> Result<MasterSecret, BootError> {
    let remedy = match &config.master_secret {
        MasterSecretSource::File(file) => {
            format!("run `mosaic gateway init` to make {}, or restore it from a backup", file.display())
        }
        MasterSecretSource::Given(_) => "give base64 of 32 bytes".to_owned(),
    };
    config.master_secret.read().map_err(|error| BootError::new("master secret", error, remedy))
}

/// Connects the feed and waits until this replica knows the rights.
pub(super) async fn follow(
    config: &Config,
    database: &Database,
    grants: &GrantCacheHandle,
    links: &PeerRegistryHandle,
) -> Result<(AuthorityFeed, watch::Receiver<u64>), BootError> {
    let (crl, news) = watch::channel(0);
    let sinks = FeedSinks { grants: grants.clone(), links: links.clone(), crl };
    let feed =
        authority_feed::start(database.url.clone(), database.feed_options.clone(), sinks, limits::feed(&config.limits));
    let deadline = Instant::now() + FRESH_WITHIN;
    let in_time = |what: &'static str, read: bool, told: &'static str| {
        if read { Ok(()) } else { Err(BootError::told(what, told, "see the log for the database's own words")) }
    };
    in_time("rights", grants.reached(0, deadline).await, "the grants could not be read in time")?;
    // An answer without them would look whole.
    in_time("links", links.loaded(deadline).await, "the links could not be read in time")?;
    Ok((feed, news))
}

fn lifetime(limit: Duration) -> time::Duration {
    time::Duration::try_from(limit).unwrap_or(time::Duration::DAY)
}

/// The site's step-ca. What waits for it, and its list, are in the database.
async fn outboxed_ca(
    config: &Config,
    step_ca: &StepCaConfig,
    database: &Database,
    clock: &Arc<dyn Clock>,
) -> Result<OutboxedCa, BootError> {
    let (arc, step_ca) = (config.ca.extension_arc.clone(), step_ca.clone());
    let ca = StepCa::open(step_ca, arc, Arc::clone(clock)).await.map_err(|error| {
        let remedy = error.remedy();
        BootError::new(STEP, error, remedy)
    })?;
    let outbox = Arc::new(SqlRevocationOutbox::new(database.sessions()));
    Ok(OutboxedCa::new(ca, outbox, Arc::clone(clock)))
}

/// The site's CA: the one that `gateway init` was given, the one that the database has, or a new one.
async fn embedded_ca(
    config: &Config,
    store: Arc<SqlCaStore>,
    master: &MasterSecret,
    options: CaOptions,
    clock: &Arc<dyn Clock>,
) -> Result<EmbeddedCa, BootError> {
    let (sealer, clock) = (master.sealer(), Arc::clone(clock));
    let (certificate, key) = config.ca_import_files();
    if !(certificate.exists() && key.exists()) {
        return EmbeddedCa::open_or_create(store, &sealer, &config.site, options, clock).await.map_err(|error| {
            BootError::new(STEP, error, "is this the master secret with which the site was made? restore that file")
        });
    }
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
            BootError::new(STEP, error, format!("make {} readable, or remove the CA to import", path.display()))
        })
    };
    let (certificate_pem, key_pem) = (read(&certificate)?, read(&key)?);
    let ca = EmbeddedCa::import(store, &sealer, &certificate_pem, &key_pem, options, clock).await;
    let ca = ca.map_err(|error| {
        let files = format!("{} and {}", certificate.display(), key.display());
        BootError::new(STEP, error, format!("correct {files}, or remove them to go on with the CA that is there"))
    })?;
    // The key first: it is the secret, and importing twice changes nothing. A certificate alone is what a crash leaves here.
    for path in [&key, &certificate] {
        std::fs::remove_file(path).map_err(|error| {
            BootError::new(STEP, error, format!("remove {}: the CA is in the database now", path.display()))
        })?;
    }
    tracing::info!("the CA of the operator is in the database; its files are removed");
    Ok(ca)
}
