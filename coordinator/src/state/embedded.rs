//! The state of one coordinator: links, redemptions and revocations in one file, nonces and paces in memory.
//!
//! Whatever is written is on disk before it is answered. The runtime's threads never touch the file: one thread of
//! its own writes, and reads are made on the runtime's blocking threads.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_shared::blocking;

use self::store::Store;
use self::tables::Redemption;
use self::writer::Writer;
use super::nonces::Nonces;
use super::throttle::Throttle;
use super::{
    Asked, LinkRecord, NonceUse, Pace, Redeemed, Revocation, Standing, State, StateError, Subscriber,
    Throttled, Visit, millis, owner_field,
};

mod store;
mod tables;
mod writer;

pub(crate) use store::EmbeddedError;

/// Nonces of all clients: some 300 MB, and 13,000 calls in each second of ten minutes.
const NONCES_MAX: usize = 8_000_000;

/// State in one file and in memory.
pub(crate) struct Embedded {
    /// The first whole second of this process: calls bear whole seconds.
    since: SystemTime,
    /// The latest times ahead of the clock that clients' calls bore before, in milliseconds.
    borne_before: HashMap<String, u64>,
    store: Arc<Store>,
    memory: Arc<Memory>,
    writer: Writer,
}

/// What a restart forgets, and what it reads again.
struct Memory {
    nonces: Nonces,
    throttle: Throttle,
    /// Ids of the links in the file that are revoked.
    revoked: RwLock<HashSet<String>>,
    /// The latest times ahead of the clock that are in the file.
    borne: RwLock<HashMap<String, u64>>,
}

impl Embedded {
    /// Opens the file, or makes it for its owner alone. Blocks: for the start of the program. `nonces_max_per_client`
    /// is how many nonces of one client are remembered at most.
    ///
    /// # Errors
    /// The file cannot be opened, is no such file, or is open in another process.
    pub(crate) fn open(path: &Path, nonces_max_per_client: usize) -> Result<Arc<Self>, EmbeddedError> {
        let store = Arc::new(Store::open(path)?);
        // From here on, no other process answers with this state.
        let since = next_second(SystemTime::now());
        let borne_before = store.borne()?;
        let memory = Arc::new(Memory {
            nonces: Nonces::new(nonces_max_per_client, NONCES_MAX),
            throttle: Throttle::new(),
            revoked: RwLock::new(store.revoked()?),
            borne: RwLock::new(borne_before.clone()),
        });
        let writer = Writer::start(Arc::clone(&store), Arc::clone(&memory))?;
        Ok(Arc::new(Self { since, borne_before, store, memory, writer }))
    }

    /// The random name of this file, which no other file has: base64url.
    pub(crate) fn state_id(&self) -> &str {
        self.store.id()
    }
}

/// The first whole second that is not before a time.
fn next_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs() + u64::from(since.subsec_nanos() > 0))
}

impl Memory {
    fn has_borne(&self, client: &str, time_ms: u64) -> bool {
        let borne = self.borne.read().unwrap_or_else(PoisonError::into_inner);
        borne.get(client).is_some_and(|borne| time_ms <= *borne)
    }

    fn bear(&self, client: &str, time_ms: u64) {
        let mut borne = self.borne.write().unwrap_or_else(PoisonError::into_inner);
        let latest = borne.entry(client.to_owned()).or_default();
        *latest = time_ms.max(*latest);
    }

    fn is_revoked(&self, id: &str) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    fn revoke(&self, id: &str) {
        self.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    fn forget_revoked(&self, ids: &[String]) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            revoked.remove(id);
        }
    }

    fn forget(&self, now: SystemTime) {
        self.nonces.forget(now);
        self.throttle.forget_idle(now);
    }
}

impl State for Embedded {
    fn use_nonce<'a>(
        &'a self,
        client: &'a str,
        nonce: &'a str,
        now: SystemTime,
        keep_until: SystemTime,
    ) -> Asked<'a, NonceUse> {
        Box::pin(async move { Ok(self.memory.nonces.remember(client, nonce, now, keep_until)) })
    }

    fn remembers_since(&self) -> Option<SystemTime> {
        Some(self.since)
    }

    fn remembers<'a>(&'a self, client: &'a str, time: SystemTime, now: SystemTime) -> Asked<'a, bool> {
        Box::pin(async move {
            let time_ms = millis(time);
            let was_borne = self.borne_before.get(client).is_some_and(|borne| time_ms <= *borne);
            if time < self.since || was_borne {
                return Ok(false);
            }
            if time > now && !self.memory.has_borne(client, time_ms) {
                let noted = client.to_owned();
                self.writer.write(move |tables| tables.bear(&noted, time_ms)).await?;
                self.memory.bear(client, time_ms);
            }
            Ok(true)
        })
    }

    fn throttle<'a>(&'a self, client: &'a str, pace: Pace, now: SystemTime) -> Asked<'a, Throttled> {
        Box::pin(async move { Ok(self.memory.throttle.count(client, pace, now)) })
    }

    fn create_link<'a>(&'a self, link: &'a LinkRecord) -> Asked<'a, ()> {
        let (id, owner) = (link.id.clone(), owner_field(link.owner.as_deref()));
        let expires_ms = millis(link.expires_at);
        Box::pin(self.writer.write(move |tables| tables.create_link(&id, &owner, expires_ms)))
    }

    fn revoke_link<'a>(
        &'a self,
        id: &'a str,
        owner: Option<&'a str>,
        now: SystemTime,
    ) -> Asked<'a, Revocation> {
        let (id, owner) = (id.to_owned(), owner_field(owner));
        let memory = Arc::clone(&self.memory);
        Box::pin(self.writer.write(move |tables| {
            let came_of_it = tables.revoke_link(&id, &owner, millis(now))?;
            if came_of_it == Revocation::Revoked {
                // A moment before it is durable, so that no answer can be lost between the two.
                memory.revoke(&id);
            }
            Ok(came_of_it)
        }))
    }

    fn is_revoked<'a>(&'a self, id: &'a str) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move { self.memory.is_revoked(id) })
    }

    fn redeem<'a>(&'a self, visit: Visit<'a>) -> Asked<'a, Redeemed> {
        let link = visit.link.to_owned();
        let redemption = Redemption {
            who: key_of(visit.who),
            downloads_max: visit.downloads_max,
            now_ms: millis(visit.now),
            open_until_ms: millis(visit.open_until),
            keep_until_ms: millis(visit.keep_until),
        };
        Box::pin(self.writer.write(move |tables| tables.redeem(&link, redemption)))
    }

    fn standing<'a>(&'a self, link: &'a str, who: Subscriber) -> Asked<'a, Standing> {
        Box::pin(async move {
            if self.memory.is_revoked(link) {
                return Ok(Standing::Revoked);
            }
            let (store, link) = (Arc::clone(&self.store), link.to_owned());
            match blocking::run(move || store.has_redeemed(&link, key_of(who))).await {
                Ok(true) => Ok(Standing::Redeemed),
                Ok(false) => Ok(Standing::Never),
                Err(error) => {
                    tracing::error!(%error, "state file does not answer");
                    Err(StateError::Away)
                }
            }
        })
    }

    fn is_well(&self) -> bool {
        self.writer.is_well()
    }

    fn own_id(&self) -> Option<&str> {
        Some(self.state_id())
    }

    fn release(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            // Behind what waits to be written.
            let _ = self.writer.write(|_| Ok(())).await;
            let store = Arc::clone(&self.store);
            blocking::run(move || store.close()).await;
        })
    }
}

/// An address as a number, IPv4 in the place of IPv6 that is mapped from it.
fn key_of(who: Subscriber) -> u128 {
    match who.address() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
