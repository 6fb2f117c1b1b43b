//! All adapters and actors of one node, put together.

use std::sync::Arc;

use mosaic_actors::audit_writer::AuditHandle;
use mosaic_actors::domain::catalog::Catalog;
use mosaic_actors::fan_out::FanOutHandle;
use mosaic_actors::grant_cache::GrantCacheHandle;
use mosaic_actors::peer_registry::PeerRegistryHandle;
use mosaic_actors::ports::clock::Clock;
use mosaic_actors::scope_evaluator::ScopeEvaluatorHandle;
use mosaic_actors::{audit_writer, fan_out, grant_cache, peer_registry, scope_evaluator};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::authority::{self, Pki};
use super::database::Database;
use super::doors::{Doors, Sockets, address};
use super::refusals::Refusals;
use super::replica::Replica;
use super::sealing::Sealing;
use super::{BootError, Ready, housekeeping, limits};
use crate::admin_api::KeptCheckpoint;
use crate::config::Config;
use crate::peer_http::{HttpDialer, PeerLimits};
use crate::postgres::audit::{AuditKeys, AuditStore};
use crate::postgres::authority_feed::AuthorityFeed;
use crate::postgres::catalog::{TableCatalog, built_in_resources, load_catalog};
use crate::postgres::grants::Grants;
use crate::postgres::links::Links;
use crate::postgres::rows::{PgLocalRows, QueryCanceller};
use crate::secrets::MasterSecret;
use crate::shared_limits::{RedisUrl, SharedLimits};
use crate::telemetry::metrics::Metrics;
use crate::{doctor, tls};

/// Everything that lives as long as the node.
pub(super) struct Node {
    doors: Doors,
    registry: PeerRegistryHandle,
    audit: AuditHandle,
    refusals: Refusals,
    sealing: Arc<Sealing>,
    feed: AuthorityFeed,
    database: Database,
    stop: CancellationToken,
    replica: Replica,
}

/// What the doors are built from.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) master: Arc<MasterSecret>,
    pub(super) database: Database,
    pub(super) tables: Arc<TableCatalog>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) canceller: QueryCanceller,
    pub(super) pki: Pki,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: AuditHandle,
    /// What the writer behind `audit` appends to.
    pub(super) log: AuditStore,
    pub(super) grants: GrantCacheHandle,
    pub(super) evaluator: ScopeEvaluatorHandle,
    pub(super) registry: PeerRegistryHandle,
    pub(super) fan_out: FanOutHandle,
    pub(super) shared_limits: Option<SharedLimits>,
    /// Ends what runs beside the doors.
    stop: CancellationToken,
    pub(super) federation_url: Url,
    pub(super) enrollment_url: Url,
}

impl Node {
    pub(super) async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<(Self, Ready), BootError> {
        tls::install_default_provider();
        check(doctor::check_machine(&config))?;
        let master = Arc::new(authority::master_secret(&config)?);
        let database = Database::open(&config, &clock).await?;
        let replica = Replica::enter(&config, &database, &master).await?;
        let tables = catalog(&config, &database).await?;
        let sockets = Sockets::bind(&config)?;
        let (federation, enrollment) = (address(&sockets.federation)?, address(&sockets.enrollment)?);
        let names = config.server_names(federation, enrollment);
        let pki = Pki::open(&config, &database, &master, names, &clock).await?;
        let parts = Parts::assemble(config, clock, master, database, tables, pki, (federation, enrollment))?;
        let stop = parts.stop.clone();

        let audit_store = parts.log.over(parts.database.sessions());
        audit_store
            .ensure_partitions(parts.clock.now())
            .await
            .map_err(|fault| BootError::new("audit", fault, "see the log for the database's own words"))?;
        let (feed, crl_news) =
            authority::follow(&parts.config, &parts.database, &parts.grants, &parts.registry).await?;
        parts.pki.keep(crl_news, stop.clone());
        let grants = Grants::new(parts.database.sessions(), parts.log.keys());
        let sealing = Arc::new(Sealing {
            sealer: audit_store.sealer(parts.config.limits.audit_seal_batch),
            kept: KeptCheckpoint::at(parts.config.audit_checkpoint_file()),
            clock: Arc::clone(&parts.clock),
            metrics: Arc::clone(&parts.metrics),
            every: parts.config.limits.audit_seal,
        });
        actix_rt::spawn(replica.clone().run(parts.registry.clone(), parts.log.keys(), stop.clone()));
        actix_rt::spawn(Arc::clone(&sealing).run(stop.clone()));
        actix_rt::spawn(housekeeping::run(
            audit_store,
            parts.config.limits.audit_hot,
            grants,
            Arc::clone(&parts.clock),
            stop.clone(),
        ));

        let ready = parts.ready(&sockets)?;
        let (refusals, on_refused) = Refusals::start(
            &parts.config.limits,
            parts.audit.clone(),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.metrics),
            stop.clone(),
        );
        let doors = Doors::open(&parts, sockets, on_refused)?;
        let (registry, audit, database) = (parts.registry, parts.audit, parts.database);
        let node = Self { doors, registry, audit, refusals, sealing, feed, database, stop, replica };
        Ok((node, ready))
    }

    pub(super) async fn stop(self) {
        self.doors.close().await;
        self.registry.drain().await;
        self.refusals.last_window().await;
        self.audit.drain().await;
        self.stop.cancel();
        self.sealing.last_round().await;
        self.feed.stop().await;
        self.replica.leave().await;
        self.database.close().await;
    }
}

impl Parts {
    fn assemble(
        config: Config,
        clock: Arc<dyn Clock>,
        master: Arc<MasterSecret>,
        database: Database,
        tables: Arc<TableCatalog>,
        pki: Pki,
        (federation, enrollment): (std::net::SocketAddr, std::net::SocketAddr),
    ) -> Result<Self, BootError> {
        let canceller = QueryCanceller::new(&database.url)
            .map_err(|error| BootError::new("database", error, "correct postgres.url"))?;
        let metrics = Metrics::new().map_err(|error| BootError::new("metrics", error, "report this as a defect"))?;
        let stop = CancellationToken::new();
        let shared_limits = shared_limits(&config, &metrics, stop.clone())?;
        let catalog = tables.domain();
        let log = AuditStore::new(database.pools.peers.clone(), AuditKeys::new(&master, &config.site))
            .appending_over(database.pools.peer_events.clone());
        let audit = audit_writer::start(Arc::new(log.clone()), limits::audit(&config.limits));
        let grants = grant_cache::start(Arc::clone(&clock));
        let evaluator = scope_evaluator::start(grants.clone(), Arc::clone(&catalog), Arc::clone(&clock));
        let dialer = HttpDialer::new(master.sealer(), Arc::clone(&clock), PeerLimits::from(&config.limits));
        let registry = peer_registry::start(
            Arc::new(Links::new(database.sessions())),
            Arc::new(dialer),
            Arc::clone(&clock),
            limits::registry(&config.limits),
            arbiters(),
        );
        let local = PgLocalRows::new(database.pools.session_rows.clone(), Arc::clone(&tables), canceller.clone())
            .with_page_bytes(config.limits.page);
        let fan_out = fan_out::start(Arc::new(local), registry.clone(), limits::fan_out(&config.limits));
        Ok(Self {
            federation_url: config.federation.listener.public_url(federation),
            enrollment_url: config.enrollment.public_url(enrollment),
            config,
            clock,
            master,
            database,
            tables,
            catalog,
            canceller,
            pki,
            metrics,
            audit,
            log,
            grants,
            evaluator,
            registry,
            fan_out,
            shared_limits,
            stop,
        })
    }

    fn ready(&self, sockets: &Sockets) -> Result<Ready, BootError> {
        let api = address(&sockets.api)?;
        Ok(Ready {
            site: self.config.site.to_string(),
            api_url: self.config.api_url(api),
            api,
            federation: address(&sockets.federation)?,
            enrollment: address(&sockets.enrollment)?,
            federation_url: self.federation_url.to_string(),
            enrollment_url: self.enrollment_url.to_string(),
            state_dir: self.config.state_dir.display().to_string(),
        })
    }
}

/// Counts with the other replicas from now on; the node does not wait for it, because it can count alone.
fn shared_limits(
    config: &Config,
    metrics: &Arc<Metrics>,
    stop: CancellationToken,
) -> Result<Option<SharedLimits>, BootError> {
    let Some(url) = &config.redis else { return Ok(None) };
    let url = RedisUrl::parse(url).map_err(|error| BootError::new("redis", error, "correct redis.url"))?;
    Ok(Some(SharedLimits::start(url, &config.site, &config.limits, Arc::clone(metrics), stop)))
}

/// A probe that fails ends the start, with the words that `gateway doctor` has for it.
pub(super) fn check(passed: Result<(), doctor::FailedProbe>) -> Result<(), BootError> {
    passed.map_err(|failed| BootError::told(failed.0.name, failed.0.detail.clone(), failed.remedy()))
}

/// Threads that hold the links' actors: their connections must not wait for anything else of the node.
fn arbiters() -> Vec<actix_rt::ArbiterHandle> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    (0..threads).map(|_| actix_rt::Arbiter::new().handle()).collect()
}

async fn catalog(config: &Config, database: &Database) -> Result<Arc<TableCatalog>, BootError> {
    let mut declared = built_in_resources();
    declared.extend(config.resources.iter().cloned());
    let client = database.pools.sessions.get().await;
    let client = client.map_err(|error| BootError::new("catalog", error, "is the database up?"))?;
    let tables = load_catalog(&client, &declared)
        .await
        .map_err(|error| BootError::new("catalog", error, "correct the [[resource]] entries, or the tables"))?;
    for note in &tables.warnings {
        tracing::warn!(resource = note.resource, problem = note.problem, remedy = note.remedy, "catalog");
    }
    Ok(Arc::new(tables))
}
