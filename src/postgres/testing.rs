//! A real database for every test: one private cluster per test process, a fresh database from a migrated template each.
//!
//! The cluster starts with the first test that needs it and ends with the process, however that ends; a small shell process
//! waits for that and removes its directory.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::identity::TeamId;
use mosaic_actors::domain::query::{Filter, OwnRows, Visibility};
use secrecy::SecretString;

use super::catalog::{TableMap, built_in_resources, load_catalog};
use super::embedded::{ClusterOptions, PrivateCluster, ServerBinaries, cluster};
use super::migrations;
use super::pool::{DatabaseUrl, PoolOptions, Pools};
use super::read_sql::{self, Bind, ReadSql, TenantShape};
pub use super::rows::READ_SETTINGS;

struct SharedCluster {
    cluster: PrivateCluster,
}

/// A migrated database of its own. It is not dropped with this value but with the whole cluster.
pub struct TestDatabase {
    url: SecretString,
    name: String,
}

impl TestDatabase {
    /// A fresh database with this build's schema and no rows.
    pub async fn new() -> Self {
        Self::from_template(cluster::DATABASE).await
    }

    /// A fresh database without any table.
    pub async fn empty() -> Self {
        Self::from_template("template0").await
    }

    async fn from_template(template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let shared = shared();
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin =
            parsed(&shared.cluster.url("postgres")).connect(&options()).await.expect("connect to the test cluster");
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        admin.batch_execute(&statement).await.expect("create a test database");
        Self { url: shared.cluster.url(&name), name }
    }

    /// With user and password, for child processes and configurations.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn database_url(&self) -> DatabaseUrl {
        parsed(&self.url)
    }

    /// A small pool.
    #[must_use]
    pub fn pool(&self) -> Pool {
        self.database_url().pool(&options()).expect("make a pool")
    }

    #[must_use]
    pub fn pools(&self) -> Pools {
        Pools::new(&self.database_url(), &options(), &options(), 1).expect("make pools")
    }

    /// A connection of its own.
    pub async fn connect(&self) -> tokio_postgres::Client {
        self.database_url().connect(&options()).await.expect("connect to the test database")
    }

    /// Cuts every connection to this database, as a restart of the server would.
    pub async fn cut_connections(&self) {
        let admin = parsed(&shared().cluster.url("postgres")).connect(&options()).await.expect("connect");
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        admin.execute(cut, &[&self.name]).await.expect("cut connections");
    }
}

/// A cluster of the test's own, to stop, kill or freeze. Not yet started; no database of it is migrated.
pub struct OwnCluster {
    pub cluster: PrivateCluster,
    // After the cluster: the server stops before its directory goes.
    _directory: TemporaryDirectory,
}

/// See [`OwnCluster`].
#[must_use]
pub fn own_cluster() -> OwnCluster {
    let directory = TemporaryDirectory::new();
    let cluster = PrivateCluster::prepare(cluster_options(directory.path())).expect("prepare a cluster");
    OwnCluster { cluster, _directory: directory }
}

/// A cluster whose server offers one more extension: SQL only, with this control file. The server's programs are copied beside a shared
/// directory of their own, so that nothing of the machine's installation is touched.
#[must_use]
pub fn own_cluster_with_extension(name: &str, control: &str, sql: &str) -> OwnCluster {
    let directory = TemporaryDirectory::new();
    let mut options = cluster_options(directory.path());
    options.binaries = with_extension(&options.binaries, &directory.path().join("installation"), name, control, sql);
    let cluster = PrivateCluster::prepare(options).expect("prepare a cluster");
    OwnCluster { cluster, _directory: directory }
}

fn with_extension(installed: &ServerBinaries, root: &Path, name: &str, control: &str, sql: &str) -> ServerBinaries {
    let ask = |what: &str| {
        let asked = Command::new(installed.directory().join("pg_config")).arg(what).output().expect("run pg_config");
        String::from_utf8(asked.stdout).expect("a path").trim().to_owned()
    };
    // A server looks for its files where they are relative to itself, as it was built.
    let (bin, library, shared) = (ask("--bindir"), ask("--pkglibdir"), ask("--sharedir"));
    let moved = |path: &str| root.join(path.trim_start_matches('/'));
    for directory in [&bin, &format!("{shared}/extension")] {
        std::fs::create_dir_all(moved(directory)).expect("make a directory");
    }
    std::fs::create_dir_all(moved(&library).parent().expect("a parent")).expect("make a directory");
    std::os::unix::fs::symlink(&library, moved(&library)).expect("link the libraries");
    for (from, copied) in [(&bin, true), (&shared, false), (&format!("{shared}/extension"), false)] {
        for entry in std::fs::read_dir(from).expect("read the installation").flatten() {
            let to = moved(from).join(entry.file_name());
            match to.exists() {
                true => {}
                false if copied => drop(std::fs::copy(entry.path(), to).expect("copy a program")),
                false => std::os::unix::fs::symlink(entry.path(), to).expect("link a file"),
            }
        }
    }
    let extension = moved(&format!("{shared}/extension"));
    std::fs::write(extension.join(format!("{name}.control")), control).expect("write the control file");
    std::fs::write(extension.join(format!("{name}--1.0.sql")), sql).expect("write the extension");
    ServerBinaries::find(Some(&moved(&bin)), None, None).expect("find the copied server")
}

/// What test clusters are made with: small and not durable.
#[must_use]
pub fn cluster_options(directory: &Path) -> ClusterOptions {
    ClusterOptions {
        binaries: ServerBinaries::find(None, None, None).expect("find PostgreSQL: apt-get install -y postgresql"),
        root: directory.join("postgres"),
        password: SecretString::from("not a secret".replace(' ', "-")),
        durable: false,
        max_connections: 200,
        shared_buffers_mib: 64,
        start_within: Duration::from_secs(60),
        stop_within: Duration::from_secs(10),
    }
}

fn options() -> PoolOptions {
    PoolOptions {
        max_size: 8,
        create: Duration::from_secs(20),
        wait: Duration::from_secs(20),
        ..PoolOptions::default()
    }
}

fn parsed(url: &SecretString) -> DatabaseUrl {
    DatabaseUrl::parse(url).expect("parse the test cluster's URL")
}

fn shared() -> &'static SharedCluster {
    static SHARED: OnceLock<SharedCluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        let directory = TemporaryDirectory::new();
        let mut cluster = PrivateCluster::prepare(cluster_options(directory.path())).expect("prepare the test cluster");
        cluster.start().expect("start the test cluster");
        remove_with_this_process(directory.keep().as_path(), cluster.pid().expect("the server runs"));
        migrate_template(&cluster);
        SharedCluster { cluster }
    })
}

/// Migrates the template on a thread of its own: the caller is inside a runtime, which cannot be blocked on.
fn migrate_template(cluster: &PrivateCluster) {
    let url = parsed(&cluster.url(cluster::DATABASE));
    let migrate = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime");
        runtime.block_on(async { migrations::run(&url).await.expect("migrate the template") });
    };
    std::thread::spawn(migrate).join().expect("migrate the template");
}

/// Starts the shell process that waits for our end: its input closes when we are gone. It stops the server itself where the
/// kernel did not.
fn remove_with_this_process(directory: &Path, server: u32) {
    static KEPT: Mutex<Vec<std::process::Child>> = Mutex::new(Vec::new());
    let script = "cat >/dev/null; kill -INT \"$1\" 2>/dev/null; n=0; \
                  while kill -0 \"$1\" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; rm -rf \"$2\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(server.to_string()).arg(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let child = command.spawn().expect("start the process that cleans up");
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(child);
}

/// A statement as a node prepares it, and what its parameters stand for, `$1` first: `subject`, `teams`, `id` or `limit`.
/// For whoever runs the very same SQL beside the node.
pub struct ReadStatement {
    pub text: String,
    pub parameters: Vec<&'static str>,
}

/// The statement behind `list` of a built-in resource, for a subject with teams and without a filter.
pub async fn list_statement(client: &tokio_postgres::Client, resource: &str, limit: u32) -> ReadStatement {
    let table = table(client, resource).await;
    let shape = TenantShape::of(&own_and_teams(), &table).expect("a shape");
    named(read_sql::list_sql(&table, shape, &Filter::default(), false, limit.saturating_add(1)))
}

/// The statement behind `get`, likewise.
pub async fn get_statement(client: &tokio_postgres::Client, resource: &str) -> ReadStatement {
    let table = table(client, resource).await;
    let shape = TenantShape::of(&own_and_teams(), &table).expect("a shape");
    named(read_sql::get_sql(&table, shape))
}

async fn table(client: &tokio_postgres::Client, resource: &str) -> Arc<TableMap> {
    let catalog = load_catalog(client, &built_in_resources()).await.expect("read the catalog");
    let resource = ResourceName::parse(resource).expect("a resource's name");
    Arc::clone(catalog.get(&resource).expect("a built-in resource"))
}

fn own_and_teams() -> Visibility {
    Visibility { own: OwnRows::All, teams: vec![TeamId::new()], own_in_teams: Vec::new() }
}

fn named(sql: ReadSql) -> ReadStatement {
    let name = |bind: &Bind| match bind {
        Bind::Subject => "subject",
        Bind::Teams => "teams",
        Bind::RowId => "id",
        Bind::Limit => "limit",
        Bind::OwnInTeams | Bind::CursorTime | Bind::CursorId | Bind::Condition(_) => {
            unreachable!("not in a statement without filter and cursor")
        }
    };
    ReadStatement { parameters: sql.binds.iter().map(name).collect(), text: sql.text }
}

/// The little of `tempfile` that is needed here: that crate is there for tests only, this module also for `tests/it`.
pub use tempfile_directory::TemporaryDirectory;

mod tempfile_directory {
    use std::path::PathBuf;

    use super::{Path, PermissionsExt, Read};

    /// A directory that the server's user may pass through, removed with this value.
    pub struct TemporaryDirectory {
        path: PathBuf,
        kept: bool,
    }

    impl TemporaryDirectory {
        #[must_use]
        #[expect(clippy::new_without_default, reason = "a directory on disk is no default")]
        pub fn new() -> Self {
            let mut random = [0_u8; 8];
            let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
            read.expect("read random bytes");
            let name = format!("mosaic-test-{:016x}", u64::from_ne_bytes(random));
            let path = Path::new("/tmp").join(name);
            std::fs::create_dir(&path).expect("make a temporary directory");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))
                .expect("open it to the server's user");
            Self { path, kept: false }
        }

        #[must_use]
        pub fn path(&self) -> &Path {
            &self.path
        }

        #[must_use]
        pub fn keep(mut self) -> PathBuf {
            self.kept = true;
            self.path.clone()
        }
    }

    impl Drop for TemporaryDirectory {
        fn drop(&mut self) {
            if !self.kept {
                // Somebody else's cleaning is not worth a failing test.
                let _ = std::fs::remove_dir_all(&self.path);
            }
        }
    }
}
