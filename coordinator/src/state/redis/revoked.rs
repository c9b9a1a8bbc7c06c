//! Ids of revoked links as last read from Redis, for the time in which it is away. An id stays until its link has
//! expired, even where Redis has forgotten it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::Keys;
use crate::state::KEPT_LONGER_MS;

/// Ids, and until when each is kept: milliseconds since 1970.
#[derive(Default)]
pub(super) struct RevokedLinks {
    ids: RwLock<HashMap<String, u64>>,
}

impl RevokedLinks {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    pub(super) fn insert(&self, id: &str, until_ms: u64) {
        self.ids.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), until_ms);
    }

    /// Reads what Redis has, where that changed since the version given.
    pub(super) async fn refresh(
        &self,
        mut connection: MultiplexedConnection,
        keys: &Keys,
        version: &mut Option<u64>,
        now_ms: u64,
    ) -> RedisResult<()> {
        let newest: Option<u64> =
            redis::cmd("GET").arg(keys.revoked_version()).query_async(&mut connection).await?;
        // Nothing was ever revoked, or Redis has forgotten all.
        let newest = newest.unwrap_or(0);
        if *version == Some(newest) {
            return Ok(());
        }
        let listed: Vec<(String, u64)> = redis::cmd("ZRANGEBYSCORE")
            .arg(keys.revoked())
            .arg(now_ms)
            .arg("+inf")
            .arg("WITHSCORES")
            .query_async(&mut connection)
            .await?;
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        ids.retain(|_, until_ms| now_ms < until_ms.saturating_add(KEPT_LONGER_MS));
        ids.extend(listed);
        *version = Some(newest);
        Ok(())
    }
}
