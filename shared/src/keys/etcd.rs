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
    /// All that are known and not over, those that are revoked too.
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

    /// All keys that are known and not over, and every later state.
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
            self.take(now);
            self.show(&mut shown);
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
    fn take(&mut self, contents: Arc<Contents>) {
        let before = std::mem::replace(&mut self.taken, contents);
        let mut known = KeySet::clone(&self.publish.borrow());
        let mut has_changed = false;
        let now = Instant::now();
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
        known.retain(|record| !record.is_retired(now));
        if has_changed || known.iter().count() != count {
            self.publish.send_replace(Arc::new(known));
        }
    }

    /// Puts the ring in use, where it is another.
    fn show(&self, shown: &mut KeySet) {
        let (now, revocations) = (Instant::now(), self.book.load());
        let mut keys = KeySet::clone(&self.publish.borrow());
        keys.retain(|record| !revocations.is_key_revoked(record.id.as_str(), now));
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
