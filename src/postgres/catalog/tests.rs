use super::*;
use crate::postgres::testing::TestDatabase;

async fn problems(sql: &str, resources: Vec<ResourceConfig>) -> Vec<String> {
    let client = TestDatabase::new().await.connect().await;
    client.batch_execute(sql).await.unwrap();
    let declared: Vec<_> = built_in_resources().into_iter().chain(resources).collect();
    match load_catalog(&client, &declared).await {
        Err(CatalogError::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(CatalogError::Database(error)) => panic!("{error}"),
        Ok(_) => Vec::new(),
    }
}

fn resource(name: &str, table: &str, columns: &[&str]) -> ResourceConfig {
    ResourceConfig {
        name: ResourceName::parse(name).unwrap(),
        table: table.to_owned(),
        id: "id".to_owned(),
        owner: "owner_id".to_owned(),
        team: Some("team_id".to_owned()),
        order: "created_at".to_owned(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        filterable: Vec::new(),
        searchable: Vec::new(),
        sensitive: false,
        writable: false,
    }
}

#[tokio::test]
async fn the_built_in_resources_fit_the_schema_without_a_warning() {
    let client = TestDatabase::new().await.connect().await;
    let catalog = load_catalog(&client, &built_in_resources()).await.unwrap();
    assert_eq!(catalog.warnings, []);
    let names: Vec<_> = catalog
        .domain()
        .iter()
        .map(|resource| (resource.name.to_string(), resource.sensitive, resource.writable))
        .collect();
    let expected = [
        ("api_keys", true, false),
        ("credentials", true, false),
        ("memory", false, true),
        ("notes", false, true),
        ("tasks", false, true),
    ];
    assert_eq!(names, expected.map(|(name, sensitive, writable)| (name.to_owned(), sensitive, writable)));
    let tasks = catalog.domain().get(&ResourceName::parse("tasks").unwrap()).unwrap().clone();
    let columns: Vec<_> = tasks.columns.iter().map(|column| (&*column.name, column.kind, column.filterable)).collect();
    assert_eq!(
        columns,
        [
            ("title", ColumnKind::Text, false),
            ("body", ColumnKind::Text, false),
            ("status", ColumnKind::Text, true),
            ("priority", ColumnKind::Integer, true),
            ("due_at", ColumnKind::Timestamp, true),
            ("updated_at", ColumnKind::Timestamp, true),
        ]
    );
}

#[tokio::test]
async fn every_problem_of_every_resource_is_told_at_once_with_a_remedy() {
    let sql = "CREATE TABLE odd (id real, owner_id integer, team_id uuid, created_at timestamp, pic bytea, tags text[], n int4);
               CREATE TABLE fine (id uuid PRIMARY KEY, owner_id uuid, team_id uuid, created_at timestamptz, word text)";
    let mut odd = resource("odd", "odd", &["pic", "tags", "n", "gone", "id", "n"]);
    odd.filterable = vec!["tags".to_owned(), "word".to_owned()];
    odd.searchable = vec!["n".to_owned()];
    let mut renamed = resource("renamed", "fine", &["word"]);
    renamed.owner = "holder".to_owned();
    let told =
        problems(sql, vec![resource("missing", "nowhere.at_all", &[]), odd, renamed, resource("tasks", "fine", &[])])
            .await;
    assert_eq!(
        told,
        [
            "resource 'missing': table 'nowhere.at_all' does not exist or is not visible; create it, or write its name as schema.table",
            "resource 'odd': column 'id' is called like a field that every row has; leave it out of 'columns', or serve a view that renames it",
            "resource 'odd': column 'n' is listed twice; list it once in 'columns'",
            "resource 'odd': 'filterable' names 'word', which is not in 'columns'; add it there or remove it here",
            "resource 'odd': id column 'id' is real; it must be uuid, text, integer or bigint; a view can cast it",
            "resource 'odd': order column 'created_at' is timestamp without time zone; it must be timestamptz; a view can cast it",
            "resource 'odd': owner column 'owner_id' is integer; it must be uuid, or text that holds ids of this site; a view can cast it",
            "resource 'odd': column 'pic' is bytea, which cannot be served; leave it out of 'columns', or serve a view that casts it to text",
            "resource 'odd': listed column 'gone' does not exist in public.odd; correct the name or add the column",
            "resource 'odd': column 'tags' is filterable, but a list or JSON cannot be compared; remove it from 'filterable'",
            "resource 'odd': column 'n' is searchable, but is no text; remove it from 'searchable'",
            "resource 'renamed': owner column 'holder' does not exist in public.fine; correct the name or add the column",
            "resource 'tasks': its name is declared twice; give each resource a name of its own",
        ]
    );
}

#[tokio::test]
async fn a_missing_index_is_a_warning_with_the_statement_that_creates_it() {
    let client = TestDatabase::new().await.connect().await;
    let sql = "CREATE TABLE \"my t\" (id text, owner_id uuid, team_id uuid, created_at timestamptz, must int NOT NULL);
               CREATE INDEX ON \"my t\" (owner_id, created_at DESC, id DESC);
               CREATE INDEX ON \"my t\" (team_id, created_at DESC, id COLLATE \"C\")";
    client.batch_execute(sql).await.unwrap();
    let declared = [ResourceConfig { writable: true, ..resource("mine", "my t", &[]) }];
    let catalog = load_catalog(&client, &declared).await.unwrap();
    let remedies: Vec<_> = catalog.warnings.iter().map(|warning| warning.remedy.clone()).collect();
    assert_eq!(
        remedies,
        [
            r#"CREATE UNIQUE INDEX CONCURRENTLY ON "public"."my t" ("id")"#,
            r#"CREATE INDEX CONCURRENTLY ON "public"."my t" ("owner_id", "created_at" DESC, "id" COLLATE "C" DESC)"#,
            r#"CREATE INDEX CONCURRENTLY ON "public"."my t" ("team_id", "created_at" DESC, "id" COLLATE "C" DESC)"#,
            "add it to 'columns', give it a default, or set 'writable = false'",
        ]
    );
    for remedy in &remedies[..3] {
        client.batch_execute(remedy).await.unwrap();
    }
    let left = load_catalog(&client, &declared).await.unwrap().warnings;
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_view_is_served_and_a_table_that_may_not_be_read_is_not() {
    let database = TestDatabase::new().await;
    let owner = database.connect().await;
    let sql = format!(
        "CREATE VIEW seen AS SELECT id, owner_id, team_id, created_at, upper(title) AS loud FROM tasks;
         CREATE TABLE secret (id uuid PRIMARY KEY, owner_id uuid, team_id uuid, created_at timestamptz);
         CREATE ROLE reader_{}; GRANT SELECT ON seen TO reader_{0};
         GRANT INSERT ON seen TO reader_{0}; SET ROLE reader_{0}",
        database.name()
    );
    owner.batch_execute(&sql).await.unwrap();
    let seen = load_catalog(&owner, &[resource("seen", "public.seen", &["loud"])]).await.unwrap();
    assert_eq!(seen.warnings, []);
    let writable = ResourceConfig { writable: true, ..resource("seen", "seen", &["loud"]) };
    let Err(CatalogError::Problems(problems)) =
        load_catalog(&owner, &[writable, resource("secret", "secret", &[])]).await
    else {
        panic!("the catalog was loaded")
    };
    let told: Vec<_> = problems.iter().map(|problem| problem.problem.clone()).collect();
    assert_eq!(
        told,
        [
            "it is writable, but the node's database user may not insert, update and delete",
            "id column 'id' may not be read by the node's database user",
            "order column 'created_at' may not be read by the node's database user",
            "owner column 'owner_id' may not be read by the node's database user",
            "team column 'team_id' may not be read by the node's database user",
        ]
    );
}
