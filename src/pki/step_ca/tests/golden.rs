//! Bytes as the real server made them, kept: what our parsers must read also without it, and after it has changed.

use std::path::{Path, PathBuf};

use super::*;
use crate::pki::pem::{certificate_from_pem, certificate_to_pem, certificates_from_pem};
use crate::pki::profile::check_client_certificate;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/step-ca").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(golden(name)).unwrap()
}

#[test]
fn a_captured_client_certificate_is_an_identity() {
    let root = certificate_from_pem(&text("root.pem")).unwrap();
    let chain = certificates_from_pem(&text("client.pem")).unwrap();
    let begins = parse_certificate(&chain[0]).unwrap().validity.not_before.to_datetime();
    let identity = check_client_certificate(&chain[0], &root, begins, &arc()).unwrap();
    let read = format!("grant {}\nsubject {}\nserial {}\n", identity.grant, identity.subject, identity.serial);
    assert_eq!(read, text("client.txt"));
}

#[test]
fn a_captured_list_is_verified_and_names_the_captured_certificate() {
    let root = certificate_from_pem(&text("root.pem")).unwrap();
    let chain = certificates_from_pem(&text("client.pem")).unwrap();
    let (leaf, intermediate) = (parse_certificate(&chain[0]).unwrap(), chain[1].clone());
    let der = std::fs::read(golden("crl.der")).unwrap();
    let begins = leaf.validity.not_before.to_datetime();
    let issuers: Vec<_> =
        std::iter::once(root.clone()).chain(checks::intermediates_of(&root, vec![intermediate], begins)).collect();
    assert_eq!(issuers.len(), 2);
    let crl = verify_crl_by(&der, &issuers).unwrap();
    assert_eq!(crl.next_update - crl.this_update, Duration::hours(1));
    let serial = Serial::from_bytes(leaf.raw_serial()).unwrap();
    assert!(revoked_serials(&der).unwrap().contains(&serial));
}

#[tokio::test]
#[ignore = "writes the golden files anew: cargo test --lib capture_golden -- --ignored"]
async fn capture_golden_files() {
    let ca = open(SHARED.config()).await;
    let (_, request) = new_request();
    let issued = ca.issue(request.clone()).await.unwrap();
    let crl = ca.revoke(issued.serial.clone(), issued.not_after, now()).await.unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(golden(name), bytes).unwrap();
    std::fs::create_dir_all(golden("")).unwrap();
    write("root.pem", certificate_to_pem(SHARED.root()).as_bytes());
    let chain = [&issued.certificate, &issued.chain[0]].map(|der| certificate_to_pem(der));
    write("client.pem", chain.concat().as_bytes());
    let read = format!("grant {}\nsubject {}\nserial {}\n", request.grant, request.subject, issued.serial);
    write("client.txt", read.as_bytes());
    write("crl.der", &crl.der);
}
