use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use mosaic_actors::ports::clock::Clock;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::context::{Context, write_private};
use crate::cli::lists::sheet;
use crate::cli::outcome::{Failure, Outcome};
use crate::clock::SystemClock;
use crate::config::{CaKind, Config, ConfigArgs, DEFAULT_FILE, MasterSecretSource, Surroundings, Tier};
use crate::pki::ca_material::CaMaterial;
use crate::pki::step_ca::config::StepCaConfig;
use crate::pki::step_ca::setup;
use crate::secrets::{MasterSecret, Token};

/// Nothing that exists is overwritten: configuration, keys and tokens that are there are used as they are.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Use this CA for client and server certificates instead of a new one: PEM
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// The CA's private key: PEM, PKCS#8
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// Who signs certificates: the node itself, or a step-ca of this site [default: embedded; step-ca in tier federated]
    #[arg(long, value_name = "KIND", value_parser = ["embedded", "step-ca"], conflicts_with = "ca_cert")]
    ca: Option<String>,
    #[command(flatten)]
    step_ca: StepCaArgs,
}

/// What a node is told about its step-ca; becomes section [ca] of the configuration.
#[derive(Debug, Default, Args)]
struct StepCaArgs {
    /// step-ca: https://<host>:<port>; the host stands among dnsNames of its ca.json
    #[arg(long, value_name = "URL")]
    ca_url: Option<String>,
    /// step-ca: the root's fingerprint, as printed by 'step certificate fingerprint root_ca.crt'
    #[arg(long, value_name = "SHA256")]
    ca_fingerprint: Option<String>,
    /// step-ca: the root in PEM, so that the node can start while step-ca is down
    #[arg(long, value_name = "FILE")]
    ca_root: Option<PathBuf>,
    /// step-ca: name of the JWK provisioner [default: mosaic]
    #[arg(long, value_name = "NAME")]
    ca_provisioner: Option<String>,
    /// step-ca: the password of the provisioner's key, in a file that only this user can read
    #[arg(long, value_name = "FILE")]
    ca_password_file: Option<PathBuf>,
}

impl StepCaArgs {
    /// As configuration keys. Paths become absolute: in the file they would be seen from the file.
    fn values(&self, around: &Surroundings) -> Vec<String> {
        let path = |path: &PathBuf| around.current_dir.join(path).display().to_string();
        let values = [
            ("ca.url", self.ca_url.clone()),
            ("ca.root_sha256", self.ca_fingerprint.clone()),
            ("ca.root_file", self.ca_root.as_ref().map(path)),
            ("ca.provisioner", self.ca_provisioner.clone()),
            ("ca.password_file", self.ca_password_file.as_ref().map(path)),
        ];
        values.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))).collect()
    }
}

/// What was set up.
#[derive(Debug, Clone)]
pub(crate) struct Initialised {
    pub(crate) config: Config,
    /// The first admin's token; it is on record from the first boot on.
    pub(crate) admin_token: String,
}

impl Init {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Failure> {
        let mut args = context.config_args().clone();
        args.set.extend(self.ca.iter().map(|kind| format!("ca.kind={kind}")));
        args.set.extend(self.step_ca.values(context.around()));
        let given = self.given_ca()?;
        let set_up = initialise_if(&args, context.around(), |config| check_authority(config, given.as_ref()))?;
        if let Some(given) = &given {
            given.lay_down(&set_up.config)?;
        }
        let config = &set_up.config;
        let for_ca = match &config.ca.kind {
            CaKind::Embedded => None,
            CaKind::StepCa(step_ca) => Some(for_authority(config, step_ca)?),
        };
        let file = config.file.clone().unwrap_or_default();
        let value = json!({
            "site": config.site.as_str(),
            "tier": config.tier.as_str(),
            "config": file,
            "state_dir": config.state_dir,
            "admin_token_file": config.admin_token_file(),
            "admin_token": set_up.admin_token,
        });
        Ok(Outcome::new(&value, text(&set_up, &file) + for_ca.as_deref().unwrap_or_default()))
    }
}

impl Init {
    /// The CA to import; what could not be imported at the first boot is refused now.
    fn given_ca(&self) -> Result<Option<GivenCa>, Failure> {
        let (Some(certificate), Some(key)) = (&self.ca_cert, &self.ca_key) else { return Ok(None) };
        let read = |path: &Path| std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| failed(path, &e));
        let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
        CaMaterial::import(&certificate_pem, &key_pem, SystemClock.now()).map_err(|e| {
            Failure::failed(format!("{}: {e}", certificate.display()))
                .remedy("the certificate must be a CA's, in PEM; its key PEM in PKCS#8: openssl pkcs8 -topk8 -nocrypt")
        })?;
        Ok(Some(GivenCa { certificate_pem, key_pem }))
    }
}

struct GivenCa {
    certificate_pem: Zeroizing<String>,
    key_pem: Zeroizing<String>,
}

impl GivenCa {
    /// For the first boot, which seals it into the database and removes both files.
    fn lay_down(&self, config: &Config) -> Result<(), Failure> {
        let (certificate_file, key_file) = config.ca_import_files();
        // The key first: the certificate's presence says that both are there.
        for (file, text) in [(&key_file, &self.key_pem), (&certificate_file, &self.certificate_pem)] {
            write_private(file, text).map_err(|e| failed(file, &e))?;
        }
        Ok(())
    }
}

/// What can be wrong with the authority, before anything is made. A key that is laid down for a node that never imports it would lie
/// there for ever.
fn check_authority(config: &Config, given: Option<&GivenCa>) -> Result<(), Failure> {
    match &config.ca.kind {
        CaKind::Embedded => Ok(()),
        CaKind::StepCa(_) if given.is_some() => Err(Failure::misused(
            "--ca-cert and --ca-key are for a node that signs by itself, and this one has a step-ca",
        )
        .remedy("leave them out and give the key to step-ca, or choose a tier in which ca.kind can be embedded")),
        CaKind::StepCa(step_ca) => {
            step_ca.check_files().map_err(|error| Failure::failed(error.to_string()).remedy(error.remedy()))
        }
    }
}

/// Writes the template for step-ca, and says what is to be done there.
fn for_authority(config: &Config, step_ca: &StepCaConfig) -> Result<String, Failure> {
    let template = config.state_dir.join("mosaic.tpl");
    write_private(&template, &setup::template(&config.ca.extension_arc)).map_err(|e| failed(&template, &e))?;
    let (site, arc, name) = (&config.site, config.ca.extension_arc.to_string(), &step_ca.provisioner);
    let (host, port) = (step_ca.url.host_str().unwrap_or_default(), step_ca.url.port_or_known_default().unwrap_or(443));
    let crl = setup::crl_settings();
    Ok(format!(
        "\non the machine of step-ca, before the first start:\n  a new authority:\n    compose/step-ca/init --name {site} --dns {host} \
         --address :{port} --arc {arc}\n  one that exists, with {template} copied there:\n    step ca provisioner add {name} --type JWK \
         --create --password-file <its password> --x509-template mosaic.tpl \\\n      --disable-renewal --x509-min-dur 1m \
         --x509-default-dur 24h --x509-max-dur 2160h \\\n      --ca-config $(step path)/config/ca.json\n    in ca.json: \"crl\": {crl}\n    restart step-ca\n'mosaic gateway doctor' tells what is missing\n",
        template = template.display(),
    ))
}

fn text(set_up: &Initialised, file: &Path) -> String {
    let config = &set_up.config;
    let mut text = sheet([
        ("site", config.site.to_string()),
        ("configuration", file.display().to_string()),
        ("state", config.state_dir.display().to_string()),
        ("admin token", format!("{} (also in {})", set_up.admin_token, config.admin_token_file().display())),
    ]);
    let argument = if file.file_name().is_some_and(|name| name == "mosaic.toml") && file.parent() == Some(Path::new(""))
    {
        String::new()
    } else {
        format!(" --config {}", file.display())
    };
    text.push_str(&format!(
        "\nnext:\n  mosaic gateway doctor{argument}\n  mosaic gateway serve{argument}\n\nthen, in another terminal:\n  \
         mosaic user add <name>{argument}\n  mosaic token create --user <name> --save{argument}\n"
    ));
    if config.tier == Tier::Local {
        text.push_str(&format!(
            "\nkeep a backup of {}: keys, tokens and all rows are there\n",
            config.state_dir.display()
        ));
    } else {
        text.push_str("\nkeep a backup of the master secret: without it the keys in the database do not open\n");
    }
    text
}

/// Writes the configuration file, the state directory, the master secret and the first admin token. Also the demo's way.
pub(crate) fn initialise(args: &ConfigArgs, around: &Surroundings) -> Result<Initialised, Failure> {
    initialise_if(args, around, |_| Ok(()))
}

/// The same, unless `check` has something against the configuration.
fn initialise_if(
    args: &ConfigArgs,
    around: &Surroundings,
    check: impl FnOnce(&Config) -> Result<(), Failure>,
) -> Result<Initialised, Failure> {
    let file = around.current_dir.join(args.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE)));
    let written = write_config(&file, args)?;
    let with_file = ConfigArgs { config: Some(file.clone()), ..ConfigArgs::default() };
    let config = Config::load_in(&with_file, around).map_err(|errors| Failure::failed(errors.to_string()));
    let config = config.and_then(|config| check(&config).map(|()| config)).inspect_err(|_| {
        if written {
            // Nothing was set up yet: a corrected second try must not find the half of a first one.
            let _ = std::fs::remove_file(&file);
        }
    })?;
    make_state_dir(&config, around)?;
    if let MasterSecretSource::File(path) = &config.master_secret {
        make_master_secret(path)?;
    }
    let admin_token = make_admin_token(&config)?;
    Ok(Initialised { config, admin_token })
}

/// Whether the file was written; one that is there is used as it stands, provided that nobody asks for something else.
fn write_config(file: &Path, args: &ConfigArgs) -> Result<bool, Failure> {
    let values = given_values(args)?;
    if file.exists() {
        return match values.first() {
            None => Ok(false),
            Some((key, _)) => {
                Err(Failure::failed(format!("{} exists already; {key} stays as it is there", file.display()))
                    .remedy("edit it, remove it, or choose another file with --config"))
            }
        };
    }
    let site = values.iter().all(|(key, _)| key != "site").then(|| ("site".to_owned(), machine_name()));
    let values: Vec<(String, String)> = values.into_iter().chain(site).collect();
    let values: Vec<(&str, &str)> = values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
    }
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        // It may come to hold a database password.
        .mode(0o600)
        .open(file)
        .and_then(|mut out| out.write_all(Config::sample(&values).as_bytes()).and_then(|()| out.sync_all()))
        .map_err(|e| failed(file, &e))?;
    Ok(true)
}

/// What was given as flags, to become part of the file.
fn given_values(args: &ConfigArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut values = Vec::new();
    for pair in &args.set {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::misused(format!("--set {pair}")).remedy("write --set key=value"))?;
        values.push((key.trim().to_owned(), value.to_owned()));
    }
    let named = [
        ("site", &args.site),
        ("tier", &args.tier),
        ("state_dir", &args.state_dir),
        ("api.listen", &args.api_listen),
        ("federation.listen", &args.federation_listen),
        ("enrollment.listen", &args.enrollment_listen),
        ("log.format", &args.log_format),
        ("log.filter", &args.log_filter),
    ];
    for (key, value) in named {
        values.extend(value.as_ref().map(|value| (key.to_owned(), value.clone())));
    }
    Ok(values)
}

/// This machine's name as a site's: its first label, in the alphabet of site names.
fn machine_name() -> String {
    let full = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let label = full.split('.').next().unwrap_or_default();
    let name: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let name = name.trim_matches('-');
    if mosaic_actors::domain::identity::SiteName::parse(name).is_ok() { name.to_owned() } else { "home".to_owned() }
}

/// Only the node's user looks into it. As root the database runs as another user, who must be able to pass through.
fn make_state_dir(config: &Config, around: &Surroundings) -> Result<(), Failure> {
    let dir = &config.state_dir;
    let mode = if around.is_root && config.tier == Tier::Local { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(|e| failed(dir, &e))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).map_err(|e| failed(dir, &e))
}

/// Keeps a secret that is there: what was sealed with it must open again.
fn make_master_secret(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return MasterSecret::load(path).map(drop).map_err(|e| Failure::failed(format!("{}: {e}", path.display())));
    }
    MasterSecret::generate()
        .and_then(|secret| secret.write_new(path))
        .map_err(|e| Failure::failed(format!("{}: {e}", path.display())))
}

fn make_admin_token(config: &Config) -> Result<String, Failure> {
    let file = config.admin_token_file();
    if let Ok(text) = std::fs::read_to_string(&file) {
        return Ok(text.trim().to_owned());
    }
    let token = Token::generate(Token::ADMIN);
    write_private(&file, &format!("{}\n", token.expose())).map_err(|e| failed(&file, &e))?;
    Ok(token.expose().to_owned())
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn around(dir: &Path) -> Surroundings {
        Surroundings { environment: BTreeMap::new(), is_root: false, current_dir: dir.to_owned() }
    }

    fn args(state: &Path) -> ConfigArgs {
        ConfigArgs {
            site: Some("home".to_owned()),
            state_dir: Some(state.display().to_string()),
            ..ConfigArgs::default()
        }
    }

    #[test]
    fn init_writes_a_configuration_that_loads_a_secret_and_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let made = initialise(&args(&state), &around(dir.path())).unwrap();
        assert_eq!(made.config.site.as_str(), "home");
        assert_eq!(made.config.state_dir, state);
        assert!(Token::parse(Token::ADMIN, &made.admin_token).is_some());
        let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("admin.token"), mode("master.secret")), (0o600, 0o600));
        let loaded = Config::load_in(&ConfigArgs::default(), &around(dir.path())).unwrap();
        assert_eq!(loaded.site, made.config.site);
    }

    #[test]
    fn a_second_init_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = initialise(&args(&state), &around(dir.path())).unwrap();
        let other = initialise(&args(&state), &around(dir.path())).unwrap_err();
        assert!(other.text().contains("exists already"), "{}", other.text());
        let text = std::fs::read(dir.path().join("mosaic.toml")).unwrap();
        let again = initialise(&ConfigArgs::default(), &around(dir.path())).unwrap();
        assert_eq!(again.admin_token, first.admin_token);
        assert_eq!(std::fs::read(dir.path().join("mosaic.toml")).unwrap(), text);
    }

    #[test]
    fn a_bad_value_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let bad = ConfigArgs { api_listen: Some("nowhere".to_owned()), ..args(&state) };
        assert_eq!(initialise(&bad, &around(dir.path())).unwrap_err().exit_code(), 1);
        assert!(!dir.path().join("mosaic.toml").exists() && !state.exists());
    }

    fn with_step_ca(dir: &Path, state: &Path) -> ConfigArgs {
        let set = [
            "ca.kind=step-ca".to_owned(),
            "ca.url=https://ca.home.example:9000".to_owned(),
            format!("ca.root_sha256={}", "7f".repeat(32)),
            format!("ca.password_file={}", dir.join("password").display()),
        ];
        ConfigArgs { set: set.to_vec(), ..args(state) }
    }

    #[test]
    fn a_step_ca_whose_files_are_missing_leaves_nothing_behind_and_the_second_try_works() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let init = || {
            initialise_if(&with_step_ca(dir.path(), &state), &around(dir.path()), |config| {
                check_authority(config, None)
            })
        };
        let refused = init().unwrap_err();
        assert!(refused.text().contains("password"), "{}", refused.text());
        assert!(!dir.path().join("mosaic.toml").exists() && !state.exists());
        write_private(&dir.path().join("password"), "a word\n").unwrap();
        init().unwrap();
    }

    #[test]
    fn the_key_of_a_ca_is_never_laid_down_for_a_node_that_does_not_import_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        write_private(&dir.path().join("password"), "a word\n").unwrap();
        let given = GivenCa { certificate_pem: String::new().into(), key_pem: String::new().into() };
        let refused = initialise_if(&with_step_ca(dir.path(), &state), &around(dir.path()), |config| {
            check_authority(config, Some(&given))
        });
        assert!(refused.unwrap_err().text().contains("--ca-key"));
        assert!(!dir.path().join("mosaic.toml").exists() && !state.exists());
    }
}
