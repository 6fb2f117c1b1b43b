use std::sync::Mutex;

use time::OffsetDateTime;

use super::*;
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::pki::testing::{now, site};
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::testing::TestDatabase;
use crate::secrets::MasterSecret;

struct SetClock(Mutex<OffsetDateTime>);

impl SetClock {
    fn advance(&self, by: time::Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for SetClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

async fn upkeep() -> (Upkeep, Arc<SetClock>, TestDatabase) {
    upkeep_from(now()).await
}

/// With a clock, and an authority, that begin then.
async fn upkeep_from(begins: OffsetDateTime) -> (Upkeep, Arc<SetClock>, TestDatabase) {
    let database = TestDatabase::new().await;
    let clock = Arc::new(SetClock(Mutex::new(begins)));
    let store = Arc::new(SqlCaStore::new(database.pool()));
    let sealer = MasterSecret::generate().unwrap().sealer();
    let name = site("work");
    let authority = EmbeddedCa::open_or_create(store, &sealer, &name, CaOptions::default(), clock.clone());
    let upkeep = Upkeep {
        authority: Arc::new(authority.await.unwrap()),
        gate: ClientGate::new(),
        identity: SwappableIdentity::new(),
        server_names: vec!["localhost".to_owned()],
        server_lifetime: time::Duration::days(7),
        clock: clock.clone(),
        kept: None,
    };
    (upkeep, clock, database)
}

#[actix_web::test]
async fn one_look_opens_the_gate_and_presents_a_certificate() {
    let (upkeep, _clock, _database) = upkeep().await;
    assert!(!upkeep.gate.is_open());
    upkeep.once().await.unwrap();
    assert!(upkeep.gate.is_open());
    let (crl, end) = (upkeep.gate.crl(), upkeep.identity.not_after());
    assert!(end.is_some());
    upkeep.once().await.unwrap();
    assert_eq!((upkeep.gate.crl(), upkeep.identity.not_after()), (crl, end), "nothing was due");
}

#[actix_web::test]
async fn list_and_certificate_are_renewed_long_before_they_end() {
    let (upkeep, clock, _database) = upkeep().await;
    upkeep.once().await.unwrap();
    clock.advance(time::Duration::hours(13));
    let end = upkeep.identity.not_after();
    upkeep.once().await.unwrap();
    assert_eq!(upkeep.gate.crl().unwrap().number, 2);
    assert_eq!(upkeep.identity.not_after(), end, "a third of its life is not over");
    clock.advance(time::Duration::days(5));
    upkeep.once().await.unwrap();
    assert!(upkeep.identity.not_after() > end);
}

#[actix_web::test]
async fn a_notification_brings_the_next_list_at_once_and_stopping_ends_the_task() {
    let (upkeep, clock, _database) = upkeep().await;
    upkeep.once().await.unwrap();
    let ((changed, news), stop) = (watch::channel(0), CancellationToken::new());
    let task = actix_web::rt::spawn(upkeep.clone().run(news, stop.clone()));
    let serial = mosaic_actors::domain::identity::Serial::from_bytes(&[5; 16]).unwrap();
    upkeep.authority.revoke(serial, clock.now() + time::Duration::hours(1), clock.now()).await.unwrap();
    changed.send_modify(|count| *count += 1);
    tokio::time::timeout(Duration::from_secs(10), async {
        while upkeep.gate.crl().unwrap().number < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    stop.cancel();
    task.await.unwrap();
}

#[actix_web::test]
async fn a_database_that_is_gone_leaves_the_last_good_list() {
    let (upkeep, _clock, database) = upkeep().await;
    upkeep.once().await.unwrap();
    let before = upkeep.gate.crl();
    database.connect().await.batch_execute("DROP TABLE revoked_certificates").await.unwrap();
    assert!(matches!(upkeep.once().await, Err(UpkeepError::Authority(CaError::Store(_)))));
    assert_eq!(upkeep.gate.crl(), before);
}

/// The serial number that the server presented, and the connection.
async fn connect(
    address: std::net::SocketAddr,
    client: &Arc<rustls::ClientConfig>,
) -> (Vec<u8>, tokio_rustls::client::TlsStream<tokio::net::TcpStream>) {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(client)).connect(name, tcp).await.unwrap();
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let serial = crate::pki::profile::parse_certificate(&leaf).unwrap().raw_serial().to_vec();
    (serial, stream)
}

/// What is written comes back.
async fn echoes(stream: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut back = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut back).await.is_ok() && back == *b"ping"
}

#[actix_web::test]
async fn a_renewed_server_certificate_is_shown_in_new_handshakes_and_open_connections_go_on() {
    // The client's clock is the machine's: both certificates hold now.
    let (upkeep, clock, _database) = upkeep_from(now() - time::Duration::days(5)).await;
    upkeep.once().await.unwrap();
    let server = Arc::new(crate::tls::enrollment_server_config(&upkeep.identity, crate::tls::TlsVersions::Only13));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_web::rt::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&server));
            actix_web::rt::spawn(async move {
                let (mut read, mut write) = tokio::io::split(acceptor.accept(tcp).await.unwrap());
                let _client_left = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let client = Arc::new(crate::tls::authority_client_config(&upkeep.authority.root()));
    let (first, mut open) = connect(address, &client).await;
    assert!(echoes(&mut open).await);

    clock.advance(time::Duration::days(5));
    upkeep.once().await.unwrap();
    let (second, mut new) = connect(address, &client).await;
    assert_ne!(first, second);
    assert!(echoes(&mut open).await && echoes(&mut new).await, "a connection keeps what it was made with");
    upkeep.once().await.unwrap();
    assert_eq!(connect(address, &client).await.0, second, "the new one was not due");
}
