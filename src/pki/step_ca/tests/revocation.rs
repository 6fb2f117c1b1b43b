use rustls::CertificateError;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::json;

use super::*;
use crate::tls::ClientGate;

/// What the federation listener says to the holder of this certificate.
fn handshake(gate: &ClientGate, issued: &IssuedCertificate) -> Result<(), rustls::Error> {
    let leaf = CertificateDer::from(issued.certificate.as_slice());
    let between = [CertificateDer::from(issued.chain[0].as_slice())];
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().unix_timestamp().unsigned_abs()));
    gate.verify_client_cert(&leaf, &between, at).map(|_| ())
}

#[tokio::test]
async fn a_revoked_serial_is_on_the_list_at_once_and_refused_by_the_gate() {
    let ca = open(SHARED.config()).await;
    let (kept, lost) = (issue(&ca).await.unwrap(), issue(&ca).await.unwrap());
    let gate = ClientGate::new();
    let before = ca.crl().await.unwrap();
    gate.update_by(&ca.root(), &ca.issuers(), &before.der).unwrap();
    assert_eq!((handshake(&gate, &kept), handshake(&gate, &lost)), (Ok(()), Ok(())));

    let after = ca.revoke(lost.serial.clone(), lost.not_after, now()).await.unwrap();
    assert!(after.number > before.number);
    let listed = revoked_serials(&after.der).unwrap();
    assert!(listed.contains(&lost.serial) && !listed.contains(&kept.serial));
    assert_eq!(ca.crl().await.unwrap().number, after.number, "what is handed out now is the new list");
    assert!(gate.update_by(&ca.root(), &ca.issuers(), &after.der).unwrap());
    assert_eq!(handshake(&gate, &kept), Ok(()));
    assert_eq!(handshake(&gate, &lost), Err(rustls::Error::InvalidCertificate(CertificateError::Revoked)));
}

#[tokio::test]
async fn revoking_again_changes_nothing() {
    let ca = open(SHARED.config()).await;
    let issued = issue(&ca).await.unwrap();
    ca.revoke(issued.serial.clone(), issued.not_after, now()).await.unwrap();
    let again = ca.revoke(issued.serial.clone(), issued.not_after, now()).await.unwrap();
    assert!(revoked_serials(&again.der).unwrap().contains(&issued.serial));
}

#[tokio::test]
async fn a_list_that_another_root_signed_is_refused() {
    let ca = open(SHARED.config()).await;
    let crl = ca.crl().await.unwrap();
    let stranger = TestStepCa::start("home");
    let stranger = open(stranger.config()).await;
    stranger.crl().await.unwrap();
    assert_eq!(stranger.issuers().len(), 2);
    assert_eq!(verify_crl_by(&crl.der, &stranger.issuers()), Err(CrlError::Signature));
    assert_eq!(verify_crl_by(&crl.der, &ca.issuers()).map(|crl| crl.number), Ok(crl.number));
    assert!(ClientGate::new().update(&ca.root(), &crl.der).is_err(), "an intermediate signed it, not the root");
}

#[tokio::test]
async fn an_authority_without_a_list_or_with_a_late_one_is_told() {
    let mut server = TestStepCa::start_with("work", |settings| settings["crl"]["generateOnRevoke"] = json!(false));
    let ca = open(server.config()).await;
    let issued = issue(&ca).await.unwrap();
    let late = typed(ca.revoke(issued.serial.clone(), issued.not_after, now()).await);
    assert_eq!(late, StepCaError::CrlBehind);
    assert!(late.remedy().contains("generateOnRevoke"));
    server.kill();
    server.edit(|settings| settings["crl"] = json!({ "enabled": false }));
    server.run();
    let ca = open(server.config()).await;
    assert_eq!(typed(ca.crl().await), StepCaError::CrlDisabled);
}
