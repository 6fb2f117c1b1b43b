use super::*;
use crate::postgres::pool::{DatabaseUrl, OrFault, PoolOptions};
use crate::postgres::testing::TemporaryDirectory;

fn options(state: &TemporaryDirectory) -> EmbeddedOptions {
    EmbeddedOptions {
        state_dir: state.path().to_owned(),
        bin_dir: None,
        search_path: None,
        durable: false,
        limits: Limits::default(),
    }
}

fn url(of: &EmbeddedPostgres) -> DatabaseUrl {
    DatabaseUrl::parse(of.url()).unwrap()
}

async fn connect(of: &EmbeddedPostgres) -> tokio_postgres::Client {
    url(of).connect(&PoolOptions::default()).await.unwrap()
}

async fn running(of: &EmbeddedPostgres, after: u32) -> u32 {
    let mut state = of.state();
    let is_back = |state: &ServerState| matches!(state, ServerState::Running { restarts, .. } if *restarts > after);
    let found = *tokio::time::timeout(Duration::from_secs(60), state.wait_for(is_back)).await.unwrap().unwrap();
    match found {
        ServerState::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_killed_server_is_started_again_and_a_pool_on_it_heals() {
    let state = TemporaryDirectory::new();
    let database = EmbeddedPostgres::start(&EmbeddedOptions { durable: true, ..options(&state) }).unwrap();
    let ServerState::Running { pid, restarts: 0 } = *database.state().borrow() else { panic!("it runs") };
    let pool = url(&database).pool(&PoolOptions::default()).unwrap();
    let client = pool.get().await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
    drop(client);

    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    assert_ne!(running(&database, 0).await, pid);

    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(client) = pool.get().await.or_fault("ask")
            && let Ok(row) = client.query_one("SELECT n FROM kept", &[]).await
        {
            assert_eq!(row.get::<_, i32>(0), 7);
            break;
        }
        assert!(Instant::now() < deadline, "the pool did not heal");
    }
}

#[tokio::test]
async fn a_restarted_node_finds_its_data_behind_the_same_password() {
    let state = TemporaryDirectory::new();
    let first = EmbeddedPostgres::start(&options(&state)).unwrap();
    connect(&first).await.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    let told = first.url().expose_secret().to_owned();
    assert_eq!(url_of_running(state.path()).unwrap().expose_secret(), told);
    tokio::task::spawn_blocking(move || first.stop()).await.unwrap();
    assert!(url_of_running(state.path()).is_none());

    let second = EmbeddedPostgres::start(&options(&state)).unwrap();
    assert_eq!(second.url().expose_secret(), told);
    connect(&second).await.query("SELECT n FROM kept", &[]).await.unwrap();
}

#[tokio::test]
async fn a_lost_password_is_replaced_without_losing_data() {
    let state = TemporaryDirectory::new();
    let first = EmbeddedPostgres::start(&options(&state)).unwrap();
    connect(&first).await.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    let told = first.url().expose_secret().to_owned();
    drop(first);
    fs::remove_file(state.path().join("postgres.password")).unwrap();

    let second = EmbeddedPostgres::start(&options(&state)).unwrap();
    assert_ne!(second.url().expose_secret(), told);
    connect(&second).await.query("SELECT n FROM kept", &[]).await.unwrap();
}

#[test]
fn a_state_directory_belongs_to_one_node_at_a_time() {
    let state = TemporaryDirectory::new();
    let first = EmbeddedPostgres::start(&options(&state)).unwrap();
    assert!(is_in_use(state.path()));
    assert!(matches!(EmbeddedPostgres::start(&options(&state)), Err(EmbeddedError::InUse)));
    drop(first);
    assert!(!is_in_use(state.path()));
}

#[test]
fn only_the_owner_can_read_the_password() {
    let state = TemporaryDirectory::new();
    let database = EmbeddedPostgres::start(&options(&state)).unwrap();
    let mode = |name: &str| fs::metadata(state.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("postgres.password"), mode("postgres"), mode("postgres/run")), (0o600, 0o700, 0o700));
    drop(database);
    fs::write(state.path().join("postgres.password"), "'; DROP ROLE x").unwrap();
    let error = EmbeddedPostgres::start(&options(&state)).err().unwrap();
    assert!(matches!(error, EmbeddedError::PasswordFile(_)), "{error}");
}

#[test]
fn data_of_another_version_are_left_alone_and_the_remedy_names_the_package() {
    let state = TemporaryDirectory::new();
    drop(EmbeddedPostgres::start(&options(&state)).unwrap());
    fs::write(state.path().join("postgres/data/PG_VERSION"), "12\n").unwrap();
    let error = EmbeddedPostgres::start(&options(&state)).err().unwrap();
    assert!(matches!(error, EmbeddedError::OtherMajor { data: 12, .. }), "{error}");
    assert!(error.remedy().contains("apt-get install -y postgresql-12"), "{}", error.remedy());
    assert!(state.path().join("postgres/data/base").is_dir());
}

#[test]
fn missing_binaries_come_with_the_command_that_installs_them() {
    assert!(EmbeddedError::NoBinaries.remedy().contains("apt-get install -y postgresql"));
}

/// Not a test: the node that the next one kills. It runs in its state directory and says so with a file.
#[test]
#[ignore = "a process of its own, started by the next test"]
fn a_node_that_waits_to_be_killed() {
    let state_dir = std::env::current_dir().unwrap();
    if !state_dir.join("postgres-is-to-be-killed").exists() {
        return;
    }
    let limits = Limits::default();
    let options =
        EmbeddedOptions { state_dir: state_dir.clone(), bin_dir: None, search_path: None, durable: true, limits };
    let database = EmbeddedPostgres::start(&options).unwrap();
    let ServerState::Running { pid, .. } = *database.state().borrow() else { panic!("it runs") };
    fs::write(state_dir.join("pid.new"), pid.to_string()).unwrap();
    fs::rename(state_dir.join("pid.new"), state_dir.join("pid")).unwrap();
    loop {
        thread::park();
    }
}

#[tokio::test]
async fn kill_9_of_the_node_ends_its_server_and_the_next_start_finds_everything() {
    let state = TemporaryDirectory::new();
    fs::write(state.path().join("postgres-is-to-be-killed"), "").unwrap();
    let mut node = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::embedded::tests::a_node_that_waits_to_be_killed", "--ignored"])
        .current_dir(state.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let server = loop {
        match fs::read_to_string(state.path().join("pid")) {
            Ok(pid) => break pid,
            Err(_) => {
                assert!(Instant::now() < deadline && node.try_wait().unwrap().is_none(), "the node did not start")
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let url = DatabaseUrl::parse(&url_of_running(state.path()).unwrap()).unwrap();
    let client = url.connect(&PoolOptions::default()).await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
    node.kill().unwrap();
    node.wait().unwrap();

    // At once, while the server of the killed node may still be writing its last checkpoint.
    let again = EmbeddedPostgres::start(&options(&state)).unwrap();
    assert!(matches!(*again.state().borrow(), ServerState::Running { pid, .. } if pid.to_string() != server));
    assert_eq!(connect(&again).await.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 7);
}
