use super::*;
use crate::postgres::testing::TestDatabase;

#[tokio::test]
async fn an_empty_database_is_migrated_once_however_many_start_together() {
    let database = TestDatabase::empty().await;
    let url = database.database_url();
    assert_eq!(state(&url).await.unwrap(), SchemaState::Empty);
    let (first, second, third) = tokio::join!(run(&url), run(&url), run(&url));
    let applied = [first.unwrap(), second.unwrap(), third.unwrap()];
    let whole = known().len();
    let mut counts = applied.map(|names| names.len());
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, whole]);
    assert_eq!(state(&url).await.unwrap(), SchemaState::Current { version: version_of(known().last().unwrap()) });
}

#[tokio::test]
async fn a_database_of_a_newer_build_is_left_alone() {
    let database = TestDatabase::new().await;
    let client = database.connect().await;
    client.batch_execute("INSERT INTO refinery_schema_history VALUES (9000, 'later', 'now', '1')").await.unwrap();
    let error = run(&database.database_url()).await.unwrap_err();
    assert!(matches!(error, MigrationError::Newer { found: 9000, .. }), "{error}");
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_ran_is_noticed() {
    let database = TestDatabase::new().await;
    let client = database.connect().await;
    client.batch_execute("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1").await.unwrap();
    let error = state(&database.database_url()).await.unwrap_err();
    assert!(matches!(error, MigrationError::Divergent { version: 1 }), "{error}");
}

#[tokio::test]
async fn a_user_without_the_right_to_create_tables_is_told_so() {
    let database = TestDatabase::empty().await;
    let admin = database.connect().await;
    // Roles belong to the whole cluster, hence the database's name in it.
    let role = format!("weak_{}", database.name());
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'")).await.unwrap();
    let url = {
        use secrecy::ExposeSecret;
        let strong = database.url().expose_secret();
        let (_, rest) = strong.split_once('@').unwrap();
        DatabaseUrl::parse(&format!("postgresql://{role}:pw@{rest}").into()).unwrap()
    };
    let error = run(&url).await.unwrap_err();
    assert!(matches!(&error, MigrationError::Failed(message) if message.contains("42501")), "{error}");
    assert!(error.remedy().contains("CREATE"), "{}", error.remedy());
}
