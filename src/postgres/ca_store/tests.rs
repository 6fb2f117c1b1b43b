use std::sync::Arc;

use mosaic_actors::ports::clock::Clock;
use time::Duration;

use super::*;
use crate::clock::SystemClock;
use crate::pki::authority::CertificateAuthority;
use crate::pki::ca_material::CaMaterial;
use crate::pki::crl::{revoked_serials, verify_crl};
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::pki::extension_arc::ExtensionArc;
use crate::pki::pem::certificate_to_pem;
use crate::pki::testing::{client, now, site};
use crate::postgres::testing::TestDatabase;
use crate::secrets::{MasterSecret, SealError, Sealer};

/// A clock that a test sets.
struct FixedClock(OffsetDateTime);

impl Clock for FixedClock {
    fn now(&self) -> OffsetDateTime {
        self.0
    }
}

struct Site {
    store: Arc<dyn CaStore>,
    sealer: Sealer,
    database: TestDatabase,
}

async fn a_site() -> Site {
    let database = TestDatabase::new().await;
    let store = Arc::new(SqlCaStore::new(database.pool()));
    Site { store, sealer: MasterSecret::generate().unwrap().sealer(), database }
}

impl Site {
    async fn open(&self) -> Result<EmbeddedCa, CaError> {
        self.open_at(SystemClock.now()).await
    }

    async fn open_at(&self, now: OffsetDateTime) -> Result<EmbeddedCa, CaError> {
        let clock = Arc::new(FixedClock(now));
        let store = Arc::clone(&self.store);
        EmbeddedCa::open_or_create(store, &self.sealer, &site("work"), CaOptions::default(), clock).await
    }

    async fn import(&self, material: &CaMaterial) -> Result<EmbeddedCa, CaError> {
        let key = openssl::pkey::PKey::private_key_from_pkcs8(&material.key_pkcs8()).unwrap();
        let key = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let certificate = certificate_to_pem(material.certificate());
        let (store, clock) = (Arc::clone(&self.store), Arc::new(SystemClock));
        EmbeddedCa::import(store, &self.sealer, &certificate, &key, CaOptions::default(), clock).await
    }
}

fn serial(byte: u8) -> Serial {
    Serial::from_bytes(&[byte; 16]).unwrap()
}

#[actix_web::test]
async fn an_authority_is_made_once_and_opened_afterwards() {
    let site = a_site().await;
    let made = site.open().await.unwrap();
    let opened = site.open().await.unwrap();
    assert_eq!(opened.root(), made.root());
    let request = client(&CaMaterial::generate(&crate::pki::testing::site("x"), now()).unwrap()).request;
    let issued = opened.issue(request.clone()).await.unwrap();
    assert_eq!(crate::pki::issued::check_issued(&issued, &request, &ExtensionArc::default()), Ok(()));
    assert_eq!(issued.chain, [made.root()]);
}

#[actix_web::test]
async fn replicas_that_start_together_share_one_authority() {
    let site = a_site().await;
    let opened = futures_util::future::join_all((0..6).map(|_| site.open())).await;
    let roots: std::collections::HashSet<_> = opened.into_iter().map(|ca| ca.unwrap().root()).collect();
    assert_eq!(roots.len(), 1);
}

#[actix_web::test]
async fn the_key_is_sealed_and_another_master_secret_does_not_open_it() {
    let site = a_site().await;
    let made = site.open().await.unwrap();
    let stored = site.store.load().await.unwrap().unwrap();
    assert_eq!(stored.certificate, made.root());
    assert!(openssl::pkey::PKey::private_key_from_pkcs8(&stored.sealed_key).is_err());
    let stranger = Site { sealer: MasterSecret::generate().unwrap().sealer(), ..site };
    assert_eq!(stranger.open().await.err(), Some(CaError::Sealed(SealError::UnknownKey)));
}

#[actix_web::test]
async fn an_imported_root_is_kept_and_no_other_takes_its_place() {
    let site = a_site().await;
    let material = CaMaterial::generate(&crate::pki::testing::site("elsewhere"), now()).unwrap();
    let imported = site.import(&material).await.unwrap();
    assert_eq!(imported.root(), material.certificate());
    assert_eq!(site.import(&material).await.unwrap().root(), imported.root());
    assert_eq!(site.open().await.unwrap().root(), imported.root());
    let other = CaMaterial::generate(&crate::pki::testing::site("elsewhere"), now()).unwrap();
    assert_eq!(site.import(&other).await.err(), Some(CaError::Exists));
}

#[actix_web::test]
async fn a_revocation_is_on_the_next_list_and_stays_until_the_certificate_ends() {
    let site = a_site().await;
    let ca = site.open().await.unwrap();
    let empty = ca.crl().await.unwrap();
    assert_eq!((empty.number, revoked_serials(&empty.der).unwrap().len()), (1, 0));
    assert_eq!(ca.crl().await.unwrap(), empty, "asking does not sign");

    let end = now() + Duration::hours(1);
    let revoked = ca.revoke(serial(7), end, now()).await.unwrap();
    assert_eq!(revoked.number, 2);
    assert_eq!(revoked_serials(&revoked.der).unwrap(), [serial(7)].into());
    assert_eq!(ca.revoke(serial(7), end, now()).await.unwrap(), revoked, "twice is once");
    assert_eq!(verify_crl(&revoked.der, &ca.root()).unwrap(), revoked);

    let later = site.open_at(revoked.this_update + Duration::hours(13)).await.unwrap();
    let renewed = later.crl().await.unwrap();
    assert_eq!((renewed.number, revoked_serials(&renewed.der).unwrap().len()), (3, 0));
}

#[actix_web::test]
async fn a_list_is_signed_anew_at_half_of_its_life_and_not_before() {
    let site = a_site().await;
    let first = site.open().await.unwrap().crl().await.unwrap();
    let before = site.open_at(first.this_update + Duration::minutes(719)).await.unwrap();
    assert_eq!(before.crl().await.unwrap(), first);
    let half = site.open_at(first.this_update + Duration::minutes(720)).await.unwrap();
    let second = half.crl().await.unwrap();
    assert_eq!(second.number, 2);
    assert_eq!(second.next_update, first.next_update + Duration::hours(12));
}

#[actix_web::test]
async fn a_revocation_that_only_the_database_knows_is_listed_by_the_next_look() {
    let site = a_site().await;
    let ca = site.open().await.unwrap();
    assert_eq!(ca.crl().await.unwrap().number, 1);
    let connection = site.database.connect().await;
    connection
        .execute(
            "INSERT INTO revoked_certificates (serial, not_after) VALUES ($1, now() + interval '1 hour')",
            &[&serial(9).as_bytes()],
        )
        .await
        .unwrap();
    let crl = ca.crl().await.unwrap();
    assert_eq!((crl.number, revoked_serials(&crl.der).unwrap()), (2, [serial(9)].into()));
}

#[actix_web::test]
async fn replicas_that_revoke_together_never_reuse_a_number_and_lose_nothing() {
    let site = a_site().await;
    let replicas = [site.open().await.unwrap(), site.open().await.unwrap(), site.open().await.unwrap()];
    let end = now() + Duration::hours(1);
    let lists = futures_util::future::join_all((1..=12u8).map(|n| {
        let ca = replicas[usize::from(n) % replicas.len()].clone();
        async move { ca.revoke(serial(n), end, now()).await.unwrap() }
    }))
    .await;
    let mut by_number = std::collections::HashMap::new();
    for list in &lists {
        let earlier = by_number.insert(list.number, list.der.clone());
        assert!(earlier.is_none_or(|earlier| earlier == list.der), "two lists with the number {}", list.number);
    }
    let last = replicas[0].crl().await.unwrap();
    assert_eq!(revoked_serials(&last.der).unwrap(), (1..=12).map(serial).collect());
}

#[actix_web::test]
async fn a_forged_list_in_the_database_is_replaced() {
    let site = a_site().await;
    let ca = site.open().await.unwrap();
    ca.crl().await.unwrap();
    let foreign = CaMaterial::generate(&crate::pki::testing::site("foreign"), now()).unwrap();
    let forged = foreign.sign_crl(99, &[], now(), Duration::hours(24)).unwrap();
    let connection = site.database.connect().await;
    connection.execute("UPDATE embedded_ca SET crl = $1", &[&forged.der]).await.unwrap();
    let crl = ca.crl().await.unwrap();
    assert_eq!(crl.number, 2);
    assert!(verify_crl(&crl.der, &ca.root()).is_ok());
}
