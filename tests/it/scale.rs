//! One node with a thousand links: it starts, waits, and answers from all of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mosaic::pki::link_key::seal_link_key;
use mosaic::postgres::links::{Links, NewLink};
use mosaic::secrets::MasterSecret;
use mosaic_actors::domain::identity::{GrantId, LinkId, Serial, SiteName, UserId};
use mosaic_actors::domain::link::{Link, LinkCredentials, LinkState};
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::asker::csr_of;
use crate::harness::hostile::{Authority, Passport, chunk, chunked_head, list_of, ok, rows};
use crate::harness::node::Node;
use crate::harness::sites::items;
use crate::harness::{now, setting};

/// How many links, unless the environment says otherwise.
const LINKS: u64 = 1_000;
/// Of them: half accept and stay silent, half refuse.
const DEAD: usize = 10;
/// For a thousand handshakes on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a connected link may add to the node's memory. The target is 64 KiB; the rest is for what an allocator keeps.
const PER_LINK_KIB: u64 = 160;

/// Many sites in one process: each has an address of its own in 127.0.0.0/8, all have one root.
struct Peers {
    authority: Authority,
    port: u16,
    configs: Mutex<HashMap<IpAddr, Arc<ServerConfig>>>,
    connections: AtomicU64,
    watches: AtomicU64,
    asked: AtomicU64,
}

impl Peers {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let peers = Arc::new(Self {
            authority: Authority::new("many"),
            port,
            configs: Mutex::default(),
            connections: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        });
        let serving = Arc::clone(&peers);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(Arc::clone(&serving).meet(tcp));
            }
        });
        peers
    }

    fn config(&self, address: IpAddr) -> Arc<ServerConfig> {
        let make = || {
            let passport = Passport { names: vec![address.to_string()], ..Passport::default() };
            self.authority.server(&passport, Some(&self.authority))
        };
        Arc::clone(self.configs.lock().expect("no panic").entry(address).or_insert_with(make))
    }

    async fn meet(self: Arc<Self>, tcp: TcpStream) {
        let address = tcp.local_addr().expect("its address").ip();
        if is_silent(address) {
            return std::future::pending().await;
        }
        let Ok(mut stream) = TlsAcceptor::from(self.config(address)).accept(tcp).await else { return };
        while let Some(path) = read_head(&mut stream).await {
            let answer = if path.ends_with("/capabilities") {
                ok(&json!({ "protocol": 1, "site": "many", "resources": ["tasks"], "excluded_resources": [],
                            "max_rows_per_query": 200, "supported_verbs": ["capabilities", "list", "get"],
                            "grant_expires_at": "2099-01-01T00:00:00Z", "cache_max_age": 30 })
                .to_string())
            } else if path.ends_with("/watch") {
                self.watches.fetch_add(1, Ordering::SeqCst);
                let line = chunk(b"{\"event\":\"grant_active\",\"number\":1}\n");
                [chunked_head("content-type: application/x-ndjson\r\n"), line].concat()
            } else {
                self.asked.fetch_add(1, Ordering::SeqCst);
                list_of(&rows(&address.to_string(), 1))
            };
            if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

/// The path of the next request; its body, if any, is small and read with it.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ").and_then(|length| length.parse().ok())
            });
            if body.len() >= length.unwrap_or(0) {
                return head.split_whitespace().nth(1).map(str::to_owned);
            }
        }
        let read = stream.read_buf(&mut bytes).await.ok()?;
        if read == 0 {
            return None;
        }
    }
}

/// 127.1.x.y, the dead ones apart.
fn address(index: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(index + 1).expect("few links").to_be_bytes();
    Ipv4Addr::new(127, if index < DEAD / 2 { 2 } else { 1 }, high, low)
}

fn is_silent(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[1] == 2)
}

fn name(index: usize) -> String {
    format!("peer-{index:04}")
}

/// The links as they lie in the node's database once somebody has enrolled that often.
async fn enrol(home: &Node, owner: UserId, peers: &Peers, count: usize) {
    let master = MasterSecret::load(&home.state().join("master.secret")).expect("the node's master secret");
    let (sealer, store) = (master.sealer(), Links::new(home.database().pool()));
    // Nobody listens there: the port was free a moment ago.
    let [closed] = crate::harness::free_ports::<1>();
    for index in 0..count {
        let key = KeyPair::generate().expect("a key");
        let (id, grant, subject) = (LinkId::new(), GrantId::new(), UserId::new());
        let life = (-time::Duration::minutes(1), time::Duration::days(1));
        let certificate = peers.authority.client(&csr_of(&key), &grant.to_string(), &subject.to_string(), life);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        let port = if (DEAD / 2..DEAD).contains(&index) { closed } else { peers.port };
        let link = Link {
            id,
            peer: SiteName::parse(&name(index)).expect("a name"),
            owner,
            shared_with: Vec::new(),
            state: LinkState::Active,
            grant,
            federation_url: format!("https://{}:{port}", address(index)).into(),
            allow_private: true,
            credentials: LinkCredentials {
                serial: Serial::from_bytes(&u32::try_from(index + 1).expect("few").to_be_bytes()).expect("a serial"),
                not_before: now() - time::Duration::minutes(1),
                not_after: now() + time::Duration::hours(20),
                certificate_chain: vec![certificate.to_vec()],
                sealed_key: seal_link_key(&sealer, id, 1, &key.serialize_der()),
                key_version: 1,
                pinned_root: peers.authority.root.to_vec(),
            },
            created_at: now(),
        };
        let enroll_url = format!("https://{}:{port}", address(index));
        store.insert(&NewLink { link, site: name(index), subject, enroll_url }).await.expect("the link is stored");
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_thousand_links_starts_waits_and_answers_from_all_of_them() {
    let count = usize::try_from(setting("MOSAIC_TEST_LINKS").unwrap_or(LINKS)).expect("few links");
    let more = "[limits]\nwatch_retry_ms = 1000\npeer_connect_ms = 10000\npeer_tls_ms = 5000\npeer_first_byte_ms = 10000\nrequest_deadline_max_ms = 120000\npeer_budget_ms = 20000\n";
    let mut home = Node::start_with("home", more).await;
    let owner = UserId(home.user("ada").await.parse().expect("an id"));
    let token = home.session_token("ada").await;
    home.kill();
    home.serve();
    let alone = home.memory_kib();
    home.kill();
    let peers = Peers::start().await;
    enrol(&home, owner, &peers, count).await;

    let began = Instant::now();
    home.serve();
    let started = began.elapsed();
    let live = u64::try_from(count - DEAD).expect("few");
    until("every live link is watched", || peers.watches.load(Ordering::SeqCst) >= live).await;
    let connected = began.elapsed();
    let idle = home.memory_kib();
    let per_link = idle.saturating_sub(alone) / count as u64;

    let ada = home.with_token(&token);
    let query = json!({ "verb": "list", "resource": "tasks", "limit": 200, "deadline_ms": 100_000 });
    let asked = Instant::now();
    let answer = ada.query(query).await.expect(200);
    let first = asked.elapsed();
    let sources = answer["_sources"].as_object().expect("sources").clone();
    assert_eq!(sources.len(), count + 1);
    let failed = |index: &usize| sources[&name(*index)]["error"].is_object();
    let labelled: Vec<usize> = (0..count).filter(failed).collect();
    assert_eq!(labelled, (0..DEAD).collect::<Vec<_>>(), "those that are dead, and nobody else");
    for index in &labelled {
        let entry: &Value = &sources[&name(*index)];
        let silent = is_silent(IpAddr::V4(address(*index)));
        let expected = if silent { ["timed_out", "breaker_open"] } else { ["unreachable", "breaker_open"] };
        assert!(expected.iter().any(|status| entry["status"] == *status), "{entry}");
    }
    // A page holds 200 of the rows, and says so.
    assert_eq!((items(&answer).len(), &answer["_truncated"]), (200, &json!(true)));
    println!(
        "{count} links: ready after {started:?}, all connected after {connected:?}, one query to all {first:?}; \
         {alone} KiB alone, {idle} KiB idle and connected ({per_link} KiB a link), {} KiB now, {} KiB at the peak",
        home.memory_kib(),
        home.peak_memory_kib()
    );
    assert!(per_link < PER_LINK_KIB, "{per_link} KiB a link");
}
