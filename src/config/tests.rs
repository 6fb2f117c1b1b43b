use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use secrecy::ExposeSecret;

use super::*;

/// A directory with a `mosaic.toml`, and surroundings that are in it.
struct Place {
    directory: tempfile::TempDir,
    around: Surroundings,
}

impl Place {
    fn new(file: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::write(directory.path().join("mosaic.toml"), text).unwrap();
        }
        let environment = BTreeMap::from([("HOME".to_owned(), OsString::from("/home/ada"))]);
        let around = Surroundings { environment, is_root: false, current_dir: directory.path().to_owned() };
        Self { directory, around }
    }

    fn with(mut self, variables: &[(&str, &str)]) -> Self {
        self.around.environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
        self
    }

    fn load(&self, set: &[&str]) -> Result<Config, ConfigErrors> {
        let args = ConfigArgs { set: set.iter().map(ToString::to_string).collect(), ..ConfigArgs::default() };
        Config::load_in(&args, &self.around)
    }

    /// Each problem as `origin key what`, the directory cut from the origin.
    fn problems(&self, set: &[&str]) -> Vec<String> {
        let errors = self.load(set).expect_err("the configuration was expected to be refused");
        assert!(errors.problems.iter().all(|problem| !problem.remedy.is_empty()), "{errors}");
        let prefix = format!("{}/", self.directory.path().display());
        let line =
            |problem: &Problem| format!("{} {} {}", problem.origin, problem.key, problem.what).replace(&prefix, "");
        errors.problems.iter().map(line).collect()
    }
}

#[test]
fn a_name_is_enough_for_a_node_of_tier_local() {
    let config = Place::new(Some("site = \"home\"\n")).load(&[]).unwrap();
    assert_eq!(config.site.as_str(), "home");
    assert_eq!((config.tier, config.audit), (Tier::Local, AuditMode::Strict));
    assert_eq!(config.state_dir, Path::new("/home/ada/.local/state/mosaic"));
    assert_eq!(config.api, ApiConfig { listen: "127.0.0.1:8640".parse().unwrap(), tls: None });
    assert_eq!(config.federation.listener.listen, "0.0.0.0:8643".parse().unwrap());
    assert_eq!(config.enrollment.listen, "0.0.0.0:8644".parse().unwrap());
    assert_eq!(config.limits, Limits::default());
    assert!(
        matches!(&config.master_secret, MasterSecretSource::File(file) if *file == config.state_dir.join("master.secret"))
    );
    assert!(matches!(config.postgres, PostgresConfig::Embedded { bin_dir: None, .. }));
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let place = Place::new(Some("site = \"file\"\n[limits]\npage_cap = 100\npage_default = 10\nfilter_values = 7\n"))
        .with(&[
            ("MOSAIC_SITE", "environment"),
            ("MOSAIC_LIMITS_PAGE_CAP", "150"),
            ("MOSAIC_LIMITS_PAGE_DEFAULT", "20"),
        ]);
    let config = place.load(&["limits.page_default=30"]).unwrap();
    assert_eq!(config.site.as_str(), "environment");
    let limits = config.limits;
    assert_eq!((limits.page_cap.get(), limits.page_default.get(), limits.filter_values), (150, 30, 7));
}

#[test]
fn an_empty_variable_is_not_set() {
    let config =
        Place::new(Some("site = \"home\"\n")).with(&[("MOSAIC_SITE", ""), ("MOSAIC_POSTGRES_URL", "")]).load(&[]);
    assert_eq!(config.unwrap().site.as_str(), "home");
}

#[test]
fn every_problem_is_told_at_once_with_its_line_or_variable() {
    let place = Place::new(Some(
        "site = \"Home\"\ntier = \"locl\"\nstat_dir = \"x\"\n\n[api]\nlisten = \"localhost\"\n\n[limits]\npage_cap = \"many\"\n\
         pool_wait_ms = 1\n[nothing]\na = 1\nb = 2\n",
    ))
    .with(&[("MOSAIC_AUDIT", "lax"), ("MOSAIC_API_LISTN", "127.0.0.1:1")]);
    assert_eq!(
        place.problems(&["limits.page_default=0", "log.filter=mosaic=loud"]),
        [
            "mosaic.toml:1 site = \"Home\" is no site name: a site name has 1 to 63 characters a-z, 0-9 or '-', and starts and ends with a letter or a digit",
            "mosaic.toml:2 tier = \"locl\" is not a known word",
            "mosaic.toml:3 stat_dir is not a setting; did you mean state_dir?",
            "mosaic.toml:6 api.listen = \"localhost\" is no address with a port",
            "mosaic.toml:9 limits.page_cap = \"many\" is no number in its range",
            "mosaic.toml:10 limits.pool_wait_ms = 1 is no number in its range",
            "mosaic.toml:11 nothing is not a setting",
            "environment MOSAIC_API_LISTN  is not a setting; did you mean MOSAIC_API_LISTEN?",
            "environment MOSAIC_AUDIT audit = \"lax\" is not a known word",
            "flag --set limits.page_default limits.page_default = \"0\" is no number in its range",
            "flag --set log.filter log.filter = \"mosaic=loud\" is no filter: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
        ]
    );
}

#[test]
fn a_problem_is_printed_with_its_remedy() {
    let errors = Place::new(None).load(&[]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "the configuration has 1 problem\nconfiguration: site is not set: every site has a name\n    remedy: make a \
         configuration with: mosaic gateway init --site <name>; or set MOSAIC_SITE, or --site"
    );
}

#[test]
fn a_file_that_is_not_toml_is_told_by_line_and_never_quoted() {
    let place = Place::new(Some("site = \"home\"\n[postgres]\nurl = \"postgresql://a:hunter2@h/d\nbin_dir = 3\n"));
    let problems = place.problems(&[]);
    assert!(problems.iter().all(|problem| problem.starts_with("mosaic.toml:3  is not TOML")), "{problems:?}");
    assert!(!format!("{:?} {}", place.load(&[]), place.load(&[]).unwrap_err()).contains("hunter2"));
}

#[test]
fn a_secret_never_reaches_a_message_or_debug_output() {
    let place = Place::new(Some("site = \"home\"\ntier = \"standalone\"\n"));
    let place =
        place.with(&[("MOSAIC_POSTGRES_URL", "postgresql://a:hunter2@h:port/d"), ("MOSAIC_MASTER_SECRET", "hunter2")]);
    let errors = place.load(&[]).unwrap_err();
    assert_eq!(errors.problems.len(), 2, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");

    let secret = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=";
    let place = Place::new(Some("site = \"home\"\ntier = \"standalone\"\n"))
        .with(&[("MOSAIC_POSTGRES_URL", "postgresql://a:hunter2@h/d"), ("MOSAIC_MASTER_SECRET", secret)]);
    let config = place.load(&[]).unwrap();
    let debug = format!("{config:?}");
    assert!(!debug.contains("hunter2") && !debug.contains(secret), "{debug}");
    assert!(matches!(&config.postgres, PostgresConfig::Url(url) if url.expose_secret().contains("hunter2")));
    assert!(matches!(&config.master_secret, MasterSecretSource::Given(given) if given.expose_secret() == secret));
}

#[test]
fn the_master_secret_itself_is_not_taken_from_a_file_or_a_flag() {
    let place = Place::new(Some("site = \"home\"\nmaster_secret = \"x\"\n"));
    assert_eq!(
        place.problems(&["master_secret=y"]),
        [
            "mosaic.toml:2 master_secret is a secret and is not taken from here",
            "flag --set master_secret master_secret is a secret and is not taken from here",
        ]
    );
}

#[test]
fn a_systemd_credential_holds_the_master_secret_when_no_file_is_named() {
    let place = Place::new(Some("site = \"home\"\n"));
    let credential = place.directory.path().join("mosaic.master-secret");
    std::fs::write(&credential, "x").unwrap();
    let directory = place.directory.path().to_str().unwrap().to_owned();
    let place = place.with(&[("CREDENTIALS_DIRECTORY", &directory)]);
    let config = place.load(&[]).unwrap();
    assert!(matches!(config.master_secret, MasterSecretSource::File(file) if file == credential));
    let named = place.load(&["master_secret_file=/etc/named"]).unwrap();
    assert!(matches!(named.master_secret, MasterSecretSource::File(file) if file == Path::new("/etc/named")));
}

#[test]
fn the_state_directory_follows_the_user_and_relative_paths_follow_who_says_them() {
    let mut place = Place::new(Some("site = \"home\"\n")).with(&[("XDG_STATE_HOME", "/state")]);
    assert_eq!(place.load(&[]).unwrap().state_dir, Path::new("/state/mosaic"));
    place.around.is_root = true;
    assert_eq!(place.load(&[]).unwrap().state_dir, Path::new("/var/lib/mosaic"));

    let elsewhere = Place::new(Some("site = \"home\"\nstate_dir = \"./state\"\n"));
    let args = ConfigArgs { config: Some(elsewhere.directory.path().join("mosaic.toml")), ..ConfigArgs::default() };
    let config = Config::load_in(&args, &place.around).unwrap();
    assert_eq!(config.state_dir, elsewhere.directory.path().join("state"));
    let args = ConfigArgs { state_dir: Some("here".to_owned()), ..args };
    assert_eq!(Config::load_in(&args, &place.around).unwrap().state_dir, place.directory.path().join("here"));

    place.around.environment.clear();
    place.around.is_root = false;
    assert_eq!(place.problems(&[]), ["configuration state_dir is not set, and there is no home directory"]);
}

#[test]
fn a_named_file_that_is_not_there_is_a_problem_and_a_missing_default_file_is_none() {
    let place = Place::new(None);
    assert!(place.load(&["site=home"]).is_ok());
    let args = ConfigArgs { config: Some("other.toml".into()), site: Some("home".to_owned()), ..ConfigArgs::default() };
    let errors = Config::load_in(&args, &place.around).unwrap_err();
    assert!(errors.to_string().contains("other.toml:1: cannot be read"), "{errors}");
}

#[test]
fn a_tier_and_its_database_have_to_agree() {
    let url = "postgresql://a:b@h/d";
    assert_eq!(
        Place::new(None).with(&[("MOSAIC_SITE", "home"), ("MOSAIC_POSTGRES_URL", url)]).problems(&[]),
        ["environment MOSAIC_POSTGRES_URL postgres.url is set, but tier local runs its own database"]
    );
    assert_eq!(
        Place::new(Some("site = \"home\"\ntier = \"standalone\"\n[postgres]\nbin_dir = \"/x\"\n")).problems(&[]),
        [
            "mosaic.toml:4 postgres.bin_dir is set, but tier standalone starts no server",
            "configuration postgres.url is not set: tier standalone needs a database",
        ]
    );
    let config =
        Place::new(None).with(&[("MOSAIC_POSTGRES_URL", url)]).load(&["site=home", "tier=standalone"]).unwrap();
    assert_eq!(config.tier, Tier::Standalone);
}

#[test]
fn tier_federated_names_every_part_that_is_missing() {
    let place = Place::new(Some("site = \"home\"\ntier = \"federated\"\n"));
    assert_eq!(
        place.problems(&[]),
        [
            "configuration postgres.url is not set: tier federated needs a database",
            "configuration redis.url is not set: tier federated needs Redis or Valkey",
            "configuration ca.url is not set: a step-ca is reached with it",
            "configuration ca.root_sha256 is not set: a step-ca is reached with it",
            "configuration ca.password_file is not set: a step-ca is reached with it",
        ]
    );
    let embedded = place.problems(&["ca.kind=embedded", "postgres.url=postgresql://u@h/d", "redis.url=redis://h"]);
    assert_eq!(
        embedded,
        ["flag --set ca.kind ca.kind = \"embedded\", but the authority of tier federated is a step-ca"]
    );
}

const STEP_CA: &str = "site = \"home\"\n[ca]\nkind = \"step-ca\"\nurl = \"https://ca.example:9000\"\n\
    root_sha256 = \"AB:ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB\"\npassword_file = \"secret\"\n";

#[test]
fn a_step_ca_is_read_in_every_tier_and_its_files_are_seen_from_the_configuration() {
    let place = Place::new(Some(STEP_CA));
    let config = place.load(&["limits.ca_request_ms=750"]).unwrap();
    let CaKind::StepCa(step_ca) = config.ca.kind else { panic!("{:?}", config.ca) };
    assert_eq!((step_ca.url.as_str(), step_ca.root_sha256), ("https://ca.example:9000/", [0xab; 32]));
    assert_eq!((&*step_ca.provisioner, step_ca.timeout), ("mosaic", std::time::Duration::from_millis(750)));
    assert_eq!(step_ca.password_file, place.directory.path().join("secret"));
    let all = ["tier=federated", "postgres.url=postgresql://u@h/d", "redis.url=rediss://:s3cret@h:1/2"];
    let config = place.load(&all).unwrap();
    assert_eq!(config.tier, Tier::Federated);
    assert!(matches!(config.ca.kind, CaKind::StepCa(_)));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn what_is_wrong_with_a_step_ca_is_told_together_and_no_password_with_it() {
    let place = Place::new(Some(STEP_CA));
    let wrong = ["ca.url=http://ca.example/x", "ca.root_sha256=12ab", "ca.provisioner= ", "redis.url=http://:s3cret@h"];
    let problems = place.problems(&wrong);
    assert_eq!(
        problems,
        [
            "flag --set ca.provisioner ca.provisioner = \" \" is empty",
            "flag --set ca.root_sha256 ca.root_sha256 = \"12ab\" is no SHA-256",
            "flag --set ca.url ca.url = \"http://ca.example/x\" is not https",
            "flag --set redis.url redis.url cannot be used: it does not start with redis:// or rediss://",
        ]
    );
    let unused = Place::new(Some("site = \"home\"\n")).problems(&["ca.url=https://ca.example", "ca.password_file=x"]);
    assert_eq!(unused.len(), 2, "{unused:?}");
    assert!(unused.iter().all(|problem| problem.contains("the embedded authority has no use for it")), "{unused:?}");
}

#[test]
fn two_listeners_on_one_port_are_refused_where_somebody_wrote_it() {
    let place = Place::new(Some("site = \"home\"\n[api]\nlisten = \"127.0.0.1:8643\"\n"));
    assert_eq!(place.problems(&[]), ["mosaic.toml:3 api.listen uses port 8643, as federation.listen does"]);
    let free =
        ["api.listen=127.0.0.1:0", "federation.listen=127.0.0.1:0", "enrollment.listen=127.0.0.1:0", "site=home"];
    assert!(Place::new(None).load(&free).is_ok());
    assert!(Place::new(None).load(&["site=home", "api.listen=127.0.0.1:1", "federation.listen=127.0.0.2:1"]).is_ok());
}

#[test]
fn tls_of_the_api_needs_both_files() {
    let place = Place::new(Some("site = \"home\"\n[api]\ntls_key = \"k.pem\"\n"));
    assert_eq!(place.problems(&[]), ["mosaic.toml:3 api.tls_key is set without api.tls_certificate"]);
    let config = place.load(&["api.tls_certificate=/c.pem"]).unwrap();
    let tls = TlsFiles { certificate: "/c.pem".into(), key: place.directory.path().join("k.pem") };
    assert_eq!(config.api.tls, Some(tls));
}

#[test]
fn a_public_url_is_https_and_nothing_but_a_host() {
    for (url, why) in [
        ("http://home.example:8643", "is not https"),
        ("https://a:b@home.example", "holds a user name"),
        ("https://home.example/path", "has a path"),
        ("home.example", "is no URL: relative URL without a base"),
    ] {
        let problems = Place::new(None).problems(&["site=home", &format!("federation.public_url={url}")]);
        let expected = format!("flag --set federation.public_url federation.public_url = \"{url}\" {why}");
        assert_eq!(problems, [expected]);
    }
}

#[test]
fn invites_name_the_configured_host_or_the_bound_address() {
    let bound = "127.0.0.1:4000".parse().unwrap();
    let config = Place::new(None).load(&["site=home", "federation.public_url=https://home.example:9443"]).unwrap();
    assert_eq!(config.federation.listener.public_url(bound).as_str(), "https://home.example:9443/");
    assert_eq!(config.enrollment.public_url(bound).as_str(), "https://127.0.0.1:4000/");
    assert_eq!(config.server_names(bound, bound), ["home.example", "127.0.0.1"]);
    assert_eq!(config.enrollment.public_url("[::1]:5".parse().unwrap()).as_str(), "https://[::1]:5/");
    let everywhere = config.enrollment.public_url("0.0.0.0:5".parse().unwrap());
    assert_eq!(everywhere.host_str(), Some(host_name().to_lowercase().as_str()));
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let set = ["site=home", "limits.page_default=100", "limits.page_cap=50", "limits.sessions_pool=500"];
    assert_eq!(
        Place::new(None).problems(&set),
        [
            "flag --set limits.page_default limits.page_default is more than limits.page_cap",
            "configuration limits.embedded_connections = 60 is less than both pools (766) and 8 beside them",
        ]
    );
}

#[test]
fn what_kubernetes_and_the_cli_put_into_the_environment_is_no_setting() {
    let place = Place::new(Some("site = \"home\"\n")).with(&[
        ("MOSAIC_SERVICE_HOST", "10.0.0.1"),
        ("MOSAIC_SERVICE_PORT_API", "8640"),
        ("MOSAIC_PORT", "tcp://10.0.0.1:8640"),
        ("MOSAIC_PORT_8640_TCP_ADDR", "10.0.0.1"),
        ("MOSAIC_API_PORT_8640_TCP", "tcp://10.0.0.1:8640"),
        ("MOSAIC_TOKEN", "t"),
        ("MOSAIC_ADMIN_TOKEN", "t"),
    ]);
    assert!(place.load(&[]).is_ok());
}

#[test]
fn a_variable_that_is_not_utf8_is_a_problem() {
    let mut place = Place::new(Some("site = \"home\"\n"));
    place.around.environment.insert("MOSAIC_AUDIT".to_owned(), OsString::from_vec(vec![0xff]));
    assert_eq!(place.problems(&[]), ["environment MOSAIC_AUDIT  is not UTF-8"]);
}

#[test]
fn an_operators_table_becomes_a_resource() {
    let place = Place::new(Some(
        "site = \"home\"\n[[resource]]\nname = \"tickets\"\ntable = \"helpdesk.tickets\"\nowner = \"assignee_id\"\n\
         team = \"group_id\"\norder = \"opened_at\"\ncolumns = [\"subject\", \"state\"]\nfilterable = [\"state\"]\nwritable = true\n",
    ));
    let expected = ResourceConfig {
        name: mosaic_actors::domain::catalog::ResourceName::parse("tickets").unwrap(),
        table: "helpdesk.tickets".to_owned(),
        id: "id".to_owned(),
        owner: "assignee_id".to_owned(),
        team: Some("group_id".to_owned()),
        order: "opened_at".to_owned(),
        columns: vec!["subject".to_owned(), "state".to_owned()],
        filterable: vec!["state".to_owned()],
        searchable: Vec::new(),
        sensitive: false,
        writable: true,
    };
    assert_eq!(place.load(&[]).unwrap().resources, [expected]);
}

#[test]
fn a_wrong_resource_is_told_by_line() {
    let place = Place::new(Some(
        "site = \"home\"\n\n[[resource]]\nname = \"Tickets\"\ntable = \"a.b.c\"\ncolums = []\ncolumns = [\"x\", \"x\", \"owner_id\"]\n\
         filterable = [\"y\"]\nsensitive = \"no\"\n\n[[resource]]\nname = \"a\"\ntable = \"a\"\nowner = \"o\"\ncolumns = []\n\n\
         [[resource]]\nname = \"a\"\ntable = \"x\\\"; drop\"\nowner = \"o.p\"\ncolumns = []\n",
    ));
    assert_eq!(
        place.problems(&[]),
        [
            "mosaic.toml:3 resource.owner is missing: the column with the owning user's id",
            "mosaic.toml:4 resource.name = \"Tickets\": a resource name has 1 to 63 characters a-z, 0-9 or '_' and starts with a letter",
            "mosaic.toml:5 resource.table = \"a.b.c\" is no table name",
            "mosaic.toml:6 resource.colums is not a setting; did you mean columns?",
            "mosaic.toml:7 resource.columns of ?: \"x\" stands twice",
            "mosaic.toml:7 resource.columns of ?: \"owner_id\" is a name that every row has on the wire already",
            "mosaic.toml:8 resource.filterable names \"y\", which is not in columns",
            "mosaic.toml:9 resource.sensitive is neither true nor false",
            "mosaic.toml:19 resource.table = \"x\\\"; drop\" is no table name",
            "mosaic.toml:20 resource.owner = \"o.p\" is no column name",
        ]
    );
    let place = Place::new(Some("site = \"home\"\n[resource]\nname = \"a\"\n"));
    assert_eq!(place.problems(&[]), ["mosaic.toml:2 resource is not a list of tables"]);
    let same = "[[resource]]\nname = \"a\"\ntable = \"a\"\nowner = \"o\"\ncolumns = []\n";
    let place = Place::new(Some(&format!("site = \"home\"\n{same}{same}")));
    assert_eq!(place.problems(&[]), ["mosaic.toml:8 resource.name stands twice"]);
}

#[test]
fn the_sample_file_is_a_configuration_and_its_comments_are_the_defaults() {
    let values = [("site", "home"), ("state_dir", "/tmp/\"odd\""), ("limits.page_cap", "100")];
    let text = Config::sample(&values);
    let config = Place::new(Some(&text)).load(&[]).unwrap();
    assert_eq!((config.site.as_str(), config.limits.page_cap.get()), ("home", 100));
    assert_eq!(config.state_dir, Path::new("/tmp/\"odd\""));

    // With every default uncommented, it still says the same.
    let is_default = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let spelled: String = text
        .lines()
        .map(|line| if is_default(line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
        .collect();
    let spelled = Place::new(Some(&spelled)).load(&[]).unwrap();
    let defaults =
        Place::new(Some("site = \"home\"\nstate_dir = '/tmp/\"odd\"'\n[limits]\npage_cap = 100\n")).load(&[]).unwrap();
    let without_file = |config: Config| format!("{:?}", Config { file: None, ..config });
    assert_eq!(without_file(spelled), without_file(defaults));
    assert!(text.lines().all(|line| line.len() <= 160), "a line of the sample is too long to read");
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let names: std::collections::BTreeSet<String> = keys::paths().map(|path| keys::environment_name(&path)).collect();
    assert_eq!(names.len(), keys::paths().count());
    assert_eq!(keys::environment_name("api.tls_key"), "MOSAIC_API_TLS_KEY");
    assert!(names.iter().all(|name| name != "MOSAIC_CONFIG" && name != "MOSAIC_TOKEN" && name != "MOSAIC_ADMIN_TOKEN"));
}

#[test]
fn the_setting_that_crashes_a_node_is_known_to_debug_builds_alone() {
    assert_eq!(keys::paths().any(|path| path == keys::CRASH_AT), cfg!(debug_assertions));
    assert!(!Config::sample(&[]).contains("crash_at"), "nobody is invited to set it");
    let place = Place::new(Some("site = \"home\"\n"));
    let told = place.problems(&["test.crash_at=nowhere"]);
    assert!(
        told[0].contains(if cfg!(debug_assertions) { "is no crash point" } else { "is not a setting" }),
        "{told:?}"
    );
}
