use super::*;
use crate::pki::testing::now;
use crate::postgres::testing::TestDatabase;

const LEASE: Duration = Duration::from_secs(60);
const ROOT: [u8; 32] = [7; 32];

fn serial(byte: u8) -> Serial {
    Serial::from_bytes(&[byte; 16]).unwrap()
}

fn revocation(byte: u8, not_after: OffsetDateTime) -> Revocation {
    Revocation { serial: serial(byte), revoked_at: now(), not_after }
}

async fn outbox() -> (TestDatabase, SqlRevocationOutbox) {
    let database = TestDatabase::new().await;
    let outbox = SqlRevocationOutbox::new(database.pool());
    (database, outbox)
}

fn serials(taken: &[Waiting]) -> Vec<Serial> {
    let mut serials: Vec<Serial> = taken.iter().map(|waiting| waiting.serial.clone()).collect();
    serials.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    serials
}

#[tokio::test]
async fn an_entry_belongs_to_who_took_it_until_it_is_told_or_put_back() {
    let (_database, outbox) = outbox().await;
    let tomorrow = now() + time::Duration::days(1);
    for byte in [1, 1, 2] {
        outbox.put(revocation(byte, tomorrow)).await.unwrap();
    }
    let other = outbox.clone();
    let (one, two) = futures_util::join!(outbox.take(1, LEASE), other.take(10, LEASE));
    let (one, two) = (one.unwrap(), two.unwrap());
    let mut all = one.clone();
    all.extend(two.clone());
    assert_eq!(serials(&all), [serial(1), serial(2)], "each by one of them, and an entry stands once");
    assert_eq!(outbox.take(10, LEASE).await.unwrap(), []);
    assert_eq!(outbox.waiting().await.unwrap(), 2);

    outbox.told(serial(1)).await.unwrap();
    outbox.put_back(serial(2), Duration::ZERO).await.unwrap();
    let again = outbox.take(10, LEASE).await.unwrap();
    assert_eq!((serials(&again), again[0].attempts), (vec![serial(2)], 2));
    assert_eq!(outbox.waiting().await.unwrap(), 1);
}

/// Who died with an entry in hand loses nothing: the lease ends.
#[tokio::test]
async fn an_entry_whose_lease_is_over_is_taken_by_another() {
    let (_database, outbox) = outbox().await;
    outbox.put(revocation(1, now() + time::Duration::days(1))).await.unwrap();
    assert_eq!(outbox.take(10, Duration::ZERO).await.unwrap().len(), 1);
    let again = outbox.take(10, LEASE).await.unwrap();
    assert_eq!((again.len(), again[0].attempts), (1, 2));
}

#[tokio::test]
async fn a_certificate_past_its_end_need_not_be_told() {
    let (_database, outbox) = outbox().await;
    outbox.put(revocation(1, now() - time::Duration::seconds(1))).await.unwrap();
    assert_eq!((outbox.waiting().await.unwrap(), outbox.take(10, LEASE).await.unwrap()), (0, vec![]));
}

#[tokio::test]
async fn the_list_with_the_highest_number_is_kept_and_every_replica_hears_of_it() {
    let (database, outbox) = outbox().await;
    let list = |number: u64| Crl {
        der: vec![u8::try_from(number).unwrap()],
        number,
        this_update: now(),
        next_update: now() + time::Duration::hours(1),
    };
    assert_eq!(outbox.list(ROOT).await.unwrap(), None);
    for number in [5, 9, 7] {
        outbox.keep(ROOT, list(number), vec![vec![1], vec![2]]).await.unwrap();
    }
    let kept = outbox.list(ROOT).await.unwrap().unwrap();
    assert_eq!((kept.crl, kept.issuers), (vec![9], vec![vec![1], vec![2]]));
    assert_eq!(outbox.list([8; 32]).await.unwrap(), None, "another authority's");

    let (client, mut connection) = database.database_url().connect_driven(&Default::default()).await.unwrap();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut next = std::pin::pin!(std::future::poll_fn(move |context| connection.poll_message(context)));
        while let Some(Ok(message)) = next.as_mut().await {
            if let tokio_postgres::AsyncMessage::Notification(news) = message {
                let _test_is_over = heard.send((news.channel().to_owned(), news.payload().to_owned()));
            }
        }
    });
    client.batch_execute("LISTEN mosaic_crl").await.unwrap();
    outbox.keep(ROOT, list(10), vec![]).await.unwrap();
    assert_eq!(hears.recv().await, Some(("mosaic_crl".to_owned(), "10".to_owned())));
}

#[tokio::test]
async fn what_was_told_before_a_list_that_does_not_name_it_waits_again() {
    let (_database, outbox) = outbox().await;
    let tomorrow = now() + time::Duration::days(1);
    for (byte, end) in [(1, tomorrow), (2, tomorrow), (3, now() - time::Duration::seconds(1)), (4, tomorrow)] {
        outbox.put(revocation(byte, end)).await.unwrap();
    }
    for byte in [1, 2, 3] {
        outbox.told(serial(byte)).await.unwrap();
    }
    let again = async |made| outbox.tell_missing_again(vec![serial(1)], made).await.unwrap();
    assert_eq!(again(now() - time::Duration::hours(1)).await, 0, "a list from before says nothing of it");
    assert_eq!(again(now() + time::Duration::seconds(1)).await, 1);
    assert_eq!(serials(&outbox.take(10, LEASE).await.unwrap()), [serial(2), serial(4)]);
}
