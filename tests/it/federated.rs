//! Tier `federated`: a database with an extension `vector`, a real redis-server, a real step-ca, two replicas.
//!
//! pgvector itself is not everywhere where the tests run. The extension here has its name and nothing else, in a copy of the server's
//! installation: what is looked at is whether it is there, and whether it may be added.

use std::time::Instant;

use mosaic::pki::step_ca::testing::TestStepCa;
use mosaic::postgres::testing;
use mosaic::shared_limits::testing::TestRedis;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::harness::asker::Asker;
use crate::harness::node::Node;
use crate::harness::sites;
use crate::harness::step_ca::section;
use crate::harness::wait::until;

const CONTROL: &str = "comment = 'a name'\ndefault_version = '1.0'\nrelocatable = true\ntrusted = true\n";

fn probes(node: &Node) -> Vec<Value> {
    let doctor = node.cli(&["--json", "gateway", "doctor"]);
    let report: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    report["probes"].as_array().expect("probes").clone()
}

fn status(probes: &[Value], name: &str) -> String {
    let probe = probes.iter().find(|probe| probe["name"] == name).unwrap_or_else(|| panic!("no {name} in {probes:?}"));
    probe["status"].as_str().expect("a status").to_owned()
}

async fn degraded(node: &Node) -> Vec<String> {
    let readiness = node.anonymous().get("/readyz").await.expect(200);
    let parts = readiness["degraded"].as_array().expect("a list");
    parts.iter().map(|part| part["dependency"].as_str().expect("a name").to_owned()).collect()
}

/// Asks the replicas in turn; how many were let in. Whatever else happens, an answer is 200 or 429.
async fn let_in(replicas: &[Asker], times: usize) -> usize {
    let mut let_in = 0;
    for turn in 0..times {
        let answer = replicas[turn % replicas.len()].post("list/tasks", json!({})).await;
        match answer.status.as_u16() {
            200 => let_in += 1,
            429 => {
                for header in ["retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
                    assert!(answer.headers.contains_key(header), "{header}");
                }
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let_in
}

#[tokio::test]
async fn two_replicas_share_one_rate_and_count_alone_but_never_without_a_limit_while_redis_is_away() {
    let mut redis = TestRedis::start_with(&[], Some("a-very-secret-word"));
    let ca = TestStepCa::start("work");
    let mut database = testing::own_cluster_with_extension("vector", CONTROL, "CREATE DOMAIN vector AS real[];");
    database.cluster.start().expect("the cluster starts");
    let url = database.cluster.url("postgres");
    let more = format!(
        "{}\n[redis]\nurl = \"{}\"\n\n[limits]\ngrant_requests_per_second = 1\ngrant_burst = 12\nredis_answer_ms = 1000\nredis_retry_ms = 100\n",
        section(&ca),
        redis.url().expose_secret()
    );
    let one = Node::federated("work", &url, &more);
    let other = one.replica(&url, &more);
    let seen = probes(&one);
    for name in ["database", "pgvector", "rate limits", "certificate authority", "ca template"] {
        assert_eq!(status(&seen, name), "green", "{name}");
    }
    assert!(!format!("{seen:?}").contains("a-very-secret-word"));
    until("both count together", || async {
        (degraded(&one).await.is_empty() && degraded(&other).await.is_empty()).then_some(())
    })
    .await;

    one.user("ada").await;
    let (_, invite) = sites::grant(&one, "lab", "ada", json!({ "resources": ["tasks"] })).await;
    let at_one = Asker::enroll(&invite).await;
    let replicas = [at_one.at(&one.address("federation")), at_one.at(&other.address("federation"))];
    // Alone, each would let in its whole burst: 24.
    let began = Instant::now();
    let together = let_in(&replicas, 24).await;
    let refilled = usize::try_from(began.elapsed().as_secs()).expect("seconds") + 1;
    assert!((12..=12 + refilled).contains(&together), "{together} of a burst of 12 and {refilled} more");

    redis.freeze();
    let began = Instant::now();
    let alone = let_in(&replicas, 60).await;
    let refilled = usize::try_from(began.elapsed().as_secs()).expect("seconds") + 1;
    assert!(alone <= 24 + 2 * refilled && alone < 60, "{alone} let in while each counts alone");
    until("readiness tells", || async { (degraded(&one).await == ["redis"]).then_some(()) }).await;
    assert_eq!(status(&probes(&one), "rate limits"), "red");
    redis.thaw();
    until("both count together again", || async {
        (degraded(&one).await.is_empty() && degraded(&other).await.is_empty()).then_some(())
    })
    .await;

    redis.kill();
    until("both notice", || async {
        (degraded(&one).await == ["redis"] && degraded(&other).await == ["redis"]).then_some(())
    })
    .await;
    assert!(let_in(&replicas, 60).await < 60, "never without a limit");
    let metrics = one.anonymous().get("/metrics").await.text();
    assert!(metrics.contains("mosaic_shared_limits_up 0"), "{metrics}");
    assert!(metrics.contains("mosaic_limit_fallbacks_total"), "{metrics}");
    redis.run();
    until("it heals by itself", || async { degraded(&one).await.is_empty().then_some(()) }).await;
}
