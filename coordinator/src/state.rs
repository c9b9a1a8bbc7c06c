//! What must not be forgotten between calls: nonces, rates, links and their counts, revocations. One trait, two
//! places: [`embedded`] for one coordinator, [`redis`] for several.
//!
//! Every question may fail with [`StateError::Away`]; whoever asks then refuses, and never takes silence for a yes.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::StateSource;

pub(crate) mod embedded;
mod nonces;
pub(crate) mod redis;
#[cfg(test)]
mod tests;
mod throttle;

/// Why state cannot be kept where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum StateStartError {
    #[error(transparent)]
    Embedded(#[from] embedded::EmbeddedError),
    #[error("`state.url`: {0}")]
    Redis(#[from] redis::RedisUrlError),
}

/// Opens the configured state; within a runtime. A Redis that is away is waited for by whoever asks.
///
/// # Errors
/// The file cannot be used, or the URL is none.
pub(crate) fn start(source: &StateSource, nonces_max: usize) -> Result<Arc<dyn State>, StateStartError> {
    Ok(match source {
        StateSource::Embedded(path) => {
            let state = embedded::Embedded::open(path, nonces_max)?;
            tracing::info!(path = %path.display(), id = state.state_id(), "state file opened");
            state
        }
        StateSource::Redis(url) => redis::Redis::connect(url.reveal(), nonces_max)?,
    })
}

/// Opens the configured state as [`start`] does, and waits for a process that is about to let go of it.
///
/// # Errors
/// As [`start`]; it is not let go of in time.
pub(crate) async fn start_after_another(
    source: &StateSource,
    nonces_max: usize,
) -> Result<Arc<dyn State>, StateStartError> {
    let deadline = Instant::now() + LET_GO_WITHIN;
    loop {
        match start(source, nonces_max) {
            Err(StateStartError::Embedded(embedded::EmbeddedError::InUse { .. }))
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            other => return other,
        }
    }
}

/// For a predecessor that went away, or did not answer, to let go of the state; it may be writing yet.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Links and what belongs to them are kept so much longer than asked: for clocks that are set back, and those of
/// several coordinators that differ.
const KEPT_LONGER_MS: u64 = 60_000;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StateError {
    #[error("the shared state does not answer")]
    Away,
}

pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, StateError>> + Send + 'a>>;

/// What became of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NonceUse {
    /// Never seen within the time that nonces are kept; remembered now.
    Fresh,
    Used,
    /// As many of this client's are remembered as may be; none is forgotten early.
    Full,
}

/// How often a client may ask: `burst` calls at once, one more each `1 / per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    /// Above 0.
    pub(crate) per_second: f64,
    /// At least 1.
    pub(crate) burst: u32,
}

/// Whether a call is within its client's pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Throttled {
    /// So many more may follow at once.
    No { remaining: u32 },
    /// Not before so long.
    Yes { retry_after: Duration },
    /// It went on asking in vain; all is refused until then.
    Blocked { until: SystemTime },
}

/// The part of an address that says who it is: all of IPv4, the /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subscriber(IpAddr);

impl Subscriber {
    /// `address` is normalised: no IPv4-mapped IPv6.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self(address),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
        }
    }

    pub(crate) fn address(self) -> IpAddr {
        self.0
    }
}

/// A durable link, as far as its ticket does not say it all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkRecord {
    pub(crate) id: String,
    /// The client that made it; `None` where nobody in particular did.
    pub(crate) owner: Option<String>,
    /// Kept until then.
    pub(crate) expires_at: SystemTime,
}

/// A client comes for a counted link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) link: &'a str,
    pub(crate) who: Subscriber,
    pub(crate) downloads_max: u32,
    pub(crate) now: SystemTime,
    /// A redemption that is opened now is open until then; one that is open already is not prolonged.
    pub(crate) open_until: SystemTime,
    /// Counts and redemptions are kept until then: the link's expiry.
    pub(crate) keep_until: SystemTime,
}

/// What a visit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// A redemption was opened, and counted.
    Opened,
    /// Within an open redemption, which has been visited so many times before (at least 1). Not counted.
    Joined {
        visits: u32,
    },
    /// The link has had all its downloads.
    Exhausted,
    Revoked,
}

/// Whether a counted link's token may be renewed for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has redeemed the link, lately or not.
    Redeemed,
    Never,
    Revoked,
}

/// What came of taking a link back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Revocation {
    Revoked,
    /// There is no such link, or it is another's; which of the two is nobody's business.
    NotYours,
}

pub(crate) trait State: Send + Sync {
    /// Remembers a nonce of a client until `keep_until`, unless it is remembered already.
    fn use_nonce<'a>(
        &'a self,
        client: &'a str,
        nonce: &'a str,
        now: SystemTime,
        keep_until: SystemTime,
    ) -> Asked<'a, NonceUse>;

    /// The earliest time that a call may bear: with nonces that a restart forgets, the first whole second after it. `None`
    /// where nothing is forgotten.
    fn remembers_since(&self) -> Option<SystemTime>;

    /// Whether no nonce of a client's calls that bear this time can have been forgotten. A time that is ahead of `now` is
    /// noted, durably: after a restart it would look like one that has not been there yet.
    fn remembers<'a>(&'a self, client: &'a str, time: SystemTime, now: SystemTime) -> Asked<'a, bool>;

    /// Counts a call of a client against its pace.
    fn throttle<'a>(&'a self, client: &'a str, pace: Pace, now: SystemTime) -> Asked<'a, Throttled>;

    /// Records a new link, durably.
    fn create_link<'a>(&'a self, link: &'a LinkRecord) -> Asked<'a, ()>;

    /// Takes a link back for good, durably; again is not an error. `owner` is who asks, and has to be the link's: for
    /// `None`, only what nobody in particular made.
    fn revoke_link<'a>(
        &'a self,
        id: &'a str,
        owner: Option<&'a str>,
        now: SystemTime,
    ) -> Asked<'a, Revocation>;

    /// Whether a link was taken back. Where shared state is away, as last known: this answer needs nobody.
    fn is_revoked<'a>(&'a self, id: &'a str) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// Opens or joins a redemption, atomically and durably.
    fn redeem<'a>(&'a self, visit: Visit<'a>) -> Asked<'a, Redeemed>;

    fn standing<'a>(&'a self, link: &'a str, who: Subscriber) -> Asked<'a, Standing>;

    /// Whether questions are being answered: for readiness and metrics.
    fn is_well(&self) -> bool;

    /// The random name of state that is this coordinator's alone; `None` where several share it.
    fn own_id(&self) -> Option<&str> {
        None
    }

    /// Lets go of what only one process may have, so that another can: what was answered is kept, and from then on what
    /// needs it is refused. State that several share has nothing of the kind.
    fn release(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }
}

/// Milliseconds since 1970: how times are stored.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How an owner is stored: nobody is not somebody without a name.
fn owner_field(owner: Option<&str>) -> String {
    owner.map(|owner| format!("={owner}")).unwrap_or_default()
}
