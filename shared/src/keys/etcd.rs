//! Keys in etcd: followed, opened, and made a ring of. It writes nothing there; [`KeyKeeper`](super::KeyKeeper) does.
//!
//! A key that vanished is used until it is to be retired, and one that is revoked is not, whatever etcd says.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::record::{KeyRecord, KeySet};
use super::{KeyId, KeyRing};
use crate::cluster::Freshness;
use crate::etcd::wrapped::{WrappedError, WrappingKeys};
use crate::etcd::{Contents, Entry, Etcd, Mirror, MirrorRules};
use crate::revocations::{Instant, RevocationBook};

/// Far more than a rotation each minute leaves in a day; a sealed key is half a kilobyte.
pub(super) const RULES: MirrorRules = MirrorRules { keys_max: 2000, value_bytes_max: 4 << 10 };
/// Keys end without anybody saying so.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// Tokens, which edges open.
    Tokens,
    /// Tickets, which coordinators alone open.
    Tickets,
}

impl KeyPlace {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Tokens => "keys/",
            Self::Tickets => "ticket-keys/",
        }
    }

    /// The setting that has the key which seals them.
    fn sealed_with(self) -> &'static str {
        match self {
            Self::Tokens => "etcd.cluster_key",
            Self::Tickets => "etcd.coordinator_key",
        }
    }
}

/// The keys of one place, as they are known now.
pub struct EtcdKeys {
    place: KeyPlace,
    mirror: Mirror,
    ring: Arc<ArcSwap<KeyRing>>,
    /// All that are known, those that are revoked too; and those that are over for as long as etcd has them, for a clock
    /// that was ahead may be set back.
    known: watch::Receiver<Arc<KeySet>>,
    /// Why keys of etcd are not used, if one is not.
    fault: Arc<Mutex<Option<WrappedError>>>,
    task: AbortHandle,
}

impl EtcdKeys {
    /// Follows the keys from now on. Within a runtime.
    pub fn follow(
        etcd: &Etcd,
        place: KeyPlace,
        sealing: WrappingKeys,
        book: Arc<RevocationBook>,
    ) -> Arc<Self> {
        let mirror = Mirror::start(etcd.clone(), place.prefix(), RULES);
        let (ring, fault) = (Arc::<ArcSwap<KeyRing>>::default(), Arc::<Mutex<_>>::default());
        let (publish, known) = watch::channel(Arc::default());
        let reader = Reader {
            etcd: etcd.clone(),
            place,
            sealing,
            book,
            taken: Arc::default(),
            publish,
            ring: Arc::clone(&ring),
            fault: Arc::clone(&fault),
        };
        let task = tokio::spawn(reader.run(mirror.watch())).abort_handle();
        Arc::new(Self { place, mirror, ring, known, fault, task })
    }

    /// What to open with, and to mint with; empty before any key is known.
    pub fn ring(&self) -> &Arc<ArcSwap<KeyRing>> {
        &self.ring
    }

    pub fn place(&self) -> KeyPlace {
        self.place
    }

    /// How much the keys can be relied on.
    pub fn freshness(&self) -> Freshness {
        self.mirror.freshness()
    }

    /// All keys that are known, those that are revoked or over too, and every later state.
    pub fn known(&self) -> watch::Receiver<Arc<KeySet>> {
        self.known.clone()
    }

    /// What etcd has, as it is.
    pub(super) fn contents(&self) -> Arc<Contents> {
        self.mirror.contents()
    }

    /// Why there is nothing to open with; `None` where there is.
    pub fn missing(&self) -> Option<&'static str> {
        if !self.ring.load().is_empty() {
            return None;
        }
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match (fault, self.place) {
            (Some(WrappedError::NotOpened), KeyPlace::Tokens) => "no key in etcd opens with etcd.cluster_key",
            (Some(WrappedError::NotOpened), KeyPlace::Tickets) => {
                "no key in etcd opens with etcd.coordinator_key"
            }
            _ => "keys not known",
        })
    }
}

impl fmt::Debug for EtcdKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdKeys").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for EtcdKeys {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reader {
    etcd: Etcd,
    place: KeyPlace,
    sealing: WrappingKeys,
    book: Arc<RevocationBook>,
    taken: Arc<Contents>,
    publish: watch::Sender<Arc<KeySet>>,
    ring: Arc<ArcSwap<KeyRing>>,
    fault: Arc<Mutex<Option<WrappedError>>>,
}

impl Reader {
    async fn run(mut self, mut contents: watch::Receiver<Arc<Contents>>) {
        let mut changes = self.book.changes();
        let mut shown = KeySet::default();
        loop {
            let now = contents.borrow_and_update().clone();
            self.take(now, Instant::now());
            self.show(&mut shown, Instant::now());
            let is_over = tokio::select! {
                changed = contents.changed() => changed.is_err(),
                changed = changes.changed() => changed.is_err(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if is_over {
                return;
            }
        }
    }

    /// Takes in what is new in etcd, last words included; forgets what is over.
    fn take(&mut self, contents: Arc<Contents>, now: Instant) {
        let before = std::mem::replace(&mut self.taken, contents);
        let mut known = KeySet::clone(&self.publish.borrow());
        let mut has_changed = false;
        for (name, entry) in self.taken.entries.iter().chain(&self.taken.removed) {
            let is_seen =
                |seen: &Contents| [&seen.entries, &seen.removed].map(|all| all.get(name) == Some(entry));
            if is_seen(&before).contains(&true) {
                continue;
            }
            match open(&self.etcd, self.place, &self.sealing, name, entry) {
                // Also one that is over: it may be known as one that is not.
                Ok(record) => has_changed |= known.merge(&record),
                Err(fault) => self.complain(name, fault),
            }
        }
        let count = known.iter().count();
        known.retain(|record| !record.is_retired(now) || self.taken.entries.contains_key(record.id.as_str()));
        if has_changed || known.iter().count() != count {
            self.publish.send_replace(Arc::new(known));
        }
    }

    /// Puts the ring in use, where it is another.
    fn show(&self, shown: &mut KeySet, now: Instant) {
        let revocations = self.book.load();
        let mut keys = KeySet::clone(&self.publish.borrow());
        keys.retain(|record| !record.is_retired(now) && !revocations.is_key_revoked(record.id.as_str(), now));
        if keys == *shown {
            return;
        }
        let ring = keys.ring();
        let ids = |state| {
            let of_state = ring.newest_first().filter(move |key| key.state() == state);
            of_state.map(|key| key.id().to_string()).collect::<Vec<_>>().join(" ")
        };
        tracing::info!(
            place = self.place.prefix(),
            current = ids(super::KeyState::Current),
            next = ids(super::KeyState::Next),
            previous = ids(super::KeyState::Previous),
            "keys in use"
        );
        self.ring.store(Arc::new(ring));
        *shown = keys;
    }

    fn complain(&self, name: &str, fault: WrappedError) {
        let (key, sealed_with) = (format!("{}{name}", self.place.prefix()), self.place.sealed_with());
        match fault {
            WrappedError::NotOpened => tracing::error!(
                key,
                fingerprints = ?self.sealing.fingerprints(),
                "a key in etcd does not open with `{sealed_with}`: this program has another one than who sealed it"
            ),
            fault => tracing::error!(key, %fault, "a key in etcd is not used"),
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

/// The key under a name in etcd.
pub(super) fn open(
    etcd: &Etcd,
    place: KeyPlace,
    sealing: &WrappingKeys,
    name: &str,
    entry: &Entry,
) -> Result<KeyRecord, WrappedError> {
    let path = etcd.path(&format!("{}{name}", place.prefix()));
    let record: KeyRecord = sealing.open(&path, &entry.value)?;
    // It is known by one name.
    if KeyId::parse(name).as_ref() == Some(&record.id) { Ok(record) } else { Err(WrappedError::Content) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE;

    use super::*;
    use crate::etcd::RawEtcd;

    #[tokio::test]
    async fn a_key_that_a_clock_ahead_took_for_over_is_used_again_once_the_clock_is_set_back() {
        let raw: RawEtcd = toml::from_str("endpoints = [\"http://127.0.0.1:1\"]").unwrap();
        let etcd = Etcd::new(&raw.settle(Path::new("x.toml")).unwrap());
        let sealing = WrappingKeys::parse(&URL_SAFE.encode([1; 32])).unwrap();
        let now = Instant::now();
        let hours = |count: u64| Instant(now.0 + count * 3_600_000);
        let record =
            KeyRecord { current_since: Some(now), retire_at: Some(hours(1)), ..KeyRecord::random(now) };
        let id = record.id.as_str();
        let value = sealing.seal(&etcd.path(&format!("keys/{id}")), &record.value(), SystemTime::now());
        let entry = Entry { value: value.as_bytes().into(), create_revision: 1, mod_revision: 1, lease: 0 };
        let contents = |entries: &[(&str, &Entry)]| {
            let entries = entries.iter().map(|(name, entry)| ((*name).into(), Entry::clone(entry))).collect();
            let mut contents = Contents::default();
            (contents.entries, contents.is_known) = (entries, true);
            Arc::new(contents)
        };
        let mut reader = Reader {
            etcd,
            place: KeyPlace::Tokens,
            sealing,
            book: RevocationBook::open(None).unwrap(),
            taken: Arc::default(),
            publish: watch::channel(Arc::default()).0,
            ring: Arc::default(),
            fault: Arc::default(),
        };
        let (there, gone) = (contents(&[(id, &entry)]), contents(&[]));
        let mut shown = KeySet::default();
        let table = [
            (&there, now, true),
            (&there, hours(2), false),
            (&there, now, true),
            // One that vanished is used until it is over, and then forgotten.
            (&gone, now, true),
            (&gone, hours(2), false),
            (&gone, now, false),
        ];
        for (step, (contents, now, expected)) in table.into_iter().enumerate() {
            reader.take(Arc::clone(contents), now);
            reader.show(&mut shown, now);
            assert_eq!(reader.ring.load().by_id(id).is_some(), expected, "{step}");
        }
    }
}
