//! The store: the folder files come from, how they are opened, and what their reads are worth.

mod health;
mod path_template;
mod presence;
mod slots;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use health::Health;
pub(crate) use health::StoreHealth;
pub(crate) use path_template::PathTemplate;
use presence::Presence;
pub(crate) use presence::is_absent;
pub(crate) use slots::{Purpose, Slot, Ticket};
use slots::{SlotRules, Slots};

use crate::uring::{
    CLOSES_MAX, Closer, FileStat, OpenRules, ReadTarget, StoreFd, Version, open, read, statx,
};

/// Operations kept for confirming files that are cached, whatever else is under way.
const CHECK_SLOTS: usize = 64;
/// Operations one file may have under way: enough to keep a fast store busy with one download.
const SLOTS_PER_FILE: usize = 4;

pub(crate) struct Store {
    presence: Arc<Presence>,
    template: PathTemplate,
    follow_symlinks: bool,
    /// Reads past the page cache are worth a try: cleared where a filesystem takes `O_DIRECT` when opening and wants
    /// more than whole pages when reading.
    direct: AtomicBool,
    closer: Closer,
    patience: Duration,
    /// For what is not cached.
    fetches: Arc<Slots>,
    /// For what is.
    checks: Arc<Slots>,
    health: Health,
}

/// How files are found, and what is asked of their store at a time.
#[derive(Debug, Clone)]
pub(crate) struct StoreRules {
    /// What the root has where the store is mounted; where none is named, anything.
    pub(crate) marker: Option<String>,
    pub(crate) template: PathTemplate,
    pub(crate) follow_symlinks: bool,
    /// Operations at a time, for what is not cached; and as many stuck ones again.
    pub(crate) concurrency: usize,
    /// How long anything is waited for.
    pub(crate) patience: Duration,
}

impl StoreRules {
    /// Threads that the kernel may need for one worker: each operation can block one.
    pub(crate) fn threads(&self) -> u32 {
        // Stuck ones again, the root's, and those that close.
        let most = 2 * (self.concurrency + CHECK_SLOTS) + 1 + CLOSES_MAX;
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

/// What a read and the attributes after it say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The bytes are the version's.
    Same,
    /// They may be another's.
    Another,
    /// The store failed, with an errno.
    Failed(i32),
}

impl Store {
    /// Opens the root.
    ///
    /// # Errors
    /// It is not there, not a folder, or not ours to enter.
    pub(crate) fn new(root: &Path, rules: StoreRules, closer: Closer) -> io::Result<Self> {
        let total = rules.concurrency;
        let (per_file, per_requester) =
            (SLOTS_PER_FILE.min(total), (total / 4).max(SLOTS_PER_FILE).min(total));
        // A file is confirmed once at a time, for everybody: whoever asked first is charged for nothing, or the files
        // of one user that are stuck would keep all others that the user asks for from being confirmed.
        let checks = SlotRules { total: CHECK_SLOTS, per_file: CHECK_SLOTS, per_requester: 2 * CHECK_SLOTS };
        Ok(Self {
            presence: Presence::open(root, rules.marker.as_deref())?,
            template: rules.template,
            follow_symlinks: rules.follow_symlinks,
            direct: AtomicBool::new(true),
            closer,
            patience: rules.patience,
            fetches: Slots::new(SlotRules { total, per_file, per_requester }),
            checks: Slots::new(checks),
            health: Health::default(),
        })
    }

    pub(crate) fn path(&self, file_id: &str) -> String {
        self.template.path(file_id)
    }

    /// Opens a file beneath the root, and asks what it is.
    ///
    /// # Errors
    /// The kernel's, see [`open`] and [`statx`]; `ENOTCONN` where there is no store in the root.
    pub(crate) async fn open(&self, path: &str) -> io::Result<(Arc<StoreFd>, FileStat)> {
        if self.presence.is_absent() {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        }
        let root = self.presence.root();
        let direct = self.direct.load(Ordering::Relaxed);
        let rules = OpenRules { follow_symlinks: self.follow_symlinks, direct };
        let opened = open(root.clone(), path, rules, self.closer.clone()).await;
        // EINVAL: a filesystem without O_DIRECT, or a folder on one that has it.
        let refused = direct && matches!(&opened, Err(error) if error.raw_os_error() == Some(libc::EINVAL));
        let file = if refused {
            let rules = OpenRules { direct: false, ..rules };
            open(root, path, rules, self.closer.clone()).await
        } else {
            opened
        };
        let file = Arc::new(file?);
        let stat = statx(Arc::clone(&file)).await?;
        Ok((file, stat))
    }

    /// How long anything is waited for that has to come from the store.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// A place for fetching what is not cached, or a turn to get one.
    pub(crate) fn ask_to_fetch(&self, purpose: Purpose) -> Slot {
        self.fetches.ask(purpose)
    }

    /// A place for confirming what is cached, or a turn to get one.
    pub(crate) fn ask_to_check(&self, purpose: Purpose) -> Slot {
        self.checks.ask(purpose)
    }

    /// Reads as [`read`] does; what refuses `O_DIRECT` only now is read again through the page cache.
    ///
    /// # Errors
    /// The kernel's, with the target.
    pub(crate) async fn read<T: ReadTarget>(
        &self,
        file: &Arc<StoreFd>,
        target: T,
        offset: u64,
        wanted: usize,
    ) -> (io::Result<usize>, T) {
        let (result, target) = read(file, target, offset, wanted).await;
        let is_invalid = matches!(&result, Err(error) if error.raw_os_error() == Some(libc::EINVAL));
        // Whoever reads the same file meanwhile may have done so already, and nobody has to know.
        if !is_invalid || !file.was_opened_direct() || file.leave_direct().is_err() {
            return (result, target);
        }
        if self.direct.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "the store refuses reads with O_DIRECT; reading through its page cache from now on"
            );
        }
        read(file, target, offset, wanted).await
    }
}

impl Verdict {
    /// Whether what was read is `version`'s: all of it came, and the version is still the same afterwards.
    pub(crate) fn of(
        version: &Version,
        wanted: usize,
        read: &io::Result<usize>,
        after: &io::Result<FileStat>,
    ) -> Self {
        match (read, after) {
            (Ok(count), Ok(stat)) if *count == wanted && stat.version == *version => Self::Same,
            (Ok(_), Ok(_)) => Self::Another,
            (Err(error), _) | (_, Err(error)) => match error.raw_os_error() {
                Some(libc::ESTALE) => Self::Another,
                errno => Self::Failed(errno.unwrap_or(libc::EIO)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::uring::{AlignedBuffer, run_on_ring};

    #[test]
    fn every_file_that_was_opened_direct_is_read_where_the_store_refuses_that() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), [7; 10_000]).unwrap();
        }
        run_on_ring(async move {
            let template = PathTemplate::parse("{file_id}").unwrap();
            let patience = Duration::from_secs(30);
            let rules =
                StoreRules { marker: None, template, follow_symlinks: false, concurrency: 8, patience };
            let (closer, _closed) = tokio::sync::mpsc::unbounded_channel();
            let store = Store::new(folder.path(), rules, closer).unwrap();
            let (first, _) = store.open("a").await.unwrap();
            let (second, _) = store.open("b").await.unwrap();
            for file in [&first, &second, &first] {
                // No whole page begins there: where `O_DIRECT` is had, it is refused.
                let (read, buffer) = store.read(file, AlignedBuffer::zeroed(8192), 1, 8192).await;
                assert_eq!((read.unwrap(), &buffer.as_slice()[..8192]), (8192, &[7; 8192][..]));
            }
            let (third, _) = store.open("a").await.unwrap();
            assert!(!third.was_opened_direct() || store.direct.load(Ordering::Relaxed));
        });
    }
}
