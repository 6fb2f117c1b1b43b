//! The main job: two sites, one answer.

use serde_json::json;

use crate::harness::sites::{self, items, titles};

#[tokio::test]
async fn one_query_blends_the_rows_of_both_sites_in_one_order() {
    let sites = sites::joined().await;
    sites.home.import(&sites.ada_at_home, "tasks", &sites::tasks("home", 3, "2026-03-01T12:00:00Z", None)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 3, "2026-03-01T12:00:30Z", None)).await;

    let answer =
        sites.ada_at_home.query(json!({ "verb": "list", "resource": "tasks", "source": "all" })).await.expect(200);

    assert_eq!(titles(&answer), ["work 0", "home 0", "work 1", "home 1", "work 2", "home 2"]);
    let sources: Vec<_> =
        items(&answer).iter().map(|row| row["_source"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(sources, ["work", "local", "work", "local", "work", "local"]);
    assert_eq!(answer["_sources"]["local"]["status"], "ok");
    assert_eq!(answer["_sources"]["work"]["status"], "ok");
    assert_eq!(answer["_sources"]["work"]["rows"], 3);
    assert_eq!((answer["_partial"].clone(), answer["_truncated"].clone()), (json!(false), json!(false)));
    assert!(answer["next_cursor"].is_null(), "{answer}");
}
