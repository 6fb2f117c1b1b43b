//! Rights end to end: random users, teams, rows, scopes, filters, limits and cursors, asked through the real listener with a real
//! certificate, against an oracle that reads like the rule: scope ∩ what the subject may see ∩ the catalog.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::harness::asker::Asker;
use crate::harness::node::Node;
use crate::harness::setting;
use crate::harness::sites::items;

/// Questions; `MOSAIC_TEST_RIGHTS` sets another number, `MOSAIC_TEST_SEED` repeats a run.
const CASES: usize = 400;
const CASES_PER_WORLD: usize = 40;
const TEAMS: usize = 4;
const USERS: usize = 4;
const STATUS: [&str; 4] = ["open", "in_progress", "blocked", "done"];

/// SplitMix64: repeatable, and nothing hangs on its quality.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("small")
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn some_of<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().filter(|_| self.one_in(2)).cloned().collect()
    }
}

#[derive(Debug, Clone)]
struct Row {
    id: String,
    owner: String,
    team: Option<String>,
    status: &'static str,
    priority: i64,
    /// Seconds into the day; several rows share one.
    second: i64,
}

/// A subject in its surroundings, and the grant on it.
struct World {
    subject: String,
    teams_of_subject: HashSet<String>,
    rows: Vec<Row>,
    asker: Asker,
    grant: String,
    teams: Vec<String>,
    users: Vec<String>,
}

/// What a grant shows of `tasks`.
#[derive(Debug, Clone)]
struct Scope {
    covers_tasks: bool,
    /// `(include_teams, include_personal)`, when there is a filter.
    filter: Option<(Option<Vec<String>>, Option<bool>)>,
    max_rows: usize,
}

impl Scope {
    fn random(chance: &mut Chance, teams: &[String]) -> Self {
        let filter = (!chance.one_in(3)).then(|| {
            let included = (!chance.one_in(3)).then(|| chance.some_of(teams));
            (included, (!chance.one_in(3)).then(|| chance.one_in(2)))
        });
        Self { covers_tasks: !chance.one_in(8), filter, max_rows: 1 + chance.below(12) }
    }

    fn document(&self) -> Value {
        let mut filters = Map::new();
        if let Some((included, personal)) = &self.filter {
            let mut filter = Map::new();
            included.iter().for_each(|teams| _ = filter.insert("include_teams".to_owned(), json!(teams)));
            personal.iter().for_each(|personal| _ = filter.insert("include_personal".to_owned(), json!(personal)));
            if self.covers_tasks {
                filters.insert("tasks".to_owned(), Value::Object(filter));
            }
        }
        let resource = if self.covers_tasks { "tasks" } else { "notes" };
        json!({ "resources": [resource], "filters": filters, "max_rows_per_query": self.max_rows })
    }
}

/// The rule, as a person would say it.
fn may_read(world: &World, scope: &Scope, row: &Row) -> bool {
    let own = row.owner == world.subject;
    let of_own_team = row.team.as_ref().is_some_and(|team| world.teams_of_subject.contains(team));
    if !(own || of_own_team) {
        return false;
    }
    let Some((included, personal)) = &scope.filter else { return true };
    match (&row.team, included) {
        (None, _) => personal.unwrap_or(true),
        (Some(team), Some(included)) => included.contains(team),
        (Some(_), None) => of_own_team,
    }
}

type Check = Box<dyn Fn(&Row) -> bool>;

/// A filter as JSON and as a decision.
struct Filter {
    json: Value,
    keeps: Check,
}

fn random_filter(chance: &mut Chance, world: &World) -> Filter {
    let mut json = Map::new();
    let mut checks: Vec<Check> = Vec::new();
    if chance.one_in(3) {
        let status = STATUS[chance.below(4)];
        json.insert("status".to_owned(), json!(status));
        checks.push(Box::new(move |row| row.status == status));
    } else if chance.one_in(3) {
        let among = chance.some_of(&STATUS);
        if !among.is_empty() {
            json.insert("status".to_owned(), json!({ "in": among }));
            checks.push(Box::new(move |row| among.contains(&row.status)));
        }
    }
    if chance.one_in(3) {
        let (from, to) =
            (i64::try_from(chance.below(6)).expect("small"), i64::try_from(chance.below(7)).expect("small"));
        json.insert("priority".to_owned(), json!({ "gte": from, "lt": to }));
        checks.push(Box::new(move |row| from <= row.priority && row.priority < to));
    }
    if chance.one_in(4) {
        let owner = world.users[chance.below(USERS)].clone();
        json.insert("owner_id".to_owned(), json!(owner));
        checks.push(Box::new(move |row| row.owner == owner));
    }
    if chance.one_in(4) {
        let team = (!chance.one_in(3)).then(|| world.teams[chance.below(TEAMS)].clone());
        json.insert("team_id".to_owned(), json!(team));
        checks.push(Box::new(move |row| row.team == team));
    }
    if chance.one_in(4) {
        let second = i64::try_from(chance.below(30)).expect("small");
        json.insert("created_at".to_owned(), json!({ "gt": at(second) }));
        checks.push(Box::new(move |row| row.second > second));
    }
    Filter { json: Value::Object(json), keeps: Box::new(move |row| checks.iter().all(|check| check(row))) }
}

fn at(second: i64) -> String {
    format!("2026-02-03T04:05:{second:02}.000000Z")
}

async fn world(node: &Node, chance: &mut Chance, index: usize) -> World {
    let (mut users, mut teams) = (Vec::new(), Vec::new());
    for user in 0..USERS {
        users.push(node.user(&format!("w{index}-u{user}")).await);
    }
    for team in 0..TEAMS {
        teams.push(node.team(&format!("w{index}-t{team}"), &[]).await);
    }
    let mut teams_of_subject = HashSet::new();
    for team in &teams {
        for (user, name) in users.iter().enumerate() {
            if chance.one_in(2) {
                node.join(team, name).await;
                if user == 0 {
                    teams_of_subject.insert(team.clone());
                }
            }
        }
    }
    let rows = rows(node, chance, &users, &teams).await;
    let limits = json!({ "requests_per_second": 100_000, "burst": 100_000, "concurrent": 100 });
    let grant = json!({ "peer": "home", "user": users[0], "scope": { "resources": ["tasks"] }, "limits": limits });
    let created = node.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    let asker = Asker::enroll(created["invite"]["invite"].as_str().expect("an invite")).await;
    let grant = created["grant"]["id"].as_str().expect("an id").to_owned();
    World { subject: users[0].clone(), teams_of_subject, rows, asker, grant, teams, users }
}

/// Written straight into the table: a session could not write rows into a team that its user has left since.
async fn rows(node: &Node, chance: &mut Chance, users: &[String], teams: &[String]) -> Vec<Row> {
    let database = node.database().connect().await;
    let insert = "INSERT INTO tasks (id, owner_id, team_id, title, status, priority, created_at) \
                  VALUES ($1::text::uuid, $2::text::uuid, $3::text::uuid, 'row', $4, $5, $6::text::timestamptz)";
    let mut rows = Vec::new();
    for _ in 0..60 {
        let row = Row {
            id: uuid::Uuid::from_u64_pair(chance.next(), chance.next()).to_string(),
            owner: users[chance.below(USERS)].clone(),
            team: (!chance.one_in(3)).then(|| teams[chance.below(TEAMS)].clone()),
            status: STATUS[chance.below(4)],
            priority: 1 + i64::try_from(chance.below(5)).expect("small"),
            second: i64::try_from(chance.below(30)).expect("small"),
        };
        let priority = i16::try_from(row.priority).expect("small");
        database
            .execute(insert, &[&row.id, &row.owner, &row.team, &row.status, &priority, &at(row.second)])
            .await
            .expect("a row");
        rows.push(row);
    }
    rows
}

/// What the listener must give for all pages together: newest first, then by id.
fn expected(world: &World, scope: &Scope, filter: &Filter) -> Vec<String> {
    let mut rows: Vec<&Row> =
        world.rows.iter().filter(|row| may_read(world, scope, row) && (filter.keeps)(row)).collect();
    rows.sort_by(|one, other| (other.second, &other.id).cmp(&(one.second, &one.id)));
    rows.into_iter().map(|row| row.id.clone()).collect()
}

async fn check_list(world: &World, scope: &Scope, chance: &mut Chance, what: &str) {
    let filter = random_filter(chance, world);
    let all = expected(world, scope, &filter);
    let limit = (!chance.one_in(4)).then(|| 1 + chance.below(15));
    let page_rows = limit.unwrap_or(50).min(scope.max_rows);
    let (mut got, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut body = json!({ "where": filter.json });
        limit.iter().for_each(|limit| body["limit"] = json!(limit));
        if !cursor.is_null() {
            body["cursor"] = cursor;
        }
        let page = world.asker.post("list/tasks", body).await.expect(200);
        let ids: Vec<String> = items(&page).iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
        got.extend(ids.iter().cloned());
        let more = got.len() < all.len();
        // Hidden rows influence neither count nor flag nor cursor.
        assert_eq!(ids.len(), page_rows.min(all.len() - (got.len() - ids.len()).min(all.len())), "{what}: {page}");
        assert_eq!((page["_truncated"].clone(), page.get("next_cursor").is_some()), (json!(more), more), "{what}");
        if !more {
            break;
        }
        cursor = page["next_cursor"].clone();
    }
    assert_eq!(got, all, "{what}: where {} in {scope:?}", filter.json);
}

async fn check_get(world: &World, scope: &Scope, chance: &mut Chance, what: &str) {
    let row = &world.rows[chance.below(world.rows.len())];
    let answer = world.asker.post(&format!("get/tasks/{}", row.id), json!({})).await;
    if may_read(world, scope, row) {
        assert_eq!(answer.expect(200)["item"]["id"], json!(row.id), "{what}");
    } else {
        assert_eq!(answer.error(404).0, "not_found", "{what}: {row:?} in {scope:?}");
    }
}

#[tokio::test]
async fn what_leaves_is_exactly_what_the_rule_says() {
    let seed = setting("MOSAIC_TEST_SEED").unwrap_or_else(|| Chance(uuid::Uuid::new_v4().as_u64_pair().0).next());
    let cases = setting("MOSAIC_TEST_RIGHTS").map_or(CASES, |cases| usize::try_from(cases).expect("a count"));
    let mut chance = Chance(seed);
    let node = Node::start("work").await;
    // Worlds share one database: the rows of the others are noise that must not show.
    for index in 0..cases.div_ceil(CASES_PER_WORLD) {
        let world = world(&node, &mut chance, index).await;
        for round in 0..8 {
            let scope = Scope::random(&mut chance, &world.teams);
            let path = format!("/api/admin/v1/grants/{}", world.grant);
            node.admin().patch(&path, json!({ "scope": scope.document() })).await.expect(200);
            for case in 0..CASES_PER_WORLD / 8 {
                let what = format!("MOSAIC_TEST_SEED={seed}, world {index}, round {round}, case {case}");
                if !scope.covers_tasks {
                    let refused = world.asker.post("list/tasks", json!({})).await.error(403);
                    assert_eq!(refused.0, "scope_violation", "{what}");
                } else if chance.one_in(4) {
                    check_get(&world, &scope, &mut chance, &what).await;
                } else {
                    check_list(&world, &scope, &mut chance, &what).await;
                }
            }
        }
    }
}
