//! What the process knows of each file: its current version, when that was confirmed, and the check under way.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::PATIENCE;
use super::check::{ResolveError, run_check};
use crate::cache::{Cache, Object};
use crate::config::EtagScheme;
use crate::store::Store;

/// What decides how long a version is believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilesConfig {
    /// A version confirmed this recently is served without asking.
    pub(crate) revalidate: Duration,
    /// With the store away, a version is served this long since it was confirmed.
    pub(crate) stale_limit: Duration,
    /// A file that is not known yet has this long to be opened.
    pub(crate) storage_timeout: Duration,
    /// Large files kept open, two descriptors each.
    pub(crate) windowed_max: usize,
    pub(crate) etag: EtagScheme,
}

/// How a check ended, once it has.
pub(super) type CheckWatch = watch::Receiver<Option<Result<(), ResolveError>>>;

/// One path of the store. Times are milliseconds of [`Files::now_ms`]; 0 is never.
pub(crate) struct File {
    id: Box<str>,
    path: String,
    /// Hash of the id: names the file in the cache's memory of what was evicted.
    pub(super) fingerprint: u64,
    confirmed_ms: AtomicU64,
    check_began_ms: AtomicU64,
    check_failed_ms: AtomicU64,
    /// Grows whenever `current` changes, so that a worker's entry knows it is outdated.
    generation: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Object>>,
    check: Option<CheckWatch>,
}

impl File {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn path(&self) -> &str {
        &self.path
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

    /// Whether the current version may be served now: confirmed recently; or not so recently, but the store has been
    /// asked and does not answer.
    pub(super) fn is_servable(&self, now: u64, files: &Files) -> bool {
        let age = now.saturating_sub(self.confirmed_ms.load(Ordering::Relaxed));
        age <= millis(files.config.revalidate)
            || (age <= millis(files.config.stale_limit) && self.is_unanswered(now, files))
    }

    fn is_unanswered(&self, now: u64, files: &Files) -> bool {
        let began = self.check_began_ms.load(Ordering::Relaxed);
        let failed = self.check_failed_ms.load(Ordering::Relaxed);
        (began != 0 && now.saturating_sub(began) >= millis(PATIENCE))
            || (failed != 0 && now.saturating_sub(failed) <= millis(files.config.revalidate))
    }

    /// Whether it is time to ask the store again, in the background.
    pub(super) fn is_due(&self, now: u64, files: &Files) -> bool {
        let age = now.saturating_sub(self.confirmed_ms.load(Ordering::Relaxed));
        age * 2 > millis(files.config.revalidate)
            && self.check_began_ms.load(Ordering::Relaxed) == 0
            && now.saturating_sub(self.check_failed_ms.load(Ordering::Relaxed))
                > millis(files.config.revalidate)
    }

    /// How long a request waits for the check under way.
    pub(super) fn patience(&self, now: u64, files: &Files) -> Duration {
        let age = now.saturating_sub(self.confirmed_ms.load(Ordering::Relaxed));
        let fallback = age <= millis(files.config.stale_limit) && self.state().current.is_some();
        if !fallback {
            return files.config.storage_timeout;
        }
        // From when the check began, not from when this request came: late ones do not wait at all.
        let began = self.check_began_ms.load(Ordering::Relaxed);
        PATIENCE.saturating_sub(Duration::from_millis(now.saturating_sub(began))) + Duration::from_millis(2)
    }

    pub(super) fn distrust(&self) {
        self.confirmed_ms.store(0, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// All files the process knows, of which it caches something.
pub(crate) struct Files {
    config: FilesConfig,
    pub(super) store: Arc<Store>,
    pub(super) cache: Arc<Cache>,
    began: Instant,
    by_id: Mutex<HashMap<Box<str>, Arc<File>, foldhash::fast::RandomState>>,
    /// Files with windows, oldest first, to bound the descriptors they hold.
    windowed: Mutex<VecDeque<Weak<File>>>,
    /// One per worker.
    forgotten: Vec<mpsc::UnboundedSender<Arc<File>>>,
    hasher: foldhash::fast::FixedState,
}

impl Files {
    pub(crate) fn new(
        config: FilesConfig,
        store: Arc<Store>,
        cache: Arc<Cache>,
        forgotten: Vec<mpsc::UnboundedSender<Arc<File>>>,
    ) -> Self {
        Self {
            config,
            store,
            cache,
            began: Instant::now(),
            by_id: Mutex::default(),
            windowed: Mutex::default(),
            forgotten,
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    pub(super) fn config(&self) -> &FilesConfig {
        &self.config
    }

    /// Milliseconds since the start, never 0, on a clock that nobody sets. Starts high enough that "never" is stale.
    pub(super) fn now_ms(&self) -> u64 {
        (millis(self.began.elapsed()) + 1)
            .saturating_add(millis(self.config.stale_limit.max(self.config.revalidate)))
    }

    pub(super) fn file(&self, id: &str) -> Arc<File> {
        use std::hash::BuildHasher;
        let mut by_id = self.by_id();
        if let Some(file) = by_id.get(id) {
            return Arc::clone(file);
        }
        let file = Arc::new(File {
            id: id.into(),
            path: self.store.path(id),
            fingerprint: self.hasher.hash_one(id),
            confirmed_ms: AtomicU64::new(0),
            check_began_ms: AtomicU64::new(0),
            check_failed_ms: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            state: Mutex::default(),
        });
        by_id.insert(id.into(), Arc::clone(&file));
        file
    }

    /// Joins the check under way, or begins one on this worker's ring.
    pub(super) fn check(self: &Arc<Self>, file: &Arc<File>) -> CheckWatch {
        let mut state = file.state();
        if let Some(check) = &state.check {
            return check.clone();
        }
        let (done, check) = watch::channel(None);
        state.check = Some(check.clone());
        file.check_began_ms.store(self.now_ms(), Ordering::Relaxed);
        drop(state);
        let (files, file) = (Arc::clone(self), Arc::clone(file));
        tokio_uring::spawn(async move {
            let found = run_check(&files, &file).await;
            let ended = files.conclude(&file, found);
            let _ = done.send(Some(ended));
        });
        check
    }

    /// Takes in what a check found.
    fn conclude(
        &self,
        file: &Arc<File>,
        found: Result<Arc<Object>, ResolveError>,
    ) -> Result<(), ResolveError> {
        let now = self.now_ms();
        let mut state = file.state();
        state.check = None;
        file.check_began_ms.store(0, Ordering::Relaxed);
        let (ended, replaced) = match found {
            Ok(object) => {
                file.confirmed_ms.store(now, Ordering::Relaxed);
                file.check_failed_ms.store(0, Ordering::Relaxed);
                let known = state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &object));
                let windowed = object.body().is_none();
                let replaced = if known { None } else { Some(state.current.replace(object)) };
                if replaced.is_some() && windowed {
                    self.windowed().push_back(Arc::downgrade(file));
                }
                (Ok(()), replaced)
            }
            Err(error) if error.is_about_the_file() => {
                file.confirmed_ms.store(0, Ordering::Relaxed);
                (Err(error), Some(state.current.take()))
            }
            Err(error) => {
                file.check_failed_ms.store(now, Ordering::Relaxed);
                (Err(error), None)
            }
        };
        let gone = state.current.is_none();
        // Evicted in the instant since it was loaded: whoever waits may use it, but it is not kept.
        let fleeting = state.current.clone().filter(|object| object.is_evicted());
        if replaced.is_some() {
            file.generation.fetch_add(1, Ordering::Release);
        }
        drop(state);
        let had_older = replaced.is_some_and(|older| older.is_some());
        if gone {
            self.forget(file);
        } else if had_older {
            self.tell_workers(file);
        }
        if let Some(object) = fleeting {
            self.evict(file, Some(&object));
        }
        self.bound_windowed();
        ended
    }

    /// Lets go of a file: nothing of it is cached any more.
    fn forget(&self, file: &Arc<File>) {
        let mut by_id = self.by_id();
        if by_id.get(&file.id).is_some_and(|known| Arc::ptr_eq(known, file)) {
            by_id.remove(&file.id);
        }
        drop(by_id);
        self.tell_workers(file);
    }

    /// Makes every worker drop its entry of an older version, which would keep that version in memory.
    fn tell_workers(&self, file: &Arc<File>) {
        for worker in &self.forgotten {
            // A worker that has gone has no entries.
            let _ = worker.send(Arc::clone(file));
        }
    }

    /// Lets go of `object`, if it is still the file's current version.
    pub(super) fn evict(&self, file: &Arc<File>, object: Option<&Object>) {
        let mut state = file.state();
        let is_current =
            |current: &Arc<Object>| object.is_none_or(|object| std::ptr::eq(Arc::as_ptr(current), object));
        let Some(evicted) = state.current.take_if(|current| is_current(current)) else {
            return;
        };
        file.confirmed_ms.store(0, Ordering::Relaxed);
        file.generation.fetch_add(1, Ordering::Release);
        // A check under way will want to be found again.
        let checked = state.check.is_some();
        drop(state);
        drop(evicted);
        if !checked {
            self.forget(file);
        }
    }

    fn bound_windowed(&self) {
        loop {
            let oldest = {
                let mut windowed = self.windowed();
                if windowed.len() <= self.config.windowed_max {
                    return;
                }
                windowed.pop_front()
            };
            if let Some(file) = oldest.and_then(|file| file.upgrade()) {
                self.evict(&file, None);
            }
        }
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<File>, foldhash::fast::RandomState>> {
        self.by_id.lock().expect("nothing panics under this lock")
    }

    fn windowed(&self) -> MutexGuard<'_, VecDeque<Weak<File>>> {
        self.windowed.lock().expect("nothing panics under this lock")
    }
}
