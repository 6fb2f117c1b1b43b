//! From sources to a [`Config`], or to everything that is wrong with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mosaic_actors::domain::identity::SiteName;
use secrecy::SecretString;
use url::Url;

use super::flags::ConfigArgs;
use super::problem::{ConfigErrors, Origin, Problem};
use super::reader::{Reader, Wrong, wrong};
use super::sources::{Sources, Surroundings};
use super::{
    ApiConfig, AuditMode, CaConfig, CaKind, Config, FederationConfig, Limits, ListenerConfig, LogConfig,
    MasterSecretSource, PostgresConfig, Tier, TlsFiles, resources,
};
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::step_ca::config::{DEFAULT_PROVISIONER, StepCaConfig, parse_fingerprint};
use crate::postgres::pool::DatabaseUrl;
use crate::shared_limits::RedisUrl;
use crate::telemetry::logs::LogFormat;

pub const API_PORT: u16 = 8640;
pub const FEDERATION_PORT: u16 = 8643;
pub const ENROLLMENT_PORT: u16 = 8644;

/// The name of the systemd credential with the master secret (`LoadCredential=mosaic.master-secret:/path`).
const CREDENTIAL: &str = "mosaic.master-secret";

impl Config {
    /// Reads file, environment and flags of this process.
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigErrors> {
        Self::load_in(args, &Surroundings::of_this_process())
    }

    /// Like [`Self::load`], in given surroundings.
    pub fn load_in(args: &ConfigArgs, around: &Surroundings) -> Result<Self, ConfigErrors> {
        let sources = Sources::read(args, around);
        let mut reader = Reader { sources, current_dir: around.current_dir.clone() };
        let config = assemble(&mut reader, around);
        let mut problems = reader.sources.problems;
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => {
                problems.sort_by(|a, b| a.origin.cmp(&b.origin));
                Err(ConfigErrors { problems })
            }
        }
    }
}

/// Reads everything, whatever is wrong with parts of it; `None` only with a problem noted.
fn assemble(reader: &mut Reader, around: &Surroundings) -> Option<Config> {
    let site = site(reader);
    let tier = tier(reader);
    let state_dir = state_dir(reader, around);
    let api = api(reader);
    let federation = federation(reader);
    let enrollment = listener(reader, "enrollment", ENROLLMENT_PORT);
    let postgres = postgres(reader, tier, around);
    let redis = redis(reader, tier);
    let audit = reader.word("audit", &[("strict", AuditMode::Strict), ("relaxed", AuditMode::Relaxed)]);
    let log = log(reader);
    let master_secret = master_secret(reader, state_dir.as_deref(), around);
    let limits = limits(reader, tier);
    let ca = ca(reader, tier, &limits);
    #[cfg(debug_assertions)]
    let crash_at = crash_at(reader);
    let resources = resources::read(&std::mem::take(&mut reader.sources.resources), &mut reader.sources.problems);
    refuse_shared_addresses(reader, &api, &federation, &enrollment);
    Some(Config {
        site: site?,
        tier: tier?,
        state_dir: state_dir?,
        api,
        federation,
        enrollment,
        postgres: postgres?,
        redis,
        ca: ca?,
        audit: audit.unwrap_or(AuditMode::Strict),
        log,
        master_secret: master_secret?,
        limits,
        resources,
        file: reader.sources.file.clone(),
        #[cfg(debug_assertions)]
        crash_at,
    })
}

fn site(reader: &mut Reader) -> Option<SiteName> {
    if !reader.is_set("site") {
        // A file that is not TOML was not read at all: what it lacks is not known.
        if reader.sources.problems.is_empty() || reader.sources.file.is_none() {
            let remedy = "make a configuration with: mosaic gateway init --site <name>; or set MOSAIC_SITE, or --site";
            reader.problem("site", "is not set: every site has a name", remedy);
        }
        return None;
    }
    reader.text("site", |text| {
        SiteName::parse(text)
            .map_err(|e| wrong(format!("is no site name: {e}"), "choose a name such as home or work-2"))
    })
}

fn tier(reader: &mut Reader) -> Option<Tier> {
    let words = [Tier::Local, Tier::Standalone, Tier::Federated].map(|tier| (tier.as_str(), tier));
    if reader.is_set("tier") { reader.word("tier", &words) } else { Some(Tier::Local) }
}

fn state_dir(reader: &mut Reader, around: &Surroundings) -> Option<PathBuf> {
    if reader.is_set("state_dir") {
        return reader.path("state_dir");
    }
    let absolute = |name: &str| around.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let found = if around.is_root {
        Some(PathBuf::from("/var/lib/mosaic"))
    } else {
        let home = || absolute("HOME").map(|home| home.join(".local/state/mosaic"));
        absolute("XDG_STATE_HOME").map(|state| state.join("mosaic")).or_else(home)
    };
    if found.is_none() {
        reader.problem("state_dir", "is not set, and there is no home directory", "set state_dir to an absolute path");
    }
    found
}

fn api(reader: &mut Reader) -> ApiConfig {
    let listen = address(reader, "api.listen", SocketAddr::from(([127, 0, 0, 1], API_PORT)));
    let (certificate, key) = (reader.path("api.tls_certificate"), reader.path("api.tls_key"));
    for (one, other) in [("api.tls_certificate", "api.tls_key"), ("api.tls_key", "api.tls_certificate")] {
        if reader.is_set(one) && !reader.is_set(other) {
            reader.problem(one, format!("is set without {other}"), "set both for HTTPS, or none for plain HTTP");
        }
    }
    let tls = certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key });
    ApiConfig { listen, tls }
}

fn federation(reader: &mut Reader) -> FederationConfig {
    let listener = listener(reader, "federation", FEDERATION_PORT);
    FederationConfig {
        listener,
        tls12: reader.flag("federation.tls12").unwrap_or(false),
        fault_injection: reader.flag("federation.fault_injection").unwrap_or(false),
    }
}

fn listener(reader: &mut Reader, name: &str, port: u16) -> ListenerConfig {
    let listen = address(reader, &format!("{name}.listen"), SocketAddr::from(([0, 0, 0, 0], port)));
    let public_url = reader.text(&format!("{name}.public_url"), parse_public_url);
    ListenerConfig { listen, public_url }
}

fn address(reader: &mut Reader, key: &str, default: SocketAddr) -> SocketAddr {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            wrong(
                "is no address with a port",
                format!("write an IP address and a port, such as \"{default}\" or \"[::1]:8640\""),
            )
        })
    };
    reader.text(key, parse).unwrap_or(default)
}

fn parse_public_url(text: &str) -> Result<Url, Wrong> {
    parse_bare_url(text, "write https://<host>:<port>, as other sites reach it")
}

fn parse_bare_url(text: &str, remedy: &str) -> Result<Url, Wrong> {
    let url = Url::parse(text).map_err(|e| wrong(format!("is no URL: {e}"), remedy))?;
    let reason = if url.scheme() != "https" {
        "is not https"
    } else if !url.username().is_empty() || url.password().is_some() {
        "holds a user name"
    } else if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        "has a path"
    } else {
        return Ok(url);
    };
    Err(wrong(reason, remedy))
}

fn postgres(reader: &mut Reader, tier: Option<Tier>, around: &Surroundings) -> Option<PostgresConfig> {
    let url = reader.text("postgres.url", |text| {
        let url = SecretString::from(text.to_owned());
        let remedy = "write postgresql://user:password@host:port/database?sslmode=verify-full";
        DatabaseUrl::parse(&url).map(|_| url).map_err(|e| wrong(format!("cannot be used: {e}"), remedy))
    });
    let bin_dir = reader.path("postgres.bin_dir");
    let tier = tier?;
    match tier {
        Tier::Local => {
            if reader.is_set("postgres.url") {
                let remedy = "set tier = \"standalone\" to use that database, or remove postgres.url";
                reader.problem("postgres.url", "is set, but tier local runs its own database", remedy);
            }
            let search_path = around.environment.get("PATH").cloned();
            Some(PostgresConfig::Embedded { bin_dir, search_path })
        }
        Tier::Standalone | Tier::Federated => {
            let name = tier.as_str();
            if !reader.is_set("postgres.url") {
                let remedy = "set MOSAIC_POSTGRES_URL or postgres.url; or tier = \"local\", which needs no database";
                reader.problem("postgres.url", format!("is not set: tier {name} needs a database"), remedy);
            }
            if reader.is_set("postgres.bin_dir") {
                let remedy = "remove it, or set tier = \"local\"";
                reader.problem("postgres.bin_dir", format!("is set, but tier {name} starts no server"), remedy);
            }
            url.map(PostgresConfig::Url)
        }
    }
}

fn redis(reader: &mut Reader, tier: Option<Tier>) -> Option<SecretString> {
    if tier == Some(Tier::Federated) && !reader.is_set("redis.url") {
        let remedy =
            "set MOSAIC_REDIS_URL or redis.url; or tier = \"standalone\", where every replica counts by itself";
        reader.problem("redis.url", "is not set: tier federated needs Redis or Valkey", remedy);
    }
    reader.text("redis.url", |text| {
        let url = SecretString::from(text.to_owned());
        let remedy = "write redis://[user]:password@host:port/database";
        RedisUrl::parse(&url).map(|_| url).map_err(|e| wrong(format!("cannot be used: {e}"), remedy))
    })
}

/// The keys that only a step-ca has.
const OF_STEP_CA: [&str; 6] =
    ["ca.url", "ca.root_sha256", "ca.root_file", "ca.provisioner", "ca.password_file", "ca.provisioner_key_file"];

fn ca(reader: &mut Reader, tier: Option<Tier>, limits: &Limits) -> Option<CaConfig> {
    let extension_arc = extension_arc(reader);
    let federated = tier == Some(Tier::Federated);
    let is_step_ca = if reader.is_set("ca.kind") {
        reader.word("ca.kind", &[("embedded", false), ("step-ca", true)])?
    } else {
        federated
    };
    if is_step_ca {
        return step_ca(reader, limits).map(|found| CaConfig { kind: CaKind::StepCa(Box::new(found)), extension_arc });
    }
    if federated {
        let remedy = "remove it and set ca.url, ca.root_sha256 and ca.password_file; or set tier = \"standalone\"";
        reader.problem("ca.kind", "= \"embedded\", but the authority of tier federated is a step-ca", remedy);
    }
    for key in OF_STEP_CA {
        if reader.is_set(key) {
            let remedy = "set ca.kind = \"step-ca\", or remove it";
            reader.problem(key, "is set, but the embedded authority has no use for it", remedy);
        }
    }
    Some(CaConfig { kind: CaKind::Embedded, extension_arc })
}

fn step_ca(reader: &mut Reader, limits: &Limits) -> Option<StepCaConfig> {
    for (key, remedy) in [
        ("ca.url", "set it to https://<host>:<port> of step-ca"),
        ("ca.root_sha256", "set it to what step-ca's machine prints: step certificate fingerprint root_ca.crt"),
        ("ca.password_file", "name a copy of step-ca's secrets/provisioner_password, mode 0600"),
    ] {
        if !reader.is_set(key) {
            reader.problem(key, "is not set: a step-ca is reached with it", remedy);
        }
    }
    let url = reader
        .text("ca.url", |text| parse_bare_url(text, "write https://<host>:<port>, with a host of dnsNames in ca.json"));
    let root_sha256 = reader.text("ca.root_sha256", |text| {
        let remedy = "write the 64 hexadecimal digits that are printed by: step certificate fingerprint root_ca.crt";
        parse_fingerprint(text).ok_or_else(|| wrong("is no SHA-256", remedy))
    });
    let provisioner = if reader.is_set("ca.provisioner") {
        reader.text("ca.provisioner", |text| match text.trim() {
            "" => Err(wrong("is empty", "write the provisioner's name, or remove it for \"mosaic\"")),
            name => Ok(name.into()),
        })
    } else {
        Some(DEFAULT_PROVISIONER.into())
    };
    let password_file = reader.path("ca.password_file");
    let (root_file, provisioner_key_file) = (reader.path("ca.root_file"), reader.path("ca.provisioner_key_file"));
    Some(StepCaConfig {
        url: url?,
        root_sha256: root_sha256?,
        root_file,
        provisioner: provisioner?,
        password_file: password_file?,
        provisioner_key_file,
        timeout: limits.ca_request,
    })
}

fn extension_arc(reader: &mut Reader) -> ExtensionArc {
    let parse = |text: &str| {
        ExtensionArc::parse(text).map_err(|e| wrong(format!("is no arc: {e}"), "remove it for the default"))
    };
    reader.text("ca.extension_arc", parse).unwrap_or_default()
}

fn log(reader: &mut Reader) -> LogConfig {
    let format = reader.word("log.format", &[("human", LogFormat::Human), ("json", LogFormat::Json)]);
    let filter = reader.text("log.filter", |text| {
        let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
        let remedy = "write levels such as \"info\" or \"mosaic=debug,warn\"";
        parsed.map(|_| text.to_owned()).map_err(|e| wrong(format!("is no filter: {e}"), remedy))
    });
    LogConfig { format: format.unwrap_or_default(), filter: filter.unwrap_or_else(|| "info".to_owned()) }
}

fn master_secret(reader: &mut Reader, state_dir: Option<&Path>, around: &Surroundings) -> Option<MasterSecretSource> {
    if reader.is_set("master_secret") {
        let given = reader.text("master_secret", |text| {
            let parsed = crate::secrets::MasterSecret::parse(text);
            let remedy = "set it to 32 bytes in base64, as printed by: openssl rand -base64 32";
            parsed
                .map(|_| SecretString::from(text.to_owned()))
                .map_err(|e| wrong(format!("cannot be used: {e}"), remedy))
        });
        if reader.is_set("master_secret_file") {
            reader.problem("master_secret_file", "is set besides MOSAIC_MASTER_SECRET", "keep one of the two");
        }
        return given.map(MasterSecretSource::Given);
    }
    let file = reader.path("master_secret_file");
    let credential = || around.variable("CREDENTIALS_DIRECTORY").map(|dir| Path::new(dir).join(CREDENTIAL));
    file.or_else(|| credential().filter(|path| path.is_file()))
        .or_else(|| state_dir.map(|dir| dir.join("master.secret")))
        .map(MasterSecretSource::File)
}

#[cfg(debug_assertions)]
fn crash_at(reader: &mut Reader) -> Option<String> {
    reader.text(super::keys::CRASH_AT, |text| {
        let known = crate::crash_points::POINTS.contains(&text);
        let known = known.then(|| text.to_owned());
        known.ok_or_else(|| wrong("is no crash point", "name one of those in src/crash_points.rs"))
    })
}

fn limits(reader: &mut Reader, tier: Option<Tier>) -> Limits {
    let limits = Limits::from_table(|spec| reader.limit(spec));
    let mut at_most = |fits: bool, key: &str, most: &str| {
        if !fits {
            let remedy = format!("lower it, or raise limits.{most}");
            reader.problem(&format!("limits.{key}"), format!("is more than limits.{most}"), remedy);
        }
    };
    at_most(limits.request_deadline <= limits.request_deadline_max, "request_deadline_ms", "request_deadline_max_ms");
    at_most(limits.page_default <= limits.page_cap, "page_default", "page_cap");
    at_most(limits.breaker_open <= limits.breaker_open_max, "breaker_open_s", "breaker_open_max_s");
    at_most(limits.invite_lifetime <= limits.invite_lifetime_max, "invite_lifetime_s", "invite_lifetime_max_s");
    at_most(limits.reconnect <= limits.reconnect_max, "reconnect_ms", "reconnect_max_ms");
    at_most(limits.embedded_restart <= limits.embedded_restart_max, "embedded_restart_ms", "embedded_restart_max_ms");
    at_most(limits.admin_page <= limits.admin_page_cap, "admin_page", "admin_page_cap");
    at_most(limits.session_token <= limits.session_token_max, "session_token_s", "session_token_max_s");
    at_most(limits.grant_lifetime <= limits.grant_lifetime_max, "grant_lifetime_s", "grant_lifetime_max_s");
    at_most(limits.audit_batch <= limits.audit_queue, "audit_batch", "audit_queue");
    let pools = limits.pooled_connections();
    let offered = usize::try_from(limits.embedded_connections).unwrap_or(usize::MAX);
    if tier == Some(Tier::Local) && pools + Limits::CONNECTIONS_BESIDE_POOLS > offered {
        let beside = Limits::CONNECTIONS_BESIDE_POOLS;
        reader.problem(
            "limits.embedded_connections",
            format!("= {offered} is less than both pools ({pools}) and {beside} beside them"),
            "raise it, or lower limits.sessions_pool, limits.peers_pool or limits.workers",
        );
    }
    limits
}

fn refuse_shared_addresses(
    reader: &mut Reader,
    api: &ApiConfig,
    federation: &FederationConfig,
    enrollment: &ListenerConfig,
) {
    let listeners = [
        ("api.listen", api.listen),
        ("federation.listen", federation.listener.listen),
        ("enrollment.listen", enrollment.listen),
    ];
    for (index, (name, address)) in listeners.iter().enumerate() {
        for (other, taken) in &listeners[..index] {
            let same_ip = address.ip() == taken.ip() || address.ip().is_unspecified() || taken.ip().is_unspecified();
            if address.port() != 0 && address.port() == taken.port() && same_ip {
                // Blame what somebody wrote, not a default.
                let (blamed, with) = if reader.origin(name) == Origin::Absent { (other, name) } else { (name, other) };
                let what = format!("uses port {}, as {with} does", address.port());
                let origin = reader.origin(blamed);
                let remedy = "give every listener a port of its own".to_owned();
                reader.sources.problems.push(Problem { origin, key: (*blamed).to_owned(), what, remedy });
            }
        }
    }
}
