use std::num::NonZeroU32;

use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::identity::{Session, SessionTokenId, TeamId};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::postgres::catalog::{ResourceConfig, built_in_resources, load_catalog};
use crate::postgres::testing::TestDatabase;
use crate::wire::where_v1::parse_where;

mod failures;
mod oracle;
mod plans;

/// A node's database with the built-in resources and whatever tables a test adds.
struct Site {
    database: TestDatabase,
    client: tokio_postgres::Client,
    rows: PgLocalRows,
}

impl Site {
    async fn new() -> Self {
        Self::with("", Vec::new()).await
    }

    async fn with(tables: &str, resources: Vec<ResourceConfig>) -> Self {
        let database = TestDatabase::new().await;
        let client = database.connect().await;
        client.batch_execute(tables).await.unwrap();
        let declared: Vec<_> = built_in_resources().into_iter().chain(resources).collect();
        let catalog = Arc::new(load_catalog(&client, &declared).await.unwrap());
        let canceller = QueryCanceller::new(&database.database_url()).unwrap();
        let rows = PgLocalRows::new(database.pool(), catalog, canceller).with_page_bytes(PAGE_BYTES_MAX);
        Self { database, client, rows }
    }

    async fn user(&self, number: u128) -> UserId {
        let id = UserId(Uuid::from_u128(number));
        let name = format!("user-{number}");
        self.client.execute("INSERT INTO users (id, name) VALUES ($1, $2)", &[&id.0, &name]).await.unwrap();
        id
    }

    async fn team(&self, number: u128) -> TeamId {
        let id = TeamId(Uuid::from_u128(number));
        let name = format!("team-{number}");
        self.client.execute("INSERT INTO teams (id, name) VALUES ($1, $2)", &[&id.0, &name]).await.unwrap();
        id
    }

    /// A task of this number, created so many seconds after 2026.
    async fn task(&self, number: u128, owner: UserId, team: Option<TeamId>, second: i32) {
        let sql = "INSERT INTO tasks (id, owner_id, team_id, title, created_at, updated_at)
                   VALUES ($1, $2, $3, 'task', '2026-01-01Z'::timestamptz + $4::int4 * interval '1 s', '2026-01-01Z')";
        let id = Uuid::from_u128(number);
        self.client.execute(sql, &[&id, &owner.0, &team.map(|team| team.0), &second]).await.unwrap();
    }

    async fn list(&self, right: &ReadRight, limit: u32, after: Option<Position>, filter: &str) -> Page {
        self.try_list(right, limit, after, filter, soon()).await.unwrap()
    }

    async fn try_list(
        &self,
        right: &ReadRight,
        limit: u32,
        after: Option<Position>,
        filter: &str,
        deadline: Instant,
    ) -> Result<Page, Fault> {
        let raw = RawValue::from_string(filter.to_owned()).unwrap();
        let resource = self.rows.catalog.get(right.resource()).unwrap().resource();
        let filter = parse_where(&raw, resource)?;
        let query = ListRows { limit: NonZeroU32::new(limit).unwrap(), after, filter };
        LocalRows::list(&self.rows, right.clone(), query, deadline).await
    }

    async fn get(&self, right: &ReadRight, id: &str) -> Page {
        LocalRows::get(&self.rows, right.clone(), RowId::parse(id).unwrap(), soon()).await.unwrap()
    }
}

use mosaic_actors::domain::query::Position;

const PAGE_BYTES_MAX: usize = 3_670_016;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn name(resource: &str) -> ResourceName {
    ResourceName::parse(resource).unwrap()
}

fn right(user: UserId, teams: &[TeamId], resource: &str) -> ReadRight {
    let session = Session { user, teams: teams.to_vec(), token: SessionTokenId(Uuid::nil()) };
    ReadRight::of_session(&session, name(resource), NonZeroU32::new(10_000).unwrap())
}

fn text(page: &Page) -> String {
    String::from_utf8(page.json.to_vec()).unwrap()
}

fn ids(page: &Page) -> Vec<String> {
    page.rows.iter().map(|row| row.position.id.to_string()).collect()
}

/// The last part of each id: the number that a test gave the row.
fn numbers(page: &Page) -> Vec<u128> {
    ids(page).iter().map(|id| Uuid::parse_str(id).unwrap().as_u128()).collect()
}

#[tokio::test]
async fn a_row_has_its_fields_in_the_order_of_the_wire() {
    let site = Site::new().await;
    let (ada, team) = (site.user(1).await, site.team(2).await);
    site.client
        .batch_execute(
            "INSERT INTO notes (id, owner_id, team_id, title, body, tags, created_at, updated_at) VALUES
             ('00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-000000000001',
              '00000000-0000-0000-0000-000000000002', E'a \"b\"\\n', E'\\u2028', '{x,\"y,z\",NULL}',
              '2026-11-02 10:30:00.25+01', '2026-11-02 09:30:00Z')",
        )
        .await
        .unwrap();
    let page = site.list(&right(ada, &[team], "notes"), 10, None, "{}").await;
    let expected = concat!(
        r#"{"id":"00000000-0000-0000-0000-00000000000a","created_at":"2026-11-02T09:30:00.250000Z","#,
        r#""owner_id":"00000000-0000-0000-0000-000000000001","team_id":"00000000-0000-0000-0000-000000000002","#,
        r#""title":"a \"b\"\n","body":"\u2028","tags":["x","y,z",null],"#,
        r#""updated_at":"2026-11-02T09:30:00.000000Z","_source":"local"}"#
    );
    assert_eq!(text(&page), expected);
    assert_eq!((page.rows.len(), page.more), (1, false));
    assert_eq!((page.rows[0].owner, page.rows[0].team), (Some(ada), Some(team)));
    assert_eq!(page.row_json(&page.rows[0]), expected.as_bytes());

    let got = site.get(&right(ada, &[], "notes"), "00000000-0000-0000-0000-00000000000A").await;
    assert_eq!(text(&got), expected);
}

#[tokio::test]
async fn rows_come_newest_first_without_doubles_and_say_whether_there_are_more() {
    let site = Site::new().await;
    let (ada, bob, team, other) = (site.user(1).await, site.user(2).await, site.team(3).await, site.team(4).await);
    site.task(10, ada, None, 10).await;
    site.task(11, ada, Some(team), 30).await;
    site.task(12, bob, Some(team), 20).await;
    site.task(13, bob, Some(other), 40).await;
    site.task(14, bob, None, 50).await;
    site.task(15, ada, Some(other), 10).await;
    let mine = right(ada, &[team], "tasks");
    let page = site.list(&mine, 10, None, "{}").await;
    assert_eq!((numbers(&page), page.more), (vec![11, 12, 15, 10], false));

    let first = site.list(&mine, 2, None, "{}").await;
    assert_eq!((numbers(&first), first.more), (vec![11, 12], true));
    let after = first.rows.last().map(|row| row.position.clone());
    let second = site.list(&mine, 2, after, "{}").await;
    assert_eq!((numbers(&second), second.more), (vec![15, 10], false));
    let after = second.rows.last().map(|row| row.position.clone());
    let third = site.list(&mine, 2, after, "{}").await;
    assert_eq!((numbers(&third), third.more), (vec![], false));
}

#[tokio::test]
async fn a_get_shows_what_a_list_shows_and_nothing_else() {
    let site = Site::new().await;
    let (ada, bob, team) = (site.user(1).await, site.user(2).await, site.team(3).await);
    site.task(10, ada, None, 10).await;
    site.task(11, bob, Some(team), 20).await;
    site.task(12, bob, None, 30).await;
    let mine = right(ada, &[team], "tasks");
    for (number, seen) in [(10_u128, true), (11, true), (12, false), (13, false)] {
        let page = site.get(&mine, &Uuid::from_u128(number).to_string()).await;
        assert_eq!(page.rows.len(), usize::from(seen), "{number}");
        let id = RowId::parse(&Uuid::from_u128(number).to_string()).unwrap();
        assert_eq!(LocalRows::exists(&site.rows, mine.clone(), id, soon()).await, Ok(number != 13), "{number}");
    }
    for no_id in ["10", "{00000000-0000-0000-0000-00000000000a}", "urn:uuid:00000000-0000-0000-0000-00000000000a"] {
        assert_eq!(site.get(&mine, no_id).await.rows.len(), 0, "{no_id}");
    }
}

#[tokio::test]
async fn filters_compare_typed_values() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.client
        .batch_execute(
            "INSERT INTO memory (id, owner_id, kind, content, importance, created_at)
             SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '00000000-0000-0000-0000-000000000001',
                    CASE WHEN n % 2 = 0 THEN 'fact' ELSE 'decision' END, 'x', n / 10.0,
                    '2026-01-01Z'::timestamptz + n * interval '1 day'
             FROM generate_series(1, 9) n",
        )
        .await
        .unwrap();
    let mine = right(ada, &[], "memory");
    for (filter, expected) in [
        (r#"{"kind":"fact"}"#, vec!["8", "6", "4", "2"]),
        (r#"{"kind":{"in":["fact","decision"]},"importance":0.1}"#, vec!["1"]),
        (r#"{"kind":{"in":[]}}"#, vec![]),
        (r#"{"kind":{"gt":"decision"}}"#, vec!["8", "6", "4", "2"]),
        (r#"{"importance":{"gte":0.3,"lt":0.5}}"#, vec!["4", "3"]),
        (r#"{"importance":{"in":[0.2,0.9]}}"#, vec!["9", "2"]),
        (r#"{"created_at":{"gte":"2026-01-08T00:00:00Z"}}"#, vec!["9", "8", "7"]),
        (r#"{"created_at":{"lt":"2026-01-04T01:00:00+01:00"}}"#, vec!["2", "1"]),
        (r#"{"id":"00000000-0000-0000-0000-000000000005"}"#, vec!["5"]),
        (r#"{"owner_id":"00000000-0000-0000-0000-000000000002"}"#, vec![]),
        (r#"{"team_id":null,"importance":0.9}"#, vec!["9"]),
        (r#"{"team_id":"00000000-0000-0000-0000-000000000002"}"#, vec![]),
    ] {
        let page = site.list(&mine, 50, None, filter).await;
        let last: Vec<_> = ids(&page).iter().map(|id| id.trim_start_matches(['0', '-']).to_owned()).collect();
        assert_eq!(last, expected, "{filter}");
    }
}

/// An operator's table with other names, types and keys than ours.
fn tickets() -> (&'static str, ResourceConfig) {
    let sql = "CREATE SCHEMA \"Help Desk\";
        CREATE TYPE \"Help Desk\".mood AS ENUM ('calm', 'angry');
        CREATE DOMAIN short AS varchar(20);
        CREATE TABLE \"Help Desk\".\"Ticket \"\"s\" (
            no bigint PRIMARY KEY, who text, crew varchar(36), at timestamptz, mood \"Help Desk\".mood, price numeric(10,2),
            big numeric, ratio double precision, small smallint, day date, raw json, doc jsonb, ok boolean, ref uuid,
            word short, code char(4), \"odd \"\"name\" text);
        CREATE INDEX ON \"Help Desk\".\"Ticket \"\"s\" (who, at DESC, no DESC);
        CREATE INDEX ON \"Help Desk\".\"Ticket \"\"s\" (crew, at, no);";
    let columns =
        ["mood", "price", "big", "ratio", "small", "day", "raw", "doc", "ok", "ref", "word", "code", "odd \"name"];
    let resource = ResourceConfig {
        name: name("tickets"),
        table: "Help Desk.Ticket \"s".to_owned(),
        id: "no".to_owned(),
        owner: "who".to_owned(),
        team: Some("crew".to_owned()),
        order: "at".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        filterable: ["mood", "price", "ratio", "small", "day", "ok", "ref", "word", "code"].map(str::to_owned).to_vec(),
        searchable: vec!["word".to_owned()],
        sensitive: false,
        writable: false,
    };
    (sql, resource)
}

#[tokio::test]
async fn an_operators_table_is_served_as_it_is() {
    let (sql, resource) = tickets();
    let site = Site::with(sql, vec![resource]).await;
    assert_eq!(site.rows.catalog.warnings, []);
    let ada = UserId(Uuid::from_u128(1));
    let insert = "INSERT INTO \"Help Desk\".\"Ticket \"\"s\" VALUES
        (9, '00000000-0000-0000-0000-000000000001', NULL, '2026-01-02Z', 'angry', 12.50, 12345678901234567890.123, 'NaN', 7,
         '2026-02-03', E'{\"a\":\\n1}', '{\"b\": [1.50]}', true, '00000000-0000-0000-0000-00000000000f', 'hé', 'ab', 'x'),
        (10, 'someone', '00000000-0000-0000-0000-000000000005', '2026-01-02Z', NULL, 'NaN', NULL, 1e300, NULL,
         'infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (11, '00000000-0000-0000-0000-000000000001', NULL, NULL, 'calm'),
        (12, '00000000-0000-0000-0000-000000000001', NULL, 'infinity', 'calm'),
        (13, '00000000-0000-0000-0000-000000000001', NULL, '-infinity', 'calm')";
    // Rows of different length need a statement each.
    for row in insert.split_once("VALUES").unwrap().1.split("),\n") {
        let sql = format!("INSERT INTO \"Help Desk\".\"Ticket \"\"s\" VALUES {})", row.trim_end_matches(')'));
        site.client.batch_execute(&sql).await.unwrap();
    }
    let mine = right(ada, &[TeamId(Uuid::from_u128(5))], "tickets");
    let page = site.list(&mine, 10, None, "{}").await;
    assert_eq!(
        text(&page),
        concat!(
            r#"{"id":"10","created_at":"2026-01-02T00:00:00.000000Z","owner_id":"someone","#,
            r#""team_id":"00000000-0000-0000-0000-000000000005","mood":null,"price":null,"big":null,"ratio":1e300,"#,
            r#""small":null,"day":null,"raw":null,"doc":null,"ok":null,"ref":null,"word":null,"code":null,"#,
            r#""odd \"name":null,"_source":"local"},"#,
            r#"{"id":"9","created_at":"2026-01-02T00:00:00.000000Z","#,
            r#""owner_id":"00000000-0000-0000-0000-000000000001","team_id":null,"mood":"angry","price":12.50,"#,
            r#""big":12345678901234567890.123,"ratio":null,"small":7,"day":"2026-02-03","raw":{"a": 1},"#,
            r#""doc":{"b": [1.50]},"ok":true,"ref":"00000000-0000-0000-0000-00000000000f","word":"hé","code":"ab","#,
            r#""odd \"name":"x","_source":"local"}"#
        )
    );
    assert_eq!(page.rows.iter().map(|row| row.owner).collect::<Vec<_>>(), [None, Some(ada)]);
    // Rows without a place in the order are not there; not in a list, not in a get.
    for (id, seen) in [("9", 1), ("09", 0), ("+9", 0), ("10", 1), ("11", 0), ("12", 0), ("13", 0), ("x", 0)] {
        assert_eq!(site.get(&mine, id).await.rows.len(), seen, "{id}");
    }
    for (filter, expected) in [
        (r#"{"mood":"angry"}"#, 1),
        (r#"{"mood":"no such mood"}"#, 0),
        (r#"{"mood":{"in":["angry","sad"]}}"#, 1),
        (r#"{"price":12.5}"#, 1),
        (r#"{"price":{"in":[1,12.50]}}"#, 1),
        (r#"{"small":{"lte":100000}}"#, 1),
        (r#"{"small":{"in":[7]}}"#, 1),
        (r#"{"day":{"lt":"2026-02-04"}}"#, 1),
        (r#"{"ok":true,"word":"hé","code":"ab"}"#, 1),
        (r#"{"ref":{"in":["00000000-0000-0000-0000-00000000000f"]}}"#, 1),
        (r#"{"owner_id":"00000000-0000-0000-0000-000000000001"}"#, 1),
        (r#"{"team_id":{"in":["00000000-0000-0000-0000-000000000005"]}}"#, 1),
        (r#"{"id":{"gte":10}}"#, 1),
    ] {
        assert_eq!(site.list(&mine, 10, None, filter).await.rows.len(), expected, "{filter}");
    }
    let after = page.rows.first().map(|row| row.position.clone());
    assert_eq!(ids(&site.list(&mine, 10, after, "{}").await), ["9"]);
}

#[tokio::test]
async fn a_page_ends_before_it_is_too_large_for_the_asking_side() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.client
        .batch_execute(
            "INSERT INTO tasks (id, owner_id, title, body, created_at)
             SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', n::text, repeat('x', 65000),
                    '2026-01-01Z'::timestamptz - n * interval '1 s'
             FROM generate_series(1, 130) n",
        )
        .await
        .unwrap();
    let mine = right(ada, &[], "tasks");
    let first = site.list(&mine, 200, None, "{}").await;
    assert!(first.json.len() <= PAGE_BYTES_MAX && first.json.len() > PAGE_BYTES_MAX - 66_000, "{}", first.json.len());
    assert!(first.more);
    let (mut seen, mut page) = (first.rows.len(), first);
    while page.more {
        let after = page.rows.last().map(|row| row.position.clone());
        page = site.list(&mine, 200, after, "{}").await;
        assert!(text(&page).contains(&format!(r#""title":"{}""#, seen + 1)));
        seen += page.rows.len();
    }
    assert_eq!(seen, 130);
}
