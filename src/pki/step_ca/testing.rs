//! A real step-ca for tests: its own directory and port, configured by the same code as an operator's, gone with the
//! process.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::ports::clock::Clock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use url::Url;

use super::config::{DEFAULT_PROVISIONER, DEFAULT_TIMEOUT, StepCaConfig};
use super::setup;
use crate::clock::SystemClock;
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::pem::certificate_from_pem;
use crate::secrets::sha256;

/// Opening its database takes a step-ca most of a second; a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The shell that runs step-ca, says when it ended, and stops it when this process closes its input or is gone.
const KEEPER: &str = r#"
directory=$1; shift
"$@" >>"$directory/log" 2>&1 & pid=$!
echo "$pid" >"$directory/pid.new" && mv "$directory/pid.new" "$directory/pid"
( while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done; : >"$directory/ended.$pid" ) & watch=$!
cat >/dev/null
kill -KILL "$watch" "$pid" 2>/dev/null; wait "$watch" "$pid" 2>/dev/null
[ -e "$directory/keep" ] || rm -rf "$directory"
"#;

/// The password of the test provisioner.
pub const PASSWORD: &str = "the password of a test provisioner";

/// A running step-ca.
pub struct TestStepCa {
    directory: PathBuf,
    address: SocketAddr,
    root: Vec<u8>,
    /// Below the directory: ca.json, and the password of the authority's own key if it has one.
    files: (&'static str, Option<&'static str>),
    /// Of the provisioner.
    password_file: &'static str,
    keeper: Option<Child>,
}

impl TestStepCa {
    /// Set up as an operator is told to.
    #[must_use]
    pub fn start(site: &str) -> Self {
        Self::start_with(site, |_| {})
    }

    /// With another ca.json than an operator is told to write.
    #[must_use]
    pub fn start_with(site: &str, edit: impl FnOnce(&mut Value)) -> Self {
        let directory = new_directory();
        let address = free_address();
        let root = write_authority(&directory, site);
        let mut settings = settings(&directory, address);
        edit(&mut settings);
        write(&directory.join("ca.json"), settings.to_string().as_bytes());
        write(&directory.join("password"), PASSWORD.as_bytes());
        let mut ca =
            Self { directory, address, root, files: ("ca.json", None), password_file: "password", keeper: None };
        ca.run();
        ca
    }

    /// Set up by `compose/step-ca/init`, as in a container. `arc` is dotted.
    #[must_use]
    pub fn start_by_script(site: &str, arc: &str) -> Self {
        let (directory, address) = (new_directory(), free_address());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose/step-ca/init");
        let step = binary_named("step");
        let mut command = Command::new(script);
        command.args(["--name", site, "--dns", "localhost,127.0.0.1", "--arc", arc]);
        command.arg("--address").arg(address.to_string()).arg("--dir").arg(&directory);
        if let Some(folder) = step.parent().filter(|folder| folder.is_absolute()) {
            command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display()));
        }
        let made = command.output().expect("run compose/step-ca/init");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let root = fs::read_to_string(directory.join("certs/root_ca.crt")).expect("read the root");
        let root = certificate_from_pem(&root).expect("a root");
        let files = ("config/ca.json", Some("secrets/password"));
        let mut ca =
            Self { directory, address, root, files, password_file: "secrets/provisioner_password", keeper: None };
        ca.run();
        ca
    }

    /// What a node needs to know; the password file is the authority's own.
    #[must_use]
    pub fn config(&self) -> StepCaConfig {
        StepCaConfig {
            url: Url::parse(&format!("https://localhost:{}", self.address.port())).expect("an address"),
            root_sha256: sha256(&self.root),
            root_file: None,
            provisioner: DEFAULT_PROVISIONER.into(),
            password_file: self.directory.join(self.password_file),
            provisioner_key_file: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// DER of the root.
    #[must_use]
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// Where ca.json, the certificates and the log are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Changes ca.json; takes effect with [`TestStepCa::run`].
    pub fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.directory.join(self.files.0);
        let mut settings = serde_json::from_slice(&fs::read(&path).expect("read ca.json")).expect("JSON");
        edit(&mut settings);
        write(&path, settings.to_string().as_bytes());
    }

    /// Kills it; its database stays.
    pub fn kill(&mut self) {
        write(&self.directory.join("keep"), b"");
        self.close();
    }

    /// Tells the keeper to stop it, and waits until that is done.
    fn close(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        drop(keeper.stdin.take());
        // Nothing to do about a keeper that cannot be waited for.
        let _ = keeper.wait();
    }

    /// Starts it, at the same address as before, and waits until it answers.
    pub fn run(&mut self) {
        for file in ["pid", "keep"] {
            let _ = fs::remove_file(self.directory.join(file));
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "sh"]).arg(&self.directory);
        command.arg(binary_named("step-ca")).arg(self.directory.join(self.files.0));
        if let Some(password) = self.files.1 {
            command.arg("--password-file").arg(self.directory.join(password));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        self.keeper = Some(command.spawn().expect("start the keeper of step-ca"));
        self.wait_until_ready();
    }

    /// Accepts connections and stays silent, until [`TestStepCa::thaw`].
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("freeze step-ca");
    }

    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("thaw step-ca");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.pid_text().trim().parse().expect("a pid")).expect("a pid")
    }

    /// Empty before the keeper has started step-ca.
    fn pid_text(&self) -> String {
        fs::read_to_string(self.directory.join("pid")).unwrap_or_default()
    }

    fn wait_until_ready(&self) {
        let started = Instant::now();
        // It logs that it serves before it listens; the answer of the socket is what counts.
        while std::net::TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            let ended = self.directory.join(format!("ended.{}", self.pid_text().trim())).exists();
            assert!(!ended && started.elapsed() < READY_WITHIN, "step-ca does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for TestStepCa {
    fn drop(&mut self) {
        self.close();
        // The keeper has done it, unless it was killed before.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A program of smallstep's, from `PATH` or from where `scripts/step-ca` puts it; its absence fails the test and says what installs it.
#[must_use]
pub fn binary_named(name: &str) -> PathBuf {
    let runs = |path: &Path| {
        let version = Command::new(path).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let installed = std::env::home_dir().map(|home| home.join("go/bin").join(name));
    [Some(PathBuf::from(name)), installed]
        .into_iter()
        .flatten()
        .find(|path| runs(path))
        .unwrap_or_else(|| panic!("{name} is missing; install it with: scripts/step-ca"))
}

fn settings(directory: &Path, address: SocketAddr) -> Value {
    let provisioner = setup::provisioner(DEFAULT_PROVISIONER, PASSWORD.as_bytes(), &ExtensionArc::default());
    json!({
        "root": directory.join("root_ca.crt"),
        "crt": directory.join("intermediate_ca.crt"),
        "key": directory.join("intermediate_ca_key"),
        "address": address.to_string(),
        "dnsNames": ["localhost", "127.0.0.1"],
        "logger": { "format": "json" },
        "db": { "type": "badgerv2", "dataSource": directory.join("db") },
        "crl": setup::crl_settings(),
        "authority": { "provisioners": [provisioner.expect("make a provisioner")] },
        "tls": { "minVersion": 1.2, "maxVersion": 1.3 },
    })
}

/// A root and an intermediate, as `step ca init` makes them. Returns the DER of the root.
fn write_authority(directory: &Path, site: &str) -> Vec<u8> {
    let site = SiteName::parse(site).expect("a site name");
    let (root_key, key) = (KeyPair::generate().expect("make a key"), KeyPair::generate().expect("make a key"));
    let root_params = ca_params(&format!("{site} Root CA"), 1);
    let root = root_params.self_signed(&root_key).expect("sign the root");
    let issuer = Issuer::new(root_params, root_key);
    let mut params = ca_params(&format!("{site} Intermediate CA"), 0);
    params.use_authority_key_identifier_extension = true;
    let intermediate = params.signed_by(&key, &issuer).expect("sign the intermediate");
    write(&directory.join("root_ca.crt"), root.pem().as_bytes());
    write(&directory.join("intermediate_ca.crt"), intermediate.pem().as_bytes());
    write(&directory.join("intermediate_ca_key"), key.serialize_pem().as_bytes());
    root.der().to_vec()
}

fn ca_params(name: &str, path_length: u8) -> CertificateParams {
    let now = SystemClock.now();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(3650);
    params
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("write a file of step-ca");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("make it private");
}

fn new_directory() -> PathBuf {
    let mut random = [0_u8; 8];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).expect("read random bytes");
    let path = Path::new("/tmp").join(format!("mosaic-step-ca-{:016x}", u64::from_ne_bytes(random)));
    fs::create_dir(&path).expect("make a directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("make it private");
    path
}

/// A port that was free a moment ago: step-ca cannot be given a socket.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("find a free port")
}
