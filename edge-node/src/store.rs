//! The store: the folder files come from, how they are opened, how many operations may be in it at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_shared::file_id::FileId;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::uring::{Closer, FileStat, OpenRules, Root, StoreFd, Version, open, statx};

/// Operations kept for opening and revalidating, whatever reads are stuck.
pub(crate) const CHECK_SLOTS: usize = 64;

/// Where a file id lies beneath the root: `{file_id}`, `{file_id}.pdf`, `files/{file_id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    before: String,
    after: String,
}

/// A template that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must contain {{file_id}} exactly once and lead to a path beneath the root")]
pub(crate) struct TemplateError;

impl PathTemplate {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let (before, after) = text.split_once("{file_id}").ok_or(TemplateError)?;
        let example = format!("{before}x{after}");
        if after.contains("{file_id}") || FileId::parse(example.as_str()).is_err() {
            return Err(TemplateError);
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }

    pub(crate) fn path(&self, file_id: &str) -> String {
        [&self.before, file_id, &self.after].concat()
    }
}

pub(crate) struct Store {
    root: Root,
    template: PathTemplate,
    follow_symlinks: bool,
    /// Reads past the page cache are worth a try: cleared where a filesystem takes `O_DIRECT` when opening and wants
    /// more than whole pages when reading.
    direct: AtomicBool,
    closer: Closer,
    patience: Duration,
    reads: Semaphore,
    checks: Semaphore,
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
    pub(crate) fn new(
        root: &Path,
        template: PathTemplate,
        follow_symlinks: bool,
        concurrency: usize,
        patience: Duration,
        closer: Closer,
    ) -> io::Result<Self> {
        Ok(Self {
            root: Root::open(root)?,
            template,
            follow_symlinks,
            direct: AtomicBool::new(true),
            closer,
            patience,
            reads: Semaphore::new(concurrency),
            checks: Semaphore::new(CHECK_SLOTS),
        })
    }

    pub(crate) fn path(&self, file_id: &str) -> String {
        self.template.path(file_id)
    }

    /// Opens a file beneath the root, and asks what it is.
    ///
    /// # Errors
    /// The kernel's, see [`open`] and [`statx`].
    pub(crate) async fn open(&self, path: &str) -> io::Result<(Arc<StoreFd>, FileStat)> {
        let direct = self.direct.load(Ordering::Relaxed);
        let rules = OpenRules { follow_symlinks: self.follow_symlinks, direct };
        let opened = open(self.root.clone(), path, rules, self.closer.clone()).await;
        // EINVAL: a filesystem without O_DIRECT, or a folder on one that has it.
        let refused = direct && matches!(&opened, Err(error) if error.raw_os_error() == Some(libc::EINVAL));
        let file = if refused {
            let rules = OpenRules { direct: false, ..rules };
            open(self.root.clone(), path, rules, self.closer.clone()).await
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

    /// A place among the reads; waits for one.
    pub(crate) async fn read_slot(&self) -> SemaphorePermit<'_> {
        self.reads.acquire().await.expect("never closed")
    }

    /// A place among the checks; waits for one.
    pub(crate) async fn check_slot(&self) -> SemaphorePermit<'_> {
        self.checks.acquire().await.expect("never closed")
    }

    /// Whether what was read is `version`'s: all of it came, and the version is still the same afterwards.
    pub(crate) fn judge(
        &self,
        version: &Version,
        wanted: usize,
        read: &io::Result<usize>,
        after: &io::Result<FileStat>,
    ) -> Verdict {
        match (read, after) {
            (Ok(count), Ok(stat)) if *count == wanted && stat.version == *version => Verdict::Same,
            (Ok(_), Ok(_)) => Verdict::Another,
            (Err(error), _) | (_, Err(error)) => match error.raw_os_error() {
                Some(libc::ESTALE) => Verdict::Another,
                // Opened anew, without `O_DIRECT`, the file is as good as another version of it.
                Some(libc::EINVAL) if self.direct.swap(false, Ordering::Relaxed) => {
                    tracing::warn!(
                        "the store refuses reads with O_DIRECT; reading through its page cache from now on"
                    );
                    Verdict::Another
                }
                errno => Verdict::Failed(errno.unwrap_or(libc::EIO)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_the_file_once_beneath_the_root() {
        let template = PathTemplate::parse("files/{file_id}.pdf").unwrap();
        assert_eq!(template.path("a/b"), "files/a/b.pdf");
        for text in
            ["", "x", "{file_id}{file_id}", "/{file_id}", "../{file_id}", "{file_id}/..", "a//{file_id}"]
        {
            assert_eq!(PathTemplate::parse(text), Err(TemplateError), "{text}");
        }
    }
}
