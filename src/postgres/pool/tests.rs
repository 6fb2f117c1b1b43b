use std::time::Instant;

use super::*;
use crate::postgres::testing::{TestDatabase, own_cluster};

fn parse(text: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    DatabaseUrl::parse(&SecretString::from(text.to_owned()))
}

#[test]
fn a_url_shows_where_but_never_with_which_password() {
    let url = parse("postgresql://ada:hunter2@db.example:6000/mosaic?sslmode=verify-full").unwrap();
    assert_eq!(url.to_string(), "db.example:6000/mosaic");
    let debug = format!("{url:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    assert_eq!(url.tls(), &TlsMode::Verified { roots: None });
    assert!(!url.is_local());
}

#[test]
fn sockets_loopback_and_several_hosts_are_understood() {
    let socket = parse("postgresql://m:p@/mosaic?host=%2Frun%2Fpg&port=5432").unwrap();
    assert_eq!(socket.to_string(), "/run/pg/mosaic");
    assert!(socket.is_local());
    assert!(parse("postgres://m:p@127.0.0.1/mosaic").unwrap().is_local());
    let many = parse("postgresql://m:p@a:1,b:2/mosaic?target_session_attrs=read-write").unwrap();
    assert_eq!(many.to_string(), "a:1,b:2/mosaic");
}

#[test]
fn a_url_is_refused_with_the_reason_and_without_its_secret() {
    for (text, expected) in [
        ("mysql://a:hunter2@h/d", "it does not start with postgresql:// or postgres://"),
        (
            "postgresql://a:hunter2@h/d?sslmode=prefer",
            "sslmode=prefer and sslmode=allow fall back to plain text without a word; say verify-full, or disable",
        ),
        (
            "postgresql://a:hunter2@h/d?sslmode=on",
            "sslmode is 'on'; known are disable, require, verify-ca and verify-full",
        ),
        ("postgresql://a:hunter2@h/", "it names no database"),
        ("postgresql://h/d", "it names no user"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    let malformed = parse("postgresql://a:hunter2@h:port/d").unwrap_err().to_string();
    assert!(malformed.starts_with("it cannot be read") && !malformed.contains("hunter2"), "{malformed}");
}

#[test]
fn a_root_certificate_file_that_cannot_be_read_is_named() {
    let url = parse("postgresql://a:b@h/d?sslrootcert=%2Fnowhere%2Froot.pem").unwrap();
    assert_eq!(url.tls(), &TlsMode::Verified { roots: Some("/nowhere/root.pem".into()) });
    let error = url.pool(&PoolOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("the root certificates in /nowhere/root.pem cannot be read"), "{error}");
}

#[test]
fn what_the_server_says_becomes_the_fault_a_caller_can_act_on() {
    let kind = |code: &str| fault_kind(Some(&SqlState::from_code(code)));
    assert_eq!(fault_kind(None), FaultKind::Unavailable);
    assert_eq!(kind("57014"), FaultKind::TimedOut);
    for unavailable in ["57P01", "57P03", "53300", "08006", "40001", "25006", "28P01"] {
        assert_eq!(kind(unavailable), FaultKind::Unavailable, "{unavailable}");
    }
    for defect in ["42601", "42P01", "23505", "22P02"] {
        assert_eq!(kind(defect), FaultKind::Internal, "{defect}");
    }
}

#[tokio::test]
async fn an_error_in_the_log_names_the_constraint_but_not_the_value() {
    let client = TestDatabase::empty().await.connect().await;
    client.batch_execute("CREATE TABLE t (secret text UNIQUE); INSERT INTO t VALUES ('canary')").await.unwrap();
    let error = client.batch_execute("INSERT INTO t VALUES ('canary')").await.unwrap_err();
    assert_eq!(SqlCause(&error).to_string(), "ERROR 23505, table t, constraint t_secret_key");
}

#[tokio::test]
async fn a_statement_over_its_time_is_cut_off_and_told_as_timed_out() {
    let database = TestDatabase::empty().await;
    let options = PoolOptions { statement_timeout: Duration::from_millis(50), ..PoolOptions::default() };
    let client = database.database_url().pool(&options).unwrap().get().await.unwrap();
    let fault = client.batch_execute("SELECT pg_sleep(30)").await.or_fault("sleep").unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::TimedOut, Stage::Database));
}

#[tokio::test]
async fn a_pool_heals_by_itself_when_its_connections_were_cut() {
    let database = TestDatabase::empty().await;
    let pool = database.pool();
    drop(pool.get().await.unwrap());
    database.cut_connections().await;
    // The cut reaches us a moment later: whoever asks in that moment gets a fault, everybody after it a fresh connection.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let client = pool.get().await.unwrap();
        if client.simple_query("SELECT 1").await.or_fault("ask").is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "the pool did not heal");
    }
}

#[tokio::test]
async fn a_stopped_server_is_unavailable_and_a_frozen_one_within_the_time_set() {
    let mut own = own_cluster();
    own.cluster.start().unwrap();
    let url = DatabaseUrl::parse(&own.cluster.url("postgres")).unwrap();
    let options = PoolOptions { create: Duration::from_millis(300), ..PoolOptions::default() };
    let pool = url.pool(&options).unwrap();
    own.cluster.freeze();
    let started = Instant::now();
    let fault = pool.get().await.map(drop).or_fault("dial").unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::Unavailable, Stage::Database));
    assert!(started.elapsed() < Duration::from_secs(5));
    own.cluster.thaw();
    own.cluster.stop();
    let fault = pool.get().await.map(drop).or_fault("dial").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    own.cluster.start().unwrap();
    // On a busy machine a login can take longer than this pool allows; it heals all the same.
    let give_up = Instant::now() + Duration::from_secs(30);
    while pool.get().await.is_err() {
        assert!(Instant::now() < give_up, "the pool did not heal");
    }
}

#[tokio::test]
async fn a_full_pool_refuses_after_its_wait() {
    let database = TestDatabase::empty().await;
    let options = PoolOptions { max_size: 1, wait: Duration::from_millis(20), ..PoolOptions::default() };
    let pool = database.database_url().pool(&options).unwrap();
    let held = pool.get().await.unwrap();
    let fault = pool.get().await.map(drop).or_fault("dial").unwrap_err();
    assert_eq!((fault.kind, fault.retryable), (FaultKind::Unavailable, true));
    drop(held);
    assert!(pool.get().await.is_ok());
}

#[tokio::test]
async fn a_statement_sees_what_was_committed_while_it_waited_whatever_the_default_of_the_database_is() {
    let database = TestDatabase::new().await;
    let client = database.connect().await;
    let name: String = client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let other = format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'");
    client.batch_execute(&other).await.unwrap();
    let pooled = database.pool().get().await.unwrap();
    let shown = pooled.query_one("SHOW default_transaction_isolation", &[]).await.unwrap();
    assert_eq!(shown.get::<_, &str>(0), "read committed");
}
