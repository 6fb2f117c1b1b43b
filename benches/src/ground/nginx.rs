use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mosaic::pki::ca_material::CaMaterial;
use mosaic::pki::pem::certificate_to_pem;
use mosaic::postgres::testing::TemporaryDirectory;
use rustix::process::Signal;

use super::node::pem;
use super::process::{bound_to_us, signal};
use super::{free_address, now};
use crate::cpu::Family;

/// nginx with client certificates: the same CA and revocation list, a server certificate of the same kind, TLS 1.3, nothing
/// resumed, no access log, as many workers as the node has and a queue of connections for each, files kept open.
pub(crate) struct Nginx {
    process: Child,
    pub(crate) address: SocketAddr,
    _directory: TemporaryDirectory,
}

/// As many as the node's workers on a machine with two cores.
const WORKERS: usize = 2;

impl Nginx {
    /// Serves each body under its path.
    pub(crate) fn start(ca: &CaMaterial, crl: &[u8], bodies: &[(&str, Vec<u8>)]) -> Self {
        let directory = TemporaryDirectory::new();
        let root = directory.path();
        let write = |name: &str, bytes: &[u8]| {
            let file = root.join(name);
            std::fs::write(&file, bytes).expect("a file for nginx");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("readable for its workers");
        };
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let server = ca.issue_server(&names, now(), time::Duration::days(7)).expect("a server certificate");
        write("chain.pem", server.chain.iter().map(|der| certificate_to_pem(der)).collect::<String>().as_bytes());
        write("key.pem", pem("PRIVATE KEY", &server.key).as_bytes());
        write("ca.pem", certificate_to_pem(ca.certificate()).as_bytes());
        write("crl.pem", pem("X509 CRL", crl).as_bytes());
        let mut locations = String::new();
        for (index, (path, body)) in bodies.iter().enumerate() {
            let name = format!("body-{index}");
            write(&name, body);
            locations += &format!("location = {path} {{ alias {}; }}\n", root.join(&name).display());
        }
        let address = free_address();
        let file = root.join("nginx.conf");
        std::fs::write(&file, configuration(root, address, &locations)).expect("its configuration");
        let program = Path::new("/usr/sbin/nginx");
        let program = if program.exists() { program } else { Path::new("nginx") };
        let log = root.join("error.log");
        let process = bound_to_us(program)
            .args(["-e".as_ref(), log.as_os_str(), "-c".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts: scripts/setup bench");
        let mut this = Self { process, address, _directory: directory };
        this.wait(&log);
        this
    }

    fn wait(&mut self, log: &Path) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(self.address).is_err() {
            let ended = matches!(self.process.try_wait(), Ok(Some(_)));
            let words = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(!ended && Instant::now() < deadline, "nginx does not serve: {}", words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn family(&self) -> Family {
        Family(self.process.id())
    }

    pub(crate) fn version() -> String {
        let output = Command::new("/usr/sbin/nginx").arg("-v").output();
        output.map_or("nginx".to_owned(), |output| {
            String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("nginx version: ").replace('/', " ")
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        signal(&self.process, Signal::TERM);
        let _ = self.process.wait();
    }
}

fn configuration(root: &Path, address: SocketAddr, locations: &str) -> String {
    let root = root.display();
    format!(
        "daemon off;
worker_processes {WORKERS};
pid {root}/pid;
error_log {root}/error.log error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 75s;
    open_file_cache max=16;
    open_file_cache_valid 3600s;
    default_type application/json;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{
        listen {address} ssl reuseport backlog=1024;
        ssl_protocols TLSv1.3;
        ssl_certificate {root}/chain.pem;
        ssl_certificate_key {root}/key.pem;
        ssl_client_certificate {root}/ca.pem;
        ssl_crl {root}/crl.pem;
        ssl_verify_client on;
        ssl_session_cache off;
        ssl_session_tickets off;
        add_header cache-control no-store;
        add_header x-request-id $request_id;
        {locations}
    }}
}}
"
    )
}
