//! The state of several coordinators, in one Redis. Each question is one command or one script, so that it is answered
//! whole or not at all; whatever goes wrong on the way is [`StateError::Away`].
//!
//! What is durable is Redis's affair: it has to be run with `appendonly yes`, and may not evict. Not for Redis Cluster.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, ScriptInvocation};
use sha2::{Digest, Sha256};
use tokio::task::AbortHandle;

use self::line::Line;
use self::revoked::RevokedLinks;
use super::throttle::{self, Terms, micros, time_of, whole_micros};
use super::{
    Asked, KEPT_LONGER_MS, LinkRecord, NonceUse, Pace, Redeemed, Revocation, Standing, State, StateError,
    Subscriber, Throttled, Visit, millis, owner_field,
};

mod line;
mod persistence;
mod revoked;

pub(crate) use line::RedisUrlError;

/// Before all keys.
const PREFIX: &str = "sluice:";
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a question that has another answer at hand.
const QUICK_TIMEOUT: Duration = Duration::from_millis(250);
/// The same for the list of all revoked links.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// From one look at Redis to the next, and the least pause, where questions fail.
const TEND_EVERY: Duration = Duration::from_secs(1);
const TEND_PAUSE: Duration = Duration::from_millis(100);

/// State in Redis.
pub(crate) struct Redis {
    line: Arc<Line>,
    revoked: Arc<RevokedLinks>,
    keys: Keys,
    scripts: Scripts,
    nonces_max_per_client: usize,
    tending: AbortHandle,
}

struct Scripts {
    nonce: Script,
    throttle: Script,
    revoke: Script,
    redeem: Script,
}

impl Redis {
    /// Uses the Redis at a URL, which need not answer yet. To be called within a runtime. `nonces_max_per_client` is
    /// how many nonces of one client are remembered at most.
    ///
    /// # Errors
    /// A URL that is not Redis's.
    pub(crate) fn connect(url: &str, nonces_max_per_client: usize) -> Result<Arc<Self>, RedisUrlError> {
        Self::connect_under(PREFIX, url, nonces_max_per_client)
    }

    /// The same, with something else before all keys: for a Redis that clusters share.
    ///
    /// # Errors
    /// A URL that is not Redis's.
    pub(crate) fn connect_under(
        prefix: &str,
        url: &str,
        nonces_max_per_client: usize,
    ) -> Result<Arc<Self>, RedisUrlError> {
        let line = Arc::new(Line::new(url)?);
        let revoked = Arc::<RevokedLinks>::default();
        let keys = Keys { prefix: prefix.into() };
        let tending = tokio::spawn(tend(Arc::clone(&line), Arc::clone(&revoked), keys.clone()));
        let scripts = Scripts {
            nonce: Script::new(include_str!("redis/nonce.lua")),
            throttle: Script::new(include_str!("redis/throttle.lua")),
            revoke: Script::new(include_str!("redis/revoke.lua")),
            redeem: Script::new(include_str!("redis/redeem.lua")),
        };
        let tending = tending.abort_handle();
        Ok(Arc::new(Self { line, revoked, keys, scripts, nonces_max_per_client, tending }))
    }

    /// Without asking anybody.
    #[cfg(test)]
    pub(super) fn knows_revoked(&self, id: &str) -> bool {
        self.revoked.contains(id)
    }

    async fn invoke<T: redis::FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StateError> {
        let question = |mut connection| async move { script.invoke_async(&mut connection).await };
        self.line.ask(ANSWER_TIMEOUT, question).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.tending.abort();
    }
}

impl fmt::Debug for Redis {
    /// Without the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("is_well", &self.line.is_well()).finish_non_exhaustive()
    }
}

/// Keeps the connection and the list of revoked links, for ever.
async fn tend(line: Arc<Line>, revoked: Arc<RevokedLinks>, keys: Keys) {
    let mut version = None;
    let mut was_well = None;
    let mut is_checked = false;
    loop {
        let outcome = line.tend(ANSWER_TIMEOUT, |connection| prove(connection, &keys)).await;
        let is_well = outcome.is_ok();
        if was_well.replace(is_well) != Some(is_well) {
            match outcome {
                Ok(()) => tracing::info!("Redis answers"),
                Err(error) => tracing::error!(%error, "Redis does not answer; what needs it is refused"),
            }
        }
        if is_well {
            let now_ms = millis(SystemTime::now());
            // Where it fails, the line has been told.
            let _ = line
                .ask(LIST_TIMEOUT, |connection| revoked.refresh(connection, &keys, &mut version, now_ms))
                .await;
        }
        if is_well && !std::mem::replace(&mut is_checked, true) {
            let _ = line.ask(ANSWER_TIMEOUT, persistence::check).await;
        }
        tokio::select! {
            () = tokio::time::sleep(TEND_EVERY) => {}
            () = line.trouble() => tokio::time::sleep(TEND_PAUSE).await,
        }
    }
}

/// A write, since reads may work where writes don't: memory or disk is full, or a replica was reached.
async fn prove(mut connection: MultiplexedConnection, keys: &Keys) -> RedisResult<()> {
    redis::cmd("SET")
        .arg(keys.proof())
        .arg(1)
        .arg("PX")
        .arg(KEPT_LONGER_MS)
        .query_async(&mut connection)
        .await
}

impl State for Redis {
    fn use_nonce<'a>(
        &'a self,
        client: &'a str,
        nonce: &'a str,
        now: SystemTime,
        keep_until: SystemTime,
    ) -> Asked<'a, NonceUse> {
        Box::pin(async move {
            // Of a fixed length, whatever the caller sends.
            let digest = Sha256::digest(nonce);
            let mut call = self.scripts.nonce.key(self.keys.nonces(client));
            call.arg(&digest[..16])
                .arg(millis(keep_until))
                // Others' clocks may be behind this one.
                .arg(millis(now).saturating_sub(KEPT_LONGER_MS))
                .arg(self.nonces_max_per_client)
                .arg(2 * KEPT_LONGER_MS);
            match self.invoke::<String>(&call).await?.as_str() {
                "fresh" => Ok(NonceUse::Fresh),
                "used" => Ok(NonceUse::Used),
                "full" => Ok(NonceUse::Full),
                _ => Err(StateError::Away),
            }
        })
    }

    fn remembers_since(&self) -> Option<SystemTime> {
        None
    }

    fn remembers<'a>(&'a self, _: &'a str, _: SystemTime, _: SystemTime) -> Asked<'a, bool> {
        Box::pin(async { Ok(true) })
    }

    fn throttle<'a>(&'a self, client: &'a str, pace: Pace, now: SystemTime) -> Asked<'a, Throttled> {
        Box::pin(async move {
            let terms = Terms::of(pace);
            let mut call = self.scripts.throttle.key(self.keys.pace(client));
            call.arg(micros(now)).arg(terms.interval_us).arg(terms.burst).arg(throttle::STRIKES_OVER_BURST);
            for duration in [
                throttle::BLOCK_MIN,
                throttle::BLOCK_MAX,
                throttle::QUIET,
                Duration::from_millis(KEPT_LONGER_MS),
            ] {
                call.arg(whole_micros(duration));
            }
            match self.invoke::<(String, u64)>(&call).await? {
                (what, value) if what == "no" => {
                    Ok(Throttled::No { remaining: u32::try_from(value).unwrap_or(u32::MAX) })
                }
                (what, value) if what == "yes" => {
                    Ok(Throttled::Yes { retry_after: Duration::from_micros(value) })
                }
                (what, value) if what == "blocked" => Ok(Throttled::Blocked { until: time_of(value) }),
                _ => Err(StateError::Away),
            }
        })
    }

    fn create_link<'a>(&'a self, link: &'a LinkRecord) -> Asked<'a, ()> {
        Box::pin(async move {
            let key = self.keys.link(&link.id);
            let expires_ms = millis(link.expires_at);
            let mut both = redis::pipe();
            both.atomic()
                .hset_multiple(
                    &key,
                    &[("owner", owner_field(link.owner.as_deref())), ("expires", expires_ms.to_string())],
                )
                .pexpire_at(&key, gone_at(link.expires_at));
            let question = |mut connection| async move { both.query_async::<()>(&mut connection).await };
            self.line.ask(ANSWER_TIMEOUT, question).await
        })
    }

    fn revoke_link<'a>(
        &'a self,
        id: &'a str,
        owner: Option<&'a str>,
        now: SystemTime,
    ) -> Asked<'a, Revocation> {
        Box::pin(async move {
            let mut call = self.scripts.revoke.key(self.keys.link(id));
            call.key(self.keys.revoked())
                .key(self.keys.revoked_version())
                .arg(id)
                .arg(owner_field(owner))
                .arg(millis(now))
                .arg(millis(now).saturating_sub(KEPT_LONGER_MS));
            let expires_ms: u64 = self.invoke(&call).await?;
            if expires_ms == 0 {
                return Ok(Revocation::NotYours);
            }
            self.revoked.insert(id, expires_ms);
            Ok(Revocation::Revoked)
        })
    }

    fn is_revoked<'a>(&'a self, id: &'a str) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            // What was revoked once stays so: no need to ask.
            if self.revoked.contains(id) {
                return true;
            }
            let key = self.keys.link(id);
            let question = |mut connection: MultiplexedConnection| async move {
                redis::cmd("HEXISTS").arg(key).arg("revoked").query_async(&mut connection).await
            };
            self.line.ask(QUICK_TIMEOUT, question).await.unwrap_or(false)
        })
    }

    fn redeem<'a>(&'a self, visit: Visit<'a>) -> Asked<'a, Redeemed> {
        Box::pin(async move {
            let mut call = self.scripts.redeem.key(self.keys.redemptions(visit.link));
            call.key(self.keys.link(visit.link))
                .arg(visit.who.address().to_string())
                .arg(visit.downloads_max)
                .arg(millis(visit.now))
                .arg(millis(visit.open_until))
                .arg(gone_at(visit.keep_until));
            let (what, visits): (String, u32) = self.invoke(&call).await?;
            match what.as_str() {
                "opened" => Ok(Redeemed::Opened),
                "joined" => Ok(Redeemed::Joined { visits }),
                "exhausted" => Ok(Redeemed::Exhausted),
                "revoked" => Ok(Redeemed::Revoked),
                _ => Err(StateError::Away),
            }
        })
    }

    fn standing<'a>(&'a self, link: &'a str, who: Subscriber) -> Asked<'a, Standing> {
        Box::pin(async move {
            let mut both = redis::pipe();
            both.hexists(self.keys.link(link), "revoked")
                .hexists(self.keys.redemptions(link), who.address().to_string());
            let question = |mut connection| async move { both.query_async(&mut connection).await };
            match self.line.ask(ANSWER_TIMEOUT, question).await? {
                (true, _) => Ok(Standing::Revoked),
                (false, true) => Ok(Standing::Redeemed),
                (false, false) => Ok(Standing::Never),
            }
        })
    }

    fn is_well(&self) -> bool {
        self.line.is_well()
    }
}

/// The names of everything in Redis.
#[derive(Clone)]
struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    fn nonces(&self, client: &str) -> String {
        format!("{}nonces:{{{client}}}", self.prefix)
    }

    fn pace(&self, client: &str) -> String {
        format!("{}pace:{{{client}}}", self.prefix)
    }

    fn link(&self, id: &str) -> String {
        format!("{}link:{{{id}}}", self.prefix)
    }

    fn redemptions(&self, id: &str) -> String {
        format!("{}redemptions:{{{id}}}", self.prefix)
    }

    fn revoked(&self) -> String {
        format!("{}revoked", self.prefix)
    }

    fn proof(&self) -> String {
        format!("{}proof", self.prefix)
    }

    fn revoked_version(&self) -> String {
        format!("{}revoked-version", self.prefix)
    }
}

/// When a key may go, as Redis takes it.
fn gone_at(until: SystemTime) -> i64 {
    i64::try_from(millis(until).saturating_add(KEPT_LONGER_MS)).unwrap_or(i64::MAX)
}
