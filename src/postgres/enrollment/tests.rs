use super::*;
use crate::postgres::grants::tests::{Site, by, enroll_event, issued};
use mosaic_actors::domain::grant::GrantChange;

const MINUTE: Duration = Duration::from_secs(60);

fn refusal_of(claim: Result<Claim, ClaimRefusal>) -> (&'static str, FaultKind) {
    let refusal = claim.unwrap_err();
    (refusal.reason(), refusal.fault().kind)
}

#[actix_rt::test]
async fn a_token_is_claimed_once_and_completing_activates_the_grant() {
    let site = Site::new().await;
    let grant = site.grant().await;
    let ends = site.enrollments.create(grant.id, &[1; 32], MINUTE, &by()).await.unwrap().unwrap();
    assert_eq!(site.grants.get(grant.id).await.unwrap().unwrap().invite_expires_at, Some(ends));
    let claim = site.enrollments.claim(&[1; 32]).await.unwrap();
    assert_eq!((claim.grant, claim.subject, claim.grant_expires_at), (grant.id, site.ada.id, grant.expires_at));
    assert_eq!(refusal_of(site.enrollments.claim(&[1; 32]).await), ("token_used", FaultKind::Gone));
    assert_eq!(site.enrollments.key_on_record(&[5; 32]).await, Ok(false));
    let completed = site.enrollments.complete(&claim, &issued(5), enroll_event(grant.id)).await.unwrap();
    assert_eq!(site.enrollments.key_on_record(&[5; 32]).await, Ok(true));
    let record = site.grants.get(grant.id).await.unwrap().unwrap();
    assert_eq!((record.status, record.version), (GrantStatus::Active, completed.grant_version));
    assert!(record.activated_at.is_some());
    assert_eq!(record.certificates.iter().map(|c| c.serial.clone()).collect::<Vec<_>>(), [issued(5).serial]);
    assert_eq!(site.actions().await, ["create", "invite", "enroll"]);
    let again = site.enrollments.create(grant.id, &[2; 32], MINUTE, &by()).await.unwrap_err();
    assert_eq!(again.message.as_deref(), Some("a grant that is active cannot be invited to; only a pending one can"));
}

#[actix_rt::test]
async fn every_dead_token_is_told_apart_for_the_audit_and_not_for_the_claimant() {
    let site = Site::new().await;
    assert_eq!(refusal_of(site.enrollments.claim(&[1; 32]).await), ("token_unknown", FaultKind::NotFound));
    let grant = site.grant().await.id;
    site.enrollments.create(grant, &[1; 32], Duration::ZERO, &by()).await.unwrap();
    assert_eq!(refusal_of(site.enrollments.claim(&[1; 32]).await), ("token_expired", FaultKind::Gone));
    site.enrollments.create(grant, &[2; 32], MINUTE, &by()).await.unwrap();
    site.enrollments.create(grant, &[3; 32], MINUTE, &by()).await.unwrap();
    assert_eq!(refusal_of(site.enrollments.claim(&[2; 32]).await), ("token_voided", FaultKind::Gone));
    // Nothing that revokes the grants of a subject was told of this change.
    let database = site.database.connect().await;
    for column in ["active = false, deleted_at = NULL", "active = true, deleted_at = now()"] {
        database.batch_execute(&format!("UPDATE users SET {column}")).await.unwrap();
        assert_eq!(
            refusal_of(site.enrollments.claim(&[3; 32]).await),
            ("subject_inactive", FaultKind::Gone),
            "{column}"
        );
    }
    database.batch_execute("UPDATE users SET deleted_at = NULL").await.unwrap();
    database.batch_execute("UPDATE grants SET expires_at = now()").await.unwrap();
    assert_eq!(refusal_of(site.enrollments.claim(&[3; 32]).await), ("grant_not_pending", FaultKind::Gone));
    assert_eq!(site.enrollments.create(grant, &[4; 32], MINUTE, &by()).await.unwrap_err().kind, FaultKind::Conflict);
}

#[actix_rt::test]
async fn of_many_who_redeem_one_token_exactly_one_succeeds() {
    let site = Site::new().await;
    let grant = site.grant().await.id;
    site.enrollments.create(grant, &[1; 32], MINUTE, &by()).await.unwrap();
    let claims = futures_util::future::join_all((0..6).map(|_| site.enrollments.claim(&[1; 32]))).await;
    assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1);
    for refused in claims.into_iter().filter(Result::is_err) {
        assert!(matches!(refusal_of(refused), ("token_used", FaultKind::Gone) | ("token_raced", FaultKind::Conflict)));
    }
}

#[actix_rt::test]
async fn a_grant_revoked_between_claim_and_completion_gets_no_certificate() {
    let site = Site::new().await;
    let grant = site.grant().await.id;
    site.enrollments.create(grant, &[1; 32], MINUTE, &by()).await.unwrap();
    let claim = site.enrollments.claim(&[1; 32]).await.unwrap();
    site.grants.change(grant, GrantChange::Revoke, &by()).await.unwrap();
    let fault = site.enrollments.complete(&claim, &issued(5), enroll_event(grant)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Gone);
    assert_eq!(site.enrollments.key_on_record(&[5; 32]).await, Ok(false), "the whole transaction is undone");
    assert_eq!(site.actions().await, ["create", "invite", "revoke"]);
}

#[actix_rt::test]
async fn two_claims_of_one_grant_end_in_one_certificate_and_a_key_is_used_once() {
    let site = Site::new().await;
    let grant = site.grant().await.id;
    site.enrollments.create(grant, &[1; 32], MINUTE, &by()).await.unwrap();
    let first = site.enrollments.claim(&[1; 32]).await.unwrap();
    site.enrollments.create(grant, &[2; 32], MINUTE, &by()).await.unwrap();
    let second = site.enrollments.claim(&[2; 32]).await.unwrap();
    site.enrollments.complete(&second, &issued(5), enroll_event(grant)).await.unwrap();
    let fault = site.enrollments.complete(&first, &issued(6), enroll_event(grant)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Gone);
    let other = site.grant().await.id;
    site.enrollments.create(other, &[3; 32], MINUTE, &by()).await.unwrap();
    let third = site.enrollments.claim(&[3; 32]).await.unwrap();
    let fault = site.enrollments.complete(&third, &issued(5), enroll_event(other)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
}
