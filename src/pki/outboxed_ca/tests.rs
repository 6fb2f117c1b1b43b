//! Against the real step-ca and a real database.

use std::sync::Mutex;

use super::*;
use crate::pki::ca_store::Revocation;
use crate::pki::crl::parse_crl;
use crate::pki::csr::new_key_and_csr;
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::step_ca::config::StepCaConfig;
use crate::pki::step_ca::testing::TestStepCa;
use crate::pki::testing::{now, request_for};
use crate::postgres::revocation_outbox::SqlRevocationOutbox;
use crate::postgres::testing::TestDatabase;

/// A clock that a test sets forward.
struct Ahead(Mutex<time::Duration>);

impl Clock for Ahead {
    fn now(&self) -> OffsetDateTime {
        now() + *self.0.lock().unwrap()
    }
}

struct Site {
    server: TestStepCa,
    database: TestDatabase,
    clock: Arc<Ahead>,
}

impl Site {
    async fn new() -> Self {
        let server = TestStepCa::start("work");
        Self { server, database: TestDatabase::new().await, clock: Arc::new(Ahead(Mutex::default())) }
    }

    fn outbox(&self) -> SqlRevocationOutbox {
        SqlRevocationOutbox::new(self.database.pool())
    }

    /// The root in a file: as a node that must start without its authority is set up.
    fn config(&self) -> StepCaConfig {
        StepCaConfig {
            root_file: Some(self.server.directory().join("root_ca.crt")),
            timeout: Duration::from_secs(2),
            ..self.server.config()
        }
    }

    async fn replica(&self) -> OutboxedCa {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let ca = StepCa::open(self.config(), ExtensionArc::default(), Arc::clone(&clock)).await.unwrap();
        OutboxedCa::new(ca, Arc::new(self.outbox()), clock)
    }

    /// When the next attempt is due now.
    async fn make_due(&self) -> OffsetDateTime {
        let due = "UPDATE revoked_certificates SET next_attempt_at = now() RETURNING next_attempt_at";
        self.database.connect().await.query(due, &[]).await.unwrap()[0].get(0)
    }

    /// When the next attempt of what waits is due.
    async fn due(&self) -> OffsetDateTime {
        let due = "SELECT next_attempt_at FROM revoked_certificates WHERE told_at IS NULL";
        self.database.connect().await.query_one(due, &[]).await.unwrap().get(0)
    }
}

async fn issue(ca: &OutboxedCa) -> IssuedCertificate {
    ca.issue(request_for(&new_key_and_csr().unwrap())).await.unwrap()
}

fn names(crl: &Crl, certificate: &IssuedCertificate) -> bool {
    revoked_serials(&crl.der).unwrap().contains(&certificate.serial)
}

/// As the transaction that revokes writes it down.
async fn put(site: &Site, certificate: &IssuedCertificate) {
    let revocation =
        Revocation { serial: certificate.serial.clone(), revoked_at: now(), not_after: certificate.not_after };
    site.outbox().put(revocation).await.unwrap();
}

#[tokio::test]
async fn what_waits_is_told_at_the_next_look_and_every_replica_has_the_list_at_once() {
    let site = Site::new().await;
    let (one, other) = (site.replica().await, site.replica().await);
    let (lost, kept) = (issue(&one).await, issue(&one).await);
    let before = other.crl().await.unwrap();
    put(&site, &lost).await;
    let after = one.crl().await.unwrap();
    assert!(names(&after, &lost) && !names(&after, &kept) && after.number > before.number);
    // The other one fetched a moment ago and would not ask so soon again: it has it from the database.
    assert_eq!(other.crl().await.unwrap(), after);
    assert_eq!(site.outbox().waiting().await.unwrap(), 0);
    assert_eq!(one.health(), CaHealth { reachable: true, revocations_waiting: 0 });
}

#[tokio::test]
async fn a_revocation_waits_while_step_ca_is_down_also_over_a_restart_and_is_told_when_it_is_back() {
    let mut site = Site::new().await;
    let ca = site.replica().await;
    let lost = issue(&ca).await;
    let list = ca.crl().await.unwrap();
    site.server.kill();
    let refused = ca.revoke(lost.serial.clone(), lost.not_after, now()).await.unwrap_err();
    assert!(matches!(&refused, CaError::StepCa(error) if error.is_retryable()), "{refused:?}");
    drop(ca);

    // A restart: nothing in memory, no step-ca. The kept list holds, and the revocation waits.
    let restarted = site.replica().await;
    let due = site.make_due().await;
    assert_eq!(restarted.crl().await.unwrap(), list);
    assert_eq!(restarted.health(), CaHealth { reachable: false, revocations_waiting: 1 });
    // It was tried a moment ago: nobody is kept waiting for it again so soon.
    assert!(site.due().await >= due + Duration::from_secs(1));

    site.server.run();
    site.make_due().await;
    let told = restarted.crl().await.unwrap();
    assert!(names(&told, &lost) && told.number > list.number);
    assert_eq!(restarted.health(), CaHealth { reachable: true, revocations_waiting: 0 });
}

/// The receipt's patience, and a client's, are shorter than step-ca's.
#[tokio::test]
async fn who_stops_waiting_for_a_silent_step_ca_leaves_no_revocation_under_its_lease() {
    let site = Site::new().await;
    let ca = site.replica().await;
    let lost = issue(&ca).await;
    ca.crl().await.unwrap();
    put(&site, &lost).await;
    site.server.freeze();
    let row = async || {
        let sql =
            "SELECT attempts, next_attempt_at > clock_timestamp() + interval '60 seconds' FROM revoked_certificates";
        let row = site.database.connect().await.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i32>(0), row.get::<_, bool>(1))
    };
    let taken = async || {
        while row().await.0 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        biased;
        () = taken() => {}
        _ = ca.crl() => {}
    }
    let put_back = async || {
        while row().await.1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), put_back()).await.expect("it is put back long before its lease ends");
    site.server.thaw();
    site.make_due().await;
    assert!(names(&ca.crl().await.unwrap(), &lost));
}

/// Its database is replaced by an earlier copy: the numbers go on from there, and one revocation is not known any more.
#[tokio::test]
async fn what_a_restored_step_ca_has_forgotten_is_told_again() {
    let mut site = Site::new().await;
    let ca = site.replica().await;
    let lost = issue(&ca).await;
    ca.crl().await.unwrap();
    let (database, backup) = (site.server.directory().join("db"), site.server.directory().join("backup"));
    site.server.kill();
    std::fs::create_dir(&backup).unwrap();
    for file in std::fs::read_dir(&database).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), backup.join(file.file_name())).unwrap();
    }
    site.server.run();
    assert!(names(&ca.revoke(lost.serial.clone(), lost.not_after, now()).await.unwrap(), &lost));
    site.server.kill();
    std::fs::remove_dir_all(&database).unwrap();
    std::fs::rename(&backup, &database).unwrap();
    site.server.run();

    let restarted = site.replica().await;
    let told_again = async || {
        loop {
            // Others are revoked, and so the number passes the kept list's; that list does not name the lost one.
            let other = issue(&restarted).await;
            let _not_on_the_kept_list_yet = restarted.revoke(other.serial.clone(), other.not_after, now()).await;
            let list = restarted.crl().await.unwrap();
            if names(&list, &lost) && names(&list, &other) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told_again()).await.expect("the list names it again");
}

#[tokio::test]
async fn the_kept_list_goes_on_to_its_end_and_not_beyond() {
    let mut site = Site::new().await;
    let ca = site.replica().await;
    let list = ca.crl().await.unwrap();
    site.server.kill();
    *site.clock.0.lock().unwrap() = list.next_update - now() - time::Duration::minutes(1);
    assert_eq!(ca.crl().await.unwrap(), list);
    // Long over: the list that step-ca makes when it starts again is a little younger than this one, and over too.
    *site.clock.0.lock().unwrap() = list.next_update - now() + time::Duration::minutes(30);
    assert!(matches!(ca.crl().await, Err(CaError::StepCa(error)) if error.is_retryable()));
    // Back, but with a list that is over: this machine's clock says so.
    site.server.run();
    assert!(matches!(ca.crl().await, Err(CaError::StepCa(StepCaError::CrlStale))));
}

#[tokio::test]
async fn a_list_with_a_lower_number_is_never_taken_back() {
    let mut site = Site::new().await;
    let ca = site.replica().await;
    for _ in 0..3 {
        let lost = issue(&ca).await;
        ca.revoke(lost.serial, lost.not_after, now()).await.unwrap();
    }
    let list = ca.crl().await.unwrap();
    // The authority's database is lost: it counts from one again, and forgets who was revoked.
    site.server.kill();
    std::fs::remove_dir_all(site.server.directory().join("db")).unwrap();
    site.server.run();
    let restarted = site.replica().await;
    assert_eq!(restarted.crl().await.unwrap(), list);
    *site.clock.0.lock().unwrap() = list.next_update - now() + time::Duration::SECOND;
    let refused = restarted.crl().await.unwrap_err();
    assert!(
        matches!(&refused, CaError::StepCa(StepCaError::CrlOlder { kept, .. }) if *kept == list.number),
        "{refused:?}"
    );
    assert!(refused.remedy().contains("authority_crl"));
}

#[tokio::test]
async fn a_kept_list_that_was_altered_is_not_used() {
    let mut site = Site::new().await;
    let ca = site.replica().await;
    ca.crl().await.unwrap();
    let altered =
        "UPDATE authority_crl SET crl = set_byte(crl, octet_length(crl) - 1, 1 # get_byte(crl, octet_length(crl) - 1))";
    site.database.connect().await.execute(altered, &[]).await.unwrap();
    site.server.kill();
    let restarted = site.replica().await;
    assert!(restarted.crl().await.is_err());
    let bytes: Vec<u8> =
        site.database.connect().await.query_one("SELECT crl FROM authority_crl", &[]).await.unwrap().get(0);
    assert!(parse_crl(&bytes).is_ok(), "only its signature is broken");
}

#[test]
fn pauses_double_and_end_at_a_minute() {
    let pauses: Vec<u64> = [1, 2, 3, 6, 7, 40, u32::MAX].map(|attempts| pause_after(attempts).as_secs()).to_vec();
    assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60]);
}
