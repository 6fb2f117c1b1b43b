//! Two sites, each with a real step-ca of its own: enrolment, questions, renewal and revocation in both directions, and what happens
//! while an authority is down.

use std::collections::HashSet;

use mosaic::clock::SystemClock;
use mosaic::pki::authority::{CertificateAuthority, ClientRequest};
use mosaic::pki::crl::verify_crl_by;
use mosaic::pki::csr::new_key_and_csr;
use mosaic::pki::extension_arc::ExtensionArc;
use mosaic::pki::step_ca::StepCa;
use mosaic::pki::step_ca::testing::TestStepCa;
use mosaic_actors::domain::identity::{GrantId, Serial, SiteName, UserId};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

use crate::harness::api::Api;
use crate::harness::asker::{self, Asker};
use crate::harness::node::Node;
use crate::harness::sites::{self, items, titles};
use crate::harness::step_ca::section;
use crate::harness::wait::until;
use crate::harness::{now, wire};

/// A site with its authority.
struct Site {
    node: Node,
    ca: TestStepCa,
    ada: Api,
}

async fn site(name: &str) -> Site {
    let ca = TestStepCa::start(name);
    let node = Node::start_with(name, &section(&ca)).await;
    node.user("ada").await;
    let ada = node.session("ada").await;
    node.import(&ada, "tasks", &sites::tasks(name, 3, "2026-03-01T12:00:00Z", None)).await;
    Site { node, ca, ada }
}

impl Site {
    /// Opens this site to the other: the grant, and the link over there.
    async fn opened_to(&self, other: &Self) -> (String, String) {
        let scope = json!({ "resources": ["tasks"] });
        let (grant, invite) = sites::grant(&self.node, &other.node.site, "ada", scope).await;
        (grant, sites::join(&other.node, "ada", &invite).await)
    }

    async fn rows_of(&self, other: &Self) -> Value {
        let source = format!("federated:{}", other.node.site);
        self.ada.query(json!({ "verb": "list", "resource": "tasks", "source": source })).await.json
    }

    async fn revoke(&self, grant: &str) -> Value {
        self.node.admin().post(&format!("/api/admin/v1/grants/{grant}/revoke"), json!({})).await.expect(200)
    }

    /// The serial numbers on the list that the node hands out, which its own authority must have signed.
    async fn revoked(&self) -> HashSet<String> {
        let answer = asker::fetch_crl(&format!("https://{}", self.node.address("enrollment"))).await;
        assert_eq!(answer.status, 200);
        let issuers = ["intermediate_ca.crt", "root_ca.crt"].map(|file| {
            let pem = std::fs::read_to_string(self.ca.directory().join(file)).expect("a certificate of the authority");
            mosaic::pki::pem::certificate_from_pem(&pem).expect("PEM")
        });
        verify_crl_by(&answer.bytes, &issuers).expect("a list of this site's authority");
        let (_, list) =
            x509_parser::revocation_list::CertificateRevocationList::from_der(&answer.bytes).expect("a list");
        list.iter_revoked_certificates().map(|revoked| serial(revoked.raw_serial())).collect()
    }

    async fn serials(&self, grant: &str) -> Vec<String> {
        let grant = self.node.admin().get(&format!("/api/admin/v1/grants/{grant}")).await.expect(200);
        let certificates = grant["certificates"].as_array().expect("the certificates");
        certificates.iter().map(|c| c["serial"].as_str().expect("a serial").to_owned()).collect()
    }

    async fn readiness(&self) -> Value {
        self.node.anonymous().get("/readyz").await.expect(200)
    }
}

fn serial(bytes: &[u8]) -> String {
    Serial::from_bytes(bytes).expect("a serial number").to_string()
}

#[tokio::test]
async fn two_sites_with_a_step_ca_each_enrol_ask_renew_and_revoke_in_both_directions() {
    let (home, work) = futures_util::future::join(site("home"), site("work")).await;
    let ((at_work, link_at_home), (at_home, link_at_work)) =
        futures_util::future::join(work.opened_to(&home), home.opened_to(&work)).await;
    assert_eq!(titles(&home.rows_of(&work).await), ["work 0", "work 1", "work 2"]);
    assert_eq!(titles(&work.rows_of(&home).await), ["home 0", "home 1", "home 2"]);

    for (site, link) in [(&home, &link_at_home), (&work, &link_at_work)] {
        let renewed = site.node.admin().post(&format!("/api/admin/v1/links/{link}/renew"), json!({})).await.expect(200);
        assert_eq!(renewed["state"], "active");
    }
    assert_eq!(items(&home.rows_of(&work).await).len() + items(&work.rows_of(&home).await).len(), 6);
    assert_eq!((work.serials(&at_work).await.len(), home.serials(&at_home).await.len()), (2, 2));

    for (owner, asker, grant) in [(&work, &home, &at_work), (&home, &work, &at_home)] {
        let receipt = owner.revoke(grant).await["receipt"].clone();
        assert_eq!((&receipt["effective"], &receipt["crl_published"]), (&json!(true), &json!(true)), "{receipt}");
        let refused = asker.rows_of(owner).await;
        assert_eq!(refused["_sources"][&owner.node.site]["status"], "grant_revoked", "{refused}");
        let serials = owner.serials(grant).await;
        until("the node hands out the list", || async {
            let revoked = owner.revoked().await;
            serials.iter().all(|serial| revoked.contains(serial)).then_some(())
        })
        .await;
    }
    // Nothing of it was the other authority's.
    assert!(work.revoked().await.is_disjoint(&home.revoked().await));
}

#[tokio::test]
async fn a_revoked_holder_gets_403_on_its_open_connection_and_an_alert_on_a_new_one() {
    let work = site("work").await;
    let (grant, invite) = sites::grant(&work.node, "lab", "ada", json!({ "resources": ["tasks"] })).await;
    let holder = Asker::enroll(&invite).await;
    let mut open = holder.wire().await;
    assert_eq!(open.list().await.expect("rows").status, 200);
    assert_eq!(work.revoke(&grant).await["receipt"]["crl_published"], true);
    let refused = open.list().await.expect("an answer");
    assert_eq!((refused.status, refused.word().as_str()), (403, "grant_revoked"));
    assert!(open.ends().await);

    let alert = until("a new handshake fails", || async {
        let mut wire = holder.try_wire().await.ok()?;
        wire.list().await.err()
    })
    .await;
    let inner = alert.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let revoked = rustls::AlertDescription::CertificateRevoked;
    assert_eq!(inner, Some(&rustls::Error::AlertReceived(revoked)), "{alert:?}");
}

/// Whoever has the provisioner's key can have certificates signed for any grant. What is not on record opens nothing.
#[tokio::test]
async fn a_certificate_that_was_signed_behind_the_nodes_back_is_refused() {
    let work = site("work").await;
    let (grant, invite) = sites::grant(&work.node, "lab", "ada", json!({ "resources": ["tasks"] })).await;
    let holder = Asker::enroll(&invite).await;
    let parse = |text: &str| text.parse::<uuid::Uuid>().expect("an id");
    let shown = work.node.admin().get(&format!("/api/admin/v1/grants/{grant}")).await.expect(200);
    let subject = parse(shown["user"]["id"].as_str().expect("the subject's id"));

    let ca = StepCa::open(work.ca.config(), ExtensionArc::default(), std::sync::Arc::new(SystemClock))
        .await
        .expect("a step-ca");
    let key = new_key_and_csr().expect("a key");
    let request = ClientRequest {
        public_key: key.public_key.clone(),
        csr_pem: key.csr_pem.clone(),
        grant: GrantId(parse(&grant)),
        subject: UserId(subject),
        peer: SiteName::parse("lab").expect("a name"),
        not_before: now(),
        not_after: now() + time::Duration::hours(1),
    };
    let issued = ca.issue(request).await.expect("step-ca signs what the provisioner's key asks for");
    let chain = [issued.certificate, issued.chain[0].clone()].map(CertificateDer::from);
    let forged = wire::client_tls_with_chain(chain.to_vec(), &key.pkcs8);
    let mut wire = wire::Wire::open(&work.node.address("federation"), forged).await.expect("the handshake is fine");
    let refused = wire.list().await.expect("an answer");
    assert_eq!((refused.status, refused.word().as_str()), (403, "forbidden"));
    let denied = work.node.admin().get("/api/admin/v1/audit?outcome=denied&limit=1").await.expect(200);
    assert_eq!(items(&denied)[0]["reason"], "serial_not_current");
    // The genuine one goes on.
    assert_eq!(items(&holder.post("list/tasks", json!({})).await.expect(200)).len(), 3);
}

#[tokio::test]
async fn a_revocation_while_step_ca_is_down_counts_at_once_and_reaches_it_after_a_restart_of_both() {
    let mut work = site("work").await;
    let (grant, invite) = sites::grant(&work.node, "lab", "ada", json!({ "resources": ["tasks"] })).await;
    let holder = Asker::enroll(&invite).await;
    work.ca.kill();
    let receipt = work.revoke(&grant).await["receipt"].clone();
    assert_eq!((&receipt["effective"], &receipt["crl_published"]), (&json!(true), &json!(false)), "{receipt}");
    let refused = holder.post("list/tasks", json!({})).await.expect(403);
    assert_eq!(refused["error"]["reason"], "grant_revoked");
    until("readiness tells", || async {
        let readiness = work.readiness().await;
        let degraded = readiness["degraded"].as_array().expect("a list").clone();
        (readiness["ready"] == true && degraded.iter().any(|part| part["dependency"] == "certificate_authority"))
            .then_some(())
    })
    .await;
    let doctor = work.node.cli(&["--json", "gateway", "doctor"]);
    let report: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let probe = |name: &str| {
        let probes = report["probes"].as_array().expect("probes");
        probes.iter().find(|probe| probe["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}")).clone()
    };
    assert_eq!(probe("certificate authority")["status"], "red");
    assert!(probe("certificate authority")["remedy"].as_str().expect("a remedy").contains("Start step-ca"));
    assert!(probe("ca revocations")["detail"].as_str().expect("a detail").starts_with("1 wait"), "{report}");

    // The node starts without its authority, with what it kept, and serves.
    work.node.kill();
    work.node.serve();
    let other = sites::grant(&work.node, "attic", "ada", json!({ "resources": ["tasks"] })).await.1;
    let unsigned = asker::open_invite(&other);
    let (_, csr) = asker::new_csr();
    let text = |key: &str| unsigned[key].as_str().expect("a text").to_owned();
    assert_eq!(asker::enroll(&text("enroll_url"), &text("token"), &csr).await.error(503).0, "unavailable");
    let refused = holder.at(&work.node.address("federation")).post("list/tasks", json!({})).await.expect(403);
    assert_eq!(refused["error"]["reason"], "grant_revoked");

    work.node.kill();
    work.ca.run();
    work.node.serve();
    let serials = work.serials(&grant).await;
    until("the revocation reached step-ca", || async {
        let revoked = work.revoked().await;
        serials.iter().all(|serial| revoked.contains(serial)).then_some(())
    })
    .await;
    until("nothing is missing any more", || async { (work.readiness().await["degraded"] == json!([])).then_some(()) })
        .await;
}

#[tokio::test]
async fn init_takes_a_step_ca_that_the_script_made_and_doctor_finds_every_part() {
    let arc = "1.3.6.1.4.1.4711";
    let ca = TestStepCa::start_by_script("lab", arc);
    let config = ca.config();
    let database = mosaic::postgres::testing::TestDatabase::empty().await;
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let mut command = crate::harness::node::mosaic();
        command.current_dir(directory.path()).args(arguments);
        command.env("MOSAIC_POSTGRES_URL", secrecy::ExposeSecret::expose_secret(database.url()));
        command.output().expect("the command runs")
    };
    let fingerprint = mosaic::pki::pem::to_hex(&config.root_sha256);
    let password = config.password_file.display().to_string();
    let root = ca.directory().join("certs/root_ca.crt").display().to_string();
    let state = directory.path().join("state").display().to_string();
    let listen = ["api.listen=127.0.0.1:0", "federation.listen=127.0.0.1:0", "enrollment.listen=127.0.0.1:0"];
    let arc_setting = format!("ca.extension_arc={arc}");
    let init = [
        "--site",
        "lab",
        "--tier",
        "standalone",
        "--state-dir",
        &state,
        "--set",
        listen[0],
        "--set",
        listen[1],
        "--set",
        listen[2],
        "--set",
        &arc_setting,
        "gateway",
        "init",
        "--ca",
        "step-ca",
        "--ca-url",
        config.url.as_str(),
        "--ca-fingerprint",
        &fingerprint,
        "--ca-root",
        &root,
        "--ca-password-file",
        &password,
    ];
    let made = run(&init);
    let said = String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    for expected in ["compose/step-ca/init --name lab", "step ca provisioner add mosaic", arc, "generateOnRevoke"] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
    let template = std::fs::read_to_string(directory.path().join("state/mosaic.tpl")).expect("the template");
    assert!(template.contains(&format!("\"{arc}.1\"")));

    let doctor = run(&["--json", "gateway", "doctor"]);
    let report: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    for name in ["certificate authority", "ca provisioner", "ca template", "ca revocation list"] {
        let probes = report["probes"].as_array().expect("probes");
        let probe =
            probes.iter().find(|probe| probe["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"));
        assert_eq!(probe["status"], "green", "{probe}");
    }
    let secret = std::fs::read_to_string(&config.password_file).expect("the password");
    assert!(!report.to_string().contains(secret.trim()) && !said.contains(secret.trim()));

    // A second look at what can be wrong: another root's fingerprint, a password that others can read.
    let other = format!("ca.root_sha256={}", "ab".repeat(32));
    let doctor = run(&["--json", "--set", &other, "--set", "ca.root_file=", "gateway", "doctor"]);
    assert!(!doctor.status.success());
    let shared = directory.path().join("shared");
    std::fs::write(&shared, "x").expect("a file");
    let doctor = run(&["--json", "--set", &format!("ca.password_file={}", shared.display()), "gateway", "doctor"]);
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(report.contains("can be read by others"), "{report}");
}
