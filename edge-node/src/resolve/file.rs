//! What the process knows of one path: its current version, when that was confirmed, and the check under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::check::ResolveError;
use super::files::FilesConfig;
use super::sidecar::{Digest, LOOK_EVERY};
use crate::cache::Object;
use crate::store::Ticket;
use crate::uring::Version;

/// How long a request waits for a revalidation that is late, where there is an older confirmed version to serve.
const PATIENCE: Duration = Duration::from_millis(100);

/// How a check ended, once it has.
pub(super) type CheckWatch = watch::Receiver<Option<Result<Arc<Object>, ResolveError>>>;

/// A check under way, or waiting for its place.
pub(super) struct Check {
    pub(super) watch: CheckWatch,
    pub(super) ticket: Ticket,
}

/// One path of the store. Times are milliseconds on the process's clock; 0 is never.
pub(crate) struct File {
    pub(super) id: Box<str>,
    pub(super) path: String,
    /// Hash of the id: names the file in the cache's memory of what was evicted.
    pub(super) fingerprint: u64,
    confirmed_ms: AtomicU64,
    check_began_ms: AtomicU64,
    check_failed_ms: AtomicU64,
    /// Grows whenever `current` changes, so that a worker's entry knows it is outdated.
    generation: AtomicU64,
    state: Mutex<State>,
    hash: Mutex<Hash>,
}

/// What is known of the file's hash.
#[derive(Default)]
struct Hash {
    /// The version it is of, and the hash, if there is one.
    known: Option<(Version, Option<Digest>)>,
    /// The version that was looked for last, and when.
    looked: Option<(Version, u64)>,
    is_looking: bool,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Object>>,
    check: Option<Check>,
    /// No longer among the files of the process: whoever still holds it has to look for it again.
    is_forgotten: bool,
}

/// What taking in a check's outcome did.
pub(super) struct Concluded {
    /// What was found became the current version.
    pub(super) is_new: bool,
    /// There was an older version, which workers may still hold.
    pub(super) replaced: bool,
    /// Nothing of the file is left to serve.
    pub(super) gone: bool,
}

impl File {
    pub(super) fn new(id: &str, path: String, fingerprint: u64) -> Self {
        Self {
            id: id.into(),
            path,
            fingerprint,
            confirmed_ms: AtomicU64::new(0),
            check_began_ms: AtomicU64::new(0),
            check_failed_ms: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            state: Mutex::default(),
            hash: Mutex::default(),
        }
    }

    /// The last segment of the path: what the file is called in the store.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn current(&self) -> Option<(Arc<Object>, u64)> {
        let state = self.state();
        state.current.clone().map(|object| (object, self.generation()))
    }

    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.confirmed_ms.load(Ordering::Acquire))
    }

    /// Whether a current version may be served, at worst because the store does not answer.
    pub(super) fn has_servable(&self, now: u64, config: &FilesConfig) -> bool {
        self.age(now) <= millis(config.revalidate.max(config.stale_limit)) && self.current().is_some()
    }

    /// Whether the current version may be served now: confirmed recently; or not so recently, but the store has been
    /// asked and does not answer. Read this before the generation: a version is replaced before it is confirmed.
    pub(super) fn is_servable(&self, now: u64, config: &FilesConfig) -> bool {
        let age = self.age(now);
        age <= millis(config.revalidate)
            || (age <= millis(config.stale_limit) && self.is_unanswered(now, config))
    }

    fn is_unanswered(&self, now: u64, config: &FilesConfig) -> bool {
        let began = self.check_began_ms.load(Ordering::Relaxed);
        (began != 0 && now.saturating_sub(began) >= millis(PATIENCE)) || self.failed_lately(now, config)
    }

    fn failed_lately(&self, now: u64, config: &FilesConfig) -> bool {
        let failed = self.check_failed_ms.load(Ordering::Relaxed);
        failed != 0 && now.saturating_sub(failed) <= millis(config.revalidate)
    }

    /// Whether it is time to ask the store again, in the background.
    pub(super) fn is_due(&self, now: u64, config: &FilesConfig) -> bool {
        self.age(now) * 2 > millis(config.revalidate)
            && self.check_began_ms.load(Ordering::Relaxed) == 0
            && !self.failed_lately(now, config)
    }

    /// How long to wait for the check under way, where there is an older version to fall back to. Counted from when
    /// the check began and not from when a request came: late ones do not wait at all.
    pub(super) fn patience(&self, now: u64, config: &FilesConfig) -> Option<Duration> {
        let fallback = self.age(now) <= millis(config.stale_limit) && self.state().current.is_some();
        let waited = now.saturating_sub(self.check_began_ms.load(Ordering::Relaxed));
        fallback.then(|| PATIENCE.saturating_sub(Duration::from_millis(waited)) + Duration::from_millis(2))
    }

    /// A fill found another version than the one of `generation`: the store is asked before anything is served again.
    pub(super) fn distrust(&self, generation: u64) {
        if self.generation() == generation {
            self.confirmed_ms.store(0, Ordering::Release);
        }
    }

    /// The check under way, or a new one that begins now; `begin` is told whether there is a version to confirm.
    /// `None` where the file is forgotten.
    pub(super) fn join_check(
        &self,
        now: u64,
        requester: u64,
        begin: impl FnOnce(bool) -> Check,
    ) -> Option<CheckWatch> {
        let mut state = self.state();
        if state.is_forgotten {
            return None;
        }
        if let Some(check) = &state.check {
            check.ticket.join(requester);
            return Some(check.watch.clone());
        }
        self.check_began_ms.store(now, Ordering::Relaxed);
        let is_known = state.current.is_some();
        Some(state.check.insert(begin(is_known)).watch.clone())
    }

    /// Marks it as forgotten, unless there is a version of it or somebody is asking for one; says whether it is.
    pub(super) fn forget_if_idle(&self) -> bool {
        let mut state = self.state();
        state.is_forgotten |= state.current.is_none() && state.check.is_none();
        state.is_forgotten
    }

    /// Takes in what a check found.
    pub(super) fn conclude(&self, now: u64, found: &Result<Arc<Object>, ResolveError>) -> Concluded {
        let mut state = self.state();
        state.check = None;
        let before = match found {
            Ok(object) if state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, object)) => None,
            // Evicted in the instant since it was loaded: those who waited have it, and nobody else will.
            Ok(object) if object.is_evicted() => Some(state.current.take()),
            Ok(object) => Some(state.current.replace(Arc::clone(object))),
            Err(error) if error.is_about_the_file() => Some(state.current.take()),
            Err(_) => None,
        };
        if before.is_some() {
            self.generation.fetch_add(1, Ordering::Release);
        }
        match found {
            Ok(_) => {
                self.confirmed_ms.store(now, Ordering::Release);
                self.check_failed_ms.store(0, Ordering::Relaxed);
            }
            Err(error) if error.is_about_the_file() => self.confirmed_ms.store(0, Ordering::Release),
            Err(_) => self.check_failed_ms.store(now, Ordering::Relaxed),
        }
        self.check_began_ms.store(0, Ordering::Relaxed);
        let gone = state.current.is_none();
        drop(state);
        let is_new = before.is_some() && !gone;
        Concluded { is_new, replaced: before.is_some_and(|older| older.is_some()), gone }
    }

    /// Lets go of `object`, if it is still the current version; says whether it was.
    pub(super) fn let_go(&self, object: &Object) -> bool {
        let mut state = self.state();
        let evicted = state.current.take_if(|current| std::ptr::eq(Arc::as_ptr(current), object));
        if evicted.is_some() {
            self.generation.fetch_add(1, Ordering::Release);
            self.confirmed_ms.store(0, Ordering::Release);
        }
        drop(state);
        evicted.is_some()
    }

    /// The hash of a version, where it is known.
    pub(super) fn digest_of(&self, version: &Version) -> Option<Digest> {
        let known = self.hash().known;
        known.filter(|(of, _)| of == version).and_then(|(_, digest)| digest)
    }

    /// Whether to look for the hash of a version now; then the look has to be [ended](Self::end_look).
    pub(super) fn begin_look(&self, version: &Version, now: u64) -> bool {
        let mut hash = self.hash();
        let is_new =
            hash.looked.is_none_or(|(of, at)| of != *version || now.saturating_sub(at) >= millis(LOOK_EVERY));
        if hash.is_looking || !is_new {
            return false;
        }
        hash.looked = Some((*version, now));
        hash.is_looking = true;
        true
    }

    /// Takes in what a look found; says whether entries that exist are outdated by it. One that failed says nothing
    /// against what was known.
    pub(super) fn end_look(&self, version: Version, found: Result<Option<Digest>, ResolveError>) -> bool {
        let mut hash = self.hash();
        hash.is_looking = false;
        let Ok(digest) = found else { return false };
        let before = hash.known.replace((version, digest));
        let was = before.filter(|(of, _)| *of == version).and_then(|(_, digest)| digest);
        drop(hash);
        let is_news = was != digest;
        if is_news {
            self.generation.fetch_add(1, Ordering::Release);
        }
        is_news
    }

    fn hash(&self) -> MutexGuard<'_, Hash> {
        self.hash.lock().expect("nothing panics under this lock")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
