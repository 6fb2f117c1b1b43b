//! Random rows, rights, filters and page sizes against a list in memory: paging to the end gives exactly its rows.

use std::cell::Cell;
use std::cmp::Reverse;

use mosaic_actors::domain::query::OwnRows;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;

const START: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);
const USERS: u128 = 3;
const TEAMS: u128 = 4;
/// Ids that ICU, C and UUID order differently.
const TEXT_IDS: [&str; 12] = ["a", "B", "ä", "Z", "_", "b", "10", "9", "A", "é", "-x", "🦀"];

/// A table with text keys, ordered by people's rules where nothing says otherwise.
const TEXTY: &str = "CREATE TABLE texty (
    key text COLLATE \"und-x-icu\" PRIMARY KEY, holder text, crew text, at timestamptz, status text, priority int8)";

#[derive(Debug, Clone)]
struct Row {
    /// Index into the ids of the table.
    id: usize,
    owner: u128,
    team: Option<u128>,
    second: i64,
    status: &'static str,
    priority: i16,
}

#[derive(Debug, Clone)]
struct Case {
    rows: Vec<Row>,
    user: u128,
    own: OwnRows,
    teams: Vec<u128>,
    own_in_teams: Vec<u128>,
    filter: Vec<Check>,
    limit: u32,
}

/// One condition, as JSON and as a decision.
#[derive(Debug, Clone)]
enum Check {
    Status(&'static str),
    StatusIn(Vec<&'static str>),
    PriorityFrom(i16),
    PriorityBelow(i16),
    After(i64),
    Before(i64),
    Personal,
    Team(u128),
    Owner(u128),
}

impl Check {
    fn json(&self) -> String {
        let time = |second: &i64| crate::postgres::row_json::timestamp_text(START + time::Duration::seconds(*second));
        match self {
            Self::Status(status) => format!(r#""status":"{status}""#),
            Self::StatusIn(list) => format!(r#""status":{{"in":{list:?}}}"#),
            Self::PriorityFrom(least) => format!(r#""priority":{{"gte":{least}}}"#),
            Self::PriorityBelow(most) => format!(r#""priority":{{"lt":{most}}}"#),
            Self::After(second) => format!(r#""created_at":{{"gt":"{}"}}"#, time(second)),
            Self::Before(second) => format!(r#""created_at":{{"lte":"{}"}}"#, time(second)),
            Self::Personal => r#""team_id":null"#.to_owned(),
            Self::Team(team) => format!(r#""team_id":"{}""#, team_id(*team).0),
            Self::Owner(owner) => format!(r#""owner_id":"{}""#, user_id(*owner).0),
        }
    }

    fn holds(&self, row: &Row) -> bool {
        match self {
            Self::Status(status) => row.status == *status,
            Self::StatusIn(list) => list.contains(&row.status),
            Self::PriorityFrom(least) => row.priority >= *least,
            Self::PriorityBelow(most) => row.priority < *most,
            Self::After(second) => row.second > *second,
            Self::Before(second) => row.second <= *second,
            Self::Personal => row.team.is_none(),
            Self::Team(team) => row.team == Some(*team),
            Self::Owner(owner) => row.owner == *owner,
        }
    }
}

impl Case {
    fn sees(&self, row: &Row) -> bool {
        let own = row.owner == self.user;
        let as_owner = match self.own {
            OwnRows::All => true,
            OwnRows::Personal => row.team.is_none(),
            OwnRows::None => false,
        };
        let in_team = row.team.is_some_and(|team| self.teams.contains(&team));
        let own_in_team = row.team.is_some_and(|team| self.own_in_teams.contains(&team));
        (own && (as_owner || own_in_team)) || in_team
    }

    /// Ids in order, for a table with these ids that compare as their texts' bytes.
    fn expected(&self, ids: &[String]) -> Vec<String> {
        let mut rows: Vec<_> =
            self.rows.iter().filter(|row| self.sees(row) && self.filter.iter().all(|check| check.holds(row))).collect();
        rows.sort_by_key(|row| Reverse((row.second, ids[row.id].as_bytes())));
        rows.iter().map(|row| ids[row.id].clone()).collect()
    }

    fn tenant(&self) -> Tenant {
        let teams = |teams: &[u128]| teams.iter().map(|team| team_id(*team)).collect();
        let visibility =
            Visibility { own: self.own, teams: teams(&self.teams), own_in_teams: teams(&self.own_in_teams) };
        Tenant { subject: user_id(self.user), visibility }
    }
}

fn user_id(number: u128) -> UserId {
    UserId(Uuid::from_u128(0x1000 + number))
}

fn team_id(number: u128) -> TeamId {
    TeamId(Uuid::from_u128(0x2000 + number))
}

fn cases() -> impl Strategy<Value = Case> {
    let statuses = || prop::sample::select(vec!["open", "done", "blocked"]);
    let check = prop_oneof![
        statuses().prop_map(Check::Status),
        prop::collection::vec(statuses(), 0..3).prop_map(Check::StatusIn),
        (1_i16..=5).prop_map(Check::PriorityFrom),
        (1_i16..=5).prop_map(Check::PriorityBelow),
        (0_i64..4).prop_map(Check::After),
        (0_i64..4).prop_map(Check::Before),
        Just(Check::Personal),
        (0..TEAMS).prop_map(Check::Team),
        (0..USERS).prop_map(Check::Owner),
    ];
    let row = (0..USERS, prop::option::of(0..TEAMS), 0_i64..4, statuses(), 1_i16..=5, any::<Index>());
    let rows = prop::collection::vec(row, 0..TEXT_IDS.len()).prop_map(|rows| {
        let mut free: Vec<usize> = (0..TEXT_IDS.len()).collect();
        let rows = rows.into_iter().map(|(owner, team, second, status, priority, id)| {
            let id = free.swap_remove(id.index(free.len()));
            Row { id, owner, team, second, status, priority }
        });
        rows.collect()
    });
    let own = prop::sample::select(vec![OwnRows::All, OwnRows::Personal, OwnRows::None]);
    let some_teams = || subsequence((0..TEAMS).collect::<Vec<_>>(), 0..=TEAMS as usize);
    (rows, 0..USERS, own, some_teams(), some_teams(), prop::collection::vec(check, 0..3), 1_u32..6).prop_map(
        |(rows, user, own, teams, own_in_teams, mut filter, limit)| {
            // One condition per field, as JSON objects have it.
            let mut named = Vec::new();
            filter.retain(|check: &Check| {
                let name = check.json().split(':').next().map(str::to_owned);
                let new = !named.contains(&name);
                named.push(name);
                new
            });
            Case { rows, user, own, teams, own_in_teams, filter, limit }
        },
    )
}

fn texty() -> ResourceConfig {
    ResourceConfig {
        name: name("texty"),
        table: "texty".to_owned(),
        id: "key".to_owned(),
        owner: "holder".to_owned(),
        team: Some("crew".to_owned()),
        order: "at".to_owned(),
        columns: vec!["status".to_owned(), "priority".to_owned()],
        filterable: vec!["status".to_owned(), "priority".to_owned()],
        searchable: Vec::new(),
        sensitive: false,
        writable: false,
    }
}

#[test]
fn paging_to_the_end_gives_exactly_the_visible_rows_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let site = runtime.block_on(async {
        let site = Site::with(TEXTY, vec![texty()]).await;
        for user in 0..USERS {
            site.user(user_id(user).0.as_u128()).await;
        }
        for team in 0..TEAMS {
            site.team(team_id(team).0.as_u128()).await;
        }
        site
    });
    let (pages, longest) = (Cell::new(0), Cell::new(0));
    let cases_run = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(cases_run).run(&cases(), |case| {
        runtime.block_on(async {
            fill(&site, &case).await;
            for resource in ["tasks", "texty"] {
                let ids = ids_of(resource);
                let seen = check(&site, resource, &case, &ids).await?;
                pages.set(pages.get() + seen.0);
                longest.set(longest.get().max(seen.1));
            }
            Ok(())
        })
    });
    outcome.unwrap();
    // So that it cannot pass without paging; far below what chance gives.
    assert!(pages.get() > 600 && longest.get() >= 4, "{} pages, longest list {}", pages.get(), longest.get());
}

fn ids_of(resource: &str) -> Vec<String> {
    match resource {
        "texty" => TEXT_IDS.map(str::to_owned).to_vec(),
        _ => (0..TEXT_IDS.len() as u128).map(|id| Uuid::from_u128(id * 0x9e37_79b9_7f4a_7c15).to_string()).collect(),
    }
}

async fn fill(site: &Site, case: &Case) {
    site.client.batch_execute("DELETE FROM tasks; DELETE FROM texty").await.unwrap();
    let (tasks, texts) = (ids_of("tasks"), ids_of("texty"));
    for row in &case.rows {
        let (owner, team) = (user_id(row.owner).0, row.team.map(|team| team_id(team).0));
        let at = START + time::Duration::seconds(row.second);
        let id = Uuid::parse_str(&tasks[row.id]).unwrap();
        let tasks = "INSERT INTO tasks (id, owner_id, team_id, title, status, priority, created_at)
                     VALUES ($1, $2, $3, 'x', $4, $5, $6)";
        site.client.execute(tasks, &[&id, &owner, &team, &row.status, &row.priority, &at]).await.unwrap();
        let texty = "INSERT INTO texty VALUES ($1, $2, $3, $4, $5, $6)";
        let (owner, team) = (owner.to_string(), team.map(|team| team.to_string()));
        let (id, priority) = (&texts[row.id], i64::from(row.priority));
        site.client.execute(texty, &[id, &owner, &team, &at, &row.status, &priority]).await.unwrap();
    }
}

/// Compares every page, then every single row. Returns pages and rows.
async fn check(site: &Site, resource: &str, case: &Case, ids: &[String]) -> Result<(usize, usize), TestCaseError> {
    let table = site.rows.catalog.get(&name(resource)).unwrap();
    let tenant = case.tenant();
    let json = format!("{{{}}}", case.filter.iter().map(Check::json).collect::<Vec<_>>().join(","));
    let filter = parse_where(&RawValue::from_string(json).unwrap(), table.resource()).unwrap();
    let expected = case.expected(ids);
    let (mut after, mut pages) = (None, 0);
    for (index, wanted) in
        expected.chunks(case.limit as usize).chain(expected.is_empty().then_some(&[][..])).enumerate()
    {
        let query = ListRows { limit: NonZeroU32::new(case.limit).unwrap(), after, filter: filter.clone() };
        let page = site.rows.list_of(table, &tenant, &query, case.limit, soon()).await.unwrap();
        prop_assert_eq!(self::ids(&page), wanted, "page {} of {}", index, resource);
        let behind = expected.len() > (index + 1) * case.limit as usize;
        prop_assert_eq!(page.more, behind, "more after page {} of {}", index, resource);
        after = page.rows.last().map(|row| row.position.clone());
        pages += 1;
    }
    for row in &case.rows {
        let id = RowId::parse(&ids[row.id]).unwrap();
        let page = site.rows.get_of(table, &tenant, &id, soon()).await.unwrap();
        prop_assert_eq!(page.rows.len(), usize::from(case.sees(row)), "get {} of {}", id, resource);
        if let Some(index) = page.rows.first() {
            prop_assert_eq!(index.owner, Some(user_id(row.owner)));
            prop_assert_eq!(index.team, row.team.map(team_id));
        }
    }
    Ok((pages, expected.len()))
}
