//! The asking side: what one user of a node sees of other sites is nobody else's on that node.

use std::collections::HashSet;

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::api::{Answer, Api};
use crate::harness::asker::{self, Asker};
use crate::harness::node::Node;
use crate::harness::setting;
use crate::harness::sites::{self, items, titles};
use crate::harness::wait::until;

/// Users of one node; `MOSAIC_TEST_USERS` sets another number.
fn users() -> usize {
    setting("MOSAIC_TEST_USERS").map_or(100, |users| usize::try_from(users).expect("a count"))
}

/// A hundred users at once on a machine that may be busy: they wait for a connection to the database.
const PATIENT: &str = "[limits]\npool_wait_ms = 30000\ndatabase_connect_ms = 30000\n";

/// A user of `home` with a link of his own to `work`, where his subject owns rows that nobody else may see.
struct Person {
    session: Api,
    canary: String,
}

const ROWS: usize = 5;

async fn person(home: &Node, work: &Node, index: usize) -> Person {
    let name = format!("user{index}");
    let canary = format!("canary-{}", uuid::Uuid::new_v4().simple());
    work.user(&name).await;
    let at_work = work.session(&name).await;
    work.import(&at_work, "tasks", &sites::tasks(&canary, ROWS, "2026-03-01T12:00:00Z", None)).await;
    home.user(&name).await;
    let limits = json!({ "requests_per_second": 10_000, "burst": 10_000, "concurrent": 100 });
    let grant = json!({ "peer": "home", "user": name, "scope": { "resources": ["tasks"] }, "limits": limits });
    let created = work.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    sites::join(home, &name, created["invite"]["invite"].as_str().expect("an invite")).await;
    Person { session: home.session(&name).await, canary }
}

/// Everything that a session can ask about other sites: pages, streams, single rows, what fails, status.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Page(usize),
    Stream,
    Filtered,
    Missing,
    Malformed,
    Status,
}

impl Asked {
    const ALL: [Self; 8] = [
        Self::Page(1),
        Self::Page(2),
        Self::Page(3),
        Self::Stream,
        Self::Filtered,
        Self::Missing,
        Self::Malformed,
        Self::Status,
    ];

    /// The same question by everybody, so that whatever is shared by question would show.
    async fn ask(self, session: &Api) -> Answer {
        let list = |more: Value| {
            let mut query = json!({ "verb": "list", "resource": "tasks", "explain": true });
            more.as_object().into_iter().flatten().for_each(|(key, value)| query[key] = value.clone());
            query
        };
        match self {
            Self::Page(limit) => session.query(list(json!({ "limit": limit }))).await,
            Self::Stream => session.stream(list(json!({}))).await,
            Self::Filtered => session.query(list(json!({ "where": { "status": "open" } }))).await,
            Self::Missing => {
                let id = uuid::Uuid::nil();
                session.query(json!({ "verb": "get", "resource": "tasks", "id": id, "source": "federated:work" })).await
            }
            Self::Malformed => session.query(list(json!({ "where": { "title": { "like": "canary" } } }))).await,
            Self::Status => session.get("/api/v1/status").await,
        }
    }
}

#[tokio::test]
async fn users_of_one_node_never_see_each_others_rows_cursors_or_status() {
    let start = |site| Node::start_with(site, PATIENT);
    let (home, work) = futures_util::future::join(start("home"), start("work")).await;
    let people: Vec<Person> =
        futures_util::stream::iter(0..users()).map(|index| person(&home, &work, index)).buffered(4).collect().await;
    let mut order: Vec<(usize, Asked)> =
        (0..people.len()).flat_map(|index| Asked::ALL.map(|asked| (index, asked))).collect();
    shuffle(&mut order);
    let answers: Vec<(usize, Asked, Answer)> = futures_util::stream::iter(order)
        .map(|(index, asked)| {
            let people = &people;
            async move { (index, asked, asked.ask(&people[index].session).await) }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let mut pages = Vec::new();
    for (index, asked, answer) in answers {
        let text = answer.text();
        // Whatever it is, an error or a stream: of all canaries it holds the user's own alone.
        let foreign = text.match_indices("canary-").filter(|(at, _)| !text[*at..].starts_with(&people[index].canary));
        assert_eq!(foreign.count(), 0, "user{index}, {asked:?}: {text}");
        match asked {
            Asked::Page(_) | Asked::Filtered => pages.push((index, answer.expect(200))),
            Asked::Malformed => drop(answer.error(400)),
            Asked::Status => assert_eq!(answer.expect(200)["links"].as_array().map(Vec::len), Some(1), "user{index}"),
            Asked::Stream | Asked::Missing => {}
        }
    }
    let mut cursors = HashSet::new();
    for (index, page) in &pages {
        let canary = &people[*index].canary;
        assert!(titles(page).iter().all(|title| title.starts_with(canary)), "user{index}: {page}");
        // On a busy machine the peer may come too late; that is said, and holds for this user alone.
        if page["_partial"] == false {
            assert!(!titles(page).is_empty(), "user{index}: {page}");
            cursors.extend(page["next_cursor"].as_str().map(|cursor| (*index, cursor.to_owned())));
        }
    }
    assert!(cursors.len() > people.len(), "only {} of {} were answered in whole", cursors.len(), pages.len());
    for (index, cursor) in cursors.into_iter().take(60) {
        let thief = &people[(index + 1) % people.len()];
        let query = json!({ "verb": "list", "resource": "tasks", "limit": 5, "cursor": cursor });
        assert_eq!(thief.session.query(query.clone()).await.error(400).0, "invalid_request");
        let own = people[index].session.query(query).await.expect(200);
        assert!(titles(&own).iter().all(|title| title.starts_with(&people[index].canary)), "{own}");
    }
    work_stops_and_each_is_told_for_himself(people, work).await;
}

async fn work_stops_and_each_is_told_for_himself(people: Vec<Person>, mut work: Node) {
    let query = json!({ "verb": "list", "resource": "tasks" });
    for person in &people[..2] {
        until("an answer of both sites", || async {
            (person.session.query(query.clone()).await.json["_partial"] == false).then_some(())
        })
        .await;
    }
    let status = |person: &Person| {
        let session = person.session.clone();
        async move { session.get("/api/v1/status").await.expect(200) }
    };
    let before = status(&people[1]).await;
    work.kill();
    let notice = json!([{ "code": "federation_offline", "peer": "work" }]);
    assert_eq!(people[0].session.query(query.clone()).await.expect(200)["_notices"], notice);
    let mine = status(&people[0]).await;
    assert!(mine["links"][0]["last_failure"].is_object(), "{mine}");
    let after = status(&people[1]).await;
    assert_eq!(after["links"].as_array().map(Vec::len), Some(1), "{after}");
    assert_eq!(after["links"][0]["last_failure"], before["links"][0]["last_failure"], "another user's failure");
    assert_eq!(people[1].session.query(query).await.expect(200)["_notices"], notice, "each is told himself");
    for answer in join_all(people.iter().map(status)).await {
        assert!(people.iter().all(|person| !answer.to_string().contains(&person.canary)), "{answer}");
    }
}

fn shuffle<T>(order: &mut [T]) {
    for at in (1..order.len()).rev() {
        let bytes: [u8; 8] = uuid::Uuid::new_v4().as_bytes()[..8].try_into().expect("eight bytes");
        let other = usize::try_from(u64::from_ne_bytes(bytes) % (at as u64 + 1)).expect("an index");
        order.swap(at, other);
    }
}

#[tokio::test]
async fn a_link_is_its_owners_and_of_the_members_of_the_teams_it_is_shared_with() {
    let (home, work) = futures_util::future::join(Node::start("home"), Node::start("work")).await;
    for name in ["ada", "bob", "eve"] {
        home.user(name).await;
    }
    work.user("ada").await;
    let at_work = work.session("ada").await;
    work.import(&at_work, "tasks", &sites::tasks("secret", 3, "2026-03-01T12:00:00Z", None)).await;
    let team = home.team("crew", &["ada", "bob"]).await;
    let (_, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let link = json!({ "invite": invite, "user": "ada", "allow_private": true, "share_with": [team] });
    let link = crate::harness::node::id(&home.admin().post("/api/admin/v1/links", link).await.expect(201));
    let (ada, bob, eve) = (home.session("ada").await, home.session("bob").await, home.session("eve").await);
    let all = json!({ "verb": "list", "resource": "tasks" });
    let of_work = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });

    for member in [&ada, &bob] {
        assert_eq!(titles(&member.query(all.clone()).await.expect(200)).len(), 3);
    }
    let nothing = eve.query(all.clone()).await.expect(200);
    assert_eq!((titles(&nothing), nothing["_sources"].get("work")), (Vec::new(), None));
    assert_eq!(eve.query(of_work.clone()).await.error(400).0, "unknown_source");
    let never = json!({ "verb": "list", "resource": "tasks", "source": "federated:never" });
    let (unknown, foreign) = (eve.query(never).await.error(400).1, eve.query(of_work.clone()).await.error(400).1);
    assert_eq!(unknown.replace("never", "work"), foreign, "another user's link is as unknown as one that is not");
    assert_eq!(eve.get("/api/v1/status").await.expect(200)["links"], json!([]));
    let explained = eve.query(json!({ "verb": "list", "resource": "tasks", "explain": true })).await.expect(200);
    assert!(!explained.to_string().contains("work"), "{explained}");

    // Leaving the team takes the link away with the next question, on the other replica too, and with a cursor of before; joining
    // gives it.
    let replica = home.replica(home.database().url(), "");
    let bob_at_replica = replica.with_token(bob.token());
    let page = bob.query(json!({ "verb": "list", "resource": "tasks", "limit": 1 })).await.expect(200);
    let next = json!({ "verb": "list", "resource": "tasks", "limit": 5, "cursor": page["next_cursor"] });
    assert_eq!(titles(&bob.query(next.clone()).await.expect(200)).len(), 2, "it goes on while he is a member");
    home.admin().delete(&format!("/api/admin/v1/teams/{team}/members/bob")).await;
    for bob in [&bob, &bob_at_replica] {
        assert_eq!(bob.query(of_work.clone()).await.error(400).0, "unknown_source");
        let rest = bob.query(next.clone()).await;
        assert!(!rest.text().contains("secret"), "{}", rest.text());
        let none = bob.query(all.clone()).await.expect(200);
        assert_eq!((titles(&none), none["_sources"].get("work")), (Vec::new(), None), "{none}");
    }
    assert_eq!(bob.get("/api/v1/status").await.expect(200)["links"], json!([]));
    home.join(&team, "eve").await;
    until("eve has the link", || async {
        (titles(&eve.query(all.clone()).await.expect(200)).len() == 3).then_some(())
    })
    .await;
    // No session of a user can touch links at all.
    assert_eq!(eve.get("/api/admin/v1/links").await.error(401).0, "unauthorized");
    assert_eq!(eve.delete(&format!("/api/admin/v1/links/{link}")).await.error(401).0, "unauthorized");
}

/// What a site reads of others is its users' alone: a peer that asks as one of them gets the site's own rows, and nobody else is asked.
#[tokio::test]
async fn a_peers_question_is_answered_from_this_sites_rows_and_passed_on_to_nobody() {
    let (work, lab) = futures_util::future::join(Node::start("work"), Node::start("lab")).await;
    for (node, prefix) in [(&work, "of work"), (&lab, "of lab")] {
        node.user("ada").await;
        let ada = node.session("ada").await;
        node.import(&ada, "tasks", &sites::tasks(prefix, 1, "2026-03-01T12:00:00Z", None)).await;
    }
    let (_, invite) = sites::grant(&lab, "work", "ada", json!({ "resources": ["tasks"] })).await;
    sites::join(&work, "ada", &invite).await;
    let (_, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let asker = Asker::enroll(&invite).await;

    let ada = work.session("ada").await;
    let own = until("ada herself reads both", || async {
        let own = ada.query(json!({ "verb": "list", "resource": "tasks" })).await.json;
        (titles(&own).len() == 2).then_some(own)
    })
    .await;
    let asked_of_lab = async || {
        let log = lab.admin().get("/api/admin/v1/audit?limit=500").await.expect(200);
        items(&log).iter().filter(|event| event["action"] == "list" || event["action"] == "get").count()
    };
    let before = asked_of_lab().await;
    assert!(before >= 1, "her own question");

    let answer = asker.post("list/tasks", json!({})).await.expect(200);
    assert_eq!(titles(&answer), ["of work 0"]);
    let of_lab = items(&own).into_iter().find(|row| row["_source"] == "lab").expect("the row of lab");
    let get = format!("get/tasks/{}", of_lab["id"].as_str().expect("an id"));
    assert_eq!(asker.post(&get, json!({})).await.error(404).0, "not_found");
    for body in [json!({ "source": "all" }), json!({ "source": "federated:lab" }), json!({ "require": ["lab"] })] {
        assert_eq!(asker.post("list/tasks", body).await.error(400).0, "invalid_request");
    }
    assert_eq!(asked_of_lab().await, before, "nobody asked lab for the peer");
}

#[tokio::test]
async fn a_disabled_users_link_and_session_end_with_the_next_question() {
    let sites = sites::joined().await;
    sites.work.import(&sites.ada_at_work, "tasks", &sites::tasks("work", 1, "2026-03-01T12:00:00Z", None)).await;
    let query = json!({ "verb": "list", "resource": "tasks" });
    assert_eq!(titles(&sites.ada_at_home.query(query.clone()).await.expect(200)), ["work 0"]);
    sites.home.admin().patch("/api/admin/v1/users/ada", json!({ "active": false })).await.expect(200);
    assert_eq!(sites.ada_at_home.query(query).await.error(401).0, "unauthorized");
    assert!(!sites.grant.is_empty() && !sites.link.is_empty());
}

/// An invite that was written by somebody who wants this node to talk to its own machine.
fn forged(invite: &Value, enroll_url: &str, federation_url: &str) -> String {
    let mut forged = invite.clone();
    forged["enroll_url"] = json!(enroll_url);
    forged["federation_url"] = json!(federation_url);
    let json = forged.to_string();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, json);
    format!("mosaic-invite:{encoded}")
}

#[tokio::test]
async fn an_invite_cannot_make_a_node_dial_its_own_machine() {
    let (home, work) = futures_util::future::join(Node::start("home"), Node::start("work")).await;
    home.user("ada").await;
    work.user("ada").await;
    let (_, invite) = sites::grant(&work, "home", "ada", json!({ "resources": ["tasks"] })).await;
    let invite = asker::open_invite(&invite);
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a trap");
    trap.set_nonblocking(true).expect("non-blocking");
    let port = trap.local_addr().expect("an address").port();
    let honest = "https://work.example:8643";
    for host in ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let enroll = format!("https://{host}:{port}");
        let link = json!({ "invite": forged(&invite, &enroll, honest), "user": "ada" });
        let refused = home.admin().post("/api/admin/v1/links", link).await;
        assert!(refused.status.is_client_error() || refused.status == 503, "{host}: {}", refused.text());
        assert_eq!(
            trap.accept().map(drop).map_err(|error| error.kind()),
            Err(std::io::ErrorKind::WouldBlock),
            "{host}"
        );
    }
    for enroll in
        ["https://169.254.169.254", "https://[fe80::1]:8644", "https://100.100.100.200", "https://[fd00:ec2::254]"]
    {
        let link = json!({ "invite": forged(&invite, enroll, honest), "user": "ada" });
        let refused = home.admin().post("/api/admin/v1/links", link).await;
        assert!(!refused.status.is_success(), "{enroll}");
        assert!(refused.text().contains("allow_private"), "{enroll}: {}", refused.text());
    }
    for enroll in
        ["http://work.example:8644", "https://ada@work.example", "https://work.example/path", "file:///etc/passwd"]
    {
        let link = json!({ "invite": forged(&invite, enroll, honest), "user": "ada", "allow_private": true });
        assert_eq!(home.admin().post("/api/admin/v1/links", link).await.error(400).0, "invalid_request", "{enroll}");
    }
    assert_eq!(home.admin().get("/api/admin/v1/links").await.expect(200)["items"], json!([]));
}

/// The link's own address is looked at with every connection, not only when it is made.
#[tokio::test]
async fn a_link_without_allow_private_does_not_dial_loopback() {
    let sites = sites::joined().await;
    let query = json!({ "verb": "list", "resource": "tasks", "source": "federated:work" });
    sites.ada_at_home.query(query.clone()).await.expect(200);
    let database = sites.home.database().connect().await;
    database.execute("UPDATE links SET allow_private = false", &[]).await.expect("changed");
    until("the address is refused", || async {
        let answer = sites.ada_at_home.query(query.clone()).await;
        (answer.json["_sources"]["work"]["status"] == "unreachable").then_some(())
    })
    .await;
}
