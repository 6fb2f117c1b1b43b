//! The database: there, new enough, ours, and what it holds.

use std::sync::Arc;
use std::time::Duration;

use mosaic_actors::ports::clock::Clock;
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tokio_postgres::Client;

use super::{Probe, rotation_probe};
use crate::config::{CaKind, Config, Limits, MasterSecretSource, Tier};
use crate::pki::authority::CertificateAuthority;
use crate::pki::ca_store::CaStore;
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::embedded;
use crate::postgres::embedded::binaries::OLDEST_MAJOR;
use crate::postgres::migrations::{self, SchemaState};
use crate::postgres::pool::{DatabaseUrl, PoolOptions, SqlCause, TlsMode};
use crate::secrets::MasterSecret;

/// More than this between the clocks, and certificates that one side finds valid are expired for the other.
const SKEW_RED: time::Duration = time::Duration::minutes(5);

/// The database server's own, besides ours.
const SERVER: &str = "database";

/// What was seen, and the CA's root if there is one.
pub(super) struct Seen {
    pub(super) probes: Vec<Probe>,
    pub(super) root: Option<Vec<u8>>,
}

/// The database of tier `local` while it takes no connections.
pub(super) fn embedded_at_rest(config: &Config) -> Probe {
    if embedded::is_in_use(&config.state_dir) {
        let detail = "a node owns it, but it takes no connections now: it is starting, recovering or stopping";
        return Probe::red(SERVER, detail, unreachable_remedy(Tier::Local));
    }
    let detail = if config.postgres_dir().join("data/PG_VERSION").is_file() {
        "stopped; 'mosaic gateway serve' starts it"
    } else {
        "not made yet; the first 'mosaic gateway serve' makes it"
    };
    Probe::green(SERVER, detail)
}

/// Every probe that needs the database; the ones behind a red one are left out.
pub(super) async fn probes(config: &Config, url: &DatabaseUrl, clock: &Arc<dyn Clock>) -> Seen {
    let mut seen = Seen { probes: Vec::new(), root: None };
    let client = match url.connect(&PoolOptions::single("mosaic doctor", &config.limits)).await {
        Ok(client) => client,
        Err(error) => {
            let remedy = unreachable_remedy(config.tier);
            seen.probes.push(Probe::red(SERVER, format!("{url}: {error}"), remedy));
            return seen;
        }
    };
    if let Err(error) = look(config, url, clock, &client, &mut seen).await {
        let detail = format!("{url}: {}", SqlCause(&error));
        seen.probes.push(Probe::red(SERVER, detail, unreachable_remedy(config.tier)));
    }
    seen
}

fn unreachable_remedy(tier: Tier) -> &'static str {
    match tier {
        Tier::Local => "wait a moment, it restarts by itself; else see the node's log",
        Tier::Standalone | Tier::Federated => {
            "start the database, and check host, port, user and password in postgres.url"
        }
    }
}

async fn look(
    config: &Config,
    url: &DatabaseUrl,
    clock: &Arc<dyn Clock>,
    client: &Client,
    seen: &mut Seen,
) -> Result<(), tokio_postgres::Error> {
    let server = Server::ask(client, clock.as_ref()).await?;
    let before = seen.probes.len();
    seen.probes.push(server.version(url));
    seen.probes.extend(server.refusals());
    if config.tier != Tier::Local {
        seen.probes.push(encryption(url));
        seen.probes.extend(server.room(&config.limits));
    }
    if config.tier == Tier::Federated {
        seen.probes.push(vectors(client, server.version).await?);
    }
    seen.probes.push(server.clock(config.limits.clock_skew));
    if seen.probes[before..].iter().any(|probe| probe.status == super::Status::Red) {
        return Ok(());
    }
    let (schema, is_current) = schema(client).await;
    seen.probes.push(schema);
    if is_current {
        seen.probes.extend(site(config, client).await?);
        match &config.ca.kind {
            CaKind::Embedded => {
                let (ca, root) = authority(config, url, clock).await;
                seen.probes.push(ca);
                seen.root = root;
            }
            CaKind::StepCa(_) => seen.probes.extend(outbox(client).await?),
        }
        seen.probes.extend(rotation_probe::probe(config, client).await?);
    }
    Ok(())
}

/// What the server says about itself, in one question.
struct Server {
    version: i32,
    encoding: String,
    in_recovery: bool,
    read_only: bool,
    may_create: bool,
    connections: i32,
    /// The server's clock minus ours.
    ahead: time::Duration,
}

impl Server {
    async fn ask(client: &Client, clock: &dyn Clock) -> Result<Self, tokio_postgres::Error> {
        let asked = clock.now();
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'), pg_is_in_recovery(), \
                        current_setting('transaction_read_only') = 'on', \
                        COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false), \
                        current_setting('max_connections')::int4 - current_setting('superuser_reserved_connections')::int4, \
                        clock_timestamp()",
                &[],
            )
            .await?;
        let middle = asked + (clock.now() - asked) / 2;
        Ok(Self {
            version: row.get(0),
            encoding: row.get(1),
            in_recovery: row.get(2),
            read_only: row.get(3),
            may_create: row.get(4),
            connections: row.get(5),
            ahead: row.get::<_, OffsetDateTime>(6) - middle,
        })
    }

    fn version(&self, url: &DatabaseUrl) -> Probe {
        let (major, minor) = (self.version / 10_000, self.version % 10_000);
        let detail = format!("PostgreSQL {major}.{minor} at {url}");
        if u32::try_from(major).is_ok_and(|major| major >= OLDEST_MAJOR) {
            Probe::green(SERVER, detail)
        } else {
            Probe::red(SERVER, detail, format!("use PostgreSQL {OLDEST_MAJOR} or newer"))
        }
    }

    /// Why the node could not write.
    fn refusals(&self) -> Option<Probe> {
        let (name, detail, remedy) = if self.in_recovery || self.read_only {
            let remedy = "point postgres.url at the primary; with several hosts add target_session_attrs=read-write";
            ("database writes", "the server is read-only", remedy)
        } else if !self.may_create {
            let remedy = "as the database's owner: GRANT CREATE ON SCHEMA public TO <user of the URL>";
            ("database rights", "the user of the URL may not create tables", remedy)
        } else if self.encoding != "UTF8" {
            let remedy = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0";
            ("database encoding", "the database is not UTF8", remedy)
        } else {
            return None;
        };
        Some(Probe::red(name, detail, remedy))
    }

    fn room(&self, limits: &Limits) -> Option<Probe> {
        let wanted = limits.pooled_connections() + Limits::CONNECTIONS_BESIDE_POOLS;
        let offered = usize::try_from(self.connections).unwrap_or(0);
        (offered < wanted).then(|| {
            Probe::yellow(
                "database connections",
                format!("the server gives {offered}, this node may want {wanted}"),
                "raise max_connections of the server, or lower limits.sessions_pool, limits.peers_pool and limits.workers",
            )
        })
    }

    fn clock(&self, tolerated: Duration) -> Probe {
        let detail = format!("{} ms apart from the database", self.ahead.whole_milliseconds().unsigned_abs());
        let remedy = "synchronise both machines' clocks (NTP)";
        if self.ahead.unsigned_abs() <= tolerated {
            Probe::green("clock", detail)
        } else if self.ahead.abs() <= SKEW_RED {
            Probe::yellow("clock", detail, remedy)
        } else {
            Probe::red("clock", detail, remedy)
        }
    }
}

fn encryption(url: &DatabaseUrl) -> Probe {
    const NAME: &str = "database encryption";
    match url.tls() {
        TlsMode::Verified { .. } => Probe::green(NAME, "TLS, verified"),
        TlsMode::Off if url.is_local() => Probe::green(NAME, "none; the connection stays on this machine"),
        TlsMode::Off => Probe::yellow(
            NAME,
            "none: password and rows cross the network readable",
            "add sslmode=verify-full to postgres.url",
        ),
    }
}

/// Where the extension `vector` stands: in the database, ready to be made there, not allowed, or not on the server at all.
async fn vectors(client: &Client, server_version: i32) -> Result<Probe, tokio_postgres::Error> {
    const NAME: &str = "pgvector";
    let row = client
        .query_one(
            "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,
                    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available,
                    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                    OR (has_database_privilege(current_database(), 'CREATE')
                        AND COALESCE((SELECT v.trusted OR NOT v.superuser
                                      FROM pg_available_extension_versions v
                                      JOIN pg_available_extensions e ON e.name = v.name AND e.default_version = v.version
                                      WHERE v.name = 'vector'), false)) AS allowed",
            &[],
        )
        .await?;
    let (installed, available): (Option<String>, Option<String>) = (row.get("installed"), row.get("available"));
    Ok(match (installed, available, row.get::<_, bool>("allowed")) {
        (Some(version), ..) => Probe::green(NAME, format!("{version}, in the database")),
        (None, Some(version), true) => {
            Probe::green(NAME, format!("{version}, on the server; 'mosaic gateway serve' adds it to the database"))
        }
        (None, Some(version), false) => Probe::red(
            NAME,
            format!("{version} is on the server, but not in this database, and the user of the URL may not add it"),
            "as a superuser, in this database: CREATE EXTENSION vector",
        ),
        (None, None, _) => {
            let major = server_version / 10_000;
            let remedy = format!(
                "on the database server: apt-get install postgresql-{major}-pgvector, from apt.postgresql.org where the distribution has none"
            );
            Probe::red(NAME, "the extension is not installed on the server", remedy)
        }
    })
}

/// Revocations that step-ca was not told yet.
async fn outbox(client: &Client) -> Result<Option<Probe>, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT count(*), COALESCE(max(attempts), 0), EXTRACT(EPOCH FROM now() - min(revoked_at))::float8
             FROM revoked_certificates WHERE told_at IS NULL AND not_after > now()",
            &[],
        )
        .await?;
    let (waiting, attempts, seconds): (i64, i32, Option<f64>) = (row.get(0), row.get(1), row.get(2));
    Ok((waiting > 0).then(|| {
        let minutes = seconds.unwrap_or_default() / 60.0;
        Probe::yellow(
            "ca revocations",
            format!("{waiting} wait to be told to step-ca, the oldest for {minutes:.0} min, after {attempts} attempts; the grants are refused already"),
            "a node that serves tells them by itself as soon as step-ca takes them; see the other lines on the authority",
        )
    }))
}

/// And whether it is this build's.
async fn schema(client: &Client) -> (Probe, bool) {
    const NAME: &str = "schema";
    match migrations::state_of(client).await {
        Ok(SchemaState::Current { version }) => (Probe::green(NAME, format!("version {version}, current")), true),
        Ok(SchemaState::Empty) => (Probe::green(NAME, "empty; 'mosaic gateway serve' fills it"), false),
        Ok(SchemaState::Behind { version, pending }) => {
            let detail = format!("version {version}; {pending} migrations run at the next 'mosaic gateway serve'");
            (Probe::yellow(NAME, detail, "make a backup, then restart the node"), false)
        }
        Err(error) => (Probe::red(NAME, error.to_string(), error.remedy()), false),
    }
}

async fn site(config: &Config, client: &Client) -> Result<Option<Probe>, tokio_postgres::Error> {
    let row = client.query_opt("SELECT name FROM site", &[]).await?;
    Ok(row.map(|row| row.get::<_, String>(0)).filter(|name| name != config.site.as_str()).map(|name| {
        let remedy = format!("set site = \"{name}\", or point the node at a database of its own");
        Probe::red("site", format!("the database belongs to the site {name}"), remedy)
    }))
}

/// The CA opens with our master secret; its root is what our listeners present.
async fn authority(config: &Config, url: &DatabaseUrl, clock: &Arc<dyn Clock>) -> (Probe, Option<Vec<u8>>) {
    const NAME: &str = "certificate authority";
    let later = || (Probe::green(NAME, "not made yet; the first 'mosaic gateway serve' makes it"), None);
    let broken = |detail: String| {
        let remedy = "use the master secret with which this site was made: restore master_secret_file from a backup, or, after a \
                      rotation, copy it from a machine where a replica runs";
        (Probe::red(NAME, detail, remedy), None)
    };
    let master = match &config.master_secret {
        MasterSecretSource::Given(text) => MasterSecret::parse(text.expose_secret()),
        MasterSecretSource::File(file) => MasterSecret::load(file),
    };
    // A secret that cannot be read has a probe of its own.
    let (Ok(master), Ok(pool)) = (master, url.pool(&PoolOptions::single("mosaic doctor", &config.limits))) else {
        return (Probe::yellow(NAME, "not looked at, for want of the master secret", "see above"), None);
    };
    let store = Arc::new(SqlCaStore::new(pool));
    match store.load().await {
        Ok(None) => return later(),
        Ok(Some(_)) => {}
        Err(error) => return broken(error.to_string()),
    }
    let options = CaOptions { arc: config.ca.extension_arc.clone(), ..CaOptions::default() };
    let opened = EmbeddedCa::open_or_create(store, &master.sealer(), &config.site, options, Arc::clone(clock)).await;
    match opened {
        Err(error) => broken(error.to_string()),
        Ok(ca) => (validity(NAME, &ca.root(), clock.now()), Some(ca.root())),
    }
}

fn validity(name: &'static str, root: &[u8], now: OffsetDateTime) -> Probe {
    const SOON: i64 = 90;
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(root) else {
        return Probe::red(name, "its certificate cannot be read", "restore the database from a backup");
    };
    let days = (certificate.validity().not_after.to_datetime() - now).whole_days();
    let remedy = "make a new CA and enrol every peer again; see the runbook";
    match days {
        ..=0 => Probe::red(name, "its certificate is past its end", remedy),
        1..=SOON => Probe::yellow(name, format!("its certificate ends in {days} days"), remedy),
        _ => Probe::green(name, format!("opens with the master secret; its certificate ends in {days} days")),
    }
}
