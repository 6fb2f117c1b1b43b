use std::time::Duration;

use mosaic::postgres::embedded::{ClusterOptions, PrivateCluster};
use mosaic::postgres::pool::{DatabaseUrl, PoolOptions};
use mosaic::postgres::testing::{TemporaryDirectory, cluster_options};
use secrecy::{ExposeSecret, SecretString};

use super::Subject;
use crate::cpu::Family;

/// A private Postgres that would survive a power cut: every commit reaches the disk.
pub(crate) struct Cluster {
    cluster: PrivateCluster,
    _directory: TemporaryDirectory,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let directory = TemporaryDirectory::new();
        let options = ClusterOptions {
            durable: true,
            shared_buffers_mib: 256,
            max_connections: 300,
            stop_within: Duration::from_secs(20),
            ..cluster_options(directory.path())
        };
        let mut cluster = PrivateCluster::prepare(options).expect("a cluster");
        cluster.start().expect("Postgres starts");
        Self { cluster, _directory: directory }
    }

    pub(crate) fn family(&self) -> Family {
        Family(self.cluster.pid().expect("Postgres runs"))
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.cluster.url(database).expose_secret().to_owned()
    }

    /// Makes a database; its URL.
    pub(crate) async fn create(&self, database: &str) -> String {
        let statement = format!("CREATE DATABASE {database} TEMPLATE template0");
        self.connect("postgres").await.batch_execute(&statement).await.expect("a database");
        self.url(database)
    }

    pub(crate) async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let url = DatabaseUrl::parse(&SecretString::from(self.url(database))).expect("the cluster's own URL");
        let options = PoolOptions { statement_timeout: Duration::from_secs(3_600), ..PoolOptions::default() };
        url.connect(&options).await.expect("a connection")
    }

    /// So many tasks more, one second apart, half the subject's own and half of her teams.
    pub(crate) async fn fill(&self, database: &str, subject: &Subject, rows: u64) {
        let client = self.connect(database).await;
        let [one, other] = subject.teams.as_slice() else { panic!("two teams") };
        client
            .batch_execute(&format!(
                "INSERT INTO tasks (id, owner_id, team_id, title, body, status, priority, created_at, updated_at)
                 SELECT gen_random_uuid(), '{owner}', (ARRAY[NULL, NULL, '{one}', '{other}']::uuid[])[1 + n % 4],
                        'Task number ' || n, repeat('What is to be done about it. ', 4), 'open', 1 + n % 5, at, at
                 FROM (SELECT n, now() - n * interval '1 second' AS at FROM generate_series(1, {rows}) AS n) AS numbered",
                owner = subject.id
            ))
            .await
            .expect("the rows");
        client.batch_execute("VACUUM ANALYZE tasks").await.expect("statistics");
        // What filling has left in memory would be written out during somebody's round.
        client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
    }
}
