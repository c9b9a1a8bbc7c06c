//! Files that are followed: looked at each second, and read anew when they were written or replaced, or when an
//! operator asks for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// How often files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What changes when one of some files is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Option<FileStamp>>);

type FileStamp = (u64, u64, SystemTime, u64, u32);

impl Stamp {
    /// As the files are now. Taken before they are read, so that no change falls in between.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(paths.into_iter().map(file_stamp).collect())
    }

    /// With others, which follow these.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

fn file_stamp(path: &Path) -> Option<FileStamp> {
    let meta = fs::metadata(path).ok()?;
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some((meta.dev(), meta.ino(), modified, meta.len(), meta.mode()))
}

/// Asks all followers that hold its [`Asked`] to reread at once, changed or not.
#[derive(Debug)]
pub struct Asking(watch::Sender<()>);

/// A follower's end of [`Asking`].
#[derive(Debug, Clone)]
pub struct Asked(watch::Receiver<()>);

impl Asking {
    pub fn new() -> (Self, Asked) {
        let (sender, receiver) = watch::channel(());
        (Self(sender), Asked(receiver))
    }

    pub fn ask(&self) {
        self.0.send_replace(());
    }
}

impl Asked {
    /// For who follows changes alone.
    pub fn never() -> Self {
        Asking::new().1
    }

    async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}

/// What looks at files again and again.
#[derive(Debug)]
pub struct Follower {
    paths: Vec<PathBuf>,
    seen: Stamp,
    asked: Asked,
}

impl Follower {
    /// `seen`: as the files were when they were read last.
    pub fn new(paths: &[&Path], seen: Stamp, asked: Asked) -> Self {
        Self { paths: paths.iter().map(|path| (*path).to_owned()).collect(), seen, asked }
    }

    /// Looks at other files from now on.
    pub fn turn_to(&mut self, paths: Vec<PathBuf>, seen: Stamp) {
        (self.paths, self.seen) = (paths, seen);
    }

    /// Waits for the next look; whether to reread then: there was a change since the last one, or somebody asked.
    pub async fn look(&mut self) -> bool {
        let is_asked = tokio::select! {
            () = self.asked.next() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let stamp = Stamp::of(self.paths.iter().map(PathBuf::as_path));
        let is_changed = stamp != self.seen;
        self.seen = stamp;
        is_asked || is_changed
    }
}

/// Follows files for ever: calls `reread` after every change since `seen`, and when `asked`.
pub async fn follow(paths: &[&Path], seen: Stamp, asked: Asked, mut reread: impl FnMut()) {
    let mut follower = Follower::new(paths, seen, asked);
    loop {
        if follower.look().await {
            reread();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn writing_replacing_and_removing_one_of_several_files_shows() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "1").unwrap();
        let stamp = || Stamp::of([&*one, &*two]);
        let first = stamp();
        assert_eq!(stamp(), first);
        fs::write(&two, "2").unwrap();
        let second = stamp();
        assert_ne!(second, first);
        fs::write(&two, "22").unwrap();
        assert_ne!(stamp(), second);
        fs::remove_file(&two).unwrap();
        assert_eq!(stamp(), first);
        let other = folder.path().join("other");
        fs::write(&other, "1").unwrap();
        fs::rename(&other, &one).unwrap();
        assert_ne!(stamp(), first);
    }

    #[tokio::test]
    async fn a_change_before_the_first_look_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let seen = Stamp::of([&*path]);
        fs::write(&path, "1").unwrap();
        let rereads = Cell::new(0);
        let paths = [&*path];
        let following = follow(&paths, seen, Asked::never(), || rereads.set(rereads.get() + 1));
        assert!(tokio::time::timeout(LOOK_EVERY * 5 / 2, following).await.is_err());
        assert_eq!(rereads.get(), 1);
    }

    #[tokio::test]
    async fn who_asks_is_heard_at_once_and_a_change_is_not_read_twice_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let paths = [&*path];
        let (asking, asked) = Asking::new();
        let mut follower = Follower::new(&paths, Stamp::of(paths), asked);
        fs::write(&path, "1").unwrap();
        asking.ask();
        let looked = std::pin::pin!(follower.look()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(looked, Poll::Ready(true), "asked, and changed");
        assert!(!follower.look().await, "the change was seen");
        asking.ask();
        assert!(follower.look().await, "asked, without a change");
        drop(asking);
        assert!(!follower.look().await, "who can ask no more asks for nothing");
    }
}
