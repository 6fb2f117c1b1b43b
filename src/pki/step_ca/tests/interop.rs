//! Others' tools read what we make and what we take.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::pki::pem::certificate_to_pem;
use crate::pki::step_ca::testing::binary_named;

fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str], directory: &Path) -> (bool, String) {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn write_pem(path: &Path, certificates: &[&[u8]]) {
    let pem: String = certificates.iter().map(|der| certificate_to_pem(der)).collect();
    std::fs::write(path, pem).unwrap();
}

#[tokio::test]
async fn openssl_verifies_what_step_ca_signed_and_its_list() {
    let ca = open(SHARED.config()).await;
    let issued = issue(&ca).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write_pem(&at("root.pem"), &[SHARED.root()]);
    write_pem(&at("between.pem"), &[&issued.chain[0]]);
    write_pem(&at("leaf.pem"), &[&issued.certificate]);
    let verify = ["verify", "-purpose", "sslclient", "-CAfile", "root.pem", "-untrusted", "between.pem"];
    let (good, said) = run("openssl", &[&verify[..], &["leaf.pem"]].concat(), directory.path());
    assert!(good, "{said}");

    let crl = ca.revoke(issued.serial.clone(), issued.not_after, now()).await.unwrap();
    std::fs::write(at("crl.der"), &crl.der).unwrap();
    // `openssl verify -crl_check` is no use here: step-ca's list names its own address as its scope, our leaves name none, and
    // unlike webpki OpenSSL takes that for another scope.
    write_pem(&at("chain.pem"), &[SHARED.root(), &issued.chain[0]]);
    let show = ["crl", "-inform", "DER", "-in", "crl.der", "-CAfile", "chain.pem", "-noout", "-text"];
    let (good, said) = run("openssl", &show, directory.path());
    assert!(good && said.contains("verify OK"), "{said}");
    assert!(said.contains(&format!("Serial Number: {}", issued.serial.to_string().to_uppercase())), "{said}");
    let inspect = ["crl", "inspect", "--ca", "between.pem", "crl.der"];
    let (good, said) = run(binary_named("step"), &inspect, directory.path());
    assert!(good, "{said}");
}

/// With our own list nothing stands between OpenSSL and its full check.
#[test]
fn openssl_and_step_take_the_embedded_authoritys_list_and_refuse_whom_it_names() {
    let ours = crate::pki::testing::ca("work");
    let (kept, lost) = (crate::pki::testing::client(&ours), crate::pki::testing::client(&ours));
    let revocation = crate::pki::ca_store::Revocation {
        serial: lost.issued.serial.clone(),
        revoked_at: now(),
        not_after: lost.issued.not_after,
    };
    let crl = ours.sign_crl(7, &[revocation], now(), Duration::hours(1)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write_pem(&at("root.pem"), &[ours.certificate()]);
    write_pem(&at("kept.pem"), &[&kept.issued.certificate]);
    write_pem(&at("lost.pem"), &[&lost.issued.certificate]);
    let list = openssl::x509::X509Crl::from_der(&crl.der).unwrap();
    std::fs::write(at("crl.pem"), list.to_pem().unwrap()).unwrap();
    std::fs::write(at("crl.der"), &crl.der).unwrap();
    let verify = ["verify", "-x509_strict", "-crl_check", "-CAfile", "root.pem", "-CRLfile", "crl.pem"];
    let (good, said) = run("openssl", &[&verify[..], &["kept.pem"]].concat(), directory.path());
    assert!(good, "{said}");
    let (good, said) = run("openssl", &[&verify[..], &["lost.pem"]].concat(), directory.path());
    assert!(!good && said.contains("certificate revoked"), "{said}");
    let (good, said) = run(binary_named("step"), &["crl", "inspect", "--ca", "root.pem", "crl.der"], directory.path());
    assert!(good, "{said}");
}

#[tokio::test]
async fn step_shows_both_extensions_of_what_step_ca_signed() {
    let ca = open(SHARED.config()).await;
    let issued = issue(&ca).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_pem(&directory.path().join("leaf.pem"), &[&issued.certificate]);
    let (good, said) = run(binary_named("step"), &["certificate", "inspect", "leaf.pem"], directory.path());
    assert!(good, "{said}");
    for expected in ["1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2", "Client Authentication", "CN=home"] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
}

/// The other direction: our own authority's certificates, judged by the others.
#[test]
fn openssl_and_step_verify_what_the_embedded_authority_signed() {
    let ours = crate::pki::testing::ca("work");
    let client = crate::pki::testing::client(&ours);
    let server = ours.issue_server(&["work.example".to_owned()], now(), Duration::days(1)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write_pem(&at("root.pem"), &[ours.certificate()]);
    write_pem(&at("client.pem"), &[&client.issued.certificate]);
    write_pem(&at("server.pem"), &[&server.chain[0]]);
    for (purpose, leaf) in [("sslclient", "client.pem"), ("sslserver", "server.pem")] {
        let (good, said) = run(
            "openssl",
            &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem", leaf],
            directory.path(),
        );
        assert!(good, "{said}");
    }
    let step = binary_named("step");
    let verify = ["certificate", "verify", "server.pem", "--roots", "root.pem", "--host", "work.example"];
    let (good, said) = run(&step, &verify, directory.path());
    assert!(good, "{said}");
    let (good, said) = run(&step, &["certificate", "inspect", "client.pem"], directory.path());
    assert!(good && said.contains("1.3.6.1.4.1.99999.2"), "{said}");
    std::fs::write(at("asked.csr"), crate::pki::csr::new_key_and_csr().unwrap().csr_pem).unwrap();
    let (good, said) = run(&step, &["certificate", "inspect", "asked.csr"], directory.path());
    assert!(good, "{said}");
}
