use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::SystemClock;
use crate::config::{ConfigArgs, Surroundings};
use crate::pki::authority::CertificateAuthority;
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::database::{embedded_options, reachable_url};
use crate::postgres::embedded::EmbeddedPostgres;
use crate::postgres::migrations;
use crate::postgres::testing::{TemporaryDirectory, TestDatabase};
use crate::secrets::MasterSecret;
use crate::tls::{SwappableIdentity, TlsVersions, enrollment_server_config};

struct Shifted(time::Duration);

impl Clock for Shifted {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + self.0
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// A state directory as `gateway init` leaves it.
fn initialised() -> TemporaryDirectory {
    let state = TemporaryDirectory::new();
    MasterSecret::generate().unwrap().write_new(&state.path().join("master.secret")).unwrap();
    state
}

const ANY_PORTS: [&str; 3] =
    ["api.listen=127.0.0.1:0", "federation.listen=127.0.0.1:0", "enrollment.listen=127.0.0.1:0"];

fn config(state: &TemporaryDirectory, set: &[&str]) -> Config {
    let args = ConfigArgs {
        site: Some("home".to_owned()),
        state_dir: Some(state.path().display().to_string()),
        set: ANY_PORTS.iter().chain(set).map(ToString::to_string).collect(),
        ..ConfigArgs::default()
    };
    let around =
        Surroundings { environment: BTreeMap::default(), is_root: false, current_dir: state.path().to_owned() };
    Config::load_in(&args, &around).unwrap()
}

fn on(state: &TemporaryDirectory, url: &str, set: &[&str]) -> Config {
    let url = format!("postgres.url={url}");
    let set: Vec<&str> = ["tier=standalone", &url].into_iter().chain(set.iter().copied()).collect();
    config(state, &set)
}

fn probe<'a>(report: &'a Report, name: &str) -> &'a Probe {
    report.probes.iter().find(|probe| probe.name == name).unwrap_or_else(|| panic!("no probe {name} in\n{report}"))
}

fn saw(report: &Report, name: &str) -> (Status, String) {
    let probe = probe(report, name);
    assert_eq!(probe.remedy.is_some(), probe.status != Status::Green, "{probe:?}");
    (probe.status, probe.detail.clone())
}

async fn ca_in(database: &TestDatabase, config: &Config) -> EmbeddedCa {
    let secret = MasterSecret::load(&config.state_dir.join("master.secret")).unwrap();
    let store = Arc::new(SqlCaStore::new(database.pool()));
    EmbeddedCa::open_or_create(store, &secret.sealer(), &config.site, CaOptions::default(), clock()).await.unwrap()
}

#[tokio::test]
async fn a_new_node_of_tier_local_has_nothing_red_before_its_first_start() {
    let state = initialised();
    let report = examine(&config(&state, &[]), &clock()).await;
    assert!(report.ok && !report.serving, "{report}");
    assert_eq!(
        saw(&report, "database"),
        (Status::Green, "not made yet; the first 'mosaic gateway serve' makes it".to_owned())
    );
    assert_eq!(saw(&report, "server binaries").0, Status::Green);
    assert!(check_machine(&config(&state, &[])).is_ok());
}

#[tokio::test]
async fn the_running_database_of_tier_local_is_found_and_looked_at() {
    let state = initialised();
    let config = config(&state, &[]);
    assert!(reachable_url(&config).unwrap().is_none());
    let server = EmbeddedPostgres::start(&embedded_options(&config).unwrap()).unwrap();
    let url = reachable_url(&config).unwrap().unwrap();
    migrations::run(&url).await.unwrap();
    check_database(&config, &url, &clock()).await.unwrap();
    let report = examine(&config, &clock()).await;
    assert!(report.ok, "{report}");
    assert_eq!(saw(&report, "schema").0, Status::Green);
    assert!(saw(&report, "database").1.starts_with("PostgreSQL "), "{report}");
    server.stop();
    let report = examine(&config, &clock()).await;
    assert_eq!(saw(&report, "database"), (Status::Green, "stopped; 'mosaic gateway serve' starts it".to_owned()));
}

#[tokio::test]
async fn a_database_that_is_being_restarted_is_red_for_as_long_as_that_takes() {
    let state = initialised();
    let config = config(&state, &[]);
    // What a node holds from before the server starts until after it stopped.
    let lock = std::fs::File::create(state.path().join("postgres.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(saw(&examine(&config, &clock()).await, "database").0, Status::Red);
    drop(lock);
    assert_eq!(saw(&examine(&config, &clock()).await, "database").0, Status::Green);
}

#[tokio::test]
async fn a_missing_state_directory_and_secret_are_red_and_end_a_start_at_the_first() {
    let state = TemporaryDirectory::new();
    let missing = Config { state_dir: state.path().join("none"), ..config(&state, &[]) };
    let report = examine(&missing, &clock()).await;
    assert!(!report.ok);
    assert_eq!(saw(&report, "state directory").0, Status::Red);
    assert_eq!(saw(&report, "master secret").0, Status::Red);
    let failed = check_machine(&missing).unwrap_err();
    assert_eq!(failed.0.name, "state directory");
    assert_eq!(failed.remedy(), "make it, with its keys: mosaic gateway init");
}

#[tokio::test]
async fn a_state_directory_or_secret_open_to_others_is_red() {
    let state = initialised();
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&state.path().join("master.secret"), 0o644);
    let report = examine(&config(&state, &[]), &clock()).await;
    assert_eq!(saw(&report, "master secret").0, Status::Red);
    set(&state.path().join("master.secret"), 0o600);
    set(state.path(), 0o777);
    let report = examine(&config(&state, &[]), &clock()).await;
    assert_eq!(saw(&report, "master secret").0, Status::Green);
    assert_eq!(probe(&report, "state directory").remedy, Some(format!("chmod go-w {}", state.path().display())));
}

#[tokio::test]
async fn missing_server_binaries_are_red() {
    let state = initialised();
    let config = config(&state, &["postgres.bin_dir=/nowhere"]);
    let report = examine(&config, &clock()).await;
    assert_eq!(
        saw(&report, "server binaries"),
        (Status::Red, "/nowhere does not hold a working initdb and postgres".to_owned())
    );
}

#[tokio::test]
async fn a_password_never_reaches_a_report() {
    let (state, database) = (initialised(), TestDatabase::empty().await);
    let (_, address) = database.url().expose_secret().split_once('@').unwrap();
    let wrong_password = format!("postgresql://mosaic:hunter2@{address}");
    for url in [wrong_password.as_str(), "postgresql://mosaic:hunter2@127.0.0.1:1/mosaic"] {
        let config = on(&state, url, &[]);
        let report = examine(&config, &clock()).await;
        assert_eq!(saw(&report, "database").0, Status::Red);
        let failed = check_database(&config, &DatabaseUrl::parse(&url.into()).unwrap(), &clock()).await.unwrap_err();
        let shown = format!("{report} {report:?} {} {failed} {failed:?}", serde_json::to_string(&report).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let report = examine(&on(&state, &wrong_password, &[]), &clock()).await;
    assert!(saw(&report, "database").1.contains("28P01"), "{report}");
}

#[tokio::test]
async fn an_empty_database_is_fit_for_a_first_start() {
    let (state, database) = (initialised(), TestDatabase::empty().await);
    let config = on(&state, database.url().expose_secret(), &[]);
    let report = examine(&config, &clock()).await;
    assert!(report.ok, "{report}");
    assert_eq!(saw(&report, "schema"), (Status::Green, "empty; 'mosaic gateway serve' fills it".to_owned()));
    assert_eq!(saw(&report, "database encryption").0, Status::Green);
    check_database(&config, &database.database_url(), &clock()).await.unwrap();
}

#[tokio::test]
async fn a_user_who_may_not_create_tables_is_red_with_the_grant_to_give() {
    let (state, database) = (initialised(), TestDatabase::empty().await);
    let role = format!("doctor_{}", database.name());
    database.connect().await.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await.unwrap();
    let (_, address) = database.url().expose_secret().split_once('@').unwrap();
    let report = examine(&on(&state, &format!("postgresql://{role}:pw@{address}"), &[]), &clock()).await;
    assert_eq!(saw(&report, "database rights").0, Status::Red);
    assert!(probe(&report, "database rights").remedy.as_ref().unwrap().contains("GRANT CREATE ON SCHEMA public"));
}

#[tokio::test]
async fn a_newer_schema_and_another_sites_database_are_red() {
    let (state, database) = (initialised(), TestDatabase::new().await);
    let config = on(&state, database.url().expose_secret(), &[]);
    let client = database.connect().await;
    client.batch_execute("INSERT INTO site (id, name) VALUES (gen_random_uuid(), 'work')").await.unwrap();
    let report = examine(&config, &clock()).await;
    assert_eq!(saw(&report, "site"), (Status::Red, "the database belongs to the site work".to_owned()));
    client.batch_execute("INSERT INTO refinery_schema_history VALUES (9000, 'later', 'now', '1')").await.unwrap();
    let report = examine(&config, &clock()).await;
    assert_eq!(saw(&report, "schema").0, Status::Red);
}

#[tokio::test]
async fn clocks_that_differ_are_yellow_and_then_red() {
    let (state, database) = (initialised(), TestDatabase::empty().await);
    let config = on(&state, database.url().expose_secret(), &[]);
    for (shift, status) in [(0, Status::Green), (20, Status::Yellow), (-20, Status::Yellow), (600, Status::Red)] {
        let clock: Arc<dyn Clock> = Arc::new(Shifted(time::Duration::seconds(shift)));
        let report = examine(&config, &clock).await;
        assert_eq!(saw(&report, "clock").0, status, "{shift}");
    }
}

#[tokio::test]
async fn a_ca_that_another_master_secret_sealed_is_red() {
    let (state, database) = (initialised(), TestDatabase::new().await);
    let config = on(&state, database.url().expose_secret(), &[]);
    assert_eq!(
        saw(&examine(&config, &clock()).await, "certificate authority"),
        (Status::Green, "not made yet; the first 'mosaic gateway serve' makes it".to_owned())
    );
    ca_in(&database, &config).await;
    assert_eq!(saw(&examine(&config, &clock()).await, "certificate authority").0, Status::Green);
    let other = initialised();
    let with_other = on(&other, database.url().expose_secret(), &[]);
    assert_eq!(saw(&examine(&with_other, &clock()).await, "certificate authority").0, Status::Red);
}

#[tokio::test]
async fn a_port_that_another_process_has_is_red_and_ends_a_start() {
    let state = initialised();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = config(&state, &[&format!("api.listen={address}")]);
    let report = examine(&config, &clock()).await;
    assert_eq!(saw(&report, "api listener"), (Status::Red, format!("{address} is taken by another process")));
    assert!(!report.serving);
    assert_eq!(check_machine(&config).unwrap_err().0.name, "api listener");
    drop(taken);
    assert!(check_machine(&config).is_ok());
}

#[tokio::test]
async fn an_address_of_another_machine_is_red() {
    let state = initialised();
    let report = examine(&config(&state, &["api.listen=192.0.2.1:8640"]), &clock()).await;
    assert_eq!(saw(&report, "api listener"), (Status::Red, "192.0.2.1:8640 is no address of this machine".to_owned()));
}

/// Presents a certificate of `ca` on a port of its own, as a node's enrolment listener does.
async fn serve_enrollment(ca: &EmbeddedCa) -> std::net::SocketAddr {
    let now = SystemClock.now();
    let issued = ca.issue_server(vec!["127.0.0.1".to_owned()], now, time::Duration::DAY).await.unwrap();
    let identity = SwappableIdentity::new();
    identity.replace(&issued).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(enrollment_server_config(&identity, TlsVersions::Only13)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

#[tokio::test]
async fn our_own_running_node_is_recognised_and_another_sites_node_is_not() {
    let (state, database) = (initialised(), TestDatabase::new().await);
    let at_rest = on(&state, database.url().expose_secret(), &[]);
    let address = serve_enrollment(&ca_in(&database, &at_rest).await).await;
    let ours = on(&state, database.url().expose_secret(), &[&format!("enrollment.listen={address}")]);
    let report = examine(&ours, &clock()).await;
    assert!(report.serving && report.ok, "{report}");
    assert_eq!(saw(&report, "enrollment listener"), (Status::Green, format!("{address} is served by this node")));

    let (other_state, other_database) = (initialised(), TestDatabase::new().await);
    let other_url = other_database.url().expose_secret();
    ca_in(&other_database, &on(&other_state, other_url, &[])).await;
    let theirs = on(&other_state, other_url, &[&format!("enrollment.listen={address}")]);
    let report = examine(&theirs, &clock()).await;
    assert_eq!(saw(&report, "enrollment listener"), (Status::Red, format!("{address} is taken by another process")));
    assert!(!report.serving);
}

#[tokio::test]
async fn what_others_could_read_along_is_yellow() {
    let state = initialised();
    let report = examine(&config(&state, &["api.listen=0.0.0.0:0", "federation.listen=0.0.0.0:0"]), &clock()).await;
    assert_eq!(saw(&report, "api encryption").0, Status::Yellow);
    assert_eq!(saw(&report, "federation address").0, Status::Yellow);
    assert_eq!(saw(&report, "enrollment address").0, Status::Green);
    assert!(report.ok, "yellow does not fail");
    let url = on(&state, "postgresql://mosaic:pw@192.0.2.1:1/mosaic", &["limits.database_connect_ms=100"]);
    assert_eq!(saw(&examine(&url, &clock()).await, "database").0, Status::Red);
}

#[test]
fn a_report_is_a_table_for_people_and_json_for_machines() {
    let probes = vec![
        Probe::green("disk", "9 MiB free"),
        Probe::yellow("api encryption", "plain", "use TLS"),
        Probe::red("database", "gone", "start it"),
    ];
    let report = Report { site: Some("home".to_owned()), tier: Some("local"), ok: false, serving: true, probes };
    assert_eq!(
        report.to_string(),
        "green   disk            9 MiB free\n\
         yellow  api encryption  plain\n                        remedy: use TLS\n\
         red     database        gone\n                        remedy: start it\n\
         1 red, 1 yellow; this node is serving"
    );
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        r#"{"site":"home","tier":"local","ok":false,"serving":true,"probes":[{"name":"disk","status":"green","detail":"9 MiB free"},{"name":"api encryption","status":"yellow","detail":"plain","remedy":"use TLS"},{"name":"database","status":"red","detail":"gone","remedy":"start it"}]}"#
    );
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_red_report() {
    let around = Surroundings { environment: BTreeMap::default(), is_root: true, current_dir: "/nowhere".into() };
    let errors = Config::load_in(&ConfigArgs::default(), &around).unwrap_err();
    let report = Report::of_bad_configuration(&errors);
    assert!(!report.ok);
    assert_eq!(
        saw(&report, "configuration"),
        (Status::Red, "configuration: site is not set: every site has a name".to_owned())
    );
}

const VECTOR: &str = "comment = 'a name'\ndefault_version = '1.0'\nrelocatable = true\ntrusted = true\n";

/// A configuration of tier federated; what it names besides the database need not be there.
fn federated(state: &TemporaryDirectory, url: &str, redis: &str) -> Config {
    let (url, redis) = (format!("postgres.url={url}"), format!("redis.url={redis}"));
    let fingerprint = format!("ca.root_sha256={}", "ab".repeat(32));
    let rest = ["ca.url=https://127.0.0.1:1", "ca.password_file=nowhere", &fingerprint];
    config(state, &[&["tier=federated", url.as_str(), redis.as_str()][..], &rest[..]].concat())
}

#[tokio::test]
async fn every_part_of_tier_federated_that_is_missing_has_a_probe_of_its_own_and_no_secret_in_it() {
    let (state, database) = (initialised(), TestDatabase::empty().await);
    let config = federated(&state, database.url().expose_secret(), "redis://:s3cret@127.0.0.1:1");
    let report = examine(&config, &clock()).await;
    let (status, detail) = saw(&report, "pgvector");
    assert_eq!((status, detail.as_str()), (Status::Red, "the extension is not installed on the server"));
    assert!(probe(&report, "pgvector").remedy.as_ref().unwrap().contains("-pgvector"));
    assert_eq!(saw(&report, "rate limits").0, Status::Red);
    let (status, detail) = saw(&report, "certificate authority");
    assert!(status == Status::Red && detail.contains("nowhere"), "{detail}");
    assert!(!report.to_string().contains("s3cret"), "{report}");
    assert!(check_database(&config, &database.database_url(), &clock()).await.is_err(), "such a node does not start");
}

#[tokio::test]
async fn an_extension_that_is_not_installed_is_told_from_one_that_may_not_be_added() {
    let mut own =
        crate::postgres::testing::own_cluster_with_extension("vector", VECTOR, "CREATE DOMAIN vector AS real[];");
    own.cluster.start().unwrap();
    let (state, url) = (initialised(), own.cluster.url("postgres"));
    let owner = DatabaseUrl::parse(&url).unwrap().connect(&Default::default()).await.unwrap();
    let roles = "CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT CREATE ON SCHEMA public TO guest";
    owner.batch_execute(roles).await.unwrap();
    let address = url.expose_secret().split('@').next_back().unwrap().to_owned();
    let guest = format!("postgresql://guest:guest@{address}");
    let look = async |url: &str| {
        let report = examine(&federated(&state, url, "redis://127.0.0.1:1"), &clock()).await;
        saw(&report, "pgvector")
    };
    let (status, detail) = look(&guest).await;
    assert!(status == Status::Red && detail.contains("may not add it"), "{detail}");
    let (status, detail) = look(url.expose_secret()).await;
    assert!(status == Status::Green && detail.contains("'mosaic gateway serve' adds it"), "{detail}");
    // The extension says that it may be trusted: the right to create in the database is enough.
    owner.batch_execute("GRANT CREATE ON DATABASE postgres TO guest").await.unwrap();
    assert_eq!(look(&guest).await.0, Status::Green);
    owner.batch_execute("CREATE EXTENSION vector").await.unwrap();
    owner.batch_execute("REVOKE CREATE ON DATABASE postgres FROM guest").await.unwrap();
    assert_eq!(look(&guest).await, (Status::Green, "1.0, in the database".to_owned()));
}
