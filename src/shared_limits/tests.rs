//! Against the real redis-server.

use std::time::Instant;

use super::testing::TestRedis;
use super::*;

fn limits(per_second: u32, burst: u32) -> InboundLimits {
    InboundLimits { requests_per_second: per_second, burst, concurrent: 8 }
}

fn url(text: &str) -> Result<RedisUrl, RedisUrlError> {
    RedisUrl::parse(&SecretString::from(text))
}

fn site() -> SiteName {
    SiteName::parse("work").unwrap()
}

/// A replica of the site. The answer's time is a busy machine's, unless the test is about it.
fn replica(redis: &TestRedis, answer: Duration) -> SharedLimits {
    let limits = Limits { redis_answer: answer, redis_retry: Duration::from_millis(50), ..Limits::default() };
    let url = RedisUrl::parse(&redis.url()).unwrap();
    SharedLimits::start(url, &site(), &limits, Metrics::new().unwrap(), CancellationToken::new())
}

const PATIENT: Duration = Duration::from_secs(20);

async fn until(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn passed(replica: &SharedLimits, grant: GrantId, limits: &InboundLimits, times: usize) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        let verdict = replica.count(grant, limits).await.expect("Redis answers");
        passed += usize::from(verdict == SharedVerdict::Passed);
    }
    passed
}

#[actix_rt::test]
async fn two_replicas_share_one_bucket_and_grants_share_none() {
    let redis = TestRedis::start();
    let (one, other) = (replica(&redis, PATIENT), replica(&redis, PATIENT));
    until("both are connected", || one.is_up() && other.is_up()).await;
    // One a second: on a slow machine one or two come back while this counts.
    let (grant, slow) = (GrantId::new(), limits(1, 10));
    let together = passed(&one, grant, &slow, 6).await + passed(&other, grant, &slow, 6).await;
    assert!((10..=12).contains(&together), "{together} of a burst of 10");
    match other.count(grant, &slow).await.unwrap() {
        SharedVerdict::Refused { retry_after } => {
            assert!(retry_after <= Duration::from_secs(1) && !retry_after.is_zero())
        }
        // A second went by.
        SharedVerdict::Passed => {}
    }
    assert_eq!(passed(&other, GrantId::new(), &slow, 6).await, 6);
}

#[actix_rt::test]
async fn the_bucket_fills_at_the_sustained_rate_and_a_lower_burst_counts_at_once() {
    let redis = TestRedis::start();
    let replica = replica(&redis, PATIENT);
    until("it is connected", || replica.is_up()).await;
    let grant = GrantId::new();
    assert_eq!(passed(&replica, grant, &limits(1, 1_000), 500).await, 500);
    // Half empty for the old burst; for the new one it is empty, but not for longer than its own burst takes.
    let SharedVerdict::Refused { retry_after } = replica.count(grant, &limits(1, 2)).await.unwrap() else { panic!() };
    assert!(retry_after <= Duration::from_secs(2), "{retry_after:?}");
    // Ten a second: within a second of waiting there is at least one.
    let quick = GrantId::new();
    while replica.count(quick, &limits(10, 3)).await == Some(SharedVerdict::Passed) {}
    let SharedVerdict::Refused { retry_after } = replica.count(quick, &limits(10, 3)).await.unwrap() else { return };
    assert!(retry_after <= Duration::from_millis(100), "{retry_after:?}");
    tokio::time::sleep(retry_after + Duration::from_millis(1)).await;
    assert_eq!(replica.count(quick, &limits(10, 3)).await, Some(SharedVerdict::Passed));
}

#[actix_rt::test]
async fn a_frozen_server_costs_one_answers_time_and_then_nothing_until_it_is_back() {
    let redis = TestRedis::start();
    let replica = replica(&redis, Duration::from_millis(300));
    until("it is connected", || replica.is_up()).await;
    redis.freeze();
    let (grant, limits) = (GrantId::new(), limits(10, 50));
    // Also the keeper may be the one who notices; either way nobody gets a verdict.
    until("it is noticed", || !replica.is_up()).await;
    let started = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(replica.count(grant, &limits).await, None);
    }
    assert!(started.elapsed() < Duration::from_secs(60), "a thousand waits would be five minutes");
    redis.thaw();
    // A busy machine may take longer for an answer once more.
    let again = async {
        while replica.count(grant, &limits).await != Some(SharedVerdict::Passed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.expect("it is back");
}

#[actix_rt::test]
async fn a_request_that_finds_the_server_frozen_waits_for_one_answers_time() {
    let redis = TestRedis::start();
    let answer = Duration::from_secs(1);
    let limits = Limits { redis_answer: answer, redis_retry: Duration::from_secs(60), ..Limits::default() };
    let url = RedisUrl::parse(&redis.url()).unwrap();
    let replica = SharedLimits::start(url, &site(), &limits, Metrics::new().unwrap(), CancellationToken::new());
    until("it is connected", || replica.is_up()).await;
    redis.freeze();
    let of_grant = self::limits(10, 50);
    let verdict = tokio::time::timeout(Duration::from_secs(30), replica.count(GrantId::new(), &of_grant));
    assert_eq!(verdict.await, Ok(None));
    assert!(!replica.is_up());
}

/// A way to the server that takes its time; and how many connections went over it.
async fn slow_way(to: String, delay: Duration) -> (SecretString, Arc<std::sync::atomic::AtomicUsize>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = SecretString::from(format!("redis://{}", listener.local_addr().unwrap()));
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    actix_rt::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let (mut from_client, mut to_client) = client.into_split();
            let server = tokio::net::TcpStream::connect(&to).await.unwrap();
            let (mut from_server, mut to_server) = server.into_split();
            actix_rt::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            actix_rt::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                    tokio::time::sleep(delay).await;
                    if to_server.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, connections)
}

#[actix_rt::test]
async fn a_server_that_is_too_slow_for_requests_is_down_and_stays_so() {
    let redis = TestRedis::start();
    let address = redis.url().expose_secret().trim_start_matches("redis://").to_owned();
    let (url, connections) = slow_way(address, Duration::from_millis(100)).await;
    let (answer, retry) = (Duration::from_millis(25), Duration::from_millis(50));
    let limits = Limits { redis_answer: answer, redis_retry: retry, ..Limits::default() };
    let url = RedisUrl::parse(&url).unwrap();
    let replica = SharedLimits::start(url, &site(), &limits, Metrics::new().unwrap(), CancellationToken::new());
    until("the keeper tries it again and again", || {
        assert!(!replica.is_up());
        connections.load(Ordering::Relaxed) >= 3
    })
    .await;
    assert_eq!(replica.count(GrantId::new(), &self::limits(10, 50)).await, None);
}

#[actix_rt::test]
async fn a_key_that_holds_something_else_is_no_answer_for_its_grant_alone() {
    let redis = TestRedis::start();
    let replica = replica(&redis, PATIENT);
    until("it is connected", || replica.is_up()).await;
    let mut client = RedisUrl::parse(&redis.url()).unwrap().connect().await.unwrap();
    let (list, word, far) = (GrantId::new(), GrantId::new(), GrantId::new());
    let key = |grant: GrantId| format!("mosaic:work:rate:{grant}");
    let of_list: () = redis::cmd("RPUSH").arg(key(list)).arg("x").query_async(&mut client).await.unwrap();
    let of_word: () = redis::cmd("SET").arg(key(word)).arg("x").query_async(&mut client).await.unwrap();
    let of_far: () = redis::cmd("SET").arg(key(far)).arg("9e18").query_async(&mut client).await.unwrap();
    let ((), (), ()) = (of_list, of_word, of_far);
    let limits = limits(10, 50);
    for _ in 0..20 {
        assert_eq!((replica.count(list, &limits).await, replica.count(word, &limits).await), (None, None));
        assert_eq!(replica.count(GrantId::new(), &limits).await, Some(SharedVerdict::Passed));
        assert!(replica.is_up());
    }
    let SharedVerdict::Refused { retry_after } = replica.count(far, &limits).await.unwrap() else { return };
    assert!(retry_after <= Duration::from_secs(5), "{retry_after:?}");
}

#[actix_rt::test]
async fn a_server_that_ends_and_comes_back_counts_anew_without_a_restart_of_the_node() {
    let mut redis = TestRedis::start();
    let replica = replica(&redis, PATIENT);
    until("it is connected", || replica.is_up()).await;
    redis.kill();
    until("it is noticed", || !replica.is_up()).await;
    assert_eq!(replica.count(GrantId::new(), &limits(10, 50)).await, None);
    redis.run();
    until("it is back", || replica.is_up()).await;
    assert_eq!(replica.count(GrantId::new(), &limits(10, 50)).await, Some(SharedVerdict::Passed));
}

#[actix_rt::test]
async fn what_is_wrong_with_a_server_is_told_without_its_password() {
    let secret = "a-very-secret-word";
    let redis = TestRedis::start_with(&[], Some(secret));
    let good = RedisUrl::parse(&redis.url()).unwrap();
    let seen = look(&good, &site()).await.unwrap();
    assert!(seen.server.starts_with("Redis ") || seen.server.starts_with("Valkey "), "{seen:?}");
    assert!(!format!("{good:?} {good}").contains(secret));

    let address = redis.url().expose_secret().split('@').next_back().unwrap().to_owned();
    for text in [format!("redis://{address}"), format!("redis://:{secret}x@{address}")] {
        let failure = look(&url(&text).unwrap(), &site()).await.unwrap_err();
        assert_eq!(failure, RedisFailure::Login);
        assert!(!failure.to_string().contains(secret));
    }
    let full = TestRedis::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"], None);
    assert_eq!(look(&RedisUrl::parse(&full.url()).unwrap(), &site()).await, Err(RedisFailure::ReadOnly));
    let mut gone = full;
    gone.kill();
    let failure = look(&RedisUrl::parse(&gone.url()).unwrap(), &site()).await.unwrap_err();
    assert!(matches!(failure, RedisFailure::Unreachable(_)), "{failure:?}");
}

#[actix_rt::test]
async fn a_user_who_may_only_count_is_enough_and_one_who_may_not_is_told() {
    let users = "--user counter on >one ~mosaic:* +evalsha +eval +script|load +time +get +set +client \
                 --user reader on >two ~* +get +client";
    let redis = TestRedis::start_with(&users.split_whitespace().collect::<Vec<_>>(), None);
    let address = redis.url().expose_secret().trim_start_matches("redis://").to_owned();
    let seen = look(&url(&format!("redis://counter:one@{address}")).unwrap(), &site()).await.unwrap();
    assert_eq!(seen.server, "a server that does not say what it is");
    let refused = look(&url(&format!("redis://reader:two@{address}")).unwrap(), &site()).await;
    assert_eq!(refused, Err(RedisFailure::NotAllowed));
}

#[test]
fn a_url_is_shown_without_user_and_password() {
    let shown = url("rediss://user:word@redis.example/3").unwrap();
    assert_eq!(
        (shown.to_string(), shown.is_encrypted(), shown.is_local()),
        ("rediss://redis.example:6379".to_owned(), true, false)
    );
    assert!(url("redis://[::1]:1").unwrap().is_local());
    for (bad, why) in [
        ("redis.example", RedisUrlError::Shape),
        ("http://redis.example", RedisUrlError::Scheme),
        ("redis:///1", RedisUrlError::Host),
        ("redis://h/x", RedisUrlError::Database),
    ] {
        assert_eq!(url(bad).unwrap_err(), why, "{bad}");
    }
}
