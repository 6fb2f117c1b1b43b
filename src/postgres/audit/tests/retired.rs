//! What is made with a retired master secret is refused: after a rotation nobody could check or seal it.

use super::*;
use crate::postgres::master_secrets::{MasterSecrets, Retiring};
use crate::secrets::{KeyId, MasterSecret};

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

struct Site {
    database: TestDatabase,
    secrets: MasterSecrets,
    /// Seals with the old one, and knows both.
    master: MasterSecret,
    store: AuditStore,
    old: KeyId,
    new: KeyId,
}

impl Site {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let secrets = MasterSecrets::new(database.pool());
        let master = MasterSecret::generate().unwrap().with_a_new_one().unwrap();
        let [new, old] = master.ids()[..] else { panic!("two ids") };
        secrets.settle(old).await.unwrap();
        secrets.switch(new).await.unwrap();
        let store = AuditStore::new(database.pool(), AuditKeys::new(&master, &SiteName::parse("work").unwrap()));
        Self { database, secrets, master, store, old, new }
    }

    /// Whoever retires, before the end of the transaction.
    async fn retires(&self) -> tokio_postgres::Client {
        let client = self.database.connect().await;
        client.batch_execute(&format!("BEGIN; {RETIRE}")).await.unwrap();
        client
    }

    /// So many events that wait for who retires.
    async fn late(&self, events: usize) -> tokio::task::JoinHandle<Result<(), Fault>> {
        let store = self.store.clone();
        let late = tokio::spawn(async move { store.append(vec![event(NOW); events]).await });
        let watch = self.database.connect().await;
        until_waiting(&watch, 1, || assert!(!late.is_finished(), "it did not wait for who retires")).await;
        late
    }

    async fn events(&self) -> i64 {
        self.database.connect().await.query_one("SELECT count(*) FROM federation_audit_log", &[]).await.unwrap().get(0)
    }
}

#[actix_rt::test]
async fn an_event_of_a_retired_secret_is_refused_and_told_and_the_lane_goes_on_with_the_next() {
    let site = Site::new().await;
    assert_eq!(site.master.sealing(), site.old);
    site.store.append(vec![event(NOW); 2]).await.unwrap();
    assert_eq!(site.secrets.retire_others().await.unwrap(), Retiring::Done);

    let fault = site.store.append(vec![event(NOW)]).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::Unavailable, Stage::Audit));
    site.store.keys.refused().await;
    let mut client = site.database.connect().await;
    let transaction = client.transaction().await.unwrap();
    assert!(matches!(insert(&transaction, &site.store.keys, &[event(NOW)]).await, Err(NotWritten::Retired(_))));
    transaction.rollback().await.unwrap();
    site.store.keys.refused().await;
    assert_eq!(site.events().await, 2);

    assert!(site.master.seal_with(site.new));
    site.store.append(vec![event(NOW)]).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    assert!(insert(&transaction, &site.store.keys, &[event(NOW)]).await.is_ok());
    transaction.commit().await.unwrap();
    site.store.sealer(8).seal(NOW, Lookback::All).await.unwrap();
    let found = site.store.verify(&[]).await.unwrap();
    assert_eq!((found.sealed, found.unsealed, found.problem), (4, 0, None), "no number is missing");
}

#[actix_rt::test]
async fn no_seal_is_made_with_a_retired_secret() {
    let site = Site::new().await;
    site.store.append(vec![event(NOW); 2]).await.unwrap();
    site.secrets.retire_others().await.unwrap();
    let fault = site.store.sealer(8).seal(NOW, Lookback::All).await.unwrap_err();
    assert_eq!((fault.kind, fault.stage), (FaultKind::Unavailable, Stage::Audit));
    site.store.keys.refused().await;
    assert_eq!(site.store.checkpoint().await.unwrap(), None);
    assert!(site.master.seal_with(site.new));
    site.store.sealer(8).seal(NOW, Lookback::All).await.unwrap();
    assert_eq!(site.store.checkpoint().await.unwrap().unwrap().key, site.new);
}

/// What a transaction that retires does.
const RETIRE: &str = "LOCK TABLE ONLY federation_audit_log IN SHARE MODE;
                      UPDATE master_secrets SET state = 'retired' WHERE state = 'opening'";

/// How many wait for the log of this database.
const WAITING: &str = "
    SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'federation_audit_log'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[actix_rt::test]
async fn a_secret_is_retired_only_when_nobody_is_writing_with_it_and_holds_up_nobody_for_long() {
    let site = Site::new().await;
    let mut client = site.database.connect().await;
    let transaction = client.transaction().await.unwrap();
    assert!(insert(&transaction, &site.store.keys, &[event(NOW)]).await.is_ok());
    let secrets = site.secrets.clone();
    let retiring = tokio::spawn(async move {
        loop {
            let retiring = secrets.retire_others().await.unwrap();
            if retiring != Retiring::Busy {
                return retiring;
            }
        }
    });
    let watch = site.database.connect().await;
    until_waiting(&watch, 1, || assert!(!retiring.is_finished(), "it did not wait for who is writing")).await;
    // The transaction is as open as before: this one can only come through because who retires steps back.
    site.store.append(vec![event(NOW)]).await.unwrap();
    assert!(!retiring.is_finished());
    assert_eq!(site.secrets.retired().await.unwrap(), []);
    transaction.commit().await.unwrap();
    assert_eq!(retiring.await.unwrap(), Retiring::Done);
    assert_eq!(site.store.append(vec![event(NOW)]).await.unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!((site.secrets.retired().await.unwrap(), site.events().await), (vec![site.old], 2));
}

#[actix_rt::test]
async fn an_event_that_waited_for_who_retires_is_refused() {
    let site = Site::new().await;
    // Its statement is prepared by now: what comes next is signed before it waits.
    site.store.append(vec![event(NOW)]).await.unwrap();
    let retires = site.retires().await;
    let late = site.late(1).await;
    retires.batch_execute("COMMIT").await.unwrap();
    assert_eq!(late.await.unwrap().unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!(site.events().await, 1);
}

#[actix_rt::test]
async fn an_event_that_was_signed_before_its_process_learned_what_seals_is_signed_once_more() {
    let site = Site::new().await;
    // Its statement is prepared by now: what comes next is signed before it waits.
    site.store.append(vec![event(NOW)]).await.unwrap();
    let retires = site.retires().await;
    let late = site.late(2).await;
    assert!(site.master.seal_with(site.new));
    retires.batch_execute("COMMIT").await.unwrap();
    late.await.unwrap().unwrap();
    site.store.append(vec![event(NOW)]).await.unwrap();
    site.store.sealer(8).seal(NOW, Lookback::All).await.unwrap();
    let found = site.store.verify(&[]).await.unwrap();
    assert_eq!((found.sealed, found.unsealed, found.problem), (4, 0, None), "no number is missing, and none twice");
}

async fn until_waiting(watch: &tokio_postgres::Client, count: i64, still: impl Fn()) {
    while watch.query_one(WAITING, &[]).await.unwrap().get::<_, i64>(0) != count {
        still();
        tokio::task::yield_now().await;
    }
}
