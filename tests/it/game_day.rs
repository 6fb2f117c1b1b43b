//! Faults that an admin injects into a link: off unless allowed, exact, visible, over by themselves.

use serde_json::{Value, json};

use crate::harness::node::Node;
use crate::harness::sites::{self, titles};
use crate::harness::wait::until;

const ALLOWED: &str = "federation.fault_injection = true\n[limits]\nbreaker_failures = 100\nbreaker_calls = 1000\n\
                       peer_first_byte_ms = 4000\npeer_idle_ms = 3000\npeer_budget_ms = 20000\n";

#[tokio::test]
async fn no_fault_is_injected_where_the_configuration_does_not_say_so() {
    let sites = sites::joined().await;
    let path = format!("/api/admin/v1/links/{}/faults", sites.link);
    let refused = sites.home.admin().post(&path, json!({ "fault": "reset", "for_s": 60 })).await.expect(409);
    assert!(refused["error"]["message"].as_str().expect("a text").contains("federation.fault_injection"), "{refused}");
    assert_eq!(sites.ada_at_home.post(&path, json!({ "fault": "reset", "for_s": 60 })).await.status, 401);
    let status = sites.ada_at_home.get("/api/v1/status").await.expect(200);
    assert_eq!(status["links"][0]["injected"], Value::Null, "{status}");
}

#[tokio::test]
async fn an_injected_fault_is_what_the_session_sees_until_it_is_cleared_or_over() {
    let (home, work) = futures_util::future::join(Node::start_with("home", ALLOWED), Node::start("work")).await;
    home.user("ada").await;
    work.user("ada").await;
    let (ada, at_work) = (home.session("ada").await, work.session("ada").await);
    home.import(&ada, "tasks", &sites::tasks("home", 1, "2026-03-01T12:00:00Z", None)).await;
    work.import(&at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T11:00:00Z", None)).await;
    let (_, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let link = sites::join(&home, "ada", &invite).await;
    let path = format!("/api/admin/v1/links/{link}/faults");
    let list =
        || async { ada.query(json!({ "verb": "list", "resource": "tasks", "deadline_ms": 20_000 })).await.expect(200) };
    let whole = || async {
        until("both sites answer", || async { (titles(&list().await) == ["home 0", "work 0"]).then_some(()) }).await;
    };
    whole().await;

    for (fault, status, code, stage) in [
        (json!({ "fault": "delay", "delay_ms": 60_000 }), "timed_out", "peer_timeout", "first_byte"),
        (json!({ "fault": "stall" }), "timed_out", "peer_timeout", "body"),
        (json!({ "fault": "stall", "after_bytes": 10 }), "timed_out", "peer_timeout", "body"),
        (json!({ "fault": "error" }), "error", "unavailable", "first_byte"),
        (json!({ "fault": "reset" }), "unreachable", "peer_unreachable", "first_byte"),
    ] {
        let mut body = fault.clone();
        body["for_s"] = json!(600);
        let told = home.admin().post(&path, body).await.expect(200);
        assert_eq!(told["injected"]["fault"], fault["fault"], "{told}");
        let answer = list().await;
        assert_eq!(titles(&answer), ["home 0"], "{fault}: {answer}");
        let source = &answer["_sources"]["work"];
        assert_eq!(
            (&source["status"], &source["error"]["code"], &source["error"]["stage"]),
            (&json!(status), &json!(code), &json!(stage)),
            "{fault}"
        );
        let seen = ada.get("/api/v1/status").await.expect(200);
        assert_eq!(seen["links"][0]["injected"]["fault"], fault["fault"], "{seen}");
        let cleared = home.admin().delete(&path).await.expect(200);
        assert_eq!(cleared["injected"], Value::Null);
        whole().await;
    }

    // A delay that a question can afford is one that it waits for; what an answer has before the stall is enough for a short one.
    for fault in [
        json!({ "fault": "delay", "delay_ms": 300, "for_s": 600 }),
        json!({ "fault": "stall", "after_bytes": 1_000_000, "for_s": 600 }),
    ] {
        home.admin().post(&path, fault.clone()).await.expect(200);
        let answer = list().await;
        assert_eq!(titles(&answer), ["home 0", "work 0"], "{fault}: {answer}");
        assert!(fault["fault"] != "delay" || answer["_sources"]["work"]["took_ms"].as_u64() >= Some(300), "{answer}");
    }

    // By the command line, and over by itself.
    let cli = home.cli(&["--api", &home.api_url(), "federation", "peer", "fault", "work", "reset", "--for", "1"]);
    let said = String::from_utf8_lossy(&cli.stdout).into_owned();
    assert!(
        cli.status.success() && said.contains("reset injected until"),
        "{said}{}",
        String::from_utf8_lossy(&cli.stderr)
    );
    whole().await;
    assert_eq!(ada.get("/api/v1/status").await.expect(200)["links"][0]["injected"], Value::Null);
    assert!(home.log().contains("a fault is injected into the link"), "the log tells it");

    for (body, names) in [
        (json!({ "fault": "delay", "for_s": 1 }), "delay_ms"),
        (json!({ "fault": "reset", "for_s": 0 }), "for_s"),
        (json!({ "fault": "reset", "for_s": 100_000 }), "for_s"),
        (json!({ "fault": "reset", "for_s": 1, "delay_ms": 5 }), "delay_ms"),
        (json!({ "fault": "explode", "for_s": 1 }), "fault"),
    ] {
        let refused = home.admin().post(&path, body.clone()).await.expect(400);
        assert!(refused["error"]["message"].as_str().expect("a text").contains(names), "{body}: {refused}");
    }
    home.admin()
        .post(&format!("/api/admin/v1/links/{}/faults", uuid::Uuid::new_v4()), json!({ "fault": "reset", "for_s": 1 }))
        .await
        .expect(404);
}
