//! The marks of one program: read without a lock, kept in a file of its own, so that a start without anybody to ask
//! forgets none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::mark::LAST_MS;
use super::{Instant, Kind, Mark, Revocations, Target};
use crate::blocking;
use crate::private_file::{self, PrivateFileError};

/// Between two writes of the file, at least.
const SAVED_EVERY: Duration = Duration::from_millis(500);
/// Between two looks for what is to be forgotten, at least: each looks at every mark.
const FORGOTTEN_EVERY_MS: u64 = 1000;
/// Marks on links, and on everything else: what etcd's list has room for, those that are over and not removed yet
/// included.
const LINKS_MAX: usize = 100_000;
const OTHERS_MAX: usize = 50_000;
/// Of the links, so many are left to operators.
const OPERATORS_LINKS: usize = 10_000;
/// Of the file: twice what as many marks take at most. None is written that could not be read again.
const FILE_BYTES_MAX: usize = 256 << 20;

/// Why marks cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error("{path} {source}")]
    Read { path: PathBuf, source: PrivateFileError },
    #[error("{path} is no list of revocations ({source}); move it away, and set its marks anew")]
    Text { path: PathBuf, source: serde_json::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} would be larger than {FILE_BYTES_MAX} bytes; it is left as it was")]
    TooLarge { path: PathBuf },
}

/// Why nothing is barred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarError {
    #[error(
        "there are {0} marks already, and no more are kept; those that have ended make room after a while"
    )]
    Full(usize),
    #[error("the last mark there was set at the end of all time; nothing comes after it")]
    Last,
}

/// Marks, and the file that has them too.
pub struct RevocationBook {
    current: ArcSwap<Revocations>,
    /// Held while a change is made; with when it was last looked for what is to be forgotten.
    merging: Mutex<Instant>,
    /// Held while it is written; with the count of changes that it has.
    file: Mutex<(Option<PathBuf>, u64)>,
    /// How often something changed.
    changes: watch::Sender<u64>,
    was_there: bool,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(flatten)]
    mark: Mark,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    revocations: Vec<Entry>,
}

impl RevocationBook {
    /// With what the file says, which need not be there yet; without a file, empty.
    ///
    /// # Errors
    /// The file is there and cannot be read: what it bars would be served.
    pub fn open(path: Option<&Path>) -> Result<Arc<Self>, BookError> {
        let known = path.map(load).transpose()?.flatten();
        let was_there = known.is_some();
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(known.unwrap_or_default()),
            merging: Mutex::new(Instant(0)),
            file: Mutex::new((path.map(Path::to_owned), 0)),
            changes: watch::Sender::new(0),
            was_there,
        }))
    }

    /// The marks now. Hold it for one request, not longer.
    pub fn load(&self) -> Guard<Arc<Revocations>> {
        self.current.load()
    }

    /// The marks now, to be held for longer.
    pub fn load_full(&self) -> Arc<Revocations> {
        self.current.load_full()
    }

    /// Whether there was a file at the start: then the marks are as old as it, and not just none.
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// How often something changed since the start.
    pub fn change_count(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Told of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes marks in, in force at once; says whether anything was new. [`RevocationBook::save`] writes them down.
    pub fn merge(&self, marks: impl IntoIterator<Item = (Target, Mark)>) -> bool {
        let mut change = Change::begin(self);
        let now = Instant::now();
        let mut is_new = false;
        for (target, mark) in marks {
            is_new |= !mark.is_forgotten(target.kind(), now) && change.revocations.merge(&target, mark);
        }
        if is_new {
            change.forget();
            change.publish();
        }
        is_new
    }

    /// Bars a target, whatever was said of it before, in force at once; gives the mark that stands.
    ///
    /// # Errors
    /// There is no room, or no mark could stand.
    pub fn bar(&self, target: &Target, until: Instant, cut: bool) -> Result<Mark, BarError> {
        Change::begin(self).set(target, LINKS_MAX, Mark { set: Instant::now(), until, cut })
    }

    /// Bars a link until then at least, as its owner wants it; what is barred for as long is so already.
    ///
    /// # Errors
    /// As [`RevocationBook::bar`]; some room is left to operators.
    pub fn bar_link(&self, link: &Target, until: Instant) -> Result<(), BarError> {
        let change = Change::begin(self);
        if change.known(link).is_some_and(|known| known.until >= until) {
            return Ok(());
        }
        let mark = Mark { set: Instant::now(), until, cut: false };
        change.set(link, LINKS_MAX - OPERATORS_LINKS, mark).map(drop)
    }

    /// Lifts what is said of a target; says whether anything was in force.
    ///
    /// # Errors
    /// As [`RevocationBook::bar`].
    pub fn lift(&self, target: &Target) -> Result<bool, BarError> {
        let (change, now) = (Change::begin(self), Instant::now());
        if !change.known(target).is_some_and(|known| known.is_in_force(now)) {
            return Ok(false);
        }
        change.set(target, LINKS_MAX, Mark { set: now, until: now, cut: false }).map(|_| true)
    }

    /// Writes all marks to the file, where there is one that lacks some or is missing. Blocks.
    ///
    /// # Errors
    /// The file cannot be written; the marks are in force for as long as the program runs.
    pub fn save(&self) -> Result<(), BookError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(path), saved) = &mut *file else { return Ok(()) };
        if *saved == self.change_count() && path.exists() {
            return Ok(());
        }
        // What a successor or a predecessor of this process has written there is not lost.
        if let Ok(Some(others)) = load(path) {
            self.merge(others.iter());
        }
        let changes = self.change_count();
        save(path, &self.current.load(), FILE_BYTES_MAX)?;
        *saved = changes;
        Ok(())
    }

    /// Writes changes to the file for ever, and not much more often than that takes.
    pub async fn keep_saved(self: Arc<Self>) {
        let mut changes = self.changes();
        while changes.changed().await.is_ok() {
            let (book, begun) = (Arc::clone(&self), std::time::Instant::now());
            if let Err(error) = blocking::run(move || book.save()).await {
                tracing::error!(%error, "revocations are in force, and lost at a restart");
            }
            tokio::time::sleep(SAVED_EVERY.max(begun.elapsed() * 20)).await;
        }
    }
}

/// A change that is being made; no other is.
struct Change<'b> {
    book: &'b RevocationBook,
    looked: MutexGuard<'b, Instant>,
    revocations: Revocations,
}

impl<'b> Change<'b> {
    fn begin(book: &'b RevocationBook) -> Self {
        let looked = book.merging.lock().unwrap_or_else(PoisonError::into_inner);
        Self { book, looked, revocations: Revocations::clone(&book.current.load()) }
    }

    fn known(&self, target: &Target) -> Option<&Mark> {
        self.revocations.mark_on(target)
    }

    /// Sets a mark later than what it follows, though that was set by a clock that is ahead.
    fn set(mut self, target: &Target, links_max: usize, mark: Mark) -> Result<Mark, BarError> {
        self.forget();
        let known = self.known(target);
        let (links, all) = (self.revocations.count(Kind::Link), self.revocations.len());
        let (count, max) =
            if target.kind() == Kind::Link { (links, links_max) } else { (all - links, OTHERS_MAX) };
        if known.is_none() && count >= max {
            return Err(BarError::Full(count));
        }
        let set = known.map_or(mark.set, |known| mark.set.max(Instant(known.set.0.saturating_add(1))));
        if set.0 > LAST_MS {
            return Err(BarError::Last);
        }
        let mark = Mark { set, ..mark };
        self.revocations.merge(target, mark);
        self.publish();
        Ok(mark)
    }

    /// Drops what ended long ago, now and then.
    fn forget(&mut self) {
        let now = Instant::now();
        if now.0.abs_diff(self.looked.0) >= FORGOTTEN_EVERY_MS {
            *self.looked = now;
            self.revocations.forget(now);
        }
    }

    fn publish(self) {
        self.book.current.store(Arc::new(self.revocations));
        self.book.changes.send_modify(|changes| *changes += 1);
    }
}

fn load(path: &Path) -> Result<Option<Revocations>, BookError> {
    let text = match private_file::read_at_most(path, FILE_BYTES_MAX as u64) {
        Ok(text) => text,
        Err(PrivateFileError::Missing) => return Ok(None),
        Err(source) => return Err(BookError::Read { path: path.to_owned(), source }),
    };
    let snapshot: Snapshot =
        serde_json::from_str(&text).map_err(|source| BookError::Text { path: path.to_owned(), source })?;
    let mut revocations = Revocations::default();
    for Entry { key, mark } in snapshot.revocations {
        match Target::parse_key(&key) {
            Some(target) => {
                revocations.merge(&target, mark);
            }
            // A newer program's; it has its own copy of them.
            None => tracing::warn!(key, "a revocation of a kind that is not known here is left out"),
        }
    }
    Ok(Some(revocations))
}

/// Where there is no room for all, links' marks are left out: they end by themselves, and soon.
fn save(path: &Path, revocations: &Revocations, bytes_max: usize) -> Result<(), BookError> {
    let text = match text_of(revocations, |_| true) {
        text if text.len() <= bytes_max => text,
        _ => {
            tracing::error!(path = %path.display(), "there are too many revocations; those of links are not kept");
            text_of(revocations, |kind| kind != Kind::Link)
        }
    };
    if text.len() > bytes_max {
        return Err(BookError::TooLarge { path: path.to_owned() });
    }
    private_file::replace(path, &text).map_err(|source| BookError::Write { path: path.to_owned(), source })
}

fn text_of(revocations: &Revocations, is_wanted: impl Fn(Kind) -> bool) -> String {
    let wanted = revocations.iter().filter(|(target, _)| is_wanted(target.kind()));
    let mut entries: Vec<_> = wanted.map(|(target, mark)| Entry { key: target.key(), mark }).collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    serde_json::to_string_pretty(&Snapshot { revocations: entries }).expect("texts serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_never_larger_than_one_that_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revocations.json");
        let now = Instant::now();
        let mark = Mark { set: now, until: Instant(now.0 + 60_000), cut: false };
        let mut revocations = Revocations::default();
        for (kind, count) in [(Kind::Link, 100), (Kind::User, 3)] {
            for number in 0..count {
                revocations.merge(&Target::new(kind, &number.to_string()).unwrap(), mark);
            }
        }
        let whole = text_of(&revocations, |_| true).len();
        for (bytes_max, expected) in [(whole, Some(103)), (whole - 1, Some(3)), (10, None)] {
            let saved = save(&path, &revocations, bytes_max);
            assert_eq!(saved.is_ok(), expected.is_some(), "{saved:?}");
            let kept = load(&path).unwrap().unwrap();
            assert_eq!(kept.len(), expected.unwrap_or(3), "one that does not fit is not written");
        }
    }
}
