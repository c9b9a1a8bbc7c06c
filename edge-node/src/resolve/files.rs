//! All files the process knows, of which it caches something; and the bound on those it keeps open.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::check::run_check;
use super::file::{Check, CheckWatch, File, millis};
use crate::cache::{Cache, Object};
use crate::head::FieldRules;
use crate::store::{Purpose, Store};

/// So many large files are let go of at most to open another one: a client that still takes one keeps it open.
const LET_GO_MAX: usize = 16;
/// Workers take this long at most, as a rule, to drop what they are told to.
const LET_GO_WITHIN: Duration = Duration::from_millis(20);

/// What decides how long a version is believed, and how many are kept.
#[derive(Debug, Clone)]
pub(crate) struct FilesConfig {
    /// A version confirmed this recently is served without asking.
    pub(crate) revalidate: Duration,
    /// With the store away, a version is served this long since it was confirmed.
    pub(crate) stale_limit: Duration,
    /// What is asked of the store has this long to be answered.
    pub(crate) storage_timeout: Duration,
    /// Versions of large files kept open, two descriptors each.
    pub(crate) windowed_max: usize,
    pub(crate) fields: FieldRules,
    /// A file's hash is looked for beside it.
    pub(crate) sha256_sidecars: bool,
}

type ById = HashMap<Box<str>, Arc<File>, foldhash::fast::RandomState>;

pub(crate) struct Files {
    config: FilesConfig,
    pub(super) store: Arc<Store>,
    pub(super) cache: Arc<Cache>,
    began: Instant,
    by_id: Mutex<ById>,
    /// One for each version of a large file that is open, whoever still holds it.
    open: Arc<Semaphore>,
    /// Those that are current, oldest first.
    windowed: Mutex<VecDeque<(Weak<File>, Weak<Object>)>>,
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
        let open = Arc::new(Semaphore::new(config.windowed_max));
        Self {
            config,
            store,
            cache,
            began: Instant::now(),
            by_id: Mutex::default(),
            open,
            windowed: Mutex::default(),
            forgotten,
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    pub(super) fn config(&self) -> &FilesConfig {
        &self.config
    }

    /// Milliseconds on a clock that nobody sets. It starts high enough that 0, "never", is stale.
    pub(super) fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    pub(super) fn ms_at(&self, now: Instant) -> u64 {
        let never = millis(self.config.stale_limit.max(self.config.revalidate));
        millis(now.saturating_duration_since(self.began)) + never + 1
    }

    pub(super) fn file(&self, id: &str) -> Arc<File> {
        let mut by_id = self.by_id();
        if let Some(file) = by_id.get(id) {
            return Arc::clone(file);
        }
        let file = Arc::new(File::new(id, self.store.path(id), self.hasher.hash_one(id)));
        by_id.insert(id.into(), Arc::clone(&file));
        file
    }

    /// Whether there is a version that may be served, if need be without hearing from the store.
    pub(super) fn has_servable(&self, id: &str) -> bool {
        let known = self.by_id().get(id).cloned();
        known.is_some_and(|file| file.has_servable(self.now_ms(), &self.config))
    }

    /// Joins the check under way, or begins one on this worker's ring, on the requester's account. What is known
    /// already is checked in places of its own, which nothing that is new can take. `None` where the file is forgotten.
    pub(super) fn check(self: &Arc<Self>, file: &Arc<File>, requester: u64) -> Option<CheckWatch> {
        file.join_check(self.now_ms(), requester, |is_known| {
            let purpose = Purpose { file: file.fingerprint, requester };
            let mut slot =
                if is_known { self.store.ask_to_check(purpose) } else { self.store.ask_to_fetch(purpose) };
            let ticket = slot.ticket();
            let (done, watch) = watch::channel(None);
            let (files, file) = (Arc::clone(self), Arc::clone(file));
            tokio_uring::spawn(async move {
                let found = run_check(&files, &file, &mut slot, requester).await;
                drop(slot);
                files.conclude(&file, &found);
                let _ = done.send(Some(found));
            });
            Check { watch, ticket }
        })
    }

    fn conclude(&self, file: &Arc<File>, found: &Result<Arc<Object>, super::ResolveError>) {
        let concluded = file.conclude(self.now_ms(), found);
        if let Ok(object) = found
            && object.body().is_none()
            && !concluded.gone
        {
            self.windowed().push_back((Arc::downgrade(file), Arc::downgrade(object)));
        }
        if concluded.gone {
            self.forget(file);
        } else if concluded.replaced {
            self.tell_workers(file);
        }
    }

    /// Lets go of a file of which nothing is cached any more.
    fn forget(&self, file: &Arc<File>) {
        let mut by_id = self.by_id();
        let is_known = by_id.get(&file.id).is_some_and(|known| Arc::ptr_eq(known, file));
        if is_known && file.forget_if_idle() {
            by_id.remove(&file.id);
        }
        drop(by_id);
        self.tell_workers(file);
    }

    /// Makes every worker drop its entry of an older version, which would keep that version in memory.
    pub(super) fn tell_workers(&self, file: &Arc<File>) {
        for worker in &self.forgotten {
            // A worker that has gone has no entries.
            let _ = worker.send(Arc::clone(file));
        }
    }

    /// Lets go of `object`, if it is still the file's current version.
    pub(super) fn evict(&self, file: &Arc<File>, object: &Object) {
        if file.let_go(object) {
            self.forget(file);
        }
    }

    /// Lets go of the files that `which` names; says of how many something was cached. What is being sent goes on.
    pub(crate) fn evict_all(&self, which: impl Fn(&str) -> bool) -> usize {
        let chosen: Vec<_> = self.by_id().values().filter(|file| which(&file.id)).cloned().collect();
        let mut count = 0;
        for file in chosen {
            if let Some((object, _)) = file.current() {
                self.evict(&file, &object);
                count += 1;
            }
        }
        count
    }

    /// Leave to keep another large file open, letting go of those that have not been used since they came or were last
    /// passed over: of one at a time, for its descriptors come free only once every worker has dropped its entry.
    /// `None` where those that may be open are all in use.
    pub(super) async fn permit_to_open(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() {
            return Some(permit);
        }
        let mut coming = std::pin::pin!(Arc::clone(&self.open).acquire_owned());
        for _ in 0..LET_GO_MAX {
            if let Some((file, object)) = self.oldest_unused() {
                self.evict(&file, &object);
            }
            if let Ok(permit) = tokio::time::timeout(LET_GO_WITHIN, coming.as_mut()).await {
                return permit.ok();
            }
        }
        None
    }

    fn oldest_unused(&self) -> Option<(Arc<File>, Arc<Object>)> {
        let mut windowed = self.windowed();
        for _ in 0..windowed.len() * 2 {
            let (file, object) = windowed.pop_front()?;
            let (Some(alive_file), Some(alive)) = (file.upgrade(), object.upgrade()) else { continue };
            if !alive.take_used() {
                return Some((alive_file, alive));
            }
            windowed.push_back((file, object));
        }
        None
    }

    fn by_id(&self) -> MutexGuard<'_, ById> {
        self.by_id.lock().expect("nothing panics under this lock")
    }

    fn windowed(&self) -> MutexGuard<'_, VecDeque<(Weak<File>, Weak<Object>)>> {
        self.windowed.lock().expect("nothing panics under this lock")
    }
}
