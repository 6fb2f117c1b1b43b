//! A look at the server, for `gateway doctor` and for the start.

use mosaic_actors::domain::identity::SiteName;

use super::{Counter, DIAL, RedisFailure, RedisUrl, within};

/// What was seen of a server that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLook {
    /// `Redis 7.0.15`, `Valkey 8.1.0`.
    pub server: String,
    /// Keys may go before they end, and with them what was counted.
    pub may_evict: bool,
}

/// Dials, logs in, runs the script that counts, and asks what the server is.
pub async fn look(url: &RedisUrl, site: &SiteName) -> Result<ServerLook, RedisFailure> {
    let mut connection = url.connect().await?;
    Counter::of(site).try_out(&connection, DIAL).await?;
    // A user who may only count may not ask: then there is less to tell, and nothing wrong.
    let info: String = within(DIAL, redis::cmd("INFO").query_async(&mut connection)).await.unwrap_or_default();
    let value = |key: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    let server = match (value("valkey_version"), value("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => "a server that does not say what it is".to_owned(),
    };
    let may_evict = value("maxmemory_policy").is_some_and(|policy| policy != "noeviction");
    Ok(ServerLook { server, may_evict })
}
