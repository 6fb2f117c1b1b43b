use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mosaic_actors::domain::identity::SiteName;

use super::*;
use crate::clock::SystemClock;
use crate::pki::embedded_ca::{CaOptions, EmbeddedCa};
use crate::postgres::ca_store::SqlCaStore;
use crate::postgres::testing::TestDatabase;

fn ring(lines: &[u8]) -> MasterSecret {
    let text: Vec<String> = lines.iter().map(|byte| STANDARD.encode([*byte; 32])).collect();
    MasterSecret::parse(&text.join("\n")).unwrap()
}

/// A database with a CA that was sealed with `secret`.
async fn site(secret: &MasterSecret) -> (MasterSecrets, TestDatabase) {
    let database = TestDatabase::new().await;
    let secrets = MasterSecrets::new(database.pool());
    assert_eq!(secrets.settle(secret.sealing()).await.unwrap(), secret.sealing());
    open_ca(&database, secret).await.unwrap();
    (secrets, database)
}

async fn open_ca(database: &TestDatabase, secret: &MasterSecret) -> Result<(), crate::pki::authority::CaError> {
    let store = Arc::new(SqlCaStore::new(database.pool()));
    let site = SiteName::parse("work").unwrap();
    EmbeddedCa::open_or_create(store, &secret.sealer(), &site, CaOptions::default(), Arc::new(SystemClock))
        .await
        .map(drop)
}

#[tokio::test]
async fn no_sealed_column_is_forgotten() {
    let database = TestDatabase::new().await;
    let sql = "SELECT table_name::text, column_name::text FROM information_schema.columns
               WHERE table_schema = 'public' AND column_name LIKE 'sealed\\_%' AND data_type = 'bytea'";
    let rows = database.connect().await.query(sql, &[]).await.unwrap();
    let in_schema: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let known = SEALED_COLUMNS.iter().map(|known| (known.table.to_owned(), known.column.to_owned())).collect();
    assert_eq!(in_schema, known, "list it in SEALED_COLUMNS, and give its table the trigger refuse_retired_secret");
    let sql = "SELECT DISTINCT event_object_table::text FROM information_schema.triggers WHERE trigger_name = 'refuse_retired_secret'";
    let rows = database.connect().await.query(sql, &[]).await.unwrap();
    let guarded: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(guarded, in_schema.into_iter().map(|(table, _)| table).collect());
}

#[tokio::test]
async fn a_rotation_ends_with_every_blob_under_the_new_secret_and_the_old_one_refused() {
    let (old, both, new) = (ring(&[1]), ring(&[2, 1]), ring(&[2]));
    let (secrets, database) = site(&old).await;
    assert!(open_ca(&database, &new).await.is_err());
    secrets.switch(new.sealing()).await.unwrap();
    assert_eq!(secrets.retire_others().await.unwrap(), Retiring::Left(1), "a blob is under the old one");
    assert_eq!(secrets.retired().await.unwrap(), []);

    assert!(both.seal_with(secrets.settle(old.sealing()).await.unwrap()));
    assert_eq!(secrets.reseal(&both.sealer(), || {}).await.unwrap(), 1);
    assert_eq!(secrets.reseal(&both.sealer(), || {}).await.unwrap(), 0);
    assert_eq!(secrets.retire_others().await.unwrap(), Retiring::Done);
    assert_eq!(secrets.retired().await.unwrap(), [old.sealing()]);
    open_ca(&database, &new).await.unwrap();
    assert!(open_ca(&database, &old).await.is_err());

    let client = database.connect().await;
    let write = "UPDATE embedded_ca SET sealed_key = $1";
    let context = SealContext { table: "embedded_ca", row: "x", key_version: 1 };
    let refused = client.execute(write, &[&old.sealer().seal(&context, b"key")]).await.unwrap_err();
    assert_eq!(refused.as_db_error().unwrap().message(), "sealed with a master secret that is retired");
    assert_eq!(crate::postgres::pool::sql_fault("seal", &refused).kind, FaultKind::Unavailable);
    assert!(secrets.switch(old.sealing()).await.is_err(), "a retired one does not come back");
    assert_eq!(secrets.settle(old.sealing()).await.unwrap(), new.sealing());
}

#[tokio::test]
async fn a_secret_that_was_replaced_by_hand_before_is_retired_too() {
    let (old, both, new) = (ring(&[1]), ring(&[2, 1]), ring(&[2]));
    let database = TestDatabase::new().await;
    open_ca(&database, &old).await.unwrap();
    // The first start that puts ids on record finds two lines in the file.
    let secrets = MasterSecrets::new(database.pool());
    assert_eq!(secrets.settle(both.sealing()).await.unwrap(), new.sealing());
    secrets.list(&both.ids()).await.unwrap();
    assert_eq!(secrets.reseal(&both.sealer(), || {}).await.unwrap(), 1);
    assert_eq!(secrets.retire_others().await.unwrap(), Retiring::Done);
    assert_eq!(secrets.retired().await.unwrap(), [old.sealing()]);
    secrets.list(&both.ids()).await.unwrap();
    assert_eq!(secrets.retired().await.unwrap(), [old.sealing()], "listing brings nothing back");
}

#[tokio::test]
async fn a_blob_that_does_not_open_ends_the_rotation_with_its_place() {
    let (old, both) = (ring(&[1]), ring(&[2, 1]));
    let (secrets, database) = site(&old).await;
    let client = database.connect().await;
    let flip = "UPDATE embedded_ca SET sealed_key = set_byte(sealed_key, 30, get_byte(sealed_key, 30) # 1)";
    client.execute(flip, &[]).await.unwrap();
    let error = secrets.reseal(&both.sealer(), || {}).await.unwrap_err();
    assert!(matches!(error, ResealError::Blob { table: "embedded_ca", reason: SealError::Altered, .. }), "{error}");
    client.execute(flip, &[]).await.unwrap();
    client.execute("UPDATE embedded_ca SET sealed_key = set_byte(sealed_key, 0, 9)", &[]).await.unwrap();
    let error = secrets.reseal(&both.sealer(), || {}).await.unwrap_err();
    assert!(matches!(error, ResealError::Blob { reason: SealError::Shape, .. }), "{error}");
}

#[tokio::test]
async fn replicas_that_start_together_agree_on_what_seals() {
    let database = TestDatabase::new().await;
    let secrets = MasterSecrets::new(database.pool());
    let ids: Vec<KeyId> = (1..=8).map(|byte| ring(&[byte]).sealing()).collect();
    let settled = futures_util::future::join_all(ids.iter().map(|id| secrets.settle(*id))).await;
    let settled: BTreeSet<String> = settled.into_iter().map(|id| id.unwrap().to_string()).collect();
    assert_eq!(settled.len(), 1, "{settled:?}");
}

#[tokio::test]
async fn a_replica_is_on_record_while_it_reports_and_until_it_leaves() {
    let database = TestDatabase::new().await;
    let secrets = MasterSecrets::new(database.pool());
    let (secret, id, alive) = (ring(&[2, 1]), Uuid::now_v7(), Duration::from_secs(30));
    assert_eq!(secrets.report(id, "here", &secret, alive).await.unwrap(), None, "nothing was settled");
    let ids = secret.ids();
    let seen = Replica { id, host: "here".to_owned(), knows: ids.clone(), sealing: ids[0] };
    assert_eq!(secrets.replicas().await.unwrap(), std::slice::from_ref(&seen));
    assert!(secret.seal_with(ids[1]));
    secrets.settle(ids[0]).await.unwrap();
    assert_eq!(secrets.report(id, "here", &secret, alive).await.unwrap(), Some(ids[0]));
    assert_eq!(secrets.replicas().await.unwrap(), [Replica { sealing: ids[1], ..seen }]);
    database.connect().await.execute("UPDATE replicas SET alive_until = now()", &[]).await.unwrap();
    assert_eq!(secrets.replicas().await.unwrap(), []);
    secrets.report(id, "here", &secret, alive).await.unwrap();
    secrets.leave(id).await.unwrap();
    assert_eq!(secrets.replicas().await.unwrap(), []);
}
