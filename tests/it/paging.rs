//! One cursor over several sources: no row twice, none lost, whatever happens between two pages.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::hostile::{Door, Hostile, Play};
use crate::harness::sites::{self, Sites, items};
use crate::harness::wait::until;

/// Everything that was given out, page by page.
#[derive(Default)]
struct Given {
    ids: BTreeSet<(String, String)>,
    titles: BTreeMap<String, Vec<String>>,
    last: BTreeMap<String, String>,
}

impl Given {
    fn take(&mut self, page: &Value) {
        let mut earlier: Option<String> = None;
        for item in items(page) {
            let text = |key: &str| item[key].as_str().unwrap_or_else(|| panic!("no {key} in {item}")).to_owned();
            let (source, at) = (text("_source"), text("created_at"));
            assert!(self.ids.insert((source.clone(), text("id"))), "given out twice: {item}");
            assert!(earlier.as_ref().is_none_or(|earlier| *earlier >= at), "a page is newest first: {page}");
            let before = self.last.insert(source.clone(), at.clone());
            assert!(before.is_none_or(|before| before >= at), "each source goes on where it was: {item}");
            self.titles.entry(source).or_default().push(text("title"));
            earlier = Some(at);
        }
    }
}

/// Rows that take turns with those of other sources, three of a kind at the same time.
fn rows(prefix: &str, count: usize, second: u32) -> Vec<Value> {
    (0..count)
        .map(|index| {
            let minute = 59 - index / 3;
            json!({ "title": format!("{prefix} {index}"), "created_at": format!("2026-03-01T12:{minute:02}:{second:02}Z") })
        })
        .collect()
}

fn one(title: &str, at: &str) -> [Value; 1] {
    [json!({ "title": title, "created_at": at })]
}

fn named(prefix: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|index| format!("{prefix} {index}")).collect()
}

/// The rows of the peer that the harness plays, as an owner writes them.
fn cold_rows() -> Vec<Value> {
    let row = |index: usize| {
        json!({ "id": format!("cold-{index:03}"), "created_at": format!("2026-03-01T12:{:02}:30.000000Z", 59 - index),
                "owner_id": uuid::Uuid::nil(), "team_id": null, "title": format!("cold {index}"), "_source": "local" })
    };
    (0..14).map(row).collect()
}

async fn stage() -> (Sites, Hostile) {
    let more = "[limits]\nbreaker_failures = 100\nbreaker_calls = 1000\n";
    let scope = json!({ "resources": ["tasks"], "max_rows_per_query": 7 });
    let sites = sites::joined_as(scope, more).await;
    let cold = Hostile::start("cold").await;
    cold.play(Play::honest(cold_rows()));
    sites::join(&sites.home, "ada", &cold.invite()).await;
    sites.home.import(&sites.ada_at_home, "tasks", &rows("home", 31, 0)).await;
    sites.work.import(&sites.ada_at_work, "tasks", &rows("work", 37, 0)).await;
    (sites, cold)
}

/// The statuses of the two peers in an answer.
fn peers(page: &Value) -> (&str, &str) {
    let status = |name: &str| page["_sources"][name]["status"].as_str().unwrap_or_default();
    (status("work"), status("cold"))
}

#[tokio::test]
async fn paging_loses_no_row_and_repeats_none_while_peers_vanish_and_rows_come_in() {
    let (sites, cold) = stage().await;
    let (home, work) = (&sites.home, &sites.work);
    let grant = format!("/api/admin/v1/grants/{}", sites.grant);
    let mut given = Given::default();
    let mut cursor = Value::Null;
    let mut pages = 0;
    loop {
        let deadline_ms = if pages == 3 { 1_000 } else { 10_000 };
        let query =
            json!({ "verb": "list", "resource": "tasks", "limit": 6, "cursor": cursor, "deadline_ms": deadline_ms });
        let page = sites.ada_at_home.query(query).await.expect(200);
        given.take(&page);
        let missing = match pages {
            3 => ("timed_out", true),
            5 => ("unreachable", false),
            9 => ("grant_suspended", true),
            _ => ("", false),
        };
        match missing {
            (status, true) => assert_eq!(peers(&page).0, status, "page {pages}: {page}"),
            ("", false) => assert_eq!(page["_partial"], false, "page {pages}: {page}"),
            (status, false) => assert_eq!(peers(&page).1, status, "page {pages}: {page}"),
        }
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = json!(next);
        // What happens before page `pages`, counted from 0.
        match pages {
            1 => {
                // In front of what was given out, more than a page of the peer: none of it belongs to this listing.
                home.import(&sites.ada_at_home, "tasks", &sites::tasks("new", 3, "2026-04-01T00:00:00Z", None)).await;
                work.import(&sites.ada_at_work, "tasks", &sites::tasks("new", 9, "2026-04-01T00:00:00Z", None)).await;
            }
            2 => {
                // Behind it: these do.
                home.import(&sites.ada_at_home, "tasks", &one("late home", "2026-01-01T00:00:00Z")).await;
                work.import(&sites.ada_at_work, "tasks", &one("late work", "2026-01-01T00:00:00Z")).await;
            }
            3 => work.freeze(),
            4 => work.thaw(),
            5 => cold.play(Play::honest(cold_rows()).behind(Door::Refuse)),
            6 => cold.play(Play::honest(cold_rows())),
            7 => {
                let narrower = json!({ "scope": { "resources": ["tasks"], "max_rows_per_query": 3 } });
                work.admin().patch(&grant, narrower).await.expect(200);
            }
            9 => drop(work.admin().post(&format!("{grant}/suspend"), json!({})).await.expect(200)),
            10 => {
                work.admin().post(&format!("{grant}/resume"), json!({})).await.expect(200);
                let reset = format!("/api/admin/v1/links/{}/reset-breaker", sites.link);
                home.admin().post(&reset, json!({})).await;
                until("the link is active again", || async {
                    let status = sites.ada_at_home.get("/api/v1/status").await.expect(200);
                    let links = status["links"].as_array().expect("links");
                    links.iter().any(|link| link["peer"] == "work" && link["state"] == "active").then_some(())
                })
                .await;
            }
            _ => assert!(pages < 100, "the listing does not end"),
        }
    }
    assert!(pages > 12, "every event lay between two pages: {pages}");
    let found = |source: &str| given.titles[source].iter().cloned().collect::<BTreeSet<_>>();
    let with = |mut titles: BTreeSet<String>, late: &str| {
        titles.insert(late.to_owned());
        titles
    };
    assert_eq!(found("local"), with(named("home", 31), "late home"));
    assert_eq!(found("work"), with(named("work", 37), "late work"));
    assert_eq!(found("cold"), named("cold", 14));
}

/// The cursor is one user's, of one question, and of these sources.
#[tokio::test]
async fn a_cursor_opens_nothing_but_the_question_it_came_from() {
    let (sites, _cold) = stage().await;
    sites.home.user("bob").await;
    let bob = sites.home.session("bob").await;
    let list = json!({ "verb": "list", "resource": "tasks", "limit": 6 });
    let first = sites.ada_at_home.query(list.clone()).await.expect(200);
    let cursor = first["next_cursor"].as_str().expect("more rows").to_owned();
    let with = |changes: Value| {
        let mut query = list.clone();
        query["cursor"] = json!(cursor);
        for (key, value) in changes.as_object().expect("an object") {
            query[key] = value.clone();
        }
        query
    };
    sites.ada_at_home.query(with(json!({}))).await.expect(200);
    sites.ada_at_home.query(with(json!({ "limit": 9 }))).await.expect(200);
    let mut altered = cursor.clone().into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("ASCII");
    for changes in [
        json!({ "resource": "notes" }),
        json!({ "where": { "status": "open" } }),
        json!({ "source": "local" }),
        json!({ "source": "federated:work" }),
        json!({ "cursor": altered }),
        json!({ "cursor": cursor[..cursor.len() - 4] }),
        json!({ "cursor": "" }),
    ] {
        let refused = sites.ada_at_home.query(with(changes.clone())).await;
        assert_eq!(refused.status, 400, "{changes}: {}", refused.text());
        assert_eq!(refused.error(400).0, "invalid_request", "{changes}");
    }
    assert_eq!(bob.query(with(json!({}))).await.error(400).0, "invalid_request");
}
