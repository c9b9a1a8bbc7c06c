//! Files that are followed: looked at each second, and read anew when they were written or replaced.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

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
}

fn file_stamp(path: &Path) -> Option<FileStamp> {
    let meta = fs::metadata(path).ok()?;
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some((meta.dev(), meta.ino(), modified, meta.len(), meta.mode()))
}

/// Follows files for ever: calls `reread` after every change since `seen`.
pub async fn follow(paths: &[&Path], mut seen: Stamp, mut reread: impl FnMut()) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let stamp = Stamp::of(paths.iter().copied());
        if stamp != seen {
            seen = stamp;
            reread();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
        let following = follow(&paths, seen, || rereads.set(rereads.get() + 1));
        assert!(tokio::time::timeout(LOOK_EVERY * 5 / 2, following).await.is_err());
        assert_eq!(rereads.get(), 1);
    }
}
