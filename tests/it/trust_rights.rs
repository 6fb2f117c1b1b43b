//! Rights end to end: random users, teams, memberships, rows, scopes, filters, limits and cursors, all of which change while they
//! are asked about through the real listener with a real certificate, against an oracle that reads like the rule:
//! scope ∩ what the subject may see ∩ the catalog.

use std::collections::HashSet;

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

use crate::harness::asker::Asker;
use crate::harness::node::Node;
use crate::harness::setting;
use crate::harness::sites::items;
use crate::harness::wire::{Heard, Wire, header};

/// Questions; `MOSAIC_TEST_RIGHTS` sets another number, `MOSAIC_TEST_SEED` repeats a run.
const CASES: usize = 10_000;
const WORLDS_AT_ONCE: usize = 4;
const ROUNDS_PER_WORLD: usize = 10;
/// Connections that ask at the same time, each its own questions.
const ASKERS: usize = 5;
const CASES_PER_ASKER: usize = 5;
const CASES_PER_WORLD: usize = ROUNDS_PER_WORLD * ASKERS * CASES_PER_ASKER;

const TEAMS: usize = 4;
const USERS: usize = 4;
const ROWS: usize = 60;
const STATUS: [&str; 4] = ["open", "in_progress", "blocked", "done"];
/// Those that a grant can open. There are rows in the first two.
const RESOURCES: [&str; 3] = ["tasks", "notes", "memory"];
const SENSITIVE: [&str; 2] = ["credentials", "api_keys"];

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

    fn number(&mut self, bound: usize) -> i64 {
        i64::try_from(self.below(bound)).expect("small")
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn some_of<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().filter(|_| self.one_in(2)).cloned().collect()
    }

    fn id(&mut self) -> String {
        uuid::Uuid::from_u64_pair(self.next(), self.next()).to_string()
    }
}

#[derive(Debug, Clone)]
struct Row {
    resource: &'static str,
    id: String,
    owner: String,
    team: Option<String>,
    status: &'static str,
    priority: i64,
    /// Seconds into the minute; several rows share one.
    second: i64,
}

/// What a grant shows.
#[derive(Debug, Clone)]
struct Scope {
    resources: Vec<&'static str>,
    excluded: Vec<&'static str>,
    filters: Vec<(&'static str, TenantFilter)>,
    max_rows: usize,
}

#[derive(Debug, Clone)]
struct TenantFilter {
    include_teams: Option<Vec<String>>,
    include_personal: Option<bool>,
}

/// A subject in its surroundings, and the grant on it.
struct World {
    name: String,
    users: Vec<String>,
    teams: Vec<String>,
    /// `(team, user)`
    members: HashSet<(String, String)>,
    rows: Vec<Row>,
    grant: String,
    scope: Scope,
    suspended: bool,
}

impl World {
    fn subject(&self) -> &str {
        &self.users[0]
    }

    fn is_in(&self, team: &str) -> bool {
        self.members.contains(&(team.to_owned(), self.subject().to_owned()))
    }

    fn opens(&self, resource: &str) -> bool {
        self.scope.resources.contains(&resource)
    }

    /// The rule, as a person would say it.
    fn may_read(&self, row: &Row) -> bool {
        let own = row.owner == self.subject();
        let of_own_team = row.team.as_ref().is_some_and(|team| self.is_in(team));
        if !self.opens(row.resource) || !(own || of_own_team) {
            return false;
        }
        let Some((_, filter)) = self.scope.filters.iter().find(|(resource, _)| *resource == row.resource) else {
            return true;
        };
        match (&row.team, &filter.include_teams) {
            (None, _) => filter.include_personal.unwrap_or(true),
            (Some(team), Some(included)) => included.contains(team),
            (Some(_), None) => of_own_team,
        }
    }

    /// What a list must give behind a position: newest first, then by id.
    fn expected(&self, resource: &str, filter: &Filter, after: Option<&(i64, String)>) -> Vec<&Row> {
        let behind = |row: &Row| after.is_none_or(|(second, id)| (row.second, &row.id) < (*second, id));
        let mut rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.resource == resource && self.may_read(row) && filter.keeps(row) && behind(row))
            .collect();
        rows.sort_by(|one, other| (other.second, &other.id).cmp(&(one.second, &one.id)));
        rows
    }
}

/// A filter as JSON and as a decision.
#[derive(Debug, Clone, Default)]
struct Filter {
    status: Option<Vec<&'static str>>,
    priority: Option<(i64, i64)>,
    owner: Option<String>,
    team: Option<Option<String>>,
    later_than: Option<i64>,
}

impl Filter {
    fn random(chance: &mut Chance, world: &World, resource: &str) -> Self {
        let mut filter = Self::default();
        if resource == "tasks" {
            match chance.below(6) {
                0 => filter.status = Some(vec![*chance.of(&STATUS)]),
                1 => filter.status = Some(chance.some_of(&STATUS)).filter(|among| !among.is_empty()),
                2 => filter.priority = Some((chance.number(6), chance.number(7))),
                _ => {}
            }
        }
        match chance.below(8) {
            0 => filter.owner = Some(chance.of(&world.users).clone()),
            1 => filter.team = Some((!chance.one_in(3)).then(|| chance.of(&world.teams).clone())),
            2 => filter.later_than = Some(chance.number(30)),
            _ => {}
        }
        filter
    }

    fn json(&self) -> Value {
        let mut json = Map::new();
        let mut put = |field: &str, value: Value| _ = json.insert(field.to_owned(), value);
        match self.status.as_deref() {
            Some([one]) => put("status", json!(one)),
            Some(among) => put("status", json!({ "in": among })),
            None => {}
        }
        self.priority.iter().for_each(|(from, to)| put("priority", json!({ "gte": from, "lt": to })));
        self.owner.iter().for_each(|owner| put("owner_id", json!(owner)));
        self.team.iter().for_each(|team| put("team_id", json!(team)));
        self.later_than.iter().for_each(|second| put("created_at", json!({ "gt": at(*second) })));
        Value::Object(json)
    }

    fn keeps(&self, row: &Row) -> bool {
        self.status.as_ref().is_none_or(|among| among.contains(&row.status))
            && self.priority.is_none_or(|(from, to)| from <= row.priority && row.priority < to)
            && self.owner.as_ref().is_none_or(|owner| *owner == row.owner)
            && self.team.as_ref().is_none_or(|team| *team == row.team)
            && self.later_than.is_none_or(|second| row.second > second)
    }
}

fn at(second: i64) -> String {
    format!("2026-02-03T04:05:{second:02}.000000Z")
}

impl Scope {
    fn random(chance: &mut Chance, teams: &[String]) -> Self {
        let mut resources = chance.some_of(&RESOURCES);
        if resources.is_empty() || chance.one_in(2) {
            resources = vec!["tasks", "notes"];
        }
        let others: Vec<&str> =
            RESOURCES.iter().chain(&SENSITIVE).copied().filter(|name| !resources.contains(name)).collect();
        let mut filters = Vec::new();
        for resource in &resources {
            if chance.one_in(3) {
                continue;
            }
            let include_teams = (!chance.one_in(3)).then(|| chance.some_of(teams));
            let include_personal = (!chance.one_in(3)).then(|| chance.one_in(2));
            filters.push((*resource, TenantFilter { include_teams, include_personal }));
        }
        Self { excluded: chance.some_of(&others), resources, filters, max_rows: 1 + chance.below(12) }
    }

    fn document(&self) -> Value {
        let mut filters = Map::new();
        for (resource, TenantFilter { include_teams, include_personal }) in &self.filters {
            let mut filter = Map::new();
            include_teams.iter().for_each(|teams| _ = filter.insert("include_teams".to_owned(), json!(teams)));
            include_personal.iter().for_each(|yes| _ = filter.insert("include_personal".to_owned(), json!(yes)));
            filters.insert((*resource).to_owned(), Value::Object(filter));
        }
        json!({ "resources": self.resources, "excluded_resources": self.excluded, "filters": filters,
                "max_rows_per_query": self.max_rows })
    }
}

// ------------------------------------------------------------------------------------------------------- making a world

async fn world(node: &Node, database: &Client, chance: &mut Chance, index: usize) -> (World, Asker) {
    let (users, teams): (Vec<String>, Vec<String>) =
        ((0..USERS).map(|_| chance.id()).collect(), (0..TEAMS).map(|_| chance.id()).collect());
    let mut members = HashSet::new();
    for team in &teams {
        for user in &users {
            if chance.one_in(2) {
                members.insert((team.clone(), user.clone()));
            }
        }
    }
    let people = [("users", &users), ("teams", &teams)];
    for (table, ids) in people {
        let sql = format!(
            "INSERT INTO {table} (id, name) SELECT id::uuid, 'w{index}.' || n FROM unnest($1::text[]) WITH ORDINALITY AS x (id, n)"
        );
        database.execute(&sql, &[ids]).await.expect(table);
    }
    let (member_teams, member_users): (Vec<String>, Vec<String>) = members.iter().cloned().unzip();
    let sql = "INSERT INTO team_members (team_id, user_id) SELECT t::uuid, u::uuid FROM unnest($1::text[], $2::text[]) AS x (t, u)";
    database.execute(sql, &[&member_teams, &member_users]).await.expect("members");

    let limits = json!({ "requests_per_second": 100_000, "burst": 100_000, "concurrent": 100 });
    let scope = Scope::random(chance, &teams);
    let grant = json!({ "peer": "home", "user": users[0], "scope": scope.document(), "limits": limits });
    let created = node.admin().post("/api/admin/v1/grants", grant).await.expect(201);
    let asker = Asker::enroll(created["invite"]["invite"].as_str().expect("an invite")).await;
    let grant = created["grant"]["id"].as_str().expect("an id").to_owned();
    let mut world =
        World { name: format!("w{index}"), users, teams, members, rows: Vec::new(), grant, scope, suspended: false };
    for _ in 0..ROWS {
        let row = random_row(chance, &world);
        world.rows.push(row);
    }
    insert(database, &world.rows).await;
    (world, asker)
}

fn random_row(chance: &mut Chance, world: &World) -> Row {
    Row {
        resource: if chance.one_in(3) { "notes" } else { "tasks" },
        id: chance.id(),
        owner: chance.of(&world.users).clone(),
        team: (!chance.one_in(3)).then(|| chance.of(&world.teams).clone()),
        status: STATUS[chance.below(STATUS.len())],
        priority: 1 + chance.number(5),
        second: chance.number(30),
    }
}

/// Written straight into the tables: a session could not write rows into a team that its user has left since.
async fn insert(database: &Client, rows: &[Row]) {
    for row in rows {
        let priority = i16::try_from(row.priority).expect("small");
        let inserted = if row.resource == "tasks" {
            let sql = "INSERT INTO tasks (id, owner_id, team_id, title, created_at, status, priority) VALUES
                       ($1::text::uuid, $2::text::uuid, $3::text::uuid, 'row', $4::text::timestamptz, $5, $6)";
            database.execute(sql, &[&row.id, &row.owner, &row.team, &at(row.second), &row.status, &priority]).await
        } else {
            let sql = "INSERT INTO notes (id, owner_id, team_id, title, created_at) VALUES
                       ($1::text::uuid, $2::text::uuid, $3::text::uuid, 'row', $4::text::timestamptz)";
            database.execute(sql, &[&row.id, &row.owner, &row.team, &at(row.second)]).await
        };
        inserted.expect("a row");
    }
}

async fn delete(database: &Client, ids: &[String]) {
    for table in ["tasks", "notes"] {
        let sql = format!("DELETE FROM {table} WHERE id = ANY ($1::text[]::uuid[])");
        database.execute(&sql, &[&ids]).await.expect("rows are deleted");
    }
}

/// Something changes: the scope, who is in which team, rows, whether the grant is suspended.
async fn change(node: &Node, database: &Client, world: &mut World, chance: &mut Chance) {
    let grant = format!("/api/admin/v1/grants/{}", world.grant);
    if world.suspended {
        node.admin().post(&format!("{grant}/resume"), json!({})).await.expect(200);
        world.suspended = false;
    }
    if chance.one_in(2) {
        world.scope = Scope::random(chance, &world.teams);
        node.admin().patch(&grant, json!({ "scope": world.scope.document() })).await.expect(200);
    }
    for _ in 0..chance.below(3) {
        // The subject more often than the others: they should not matter.
        let user = if chance.one_in(2) { world.users[0].clone() } else { chance.of(&world.users).clone() };
        let member = (chance.of(&world.teams).clone(), user);
        let path = format!("/api/admin/v1/teams/{}/members", member.0);
        let changed = if world.members.remove(&member) {
            node.admin().delete(&format!("{path}/{}", member.1)).await
        } else {
            let changed = node.admin().post(&path, json!({ "user": member.1 })).await;
            world.members.insert(member);
            changed
        };
        assert!(changed.status.is_success(), "{}", changed.text());
    }
    for _ in 0..chance.below(4) {
        let at = chance.below(world.rows.len());
        let gone = world.rows.swap_remove(at);
        delete(database, std::slice::from_ref(&gone.id)).await;
        // The same row with another owner and team, or another row.
        let mut new = random_row(chance, world);
        if chance.one_in(2) {
            (new.id, new.resource, new.second) = (gone.id, gone.resource, gone.second);
        }
        insert(database, std::slice::from_ref(&new)).await;
        world.rows.push(new);
    }
    if chance.one_in(10) {
        node.admin().post(&format!("{grant}/suspend"), json!({})).await.expect(200);
        world.suspended = true;
    }
}

// --------------------------------------------------------------------------------------------------------------- asking

/// One connection with its own chance, and the cursors that it was given.
struct Questioner<'a> {
    asker: &'a Asker,
    wire: Wire,
    chance: Chance,
    kept: Vec<Kept>,
    /// What an absent row answers.
    absent: Option<String>,
}

/// A cursor and what it continues.
#[derive(Clone)]
struct Kept {
    resource: &'static str,
    filter: Filter,
    after: (i64, String),
    cursor: String,
}

impl Questioner<'_> {
    /// One question, asked and compared with the rule.
    async fn ask(&mut self, world: &World, what: &str) {
        let resource = *self.chance.of(&["tasks", "tasks", "tasks", "notes", "memory"]);
        match self.chance.below(16) {
            0 => self.capabilities(world, what).await,
            1 => self.refused_resource(world, what).await,
            2 => self.foreign_cursor(world, what).await,
            3..=5 => self.get(world, what).await,
            6..=9 if !self.kept.is_empty() => {
                let Kept { resource, filter, after, cursor } = self.chance.of(&self.kept).clone();
                self.list(world, resource, filter, Some((after, cursor)), what).await;
            }
            _ => {
                let filter = Filter::random(&mut self.chance, world, resource);
                self.list(world, resource, filter, None, what).await;
            }
        }
    }

    async fn post(&mut self, path: &str, body: &Value) -> Heard {
        let heard = self.wire.post(&format!("/api/federation/v1/{path}"), &body.to_string()).await.expect("an answer");
        // Who is refused before the body was read may lose the connection.
        if header(&heard.head, "connection") == Some("close") {
            self.wire = self.asker.wire().await;
        }
        heard
    }

    async fn list(
        &mut self,
        world: &World,
        resource: &'static str,
        filter: Filter,
        from: Option<((i64, String), String)>,
        what: &str,
    ) {
        let limit = (!self.chance.one_in(4)).then(|| 1 + self.chance.below(15));
        let (after, cursor) = from.unzip();
        let mut body = json!({ "where": filter.json() });
        limit.iter().for_each(|limit| body["limit"] = json!(limit));
        cursor.iter().for_each(|cursor| body["cursor"] = json!(cursor));
        let heard = self.post(&format!("list/{resource}"), &body).await;
        let told = || format!("{what}: list {resource} {body} in {:?}: {}", world.scope, heard.json);
        if let Some(refusal) = refusal(world, resource) {
            assert_eq!((heard.status, heard.word()), (403, refusal.to_owned()), "{}", told());
            return;
        }
        let all = world.expected(resource, &filter, after.as_ref());
        let page = limit.unwrap_or(50).min(world.scope.max_rows).min(all.len());
        let ids: Vec<String> = items(&heard.json).iter().map(|row| text(&row["id"])).collect();
        assert_eq!(ids, all[..page].iter().map(|row| row.id.clone()).collect::<Vec<_>>(), "{}", told());
        // Hidden rows influence neither flag nor cursor.
        let more = page < all.len();
        let next = heard.json["next_cursor"].as_str();
        assert_eq!((heard.json["_truncated"].clone(), next.is_some()), (json!(more), more), "{}", told());
        if let Some(cursor) = next {
            let after = (all[page - 1].second, all[page - 1].id.clone());
            self.kept.push(Kept { resource, filter, after, cursor: cursor.to_owned() });
        }
    }

    async fn get(&mut self, world: &World, what: &str) {
        let row = self.chance.of(&world.rows);
        // Now and then one that is nowhere: the bytes do not tell.
        let (id, is_there) = if self.chance.one_in(6) { (self.chance.id(), false) } else { (row.id.clone(), true) };
        let heard = self.post(&format!("get/{}/{id}", row.resource), &json!({})).await;
        let told = || format!("{what}: get {row:?} in {:?}", world.scope);
        if let Some(refusal) = refusal(world, row.resource) {
            assert_eq!((heard.status, heard.word()), (403, refusal.to_owned()), "{}", told());
        } else if is_there && world.may_read(row) {
            assert_eq!((heard.status, &heard.json["item"]["id"]), (200, &json!(row.id)), "{}", told());
        } else {
            assert_eq!((heard.status, heard.word().as_str()), (404, "not_found"), "{}", told());
            // Absent and invisible rows: the same bytes but for the request's id.
            let mut body = heard.json;
            body["error"]["request_id"] = json!("-");
            let first = self.absent.get_or_insert_with(|| body.to_string());
            assert_eq!(*first, body.to_string(), "{}", told());
        }
    }

    async fn capabilities(&mut self, world: &World, what: &str) {
        self.wire.send("GET /api/federation/v1/capabilities HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let heard = self.wire.hear().await.expect("an answer");
        if world.suspended {
            assert_eq!((heard.status, heard.word().as_str()), (403, "grant_suspended"), "{what}");
            return;
        }
        let set = |value: &Value| -> HashSet<String> { value.as_array().into_iter().flatten().map(text).collect() };
        let names = |names: &[&str]| -> HashSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        assert_eq!(set(&heard.json["resources"]), names(&world.scope.resources), "{what}");
        assert_eq!(set(&heard.json["excluded_resources"]), names(&world.scope.excluded), "{what}");
        assert_eq!(heard.json["max_rows_per_query"], json!(world.scope.max_rows), "{what}");
    }

    /// Sensitive ones and one that does not exist, whatever the scope says.
    async fn refused_resource(&mut self, world: &World, what: &str) {
        let resource = *self.chance.of(&["credentials", "api_keys", "nothing", "users", "grants"]);
        let heard = self.post(&format!("list/{resource}"), &json!({})).await;
        let expected = if world.suspended { "grant_suspended" } else { "scope_violation" };
        assert_eq!((heard.status, heard.word().as_str()), (403, expected), "{what}: {resource}");
    }

    /// A cursor opens nothing but what it continues.
    async fn foreign_cursor(&mut self, world: &World, what: &str) {
        let Some(kept) = (!self.kept.is_empty()).then(|| self.chance.of(&self.kept).clone()) else { return };
        let other = if kept.resource == "tasks" { "notes" } else { "tasks" };
        let same_resource = self.chance.one_in(2);
        let (resource, filter) = if same_resource {
            (kept.resource, Filter { later_than: Some(99), ..kept.filter.clone() })
        } else {
            (other, kept.filter.clone())
        };
        let mut filter = filter.json();
        if same_resource {
            filter["created_at"] = json!({ "gt": "2026-02-03T04:06:00.000000Z" });
        }
        if !same_resource {
            // Columns that the other one lacks would be refused for another reason.
            filter.as_object_mut().into_iter().for_each(|filter| filter.retain(|name, _| name.contains('_')));
        }
        let heard = self.post(&format!("list/{resource}"), &json!({ "where": filter, "cursor": kept.cursor })).await;
        match refusal(world, resource) {
            Some(refusal) => assert_eq!((heard.status, heard.word()), (403, refusal.to_owned()), "{what}"),
            None => {
                assert_eq!((heard.status, heard.word().as_str()), (400, "invalid_request"), "{what}: {}", heard.json)
            }
        }
    }
}

/// The word of the refusal that a question about this resource must get.
fn refusal(world: &World, resource: &str) -> Option<&'static str> {
    if world.suspended {
        return Some("grant_suspended");
    }
    (!world.opens(resource)).then_some("scope_violation")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The same questions with the hidden rows gone give the same bytes: no count, order, cursor or flag depended on them.
async fn hidden_rows_leave_no_trace(questioner: &mut Questioner<'_>, database: &Client, world: &World) {
    let hidden: Vec<String> = world.rows.iter().filter(|row| !world.may_read(row)).map(|row| row.id.clone()).collect();
    let questions: Vec<(String, Value)> = (0..8)
        .map(|turn| {
            let resource = if turn % 2 == 0 { "tasks" } else { "notes" };
            let filter = Filter::random(&mut questioner.chance, world, resource);
            (format!("list/{resource}"), json!({ "where": filter.json(), "limit": 1 + turn }))
        })
        .collect();
    let mut answers = Vec::new();
    for with_hidden in [true, false] {
        if !with_hidden {
            delete(database, &hidden).await;
        }
        let mut bytes = Vec::new();
        for (path, body) in &questions {
            let mut heard = questioner.post(path, body).await;
            if heard.status == 200 {
                bytes.push(String::from_utf8_lossy(&heard.body).into_owned());
            } else {
                heard.json["error"]["request_id"] = json!("-");
                bytes.push(heard.json.to_string());
            }
        }
        answers.push(bytes);
    }
    assert_eq!(answers[0], answers[1], "{} with {} hidden rows: {questions:?}", world.name, hidden.len());
}

async fn live_through(node: &Node, seed: u64, index: usize) -> usize {
    let mut chance = Chance(seed.wrapping_add(index as u64));
    let database = node.database().connect().await;
    let (mut world, asker) = world(node, &database, &mut chance, index).await;
    let mut questioners = Vec::new();
    for _ in 0..ASKERS {
        questioners.push(Questioner {
            asker: &asker,
            wire: asker.wire().await,
            chance: Chance(chance.next()),
            kept: Vec::new(),
            absent: None,
        });
    }
    for round in 0..ROUNDS_PER_WORLD {
        let what = format!("MOSAIC_TEST_SEED={seed}, world {index}, round {round}");
        join_all(questioners.iter_mut().map(|questioner| async {
            for _ in 0..CASES_PER_ASKER {
                questioner.ask(&world, &what).await;
            }
        }))
        .await;
        change(node, &database, &mut world, &mut chance).await;
    }
    hidden_rows_leave_no_trace(&mut questioners[0], &database, &world).await;
    node.admin()
        .patch(&format!("/api/admin/v1/users/{}", world.subject()), json!({ "active": false }))
        .await
        .expect(200);
    for questioner in &mut questioners {
        let heard = questioner.wire.list().await.expect("an answer");
        assert_eq!((heard.status, heard.word().as_str()), (403, "grant_revoked"), "{}", world.name);
    }
    CASES_PER_WORLD
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_is_exactly_what_the_rule_says() {
    let seed = setting("MOSAIC_TEST_SEED").unwrap_or_else(|| Chance(uuid::Uuid::new_v4().as_u64_pair().0).next());
    let cases = setting("MOSAIC_TEST_RIGHTS").map_or(CASES, |cases| usize::try_from(cases).expect("a count"));
    let node = Node::start("work").await;
    // Worlds share one database: the rows of the others are noise that must not show.
    let asked: usize = futures_util::stream::iter(0..cases.div_ceil(CASES_PER_WORLD))
        .map(|index| live_through(&node, seed, index))
        .buffer_unordered(WORLDS_AT_ONCE)
        .fold(0, |sum, asked| async move { sum + asked })
        .await;
    assert!(asked >= cases, "{asked} of {cases} questions were asked");
    println!("{asked} questions, no difference (MOSAIC_TEST_SEED={seed})");
}
