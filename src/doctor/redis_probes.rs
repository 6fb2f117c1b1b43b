//! Redis or Valkey: whether replicas can count together.

use super::Probe;
use crate::config::{Config, Tier};
use crate::shared_limits::{RedisFailure, RedisUrl, ServerLook, look};

const NAME: &str = "rate limits";

pub(super) async fn probes(config: &Config) -> Vec<Probe> {
    let Some(url) = &config.redis else {
        return vec![Probe::green(NAME, "counted in this process; every replica counts by itself")];
    };
    let url = match RedisUrl::parse(url) {
        Ok(url) => url,
        Err(error) => return vec![Probe::red(NAME, format!("redis.url: {error}"), "correct redis.url")],
    };
    let mut probes = vec![match look(&url, &config.site).await {
        Ok(ServerLook { server, may_evict: false }) => {
            Probe::green(NAME, format!("counted by all replicas together, in {server} at {url}"))
        }
        Ok(ServerLook { server, may_evict: true }) => Probe::yellow(
            NAME,
            format!(
                "counted by all replicas together, in {server} at {url}, which may forget counts when its memory is full"
            ),
            "set maxmemory-policy to noeviction, or give the node a Redis of its own",
        ),
        Err(failure) => missing(config, &url, &failure),
    }];
    if !url.is_encrypted() && !url.is_local() {
        let detail = "none: the password crosses the network readable; what is sent besides are ids of grants";
        probes.push(Probe::yellow(
            "redis encryption",
            detail,
            "write rediss:// in redis.url, if the server speaks TLS",
        ));
    }
    probes
}

/// The node goes on alone, and so it is yellow where Redis is a choice; a tier that has it as a part misses the part.
fn missing(config: &Config, url: &RedisUrl, failure: &RedisFailure) -> Probe {
    let detail = format!("{url}: {failure}; until then every replica counts by itself");
    let remedy = match failure {
        RedisFailure::Login => "correct user and password in redis.url",
        RedisFailure::NotAllowed => "ACL SETUSER <user> ~mosaic:* +evalsha +eval +script|load +time +get +set",
        RedisFailure::ReadOnly => "point redis.url at the primary, and see that it has memory and disk",
        RedisFailure::Unreachable(_) | RedisFailure::Silent(_) => {
            "start Redis or Valkey, and check host and port in redis.url"
        }
        RedisFailure::Answer(_) => "is it Redis 6 or newer, or Valkey? see its log",
    };
    if config.tier == Tier::Federated { Probe::red(NAME, detail, remedy) } else { Probe::yellow(NAME, detail, remedy) }
}
