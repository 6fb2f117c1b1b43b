use std::fmt::Write as _;

use tokio::time::Instant;
use tokio_postgres::{Client, Statement};

use crate::ground::{Cluster, Subject};

/// A database that sees the tables of others as foreign tables, and asks them all at once.
pub(crate) struct Foreign {
    client: Client,
    union: Statement,
}

impl Foreign {
    /// One server per database; one branch per kind of row that the subject may see, each ordered and limited by the other side.
    pub(crate) async fn connect(cluster: &Cluster, sources: &[(&str, &Subject)]) -> Self {
        cluster.create("foreign_union").await;
        let client = cluster.connect("foreign_union").await;
        let (host, port, password) = address(&cluster.url("foreign_union"));
        let mut set_up = "CREATE EXTENSION postgres_fdw;".to_owned();
        let mut branches = Vec::new();
        for (index, (database, subject)) in sources.iter().enumerate() {
            let _ = write!(
                set_up,
                "CREATE SERVER s{index} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}',
                     dbname '{database}', async_capable 'true', fetch_size '200', use_remote_estimate 'true');
                 CREATE USER MAPPING FOR CURRENT_USER SERVER s{index} OPTIONS (user 'mosaic', password '{password}');
                 CREATE FOREIGN TABLE t{index} (id uuid, owner_id uuid, team_id uuid, title text, body text, status text,
                     priority smallint, due_at timestamptz, created_at timestamptz, updated_at timestamptz)
                     SERVER s{index} OPTIONS (table_name 'tasks');"
            );
            let mut branch = |condition: String| {
                branches.push(format!(
                    "(SELECT * FROM t{index} WHERE {condition} ORDER BY created_at DESC, id DESC LIMIT 51)"
                ));
            };
            branch(format!("owner_id = '{}'", subject.id));
            for team in &subject.teams {
                branch(format!("team_id = '{team}'"));
            }
        }
        client.batch_execute(&set_up).await.expect("postgres_fdw: apt-get install postgresql");
        // Materialised: the order outside would otherwise make of the union a merge, which asks one server after the other.
        let text = format!(
            "WITH u AS MATERIALIZED ({})
             SELECT DISTINCT ON (created_at, id) * FROM u ORDER BY created_at DESC, id DESC LIMIT 51",
            branches.join(" UNION ALL ")
        );
        assert_asynchronous(&client, &text, branches.len()).await;
        let union = client.prepare(&text).await.expect("the union");
        Self { client, union }
    }

    /// Milliseconds of so many questions, one after the other.
    pub(crate) async fn latencies(&self, count: usize) -> Vec<f64> {
        let mut times = Vec::new();
        for _ in 0..count {
            let asked = Instant::now();
            let rows = self.client.query(&self.union, &[]).await.expect("rows");
            assert_eq!(rows.len(), 51, "a whole page");
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        times
    }
}

/// Every branch is asked while the others are: the best that Postgres can do here.
async fn assert_asynchronous(client: &Client, text: &str, branches: usize) {
    let plan = client.query(&format!("EXPLAIN {text}"), &[]).await.expect("a plan");
    let plan = plan.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n");
    assert_eq!(plan.matches("Async Foreign Scan").count(), branches, "{plan}");
}

/// Host, port and password of the cluster's own URL: over its socket, or loopback.
fn address(url: &str) -> (String, String, String) {
    let rest = url.split_once("://").expect("a URL").1;
    let (credentials, rest) = rest.split_once('@').expect("credentials");
    let password = credentials.split_once(':').expect("a password").1.to_owned();
    let parameter = |name: &str| {
        let (_, query) = rest.split_once('?')?;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
        Some(value.replace("%2F", "/").replace("%2f", "/"))
    };
    match parameter("host") {
        Some(host) => (host, parameter("port").unwrap_or_default(), password),
        None => {
            let (host, port) = rest.split('/').next().and_then(|place| place.split_once(':')).expect("host and port");
            (host.to_owned(), port.to_owned(), password)
        }
    }
}
