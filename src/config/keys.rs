//! Every key besides the limits and `[[resource]]`: name, default, meaning. The reader knows no other; the sample file is
//! made from this table.

use super::limits::Limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    pub key: &'static str,
    /// What the sample file shows, as TOML: the default, or an example when there is no fixed default.
    pub sample: &'static str,
    pub about: &'static str,
    pub place: Place,
}

/// Where a key may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Anywhere,
    /// Anywhere, but its value is never repeated in a message.
    AnywhereSecret,
    /// A secret that has no business in a file or in a process list.
    EnvironmentOnly,
}

const fn key(key: &'static str, sample: &'static str, about: &'static str) -> KeySpec {
    KeySpec { key, sample, about, place: Place::Anywhere }
}

/// In the order of the sample file; the part before the dot is its table.
pub const KEYS: &[KeySpec] = &[
    key(
        "site",
        r#""home""#,
        "What this site calls itself: a-z, 0-9, '-'. Part of invites; peers may call it otherwise.",
    ),
    key(
        "tier",
        r#""local""#,
        "local: the node runs its own database and CA. standalone: a database by URL, CA inside the node unless ca.kind says otherwise. federated: a database by URL with pgvector, Redis or Valkey, and a step-ca.",
    ),
    key(
        "state_dir",
        r#""/var/lib/mosaic""#,
        "Keys, tokens and the database of tier local. Default: $XDG_STATE_HOME/mosaic or ~/.local/state/mosaic; /var/lib/mosaic for root.",
    ),
    key(
        "master_secret_file",
        r#""/var/lib/mosaic/master.secret""#,
        "Seals private keys. Default: the systemd credential 'mosaic.master-secret' if there is one, else master.secret in state_dir. MOSAIC_MASTER_SECRET in the environment stands for the file's content.",
    ),
    KeySpec {
        key: "master_secret",
        sample: r#""""#,
        about: "The content of master_secret_file; only from the environment.",
        place: Place::EnvironmentOnly,
    },
    key(
        "audit",
        r#""strict""#,
        "strict: no row leaves before its audit event is committed. relaxed: events of allowed reads are queued, with a bound.",
    ),
    key("api.listen", r#""127.0.0.1:8640""#, "Sessions, admins, health and metrics."),
    key(
        "api.tls_certificate",
        r#""/etc/mosaic/api.pem""#,
        "PEM, leaf first. With tls_key: HTTPS. Without both: plain HTTP.",
    ),
    key("api.tls_key", r#""/etc/mosaic/api.key""#, "PEM; readable by the node's user only."),
    key("federation.listen", r#""0.0.0.0:8643""#, "Other sites, with client certificates only."),
    key(
        "federation.public_url",
        r#""https://home.example:8643""#,
        "How other sites reach it; stands in invites. Default: the listen address, or this machine's name.",
    ),
    key("federation.tls12", "false", "Accept TLS 1.2 besides 1.3."),
    key("federation.fault_injection", "false", "Let admins make links go wrong for a while, to practise with it."),
    key("enrollment.listen", r#""0.0.0.0:8644""#, "Enrolment and the CRL, with server TLS."),
    key(
        "enrollment.public_url",
        r#""https://home.example:8644""#,
        "How other sites reach it; stands in invites. Default as for federation.",
    ),
    KeySpec {
        key: "postgres.url",
        sample: r#""postgresql://mosaic:password@db.example/mosaic?sslmode=verify-full""#,
        about: "Tiers standalone and federated: PostgreSQL 14 or newer, a database of the node's own. sslmode is disable, require, verify-ca or verify-full; all but the first verify chain and name, against sslrootcert=<file> or the system's roots. Better in MOSAIC_POSTGRES_URL.",
        place: Place::AnywhereSecret,
    },
    key(
        "postgres.bin_dir",
        r#""/usr/lib/postgresql/15/bin""#,
        "Tier local: where initdb and postgres are. Default: the PATH, then the newest in /usr/lib/postgresql.",
    ),
    KeySpec {
        key: "redis.url",
        sample: r#""redis://:password@redis.example:6379/0""#,
        about: "Redis 6 or newer, or Valkey: replicas share what they count for the grants' limits. Needed in tier federated; without it every replica counts by itself. rediss:// encrypts the connection and verifies the server; redis:// does neither. Better in MOSAIC_REDIS_URL.",
        place: Place::AnywhereSecret,
    },
    key(
        "ca.kind",
        r#""embedded""#,
        "Who signs certificates. embedded: the node, with a sealed key in its database. step-ca: smallstep's step-ca, see docs/SETUP.md; the only one of tier federated.",
    ),
    key(
        "ca.url",
        r#""https://ca.home.example:9000""#,
        "step-ca: where it answers; the host stands among dnsNames of its ca.json.",
    ),
    key(
        "ca.root_sha256",
        r#""7f4e…: 64 hexadecimal digits""#,
        "step-ca: the root's fingerprint, as printed by: step certificate fingerprint root_ca.crt",
    ),
    key(
        "ca.root_file",
        r#""/etc/mosaic/root_ca.crt""#,
        "step-ca: the root in PEM. With it the node can start while step-ca is down; without it the root is fetched at every start.",
    ),
    key("ca.provisioner", r#""mosaic""#, "step-ca: name of the JWK provisioner with our template."),
    key(
        "ca.password_file",
        r#""/etc/mosaic/provisioner_password""#,
        "step-ca: the password of the provisioner's key; readable by the node's user only.",
    ),
    key(
        "ca.provisioner_key_file",
        r#""/etc/mosaic/provisioner_key""#,
        "step-ca: the provisioner's encryptedKey, if step-ca does not hand it out at /provisioners.",
    ),
    key(
        "ca.extension_arc",
        r#""1.3.6.1.4.1.99999""#,
        "Arc of the certificate extensions that name grant and subject. 99999 is a placeholder; both sites of a link need the same.",
    ),
    key("log.format", r#""human""#, "human or json; to standard error."),
    key("log.filter", r#""info""#, "Levels, such as 'info' or 'mosaic=debug,warn'."),
];

/// Keys that the sample file shows with an example, because their default depends on the machine or is 'none'.
pub(super) const WITHOUT_FIXED_DEFAULT: &[&str] = &[
    "site",
    "state_dir",
    "master_secret_file",
    "api.tls_certificate",
    "api.tls_key",
    "federation.public_url",
    "enrollment.public_url",
    "postgres.url",
    "postgres.bin_dir",
    "redis.url",
    "ca.url",
    "ca.root_sha256",
    "ca.root_file",
    "ca.provisioner",
    "ca.password_file",
    "ca.provisioner_key_file",
];

/// For tests of what a crash leaves (ADR 19). A release build does not know it, and so starts nothing when it is set.
pub(super) const CRASH_AT: &str = "test.crash_at";

/// Every key's path, limits included.
pub(super) fn paths() -> impl Iterator<Item = String> {
    let limits = Limits::TABLE.iter().map(|spec| format!("limits.{}", spec.key));
    let of_debug_builds = cfg!(debug_assertions).then(|| CRASH_AT.to_owned());
    KEYS.iter().map(|spec| spec.key.to_owned()).chain(limits).chain(of_debug_builds)
}

/// `api.listen` → `MOSAIC_API_LISTEN`.
#[must_use]
pub fn environment_name(path: &str) -> String {
    format!("MOSAIC_{}", path.replace('.', "_").to_uppercase())
}

pub(super) fn place_of(path: &str) -> Place {
    KEYS.iter().find(|spec| spec.key == path).map_or(Place::Anywhere, |spec| spec.place)
}
