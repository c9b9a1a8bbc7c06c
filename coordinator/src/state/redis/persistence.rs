//! Whether Redis is run in a way that keeps counts and revocations: a warning for operators, once.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

/// Looks, where it may; not being allowed to look is no fault.
pub(super) async fn check(mut connection: MultiplexedConnection) -> RedisResult<()> {
    let info: String = redis::cmd("INFO").query_async(&mut connection).await.unwrap_or_default();
    if field(&info, "aof_enabled") == Some("0") {
        tracing::warn!(
            "Redis does not log what it is told (appendonly no): a crash of it forgets counts and revocations"
        );
    }
    if let Some(policy) = field(&info, "maxmemory_policy")
        && policy != "noeviction"
        && field(&info, "maxmemory") != Some("0")
    {
        tracing::warn!(
            policy,
            "Redis may forget nonces, counts and revocations when it is full; set maxmemory-policy noeviction"
        );
    }
    Ok(())
}

/// A line `name:value`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "# Memory\r\nmaxmemory_human:0B\r\nmaxmemory:12\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(field(info, "maxmemory"), Some("12"));
        assert_eq!(field(info, "maxmemory_policy"), Some("allkeys-lru"));
        assert_eq!(field(info, "memory"), None);
    }
}
