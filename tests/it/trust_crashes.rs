//! A node that dies between two steps of an enrolment or a renewal (it kills itself with SIGKILL, see ADR 19): what is found after
//! the restart is a grant with its certificate, or one that a new invite enrols; and a token is spent, here and on every replica.

use serde_json::{Value, json};

use crate::harness::asker::{self, Asker};
use crate::harness::node::Node;
use crate::harness::sites::{self, items};
use crate::harness::wait::until;

/// Failures are not what is tested here.
const MANY_FAILURES: &str = "[limits]\nenroll_failures_per_minute = 1000\n";

/// A link that lost its owner asks again soon.
const QUICK_TO_PROBE: &str = "[limits]\nbreaker_open_s = 1\nbreaker_open_max_s = 1\n";

async fn grant(node: &Node, grant: &str) -> (String, usize) {
    let grant = node.admin().get(&format!("/api/admin/v1/grants/{grant}")).await.expect(200);
    let certificates = grant["certificates"].as_array().map_or(0, Vec::len);
    (grant["status"].as_str().expect("a status").to_owned(), certificates)
}

/// Redeems an invite at a node that may die meanwhile.
async fn try_to_redeem(node: &Node, invite: &str) -> Option<u16> {
    let token = asker::open_invite(invite)["token"].as_str().expect("a token").to_owned();
    let url = format!("https://{}", node.address("enrollment"));
    asker::try_to_enroll(&url, &token, &asker::new_csr().1).await.map(|answer| answer.status.as_u16())
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_an_enrolment_leaves_a_grant_with_its_certificate_or_one_to_invite_to_again() {
    let mut node = Node::start_with("work", MANY_FAILURES).await;
    let replica = node.replica(node.database().url(), MANY_FAILURES);
    node.user("ada").await;
    let points = mosaic::crash_points::POINTS.iter().filter(|point| point.starts_with("enrolment."));
    for point in points {
        node.stop();
        node.serve_with(&["--set", &format!("test.crash_at={point}")]);
        let (id, invite) = sites::grant(&node, "home", "ada", json!({ "resources": ["tasks"] })).await;
        assert_eq!(try_to_redeem(&node, &invite).await, None, "{point}: no answer leaves a node that died");
        node.crashes().await;
        node.serve();

        let expected = if *point == "enrolment.recorded" { ("active", 1) } else { ("pending", 0) };
        let (status, certificates) = grant(&node, &id).await;
        assert_eq!((status.as_str(), certificates), expected, "{point}");
        for (node, what) in [(&node, "after the restart"), (&replica, "on another replica")] {
            assert_eq!(try_to_redeem(node, &invite).await, Some(410), "{point}: the token is spent {what}");
        }
        let again = replica.admin().post(&format!("/api/admin/v1/grants/{id}/invite"), json!({})).await;
        if expected.0 == "active" {
            // Its holder never got the certificate. The grant is not given away twice: it is revoked and made anew.
            assert_eq!(again.error(409).0, "conflict", "{point}");
            continue;
        }
        let invite = again.expect(201)["invite"].as_str().expect("an invite").to_owned();
        let asker = Asker::enroll(&invite).await;
        asker.post("list/tasks", json!({})).await.expect(200);
        assert_eq!(grant(&replica, &id).await, ("active".to_owned(), 1), "{point}");
    }
    let log = node.admin().get("/api/admin/v1/audit?action=enroll&outcome=allowed&limit=500").await.expect(200);
    let enrolled = mosaic::crash_points::POINTS.iter().filter(|point| point.starts_with("enrolment.")).count();
    assert_eq!(items(&log).len(), enrolled, "an enrolment and its event are one: {log}");
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_renewal_leaves_a_link_that_works_and_renews() {
    let mut sites = sites::joined_as(json!({ "resources": ["tasks"] }), QUICK_TO_PROBE).await;
    sites.ada_at_work.post("/api/v1/data/tasks", json!({ "title": "a row" })).await.expect(201);
    for (point, at_owner) in
        [("renewal.read", true), ("renewal.issued", true), ("renewal.recorded", true), ("renewal.received", false)]
    {
        // The link has the address of the owner's listener: it must come back where it was.
        let listen = |node: &Node| format!("federation.listen={}", node.address("federation"));
        let (work, home) = (listen(&sites.work), listen(&sites.home));
        let crash = format!("test.crash_at={point}");
        let before = serial(&sites.home, &sites.link).await;
        if at_owner {
            sites.work.stop();
            sites.work.serve_with(&["--set", &work, "--set", &crash]);
        } else {
            sites.home.stop();
            sites.home.serve_with(&["--set", &home, "--set", &crash]);
        }
        let renew = format!("/api/admin/v1/links/{}/renew", sites.link);
        let admin = sites.home.admin();
        let dies = async { if at_owner { sites.work.crashes().await } else { sites.home.crashes().await } };
        futures_util::future::join(dies, admin.try_post(&renew, json!({}))).await;
        if at_owner {
            sites.work.serve_with(&["--set", &work]);
        } else {
            sites.home.serve_with(&["--set", &home]);
        }
        assert_eq!(serial(&sites.home, &sites.link).await, before, "{point}: nothing was stored");
        let ada = sites.home.session("ada").await;
        until("the link works with the certificate that it has", || async {
            let answer = ada.query(json!({ "verb": "list", "resource": "tasks" })).await;
            (answer.json["_sources"]["work"]["rows"] == 1).then_some(())
        })
        .await;
        until("the link renews", || async {
            let renewed = sites.home.admin().post(&renew, json!({})).await;
            renewed.status.is_success().then_some(())
        })
        .await;
        assert_ne!(serial(&sites.home, &sites.link).await, before, "{point}");
        let answer = ada.query(json!({ "verb": "list", "resource": "tasks", "require": ["work"] })).await.expect(200);
        assert_eq!(answer["_sources"]["work"]["rows"], 1, "{point}: {answer}");
    }
}

async fn serial(home: &Node, link: &str) -> Value {
    home.admin().get(&format!("/api/admin/v1/links/{link}")).await.expect(200)["serial"].clone()
}
