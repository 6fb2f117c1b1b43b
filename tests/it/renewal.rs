//! Renewal of client certificates between real nodes: by hand, by itself, under load, and who is refused.

use mosaic_actors::ports::clock::Clock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::harness::asker::{Asker, new_csr};
use crate::harness::node::{Node, id};
use crate::harness::sites::{self, Sites, items};
use crate::harness::wait::until;

/// Certificates of one link, one after the other.
const SWAPS: usize = 1_000;

/// A grant whose holder asks, and renews, more than people do.
const WIDE: &str = "[limits]\ngrant_requests_per_second = 10000\ngrant_burst = 10000\ngrant_concurrent = 100\n\
                    certificates_per_hour = 10000\n";

async fn sites_with_rows() -> Sites {
    let (home, work) = futures_util::future::join(Node::start("home"), Node::start_with("work", WIDE)).await;
    home.user("ada").await;
    work.user("ada").await;
    let (ada_at_home, ada_at_work) = (home.session("ada").await, work.session("ada").await);
    work.import(&ada_at_work, "tasks", &sites::tasks("work", 5, "2026-03-01T12:00:00Z", None)).await;
    let (grant, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let link = sites::join(&home, "ada", &invite).await;
    Sites { home, work, ada_at_home, ada_at_work, grant, link }
}

impl Sites {
    async fn renew(&self) -> Value {
        self.home.admin().post(&format!("/api/admin/v1/links/{}/renew", self.link), json!({})).await.expect(200)
    }

    async fn link(&self) -> Value {
        self.home.admin().get(&format!("/api/admin/v1/links/{}", self.link)).await.expect(200)
    }

    async fn certificates(&self) -> Vec<Value> {
        certificates(&self.work, &self.grant).await
    }
}

async fn certificates(owner: &Node, grant: &str) -> Vec<Value> {
    let grant = owner.admin().get(&format!("/api/admin/v1/grants/{grant}")).await.expect(200);
    grant["certificates"].as_array().expect("the certificates").clone()
}

/// A holder who speaks by hand, the node it holds a grant of, and that grant.
async fn holder() -> (Node, String, Asker) {
    let work = Node::start("work").await;
    work.user("ada").await;
    let ada = work.session("ada").await;
    work.import(&ada, "tasks", &sites::tasks("work", 3, "2026-03-01T12:00:00Z", None)).await;
    let (grant, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;
    (work, grant, asker)
}

async fn change(owner: &Node, grant: &str, change: &str) {
    owner.admin().post(&format!("/api/admin/v1/grants/{grant}/{change}"), json!({})).await.expect(200);
}

/// Renews by hand: a client with the new certificate.
async fn renewed(asker: &Asker) -> Asker {
    let (key, csr) = new_csr();
    let answer = asker.post("renew", json!({ "csr": csr })).await.expect(200);
    let pem = answer["certificate"].as_str().expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    assert!(answer["chain"].as_array().is_some_and(|chain| !chain.is_empty()));
    Asker::with(asker.federation_url.clone(), certificate, asker.root.clone(), key.serialize_der())
}

#[tokio::test]
async fn an_admin_renews_a_link_and_its_queries_go_on() {
    let sites = sites_with_rows().await;
    let before = sites.link().await;
    let after = sites.renew().await;
    assert_ne!(before["serial"], after["serial"]);
    assert_eq!((id(&before), &after["state"]), (id(&after), &json!("active")));
    assert_eq!(sites.link().await["serial"], after["serial"]);
    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    assert_eq!(items(&sites.ada_at_home.query(query).await.expect(200)).len(), 5);

    let cli = sites.home.cli(&["--api", &sites.home.api_url(), "--json", "federation", "peer", "renew", "work"]);
    assert!(cli.status.success(), "{}", String::from_utf8_lossy(&cli.stderr));
    let shown: Value = serde_json::from_slice(&cli.stdout).expect("JSON");
    assert_ne!(shown["serial"], after["serial"]);

    let events = sites.work.admin().get("/api/admin/v1/audit?limit=100").await.expect(200);
    let renewals = items(&events).iter().filter(|event| event["action"] == "renew").count();
    assert_eq!(renewals, 2);
    assert_eq!(sites.certificates().await.len(), 3);
}

#[tokio::test]
async fn a_thousand_renewals_under_load_fail_no_query() {
    let sites = sites_with_rows().await;
    // Asks once while a swap is under way, and goes on to the next one: every swap meets a question in flight.
    let (swap, swaps) = tokio::sync::watch::channel(0_usize);
    let (ada, mut swaps) = (sites.ada_at_home.clone(), swaps);
    let load = tokio::spawn(async move {
        let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work", "deadline_ms": 20_000 });
        let mut answered = 0_usize;
        while swaps.changed().await.is_ok() {
            let answer = ada.query(query.clone()).await.expect(200);
            assert_eq!(answer["_sources"]["work"]["status"], "ok", "{answer}");
            answered += 1;
        }
        answered
    });
    for index in 1..=SWAPS {
        assert!(!load.is_finished(), "a query failed at swap {index}");
        swap.send_replace(index);
        sites.renew().await;
    }
    drop(swap);
    let answered = load.await.expect("no query failed");
    assert!(answered > SWAPS / 2, "{answered} queries are no load for {SWAPS} swaps");
    assert_eq!(sites.certificates().await.len(), SWAPS + 1);
    until("only the newest certificate counts", || async {
        let open = sites.certificates().await.iter().filter(|c| c["superseded_until"].is_null()).count();
        (open == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_old_certificate_works_until_the_new_one_was_used_and_never_again() {
    let (work, grant, old) = holder().await;
    let new = renewed(&old).await;
    assert_eq!(items(&old.post("list/tasks", json!({})).await.expect(200)).len(), 3, "the overlap");
    assert_eq!(certificates(&work, &grant).await.iter().filter(|c| c["superseded_until"].is_null()).count(), 1);

    assert_eq!(items(&new.post("list/tasks", json!({})).await.expect(200)).len(), 3);
    until("the old certificate is refused", || async {
        let refused = old.post("list/tasks", json!({})).await;
        (refused.status == 403).then(|| assert_eq!(refused.json["error"]["code"], "forbidden"))
    })
    .await;
    assert_eq!(old.post("renew", json!({ "csr": new_csr().1 })).await.error(403).0, "forbidden");
    assert_eq!(items(&new.post("list/tasks", json!({})).await.expect(200)).len(), 3);
}

#[tokio::test]
async fn a_grant_that_rests_or_ended_renews_nothing_and_each_refusal_is_audited() {
    let (work, grant, asker) = holder().await;
    for (done, reason) in [("suspend", "grant_suspended"), ("revoke", "grant_revoked")] {
        change(&work, &grant, done).await;
        let refused = asker.post("renew", json!({ "csr": new_csr().1 })).await.expect(403);
        assert_eq!(refused["error"]["reason"], reason);
    }
    let denied = work.admin().get("/api/admin/v1/audit?outcome=denied&limit=100").await.expect(200);
    let told: Vec<_> = items(&denied).iter().map(|e| (e["action"].clone(), e["reason"].clone())).collect();
    assert_eq!(told, [("renew", "grant_revoked"), ("renew", "grant_suspended")].map(|(a, r)| (json!(a), json!(r))));
    assert_eq!(certificates(&work, &grant).await.len(), 1);
}

#[tokio::test]
async fn a_reused_key_a_weak_one_and_a_request_of_another_shape_are_refused() {
    let (work, grant, asker) = holder().await;
    let (key, csr) = new_csr();
    asker.post("renew", json!({ "csr": csr })).await.expect(200);
    assert_eq!(asker.post("renew", json!({ "csr": csr })).await.error(409).0, "conflict");
    drop(key);
    let weak = openssl::rsa::Rsa::generate(1024).and_then(openssl::pkey::PKey::from_rsa).expect("a weak key");
    let mut request = openssl::x509::X509ReqBuilder::new().expect("a request");
    request.set_pubkey(&weak).expect("its key");
    request.sign(&weak, openssl::hash::MessageDigest::sha256()).expect("its signature");
    let weak = String::from_utf8(request.build().to_pem().expect("PEM")).expect("text");
    for body in [json!({ "csr": weak }), json!({ "csr": "none" }), json!({}), json!({ "csr": csr, "force": true })] {
        assert_eq!(asker.post("renew", body).await.error(400).0, "invalid_request");
    }
    assert_eq!(certificates(&work, &grant).await.len(), 2);
}

#[tokio::test]
async fn a_certificate_renews_its_own_grant_and_no_other() {
    let (work, grant, asker) = holder().await;
    let (other, invite) = sites::grant(&work, "lab", "ada", json!({ "resources": ["tasks"] })).await;
    let stranger = Asker::enroll(&invite).await;
    renewed(&stranger).await;
    assert_eq!((certificates(&work, &grant).await.len(), certificates(&work, &other).await.len()), (1, 2));
    // The key of one grant's certificate is not taken for another's either.
    let key = rcgen::KeyPair::try_from(stranger.key()).expect("the stranger's key");
    let csr = rcgen::CertificateParams::default().serialize_request(&key).expect("a CSR").pem().expect("PEM");
    assert_eq!(asker.post("renew", json!({ "csr": csr })).await.error(409).0, "conflict");
}

#[tokio::test]
async fn a_grant_gets_a_bounded_number_of_certificates_an_hour() {
    let work = Node::start_with("work", "[limits]\ncertificates_per_hour = 3\n").await;
    work.user("ada").await;
    let (grant, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let mut asker = Asker::enroll(&invite).await;
    for _ in 0..2 {
        asker = renewed(&asker).await;
    }
    let refused = asker.post("renew", json!({ "csr": new_csr().1 })).await;
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(refused.error(429).0, "rate_limited");
    assert_eq!(certificates(&work, &grant).await.len(), 3);
}

/// The grant ends in half a minute, and its certificate with it; then the grant is prolonged. Nobody asks the link to renew.
#[tokio::test]
async fn a_link_renews_by_itself_before_its_certificate_ends() {
    let (home, work) = futures_util::future::join(Node::start("home"), Node::start("work")).await;
    home.user("ada").await;
    work.user("ada").await;
    let soon = |seconds: i64| {
        let at = mosaic::clock::SystemClock.now() + time::Duration::seconds(seconds);
        at.format(&time::format_description::well_known::Rfc3339).expect("a date")
    };
    let order = json!({ "peer": "home", "user": "ada", "scope": { "resources": ["tasks"] }, "expires_at": soon(24) });
    let created = work.admin().post("/api/admin/v1/grants", order).await.expect(201);
    let grant = id(&created["grant"]);
    let link = sites::join(&home, "ada", created["invite"]["invite"].as_str().expect("an invite")).await;
    let path = format!("/api/admin/v1/grants/{grant}");
    work.admin().patch(&path, json!({ "expires_at": soon(3_600) })).await.expect(200);

    let before = home.admin().get(&format!("/api/admin/v1/links/{link}")).await.expect(200);
    let renewed = until("the link renewed by itself", || async {
        let now = home.admin().get(&format!("/api/admin/v1/links/{link}")).await.expect(200);
        (now["serial"] != before["serial"]).then_some(now)
    })
    .await;
    assert_eq!(renewed["state"], "active");
    assert!(renewed["not_after"].as_str() > before["not_after"].as_str());
}

/// A certificate lives a day unless its grant ends before.
#[tokio::test]
async fn no_certificate_outlasts_its_grant() {
    let work = Node::start("work").await;
    work.user("ada").await;
    let ends = mosaic::clock::SystemClock.now() + time::Duration::hours(1);
    let ends = ends.replace_nanosecond(0).expect("whole seconds");
    let text = ends.format(&time::format_description::well_known::Rfc3339).expect("a date");
    let order = json!({ "peer": "home", "user": "ada", "scope": { "resources": ["tasks"] }, "expires_at": text });
    let created = work.admin().post("/api/admin/v1/grants", order).await.expect(201);
    let asker = Asker::enroll(created["invite"]["invite"].as_str().expect("an invite")).await;
    let grant = id(&created["grant"]);
    for count in 1..=2 {
        let issued = certificates(&work, &grant).await;
        assert_eq!(issued.len(), count);
        assert!(issued.iter().all(|certificate| certificate["not_after"] == json!(text)), "{text}: {issued:?}");
        if count == 1 {
            renewed(&asker).await;
        }
    }
}

#[tokio::test]
async fn a_link_that_ended_is_replaced_by_a_new_invite_in_one_step_and_keeps_its_teams() {
    let (home, work) = futures_util::future::join(Node::start("home"), Node::start("work")).await;
    home.user("ada").await;
    home.user("bob").await;
    work.user("ada").await;
    home.team("platform", &["ada", "bob"]).await;
    let bob = home.session("bob").await;
    let ada_at_work = work.session("ada").await;
    work.import(&ada_at_work, "tasks", &sites::tasks("work", 2, "2026-03-01T12:00:00Z", None)).await;
    let scope = json!({ "resources": ["tasks"] });
    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    let add = async |invite: &str, teams: Value| {
        let order = json!({ "invite": invite, "user": "ada", "allow_private": true, "share_with": teams });
        home.admin().post("/api/admin/v1/links", order).await
    };
    let (first, invite) = sites::grant(&work, "home", "ada", scope.clone()).await;
    let link = id(&add(&invite, json!(["platform"])).await.expect(201));
    assert_eq!(items(&bob.query(query.clone()).await.expect(200)).len(), 2);

    // A link that works is never replaced by accident, and the invite is not spent on the try.
    let (second, invite) = sites::grant(&work, "home", "ada", scope.clone()).await;
    assert_eq!(add(&invite, json!([])).await.error(409).0, "conflict");
    change(&work, &first, "revoke").await;
    until("the link knows that it ended", || async {
        let answer = bob.query(query.clone()).await.json;
        (answer["_sources"]["work"]["status"] == "grant_revoked").then_some(())
    })
    .await;
    let replaced = until("the ended link is replaced", || async {
        let answer = add(&invite, json!([])).await;
        (answer.status == 201).then_some(answer.json)
    })
    .await;
    assert_ne!(id(&replaced), link);
    assert_eq!(items(&bob.query(query.clone()).await.expect(200)).len(), 2, "bob's team shares the new link");
    assert_eq!(home.admin().get(&format!("/api/admin/v1/links/{link}")).await.status, 404);

    // The same after a grant that ran out.
    let soon = mosaic::clock::SystemClock.now() + time::Duration::seconds(5);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).expect("a date");
    work.admin().patch(&format!("/api/admin/v1/grants/{second}"), json!({ "expires_at": soon })).await.expect(200);
    until("the link knows that it ran out", || async {
        let answer = bob.query(query.clone()).await.json;
        (answer["_sources"]["work"]["status"] == "grant_expired").then_some(())
    })
    .await;
    let (_, invite) = sites::grant(&work, "home", "ada", scope).await;
    until("the link is replaced again", || async { (add(&invite, json!([])).await.status == 201).then_some(()) }).await;
    assert_eq!(items(&bob.query(query).await.expect(200)).len(), 2);
}

/// A name is its issuer's word: who shares a link with a team shares it with the authority behind it, not with whoever uses its name.
#[tokio::test]
async fn an_ended_links_teams_are_not_handed_to_another_authority_of_the_same_name_unless_named_anew() {
    let (home, work) = futures_util::future::join(Node::start("home"), Node::start("work")).await;
    let other = Node::start("work").await;
    for user in ["ada", "bob"] {
        home.user(user).await;
    }
    home.team("platform", &["ada", "bob"]).await;
    let bob = home.session("bob").await;
    for (owner, prefix) in [(&work, "genuine"), (&other, "other")] {
        owner.user("ada").await;
        let ada = owner.session("ada").await;
        owner.import(&ada, "tasks", &sites::tasks(prefix, 1, "2026-03-01T12:00:00Z", None)).await;
    }
    let scope = json!({ "resources": ["tasks"] });
    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    let add = async |invite: &str, teams: Value| {
        let order = json!({ "invite": invite, "user": "ada", "allow_private": true, "share_with": teams });
        home.admin().post("/api/admin/v1/links", order).await
    };
    let (grant, invite) = sites::grant(&work, "home", "ada", scope.clone()).await;
    let link = id(&add(&invite, json!(["platform"])).await.expect(201));
    let reads = async |title: &str| {
        until("bob reads the row", || async {
            let answer = bob.query(query.clone()).await;
            (answer.status == 200).then(|| assert_eq!(sites::titles(&answer.json), [title]))
        })
        .await;
    };
    reads("genuine 0").await;
    change(&work, &grant, "revoke").await;
    until("the link knows that it ended", || async {
        let answer = bob.query(query.clone()).await.json;
        (answer["_sources"]["work"]["status"] == "grant_revoked").then_some(())
    })
    .await;
    until("it is on record that it ended", || async {
        let link = home.admin().get(&format!("/api/admin/v1/links/{link}")).await.expect(200);
        (link["state"] == "revoked").then_some(())
    })
    .await;

    let (other_grant, invite) = sites::grant(&other, "home", "ada", scope).await;
    let (code, message) = add(&invite, json!([])).await.error(409);
    assert_eq!(code, "conflict");
    assert!(message.contains("share_with") && message.contains("authority"), "{message}");
    assert_eq!(home.admin().get(&format!("/api/admin/v1/links/{link}")).await.expect(200)["state"], "revoked");
    assert!(certificates(&other, &other_grant).await.is_empty(), "the invite was not spent on the try");

    let added = add(&invite, json!(["platform"])).await.expect(201);
    assert_ne!(id(&added), link);
    reads("other 0").await;
    assert_eq!(home.admin().get(&format!("/api/admin/v1/links/{link}")).await.status, 404);
}
