use mosaic_actors::domain::grant::{GrantChange, GrantStatus};
use mosaic_actors::ports::grant_store::GrantStore;

use super::*;
use crate::postgres::audit::AuditKeys;
use crate::postgres::grants::tests::{Site, by, enroll_event, issued};

const BOUNDS: RenewalLimits = RenewalLimits { overlap: Duration::from_secs(600), per_hour: 4 };

fn serial(n: u8) -> Serial {
    issued(n).serial
}

fn asked(grant: GrantId, with: u8, key: u8) -> Asked {
    Asked { grant, serial: serial(with), public_key_sha256: [key; 32] }
}

/// A site with a grant that was enrolled with certificate 1, and the store under test.
async fn enrolled() -> (Site, GrantId, Renewals) {
    let site = Site::new().await;
    let grant = enrol(&site, 1).await;
    let renewals = Renewals::new(site.database.pool(), AuditKeys::testing(), BOUNDS);
    (site, grant, renewals)
}

async fn enrol(site: &Site, certificate: u8) -> GrantId {
    let grant = site.grant().await.id;
    site.enrollments.create(grant, &[certificate; 32], Duration::from_secs(60), &by()).await.unwrap();
    let claim = site.enrollments.claim(&[certificate; 32]).await.unwrap();
    site.enrollments.complete(&claim, &issued(certificate), enroll_event(grant)).await.unwrap();
    grant
}

async fn renew(renewals: &Renewals, grant: GrantId, with: u8, next: u8) -> Result<i64, RenewalRefusal> {
    let asked = asked(grant, with, next);
    renewals.begin(&asked).await?;
    renewals.complete(&asked, &issued(next), enroll_event(grant)).await
}

/// The certificates that open the grant now, and whether each has an end.
async fn accepted(site: &Site, grant: GrantId) -> Vec<(Serial, bool)> {
    let grant = site.grants.load(grant).await.unwrap().unwrap();
    grant.certificates.into_iter().map(|c| (c.serial, c.accepted_until.is_some())).collect()
}

#[actix_rt::test]
async fn old_and_new_count_until_the_new_one_is_used_and_then_only_the_new_one() {
    let (site, grant, renewals) = enrolled().await;
    renew(&renewals, grant, 1, 2).await.unwrap();
    assert_eq!(accepted(&site, grant).await, [(serial(1), true), (serial(2), false)]);
    let loaded = site.grants.load(grant).await.unwrap().unwrap();
    let now = renewals.begin(&asked(grant, 2, 9)).await.unwrap().now;
    assert!(loaded.is_taken_over_by(&serial(2), now) && !loaded.is_taken_over_by(&serial(1), now));

    assert_eq!(renewals.retire_older(grant, &serial(1)).await, Ok(None), "the old one ends nothing");
    assert!(renewals.retire_older(grant, &serial(2)).await.unwrap().is_some());
    assert_eq!(accepted(&site, grant).await, [(serial(2), false)]);
    assert_eq!(renewals.retire_older(grant, &serial(2)).await, Ok(None), "another replica's turn changes nothing");
    let refused = renewals.begin(&asked(grant, 1, 3)).await.unwrap_err();
    assert_eq!(refused, RenewalRefusal::Denied(DenyReason::SerialNotCurrent));
}

#[actix_rt::test]
async fn the_overlap_ends_by_itself() {
    let site = Site::new().await;
    let grant = enrol(&site, 1).await;
    let renewals = Renewals::new(
        site.database.pool(),
        AuditKeys::testing(),
        RenewalLimits { overlap: Duration::from_millis(1), ..BOUNDS },
    );
    renew(&renewals, grant, 1, 2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(accepted(&site, grant).await, [(serial(2), false)]);
}

#[actix_rt::test]
async fn a_holder_who_never_got_the_answer_renews_again_with_the_old_certificate() {
    let (site, grant, renewals) = enrolled().await;
    renew(&renewals, grant, 1, 2).await.unwrap();
    renew(&renewals, grant, 1, 3).await.unwrap();
    assert_eq!(accepted(&site, grant).await, [(serial(1), true), (serial(2), true), (serial(3), false)]);
    assert!(renewals.retire_older(grant, &serial(3)).await.unwrap().is_some());
    assert_eq!(accepted(&site, grant).await, [(serial(3), false)]);
}

#[actix_rt::test]
async fn a_key_is_certified_once_whoever_asks() {
    let (site, grant, renewals) = enrolled().await;
    let other = enrol(&site, 5).await;
    for key in [1, 5] {
        assert_eq!(renewals.begin(&asked(grant, 1, key)).await.unwrap_err(), RenewalRefusal::KeyOnRecord);
    }
    let foreign = renewals.begin(&asked(other, 1, 9)).await.unwrap_err();
    assert_eq!(foreign, RenewalRefusal::Denied(DenyReason::SerialNotCurrent), "a certificate of another grant");
}

#[actix_rt::test]
async fn a_grant_that_ended_or_rests_renews_nothing_not_even_between_signing_and_recording() {
    let (site, grant, renewals) = enrolled().await;
    let asked = asked(grant, 1, 2);
    renewals.begin(&asked).await.unwrap();
    for (change, reason) in
        [(GrantChange::Suspend, DenyReason::GrantSuspended), (GrantChange::Revoke, DenyReason::GrantRevoked)]
    {
        site.grants.change(grant, change, &by()).await.unwrap();
        let refused = renewals.complete(&asked, &issued(2), enroll_event(grant)).await.unwrap_err();
        assert_eq!(refused, RenewalRefusal::Denied(reason));
        assert_eq!(renewals.begin(&asked).await.unwrap_err(), refused);
    }
    let record = site.grants.get(grant).await.unwrap().unwrap();
    assert_eq!((record.status, record.certificates.len()), (GrantStatus::Revoked, 1));
}

#[actix_rt::test]
async fn a_grant_does_not_gather_certificates_without_end() {
    let (site, grant, renewals) = enrolled().await;
    for next in 2..=4 {
        renew(&renewals, grant, next - 1, next).await.unwrap();
    }
    let RenewalRefusal::TooMany { retry_after } = renew(&renewals, grant, 4, 5).await.unwrap_err() else {
        panic!("the fifth certificate in an hour")
    };
    assert!(retry_after > Duration::from_secs(3_500) && retry_after <= Duration::from_secs(3_600));
    let hour = "UPDATE grant_certificates SET created_at = created_at - interval '1 hour' WHERE serial = '\\x01'";
    site.database.connect().await.batch_execute(hour).await.unwrap();
    renew(&renewals, grant, 4, 5).await.unwrap();
}
