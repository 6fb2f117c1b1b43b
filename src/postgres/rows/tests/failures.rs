//! What happens when the database is slow, gone or changed.

use super::*;

/// Makes every read of tasks take as long as a test likes.
const SLOW: &str = "ALTER TABLE tasks RENAME TO real_tasks;
    CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN true; END $$;
    CREATE VIEW tasks AS SELECT * FROM real_tasks WHERE slow()";

async fn working(site: &Site) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
    site.client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Waits until `count` statements run.
async fn until_working(site: &Site, count: i64) {
    let waiting = async {
        while working(site).await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), waiting).await.unwrap();
}

#[tokio::test]
async fn a_deadline_ends_the_statement_on_the_server_and_the_connection_serves_again() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.task(10, ada, None, 1).await;
    site.client.batch_execute(SLOW).await.unwrap();
    let mine = right(ada, &[], "tasks");
    let fault = site.try_list(&mine, 10, None, "{}", Instant::now() + Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage, fault.retryable), (FaultKind::TimedOut, Stage::Database, true));
    until_working(&site, 0).await;
    site.client.batch_execute("DROP VIEW tasks; ALTER TABLE real_tasks RENAME TO tasks").await.unwrap();
    assert_eq!(numbers(&site.list(&mine, 10, None, "{}").await), [10]);
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_statement() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.task(10, ada, None, 1).await;
    site.client.batch_execute(SLOW).await.unwrap();
    let reading = tokio::spawn(LocalRows::get(
        &site.rows,
        right(ada, &[], "tasks"),
        RowId::parse(&Uuid::from_u128(10).to_string()).unwrap(),
        soon() + Duration::from_secs(60),
    ));
    until_working(&site, 1).await;
    reading.abort();
    until_working(&site, 0).await;
}

#[tokio::test]
async fn a_connection_that_was_cut_is_replaced_without_the_caller_noticing() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.task(10, ada, None, 1).await;
    let mine = right(ada, &[], "tasks");
    for _ in 0..3 {
        assert_eq!(numbers(&site.list(&mine, 10, None, "{}").await), [10]);
        site.database.cut_connections().await;
    }
}

#[tokio::test]
async fn without_a_database_the_fault_is_unavailable_and_it_heals() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.task(10, ada, None, 1).await;
    let mine = right(ada, &[], "tasks");
    let forbid = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", site.database.name());
    let allow = forbid.replace("false", "true");
    let other = TestDatabase::empty().await.connect().await;
    other.batch_execute(&forbid).await.unwrap();
    site.database.cut_connections().await;
    let fault = site.try_list(&mine, 10, None, "{}", soon()).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage, fault.message), (FaultKind::Unavailable, Stage::Database, None));
    other.batch_execute(&allow).await.unwrap();
    assert_eq!(numbers(&site.list(&mine, 10, None, "{}").await), [10]);
}

#[tokio::test]
async fn a_statement_that_its_table_outgrew_is_prepared_anew() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.client
        .execute("INSERT INTO credentials (id, owner_id, name) VALUES ($1, $2, 'n')", &[&ada.0, &ada.0])
        .await
        .unwrap();
    let mine = right(ada, &[], "credentials");
    assert_eq!(site.list(&mine, 10, None, "{}").await.rows.len(), 1);
    site.client.batch_execute("ALTER TABLE credentials ALTER COLUMN created_at TYPE timestamptz(3)").await.unwrap();
    assert_eq!(site.list(&mine, 10, None, "{}").await.rows.len(), 1);
}

#[tokio::test]
async fn a_read_cannot_write() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.task(10, ada, None, 1).await;
    site.client
        .batch_execute(
            "ALTER TABLE tasks RENAME TO real_tasks;
             CREATE FUNCTION sneaky() RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN DELETE FROM real_tasks; RETURN true; END $$;
             CREATE VIEW tasks AS SELECT * FROM real_tasks WHERE sneaky()",
        )
        .await
        .unwrap();
    let fault = site.try_list(&right(ada, &[], "tasks"), 10, None, "{}", soon()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    let left: i64 = site.client.query_one("SELECT count(*) FROM real_tasks", &[]).await.unwrap().get(0);
    assert_eq!(left, 1);
}

#[tokio::test]
async fn statements_kept_per_connection_are_bounded() {
    let site = Site::new().await;
    let ada = site.user(1).await;
    site.task(10, ada, None, 1).await;
    let fields = ["status", "priority", "due_at", "updated_at", "id", "created_at", "owner_id", "team_id"];
    for mask in 0..1_u32 << fields.len() {
        let filter: Vec<_> = (0..fields.len())
            .filter(|bit| mask & (1 << bit) != 0)
            .map(|bit| format!("\"{}\":null", fields[bit]))
            .collect();
        let filter = format!("{{{}}}", filter.join(","));
        for limit in [1, 50] {
            site.list(&right(ada, &[], "tasks"), limit, None, &filter).await;
        }
    }
    let lease = site.rows.connections.lease("look").await.unwrap();
    let kept = lease.simple_query("SELECT name FROM pg_prepared_statements").await.unwrap();
    let kept = kept.iter().filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_))).count();
    assert!((1..=256).contains(&kept), "{kept}");
}
