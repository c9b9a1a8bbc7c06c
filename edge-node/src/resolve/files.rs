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
/// The store is asked after large files that are unused so often, and after so many at a time: 150,000 in ten minutes.
const ASK_AFTER_EVERY: Duration = Duration::from_secs(1);
const ASK_AFTER_MAX: usize = 256;
/// Nothing is unused sooner, however short `stale_limit` is.
const UNUSED_AFTER_MIN: Duration = Duration::from_secs(60);
/// On whose account that is.
const NOBODY: u64 = 0;

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
    /// Those that became current, each once; what was looked at longest ago first.
    windowed: Mutex<VecDeque<Windowed>>,
    /// One per worker.
    forgotten: Vec<mpsc::UnboundedSender<Arc<File>>>,
    hasher: foldhash::fast::FixedState,
}

/// A version of a large file.
struct Windowed {
    file: Weak<File>,
    object: Weak<Object>,
    /// When it came, or was last looked at for whether it is used.
    looked: Instant,
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
            let slot =
                if is_known { self.store.ask_to_check(purpose) } else { self.store.ask_to_fetch(purpose) };
            let ticket = slot.ticket();
            let (done, watch) = watch::channel(None);
            let (files, file) = (Arc::clone(self), Arc::clone(file));
            tokio_uring::spawn(async move {
                let found = match run_check(&files, &file, slot, requester).await {
                    Ok(found) => Ok(found.settled().await),
                    Err(error) => Err(error),
                };
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
            && concluded.is_new
        {
            let (file, object) = (Arc::downgrade(file), Arc::downgrade(object));
            self.windowed().push_back(Windowed { file, object, looked: Instant::now() });
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
        let now = Instant::now();
        let mut windowed = self.windowed();
        for _ in 0..windowed.len() * 2 {
            let oldest = windowed.pop_front()?;
            let Some((file, object)) = oldest.alive() else { continue };
            if !object.take_used() {
                return Some((file, object));
            }
            windowed.push_back(Windowed { looked: now, ..oldest });
        }
        None
    }

    /// Asks the store after large files that nobody has used for `stale_limit`, for ever; on one worker's ring. Of those
    /// that are gone or replaced nobody else would hear, and what is open keeps their room in the store taken.
    pub(crate) async fn ask_after_unused(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ASK_AFTER_EVERY).await;
            for file in self.unused(Instant::now()) {
                self.check(&file, NOBODY);
            }
        }
    }

    /// Files that have not been used for `stale_limit`, some of them at a time; each again when as much time has passed.
    fn unused(&self, now: Instant) -> Vec<Arc<File>> {
        let unused_after = self.config.stale_limit.max(UNUSED_AFTER_MIN);
        let mut unused = Vec::new();
        let mut windowed = self.windowed();
        for _ in 0..ASK_AFTER_MAX {
            let Some(oldest) = windowed.front() else { break };
            let is_gone = oldest.object.strong_count() == 0;
            if !is_gone && now.saturating_duration_since(oldest.looked) < unused_after {
                break;
            }
            let oldest = windowed.pop_front().expect("seen above");
            let Some((file, object)) = oldest.alive() else { continue };
            if !object.take_used() {
                unused.push(file);
            }
            windowed.push_back(Windowed { looked: now, ..oldest });
        }
        unused
    }

    fn by_id(&self) -> MutexGuard<'_, ById> {
        self.by_id.lock().expect("nothing panics under this lock")
    }

    fn windowed(&self) -> MutexGuard<'_, VecDeque<Windowed>> {
        self.windowed.lock().expect("nothing panics under this lock")
    }
}

impl Windowed {
    fn alive(&self) -> Option<(Arc<File>, Arc<Object>)> {
        Some((self.file.upgrade()?, self.object.upgrade()?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::cache::Backing;
    use crate::config::EtagScheme;
    use crate::cors::Cors;
    use crate::media_type::InlineTypes;
    use crate::store::{PathTemplate, StoreRules};
    use crate::uring::run_on_ring;

    const STALE_LIMIT: Duration = Duration::from_secs(600);

    fn files(root: &Path) -> Arc<Files> {
        files_with(root, 8, false)
    }

    fn files_with(root: &Path, concurrency: usize, sha256_sidecars: bool) -> Arc<Files> {
        let patience = Duration::from_secs(30);
        let template = PathTemplate::parse("{file_id}").unwrap();
        let rules = StoreRules { marker: None, template, follow_symlinks: false, concurrency, patience };
        let (closer, _) = mpsc::unbounded_channel();
        let store = Arc::new(Store::new(root, rules, closer).unwrap());
        let cache = Cache::new(64 << 20, Backing::open(None, 64 << 20).unwrap(), Arc::clone(&store)).unwrap();
        let config = FilesConfig {
            revalidate: Duration::from_secs(1),
            stale_limit: STALE_LIMIT,
            storage_timeout: patience,
            windowed_max: 10,
            fields: FieldRules {
                etag: EtagScheme::InodeMtime,
                inline: InlineTypes::settle(vec![]).unwrap(),
                cors: Cors::settle(vec![]).unwrap().standing(),
            },
            sha256_sidecars,
        };
        Arc::new(Files::new(config, store, Arc::new(cache), vec![]))
    }

    /// What a check of the file finds.
    async fn check(files: &Arc<Files>, id: &str) -> Result<Arc<Object>, crate::resolve::ResolveError> {
        let mut watch = files.check(&files.file(id), 1).unwrap();
        let ended = watch.wait_for(Option::is_some).await.unwrap();
        ended.clone().unwrap()
    }

    fn write(folder: &Path, content: u8) {
        fs::write(folder.join("new"), vec![content; 100_000]).unwrap();
        fs::rename(folder.join("new"), folder.join("a")).unwrap();
    }

    #[test]
    fn files_with_one_place_in_the_store_between_them_have_their_hashes_when_they_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        for name in &names {
            fs::write(folder.path().join(name), name).unwrap();
            fs::write(folder.path().join(format!("{name}.sha256")), "5a".repeat(32)).unwrap();
        }
        run_on_ring(async move {
            let files = files_with(folder.path(), 1, true);
            let mut known = 0;
            for name in &names {
                let object = check(&files, name).await.unwrap();
                known += usize::from(files.file(name).digest_of(object.version()) == Some([0x5a; 32]));
            }
            // Some may have waited for too long on a busy machine. Were the place kept meanwhile, it would be all.
            assert!(known > 0);
        });
    }

    #[test]
    fn a_large_file_is_counted_once_however_often_it_is_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1);
        run_on_ring(async move {
            let files = files(folder.path());
            let first = check(&files, "a").await.unwrap();
            for _ in 0..20 {
                assert!(Arc::ptr_eq(&check(&files, "a").await.unwrap(), &first));
            }
            assert_eq!(files.windowed().len(), 1);
            write(folder.path(), 2);
            assert!(!Arc::ptr_eq(&check(&files, "a").await.unwrap(), &first));
            assert_eq!(files.windowed().len(), 2);
            drop(first);
            assert_eq!((files.unused(Instant::now()).len(), files.windowed().len()), (0, 1));
        });
    }

    #[test]
    fn a_large_file_that_nobody_uses_is_asked_after_and_closed_where_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1);
        run_on_ring(async move {
            let files = files(folder.path());
            let unused = |after: Duration| files.unused(Instant::now() + after).len();
            drop(check(&files, "a").await.unwrap());
            assert_eq!(unused(STALE_LIMIT / 2), 0);
            assert_eq!(unused(STALE_LIMIT), 0, "whoever brought it counts as a use");
            assert_eq!(unused(STALE_LIMIT), 0, "looked at lately");
            assert_eq!(unused(STALE_LIMIT * 2), 1);
            check(&files, "a").await.unwrap().mark_used();
            assert_eq!(unused(STALE_LIMIT * 3), 0);
            assert_eq!((unused(STALE_LIMIT * 4), files.open.available_permits()), (1, 9));
            fs::remove_file(folder.path().join("a")).unwrap();
            assert!(check(&files, "a").await.is_err());
            assert_eq!((unused(STALE_LIMIT * 5), files.open.available_permits()), (0, 10));
            assert!(files.windowed().is_empty() && files.by_id().is_empty());
        });
    }
}
