//! The marks of one program: read without a lock, kept in a file of its own, so that a start without anybody to ask
//! forgets none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Instant, Mark, Revocations, Target};
use crate::blocking;
use crate::private_file::{self, PrivateFileError};

/// Between two writes of the file, at least.
const SAVED_EVERY: Duration = Duration::from_millis(500);

/// Why marks cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error("{path} {source}")]
    Read { path: PathBuf, source: PrivateFileError },
    #[error("{path} is no list of revocations ({source}); move it away, and set its marks anew")]
    Text { path: PathBuf, source: serde_json::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Marks, and the file that has them too.
pub struct RevocationBook {
    current: ArcSwap<Revocations>,
    /// Held while a change is made.
    merging: Mutex<()>,
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
            merging: Mutex::default(),
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
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, now) = (self.current.load(), Instant::now());
        let is_news = |(target, mark): &(Target, Mark)| {
            !mark.is_forgotten(now) && current.mark_on(target).is_none_or(|known| mark.supersedes(known))
        };
        let mut news = marks.into_iter().filter(is_news).peekable();
        // Most of what is heard is known: nothing is copied for it.
        if news.peek().is_none() {
            return false;
        }
        let mut merged = Revocations::clone(&current);
        for (target, mark) in news {
            merged.merge(&target, mark);
        }
        merged.forget(now);
        self.current.store(Arc::new(merged));
        self.changes.send_modify(|changes| *changes += 1);
        true
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
        save(path, &self.current.load())?;
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

fn load(path: &Path) -> Result<Option<Revocations>, BookError> {
    let text = match private_file::read(path) {
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

fn save(path: &Path, revocations: &Revocations) -> Result<(), BookError> {
    let mut entries: Vec<_> =
        revocations.iter().map(|(target, mark)| Entry { key: target.key(), mark }).collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let text = serde_json::to_string_pretty(&Snapshot { revocations: entries }).expect("texts serialize");
    private_file::replace(path, &text).map_err(|source| BookError::Write { path: path.to_owned(), source })
}
