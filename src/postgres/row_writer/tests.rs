use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::{join, stream};
use mosaic_actors::domain::identity::{SessionTokenId, TeamId, UserId};
use mosaic_actors::domain::query::ReadRight;
use mosaic_actors::ports::local_rows::LocalRows as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::postgres::catalog::{ResourceConfig, built_in_resources, load_catalog};
use crate::postgres::rows::PgLocalRows;
use crate::postgres::testing::TestDatabase;

struct Site {
    database: TestDatabase,
    client: tokio_postgres::Client,
    writer: RowWriter,
    rows: PgLocalRows,
    ada: Session,
    bob: Session,
    team: TeamId,
}

const LIMITS: ImportLimits = ImportLimits { rows: 1_000, line_bytes: 10_000, bytes: 1_000_000, batch: 10 };

impl Site {
    async fn new() -> Self {
        Self::with("", Vec::new()).await
    }

    async fn with(tables: &str, resources: Vec<ResourceConfig>) -> Self {
        let database = TestDatabase::new().await;
        let client = database.connect().await;
        let people = "INSERT INTO users (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'ada'),
                                                          ('00000000-0000-0000-0000-000000000002', 'bob');
                      INSERT INTO teams (id, name) VALUES ('00000000-0000-0000-0000-000000000003', 'crew'),
                                                          ('00000000-0000-0000-0000-000000000004', 'others');";
        client.batch_execute(&format!("{people}{tables}")).await.unwrap();
        let declared: Vec<_> = built_in_resources().into_iter().chain(resources).collect();
        let catalog = Arc::new(load_catalog(&client, &declared).await.unwrap());
        let canceller = QueryCanceller::new(&database.database_url()).unwrap();
        let writer = RowWriter::new(database.pool(), Arc::clone(&catalog), canceller.clone(), LIMITS);
        let rows = PgLocalRows::new(database.pool(), catalog, canceller);
        let team = TeamId(Uuid::from_u128(3));
        let session =
            |user, teams| Session { user: UserId(Uuid::from_u128(user)), teams, token: SessionTokenId(Uuid::nil()) };
        Self { database, client, writer, rows, ada: session(1, vec![team]), bob: session(2, vec![]), team }
    }

    async fn insert(&self, resource: &str, body: &str) -> Result<WrittenRow, Fault> {
        self.writer.insert(&self.ada, &name(resource), body.as_bytes(), soon()).await
    }

    async fn update(&self, session: &Session, id: &RowId, body: &str) -> Result<WrittenRow, Fault> {
        self.writer.update(session, &name("tasks"), id, body.as_bytes(), soon()).await
    }

    async fn import(&self, resource: &str, body: &str) -> Result<Imported, Fault> {
        let chunks: Vec<_> = body.as_bytes().chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        self.writer.import(&self.ada, &name(resource), stream::iter(chunks), soon()).await
    }

    async fn read(&self, resource: &str, id: &RowId) -> Bytes {
        let right = ReadRight::of_session(&self.ada, name(resource), NonZeroU32::MIN);
        self.rows.get(right, id.clone(), soon()).await.unwrap().json
    }

    /// Ends a process of the server.
    async fn cut(&self, pid: i32) {
        self.client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    }

    /// The server's process that waits for something of this kind, once there is one.
    async fn waiting(&self, kind: &str) -> i32 {
        let watch = self.database.connect().await;
        until("a process of the server waits", async || waiting_in(&watch, kind).await).await
    }

    async fn count(&self, table: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }
}

async fn waiting_in(watch: &tokio_postgres::Client, kind: &str) -> Option<i32> {
    let sql = "SELECT pid FROM pg_stat_activity
               WHERE datname = current_database() AND $1 IN (wait_event_type, wait_event) LIMIT 1";
    watch.query_opt(sql, &[&kind]).await.unwrap().map(|row| row.get(0))
}

async fn until<T>(what: &str, is: impl AsyncFn() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = is().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("{what}"))
}

/// Makes every commit of new tasks take a minute.
const SLOW_COMMIT: &str = "
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION dawdle()";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn name(resource: &str) -> ResourceName {
    ResourceName::parse(resource).unwrap()
}

fn value(row: &WrittenRow) -> Value {
    serde_json::from_slice(&row.json).unwrap()
}

fn refused<T>(result: Result<T, Fault>) -> (FaultKind, String) {
    let Err(fault) = result else { panic!("it was not refused") };
    (fault.kind, fault.message.map_or(String::new(), Into::into))
}

#[tokio::test]
async fn an_inserted_row_reads_as_it_was_returned() {
    let site = Site::new().await;
    let body = json!({"title": "a \"b\"\n\u{2028}", "priority": 1, "due_at": "2026-11-02T10:30:00+01:00",
                      "team_id": site.team.to_string()});
    let row = site.insert("tasks", &body.to_string()).await.unwrap();
    assert_eq!(site.read("tasks", &row.id).await, row.json);
    let mut got = value(&row);
    let (created, updated) = (got["created_at"].take(), got["updated_at"].take());
    assert_eq!(created, updated);
    assert_eq!(
        got,
        json!({"id": row.id.as_str(), "created_at": null, "owner_id": site.ada.user.to_string(),
               "team_id": site.team.to_string(), "title": "a \"b\"\n\u{2028}", "body": "", "status": "open", "priority": 1,
               "due_at": "2026-11-02T09:30:00.000000Z", "updated_at": null, "_source": "local"})
    );
    assert_eq!(Uuid::parse_str(row.id.as_str()).unwrap().get_version_num(), 7);

    let given = r#"{"id":"0198C8A0-5f4e-7cc3-98c4-dc0c0c07398f","title":"x","team_id":null}"#;
    let row = site.insert("tasks", given).await.unwrap();
    assert_eq!(row.id.as_str(), "0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f");
    assert_eq!(
        refused(site.insert("tasks", given).await),
        (FaultKind::Conflict, "id: a row with this id exists".to_owned())
    );
}

#[tokio::test]
async fn a_refused_row_names_the_field_and_leaves_nothing() {
    let site = Site::new().await;
    let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(501));
    let invalid = FaultKind::InvalidRequest;
    for (body, kind, message) in [
        ("[1]", invalid, "the row must be a JSON object"),
        ("{", invalid, "the row must be a JSON object"),
        (r#"{"title":"x","title":"y"}"#, invalid, "title: is given twice"),
        (r#"{"title":"x","colour":1}"#, invalid, "colour: tasks has no such field"),
        (r#"{"title":"x","_source":"local"}"#, invalid, "_source: tasks has no such field"),
        (r#"{"title":"x","owner_id":null}"#, invalid, "owner_id: is always the session's user and cannot be given"),
        (
            r#"{"title":"x","created_at":"2026-01-01T00:00:00Z"}"#,
            invalid,
            "created_at: is set by the node; only an import may give it",
        ),
        (
            r#"{"title":"x","updated_at":"2026-01-01T00:00:00Z"}"#,
            invalid,
            "updated_at: is set by the node and cannot be given",
        ),
        (r#"{"title":1}"#, invalid, "title: takes a text"),
        (r#"{"title":null}"#, invalid, "title: must not be null"),
        (r#"{"title":"\u0000"}"#, invalid, "title: must not hold the character \\u0000"),
        (r#"{"title":"x","priority":40000}"#, invalid, "priority: takes a whole number from -32768 to 32767"),
        (r#"{"title":"x","id":"7"}"#, invalid, r#"id: takes a UUID such as "0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f""#),
        (r#"{}"#, invalid, "title: is required"),
        (r#"{"title":""}"#, invalid, "title: is not a value that tasks accepts"),
        (&long, invalid, "title: is not a value that tasks accepts"),
        (r#"{"title":"x","status":"lost"}"#, invalid, "status: is not a value that tasks accepts"),
        (r#"{"title":"x","priority":9}"#, invalid, "priority: is not a value that tasks accepts"),
        (
            r#"{"title":"x","team_id":"00000000-0000-0000-0000-000000000004"}"#,
            FaultKind::Forbidden,
            "team_id: is none of your teams",
        ),
    ] {
        assert_eq!(refused(site.insert("tasks", body).await), (kind, message.to_owned()), "{body}");
    }
    assert_eq!(site.count("tasks").await, 0);
    assert_eq!(
        refused(site.insert("credentials", "{}").await),
        (FaultKind::Forbidden, "credentials cannot be written through this node".to_owned())
    );
    assert_eq!(refused(site.insert("users", "{}").await), (FaultKind::NotFound, "no such resource".to_owned()));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_only_own_rows() {
    let site = Site::new().await;
    let row = site.insert("tasks", r#"{"title":"x","body":"b"}"#).await.unwrap();
    let body = format!(r#"{{"status":"done","team_id":"{}"}}"#, site.team);
    let changed = site.update(&site.ada, &row.id, &body).await.unwrap();
    assert_eq!(site.read("tasks", &row.id).await, changed.json);
    let (before, after) = (value(&row), value(&changed));
    for field in ["id", "created_at", "owner_id", "title", "body", "priority"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!((after["status"].as_str(), after["team_id"].as_str()), (Some("done"), Some(&*site.team.to_string())));
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str());

    let not_found = (FaultKind::NotFound, "no such row".to_owned());
    assert_eq!(refused(site.update(&site.bob, &row.id, r#"{"title":"y"}"#).await), not_found);
    for id in ["0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f", "7"] {
        let id = RowId::parse(id).unwrap();
        assert_eq!(refused(site.update(&site.ada, &id, r#"{"title":"y"}"#).await), not_found);
        assert_eq!(refused(site.writer.delete(&site.ada, &name("tasks"), &id, soon()).await), not_found);
    }
    for (body, message) in [
        ("{}", "the body names no field to change"),
        (r#"{"id":"0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f"}"#, "id: a row keeps its id"),
        (r#"{"created_at":"2026-01-01T00:00:00Z"}"#, "created_at: is set by the node; only an import may give it"),
        (r#"{"status":"lost"}"#, "status: is not a value that tasks accepts"),
    ] {
        let refusal = refused(site.update(&site.ada, &row.id, body).await);
        assert_eq!(refusal, (FaultKind::InvalidRequest, message.to_owned()), "{body}");
    }
    assert_eq!(site.read("tasks", &row.id).await, changed.json);
}

#[tokio::test]
async fn a_delete_takes_an_own_row_once() {
    let site = Site::new().await;
    let row = site.insert("tasks", r#"{"title":"x"}"#).await.unwrap();
    let not_found = (FaultKind::NotFound, "no such row".to_owned());
    assert_eq!(refused(site.writer.delete(&site.bob, &name("tasks"), &row.id, soon()).await), not_found);
    assert_eq!(site.writer.delete(&site.ada, &name("tasks"), &row.id, soon()).await, Ok(()));
    assert_eq!(refused(site.writer.delete(&site.ada, &name("tasks"), &row.id, soon()).await), not_found);
    assert_eq!(site.count("tasks").await, 0);
}

#[tokio::test]
async fn an_import_writes_every_line() {
    let site = Site::new().await;
    let mut body = String::new();
    for number in 0..57 {
        let line = match number % 3 {
            0 => json!({"title": format!("t{number}"), "tags": ["a", "b\"c"]}),
            1 => json!({"tags": [], "title": format!("t{number}"), "created_at": "2020-02-29T00:00:00Z"}),
            _ => json!({"title": format!("t{number}"), "team_id": site.team.to_string(), "body": "ä\n"}),
        };
        body.push_str(&format!("{line}\n\n"));
    }
    assert_eq!(site.import("notes", &body).await, Ok(Imported { rows: 57 }));
    let old = "notes WHERE created_at = '2020-02-29Z' AND updated_at > created_at AND tags = '{}'";
    assert_eq!(site.count(old).await, 19);
    assert_eq!(site.count("notes WHERE tags = '{a,\"b\\\"c\"}' AND team_id IS NULL").await, 19);
    assert_eq!(site.count("notes WHERE body = E'ä\\n' AND team_id IS NOT NULL").await, 19);
    assert_eq!(site.import("notes", "\n").await, Ok(Imported { rows: 0 }));
}

#[tokio::test]
async fn an_import_with_a_bad_line_names_it_and_writes_nothing() {
    let site = Site::new().await;
    let lines = |count: usize| (0..count).map(|n| format!("{{\"title\":\"t{n}\"}}\n")).collect::<String>();
    let invalid = FaultKind::InvalidRequest;
    let twice = r#"{"id":"0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f","title":"x"}"#;
    for (body, kind, message) in [
        (format!("{}oops\n", lines(25)), invalid, "line 26: the row must be a JSON object"),
        (
            format!("{}{{\"title\":\"x\",\"priority\":0}}", lines(25)),
            invalid,
            "line 26: priority: is not a value that tasks accepts",
        ),
        (
            format!("{}{{\"title\":\"\"}}\n{}", lines(25), lines(9)),
            invalid,
            "line 26: title: is not a value that tasks accepts",
        ),
        (format!("{}{twice}\n{twice}\n", lines(3)), FaultKind::Conflict, "line 5: id: a row with this id exists"),
        (lines(1_001), FaultKind::TooLarge, "line 1001: an import has at most 1000 rows"),
        (
            format!("{{\"title\":\"{}\"}}", "x".repeat(10_000)),
            FaultKind::TooLarge,
            "line 1: is longer than 10000 bytes",
        ),
        (format!("{}{{\"body\":\"x\"}}", lines(2)), invalid, "line 3: title: is required"),
    ] {
        assert_eq!(refused(site.import("tasks", &body).await), (kind, message.to_owned()));
        assert_eq!(site.count("tasks").await, 0, "{message}");
    }
    let broken =
        stream::iter([Ok(Bytes::from_static(b"{\"title\":\"x\"}\n")), Err(Fault::invalid("the body broke off"))]);
    let refusal = refused(site.writer.import(&site.ada, &name("tasks"), broken, soon()).await);
    assert_eq!(refusal, (invalid, "the body broke off".to_owned()));
    assert_eq!(site.count("tasks").await, 0);
    assert_eq!(site.import("tasks", &lines(3)).await, Ok(Imported { rows: 3 }));
}

#[tokio::test]
async fn a_silent_sender_ends_with_the_deadline_and_holds_no_connection() {
    let site = Site::new().await;
    let silent = stream::pending::<Result<Bytes, Fault>>();
    let deadline = Instant::now() + Duration::from_millis(50);
    let refusal = refused(site.writer.import(&site.ada, &name("tasks"), silent, deadline).await);
    assert_eq!(refusal, (FaultKind::TimedOut, NOTHING_WRITTEN.to_owned()));
    let open = "pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    assert_eq!(site.count(open).await, 0);
}

#[tokio::test]
async fn an_operators_types_are_written_and_read_back() {
    let sql = "CREATE TYPE mood AS ENUM ('calm', 'angry');
        CREATE TABLE tickets (no integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, who text NOT NULL, at timestamptz NOT NULL,
            mood mood, price numeric(10,2), ratio double precision, part real, day date, raw json, doc jsonb, ok boolean,
            ref uuid, word varchar(5), list varchar[], twice int GENERATED ALWAYS AS (7) STORED);
        CREATE INDEX ON tickets (who, at DESC, no DESC);";
    let columns = ["mood", "price", "ratio", "part", "day", "raw", "doc", "ok", "ref", "word", "list", "twice"];
    let tickets = ResourceConfig {
        name: name("tickets"),
        table: "public.tickets".to_owned(),
        id: "no".to_owned(),
        owner: "who".to_owned(),
        team: None,
        order: "at".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        filterable: Vec::new(),
        searchable: Vec::new(),
        sensitive: false,
        writable: true,
    };
    let site = Site::with(sql, vec![tickets]).await;
    let body = json!({"mood": "angry", "price": 12.5, "ratio": 0.1, "part": 0.1, "day": "2026-02-28", "raw": {"a": [1, null]},
                      "doc": {"b": "ä"}, "ok": false, "ref": "00000000-0000-0000-0000-00000000000f", "word": "hällo",
                      "list": ["x", "y"], "team_id": null});
    let row = site.insert("tickets", &body.to_string()).await.unwrap();
    assert_eq!((row.id.as_str(), &site.read("tickets", &row.id).await), ("1", &row.json));
    let got = value(&row);
    for (field, expected) in body.as_object().unwrap() {
        assert_eq!(&got[field], expected, "{field}");
    }
    assert_eq!(got["twice"], 7);
    let invalid = FaultKind::InvalidRequest;
    for (body, message) in [
        (r#"{"mood":"sad"}"#, "mood: takes one of: calm, angry"),
        (r#"{"word":"hällo!"}"#, "word: is longer than 5 characters"),
        (r#"{"part":1e300}"#, "part: takes a number"),
        (r#"{"price":1e20}"#, "a value is not one that tickets accepts"),
        (r#"{"day":"2026-02-29"}"#, r#"day: takes a date such as "2026-11-02""#),
        (r#"{"doc":{"a":"\u0000"}}"#, r"doc: must not hold the character \u0000"),
        (r#"{"list":["x",null]}"#, "list: takes a list of texts"),
        (r#"{"twice":1}"#, "twice: is set by the node and cannot be given"),
        (r#"{"team_id":"00000000-0000-0000-0000-000000000003"}"#, "team_id: rows of tickets have no team"),
        (r#"{"id":"x"}"#, "id: takes a whole number of at most 64 bits"),
        (r#"{"id":"99999999999"}"#, "a value is not one that tickets accepts"),
    ] {
        assert_eq!(refused(site.insert("tickets", body).await), (invalid, message.to_owned()), "{body}");
    }
    let row = site.insert("tickets", "{}").await.unwrap();
    assert!(value(&row)["mood"].is_null());
    assert_eq!(site.import("tickets", "{}\n{}\n{\"id\":\"4000\"}\n").await, Ok(Imported { rows: 3 }));
    assert_eq!(site.count("tickets").await, 5);
}

#[tokio::test]
async fn a_write_survives_connections_that_were_cut_before() {
    let site = Site::new().await;
    for _ in 0..3 {
        site.insert("tasks", r#"{"title":"x"}"#).await.unwrap();
        site.database.cut_connections().await;
    }
    let count = site.database.connect().await.query_one("SELECT count(*) FROM tasks", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 3);
}

/// As long as the statement waits, it would go on with the lock: the deadline, and not its holder, has to end it.
#[tokio::test]
async fn a_write_past_its_deadline_is_undone_and_its_connection_serves_again() {
    let site = Site::new().await;
    let watch = site.database.connect().await;
    site.insert("tasks", r#"{"title":"w"}"#).await.unwrap();
    site.client.batch_execute("BEGIN; LOCK TABLE tasks").await.unwrap();
    // On a slow machine the first deadlines are over before the statement is there.
    let mut waited = false;
    for time in [200, 2_000, 20_000].map(Duration::from_millis) {
        let (writer, ada) = (site.writer.clone(), site.ada.clone());
        let writing = tokio::spawn(async move {
            writer.insert(&ada, &name("tasks"), br#"{"title":"x"}"#, Instant::now() + time).await
        });
        let seen = until("it waits, or is over", async || match waiting_in(&watch, "Lock").await {
            Some(_) => Some(true),
            None => writing.is_finished().then_some(false),
        });
        waited = seen.await;
        let (kind, message) = refused(writing.await.unwrap());
        assert_eq!(kind, FaultKind::TimedOut);
        assert!([IN_DOUBT, NOTHING_WRITTEN].contains(&message.as_str()), "{message}");
        until("nobody waits", async || waiting_in(&watch, "Lock").await.is_none().then_some(())).await;
        if waited {
            break;
        }
    }
    assert!(waited);
    site.client.batch_execute("ROLLBACK").await.unwrap();
    site.insert("tasks", r#"{"title":"y"}"#).await.unwrap();
    assert_eq!(site.count("tasks").await, 2);
}

/// The server says that it ended the statement, and so nobody has to guess.
#[tokio::test]
async fn a_write_that_the_server_cut_off_is_not_in_doubt() {
    let site = Site::new().await;
    site.client.batch_execute(SLOW_COMMIT).await.unwrap();
    let cancelled = async {
        let pid = site.waiting("PgSleep").await;
        site.client.execute("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
    };
    let ((), refusal) = join!(cancelled, site.insert("tasks", r#"{"title":"x"}"#));
    assert_eq!(refused(refusal), (FaultKind::TimedOut, NOTHING_WRITTEN.to_owned()));
    assert_eq!(site.count("tasks").await, 0);
}

/// Cut off where it still waits for a connection.
#[tokio::test]
async fn a_write_that_never_reached_the_server_says_so() {
    let site = Site::new().await;
    let over = Instant::now();
    let refusal = refused(site.writer.insert(&site.ada, &name("tasks"), br#"{"title":"x"}"#, over).await);
    assert_eq!(refusal, (FaultKind::TimedOut, NOTHING_WRITTEN.to_owned()));
    assert_eq!(site.count("tasks").await, 0);
}

#[tokio::test]
async fn a_write_whose_commit_nobody_heard_of_is_in_doubt() {
    let site = Site::new().await;
    site.client.batch_execute(SLOW_COMMIT).await.unwrap();
    let write = |time| {
        let (writer, ada) = (site.writer.clone(), site.ada.clone());
        let title = br#"{"title":"x"}"#;
        tokio::spawn(async move { writer.insert(&ada, &name("tasks"), title, Instant::now() + time).await })
    };
    // The connection breaks.
    let broken = (FaultKind::Unavailable, IN_DOUBT.to_owned());
    let writing = write(Duration::from_secs(50));
    site.cut(site.waiting("PgSleep").await).await;
    assert_eq!(refused(writing.await.unwrap()), broken);
    let (cut, imported) = join!(
        async { site.cut(site.waiting("PgSleep").await).await },
        site.import("tasks", "{\"title\":\"a\"}\n{\"title\":\"b\"}\n")
    );
    assert_eq!((cut, refused(imported)), ((), broken));
    // The server says nothing at all.
    let writing = write(Duration::from_secs(8));
    let stopped = Stopped::new(site.waiting("PgSleep").await);
    assert_eq!(refused(writing.await.unwrap()), (FaultKind::TimedOut, IN_DOUBT.to_owned()));
    drop(stopped);
}

/// A process that stands still until this is dropped.
struct Stopped(rustix::process::Pid);

impl Stopped {
    fn new(pid: i32) -> Self {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        rustix::process::kill_process(self.0, rustix::process::Signal::CONT).unwrap();
    }
}
