use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mosaic::postgres::testing::{READ_SETTINGS, ReadStatement, get_statement, list_statement};
use tokio_postgres::Client;
use uuid::Uuid;

use super::output_of;
use crate::ground::Ground;
use crate::rounds::Round;

/// The text that the node itself prepares, and the subject's values.
pub(crate) struct Statement {
    url: String,
    read: ReadStatement,
    subject: Uuid,
    teams: Vec<Uuid>,
    id: Uuid,
    limit: i64,
}

impl Statement {
    pub(crate) async fn of_list(ground: &Ground, limit: u32) -> Self {
        let read = list_statement(&ground.cluster.connect("work").await, "tasks", limit).await;
        Self::with(ground, read, Uuid::nil(), i64::from(limit) + 1)
    }

    pub(crate) async fn of_get(ground: &Ground, id: &str) -> Self {
        let read = get_statement(&ground.cluster.connect("work").await, "tasks").await;
        Self::with(ground, read, uuid(id), 1)
    }

    fn with(ground: &Ground, read: ReadStatement, id: Uuid, limit: i64) -> Self {
        let teams = ground.subject.teams.iter().map(|team| uuid(team)).collect();
        Self { url: ground.cluster.url("work"), read, subject: uuid(&ground.subject.id), teams, id, limit }
    }

    /// Transactions per second of `pgbench -M prepared` under the settings that the node reads with.
    pub(crate) fn pgbench(&self, clients: usize, seconds: u64) -> Round {
        let directory = mosaic::postgres::testing::TemporaryDirectory::new();
        let script = directory.path().join("read.sql");
        let mut text = self.read.text.clone();
        // Backwards, so that $1 is not found in $10.
        for (index, name) in self.read.parameters.iter().enumerate().rev() {
            text = text.replace(&format!("${}", index + 1), &format!(":{name}"));
        }
        // A time of day would be read as variables.
        let text = text.replace(" 00:00:00+00'", "'");
        std::fs::write(&script, text + ";\n").expect("a script");
        let teams: Vec<_> = self.teams.iter().map(Uuid::to_string).collect();
        let output = output_of(
            Command::new("pgbench")
                .args(["-n", "-M", "prepared", "-j", "1", "-c", &clients.to_string(), "-T", &seconds.to_string()])
                .args(["-D", &format!("subject={}", self.subject), "-D", &format!("teams={{{}}}", teams.join(","))])
                .args(["-D", &format!("limit={}", self.limit), "-D", &format!("id={}", self.id)])
                .arg("-f")
                .arg(&script)
                .arg(&self.url)
                .env(
                    "PGOPTIONS",
                    READ_SETTINGS.iter().map(|(name, value)| format!("-c {name}={value} ")).collect::<String>(),
                ),
        );
        let number = |line: &str, name: &str| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok();
        let value = output.lines().find_map(|line| number(line, "tps = ")).expect("pgbench tells its rate");
        let requests = output
            .lines()
            .find_map(|line| number(line, "number of transactions actually processed: "))
            .expect("pgbench tells its count");
        Round { value, requests }
    }

    pub(crate) async fn clients(&self, ground: &Ground, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = ground.cluster.connect("work").await;
            for (name, value) in READ_SETTINGS {
                client.batch_execute(&format!("SET {name} = {value}")).await.expect("a setting");
            }
            clients.push(client);
        }
        clients
    }

    /// Executions per second over these connections.
    pub(crate) async fn in_a_loop(&self, clients: &[Client], length: Duration) -> Round {
        let start = Instant::now();
        let counts = join_all(clients.iter().map(|client| async move {
            let statement = client.prepare(&self.read.text).await.expect("it is prepared");
            let mut count = 0_u64;
            while start.elapsed() < length {
                let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = self
                    .read
                    .parameters
                    .iter()
                    .map(|name| match *name {
                        "subject" => &self.subject as &(dyn tokio_postgres::types::ToSql + Sync),
                        "teams" => &self.teams,
                        "id" => &self.id,
                        _ => &self.limit,
                    })
                    .collect();
                client.query(&statement, &parameters).await.expect("rows");
                count += 1;
            }
            count
        }))
        .await;
        let requests = counts.iter().sum::<u64>() as f64;
        Round { value: requests / start.elapsed().as_secs_f64(), requests }
    }
}

fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).expect("an id")
}
