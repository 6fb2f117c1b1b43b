use super::*;
use crate::postgres::pool::{DatabaseUrl, PoolOptions};
use crate::postgres::testing::{cluster_options, own_cluster};

async fn one(cluster: &PrivateCluster) -> i32 {
    let url = DatabaseUrl::parse(&cluster.url(DATABASE)).unwrap();
    let client = url.connect(&PoolOptions::default()).await.unwrap();
    client.query_one("SELECT 1", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_cluster_is_made_started_and_found_again_after_a_restart() {
    let mut own = own_cluster();
    own.cluster.start().unwrap();
    let url = DatabaseUrl::parse(&own.cluster.url(DATABASE)).unwrap();
    let client = url.connect(&PoolOptions::default()).await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
    own.cluster.stop();
    assert!(client.is_closed() || client.simple_query("").await.is_err());

    let mut again = PrivateCluster::prepare(own.cluster.options.clone()).unwrap();
    again.start().unwrap();
    let client = url.connect(&PoolOptions::default()).await.unwrap();
    assert_eq!(client.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 7);
}

#[tokio::test]
async fn a_server_left_behind_is_stopped_and_its_data_served_again() {
    let mut own = own_cluster();
    own.cluster.start().unwrap();
    let left = own.cluster.pid().unwrap();
    // As after kill -9 of a node whose kernel did not end the server: it runs, and nobody holds it.
    let mut second = PrivateCluster::prepare(own.cluster.options.clone()).unwrap();
    assert!(own.cluster.ended().is_some(), "process {left} still runs");
    second.start().unwrap();
    assert_eq!(one(&second).await, 1);
}

#[tokio::test]
async fn a_killed_server_starts_again_at_once() {
    let mut own = own_cluster();
    own.cluster.start().unwrap();
    own.cluster.kill();
    while own.cluster.ended().is_none() {
        thread::sleep(POLL);
    }
    own.cluster.start().unwrap();
    assert_eq!(one(&own.cluster).await, 1);
}

#[tokio::test]
async fn a_stale_pid_file_that_names_another_process_is_no_obstacle() {
    let mut own = own_cluster();
    own.cluster.start().unwrap();
    own.cluster.stop();
    // This process is alive and is no server.
    let stale = format!("{}\n/nowhere\n0\n5432\n\n\n\nready\n", std::process::id());
    fs::write(own.cluster.root().join("data/postmaster.pid"), stale).unwrap();
    let mut again = PrivateCluster::prepare(own.cluster.options.clone()).unwrap();
    again.start().unwrap();
    assert_eq!(one(&again).await, 1);
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_served_on_loopback_with_the_same_password() {
    let own = own_cluster();
    let mut options = own.cluster.options.clone();
    options.root = own.cluster.root().parent().unwrap().join("l".repeat(100));
    let mut long = PrivateCluster::prepare(options).unwrap();
    assert!(matches!(long.address, Address::Loopback(_)));
    long.start().unwrap();
    assert_eq!(one(&long).await, 1);
}

#[tokio::test]
async fn nobody_logs_in_without_the_password() {
    let mut own = own_cluster();
    own.cluster.start().unwrap();
    own.cluster.options.password = SecretString::from("guessed".to_owned());
    let url = DatabaseUrl::parse(&own.cluster.url(DATABASE)).unwrap();
    let error = url.connect(&PoolOptions::default()).await.err().unwrap();
    assert!(error.to_string().contains("28P01"), "{error}");
}

#[test]
fn a_half_made_cluster_is_made_anew() {
    let own = own_cluster();
    let options = own.cluster.options.clone();
    fs::rename(options.root.join("data"), options.root.join("data.new")).unwrap();
    fs::remove_file(options.root.join("data.new/PG_VERSION")).unwrap();
    let mut again = PrivateCluster::prepare(options).unwrap();
    again.start().unwrap();
}

#[test]
fn a_way_that_the_servers_user_cannot_walk_is_named() {
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let stranger = ServerUser { uid: 4_000_001, gid: 4_000_001 };
    let error = check_way(&cluster_options(closed.path()).root, Some(stranger)).err().unwrap();
    assert!(matches!(&error, EmbeddedError::Barred { directory } if directory == closed.path()), "{error}");
    assert_eq!(
        error.remedy(),
        format!(
            "use a state_dir that everybody may pass through, such as /var/lib/mosaic, or: chmod o+x {}",
            closed.path().display()
        )
    );
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let mut own = own_cluster();
    own.cluster.options.max_connections = 0;
    let error = own.cluster.start().err().unwrap();
    assert!(matches!(&error, EmbeddedError::Exited { log, .. } if log.contains("max_connections")), "{error}");
}
