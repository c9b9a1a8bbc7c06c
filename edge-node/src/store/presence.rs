//! Whether the store is there at all. Where a mount is missing, its empty folder is found in its place, and every file in
//! it would be 404 for good: clients, caches and whoever follows a link take that for an answer.
//!
//! The rule: with `root_marker`, the store is there where the root has that file. Without it, where the root has
//! anything. What cannot be told (the store hangs, or may not be listed) changes nothing: health is another matter.
//!
//! What is mounted anew at the root's path is found by that it is another folder or another mount; or, where it seems
//! to be the same, by stale handles of what was open.
//!
//! It looks from a thread of its own, for looking may block as long as the store likes.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::fs::{Access, AtFlags, Dir, Mode, OFlags, StatxFlags, accessat, openat, statat, statx};
use rustix::io::Errno;

use crate::uring::Root;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The root, and whether it is the store's.
pub(super) struct Presence {
    path: PathBuf,
    marker: Option<String>,
    /// Opened anew when a store appears: a mount covers the folder that was open.
    root: ArcSwap<Root>,
    is_absent: AtomicBool,
    /// The store no longer knows the root that is open.
    is_stale: AtomicBool,
}

/// Which folder of which mount is open. No other is equal for as long as it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    device: (u32, u32),
    inode: u64,
    mount: u64,
}

/// What the thread that looks keeps.
struct Seen {
    /// Of the root that is open.
    place: Place,
    /// Roots before it that are still in use: the last to close one may have to unmount what was mounted there.
    former: Vec<Root>,
    /// What was said to be out of reach.
    barred: Option<Place>,
}

impl Presence {
    /// Opens the root, and looks on for as long as the store may come or go.
    ///
    /// # Errors
    /// It is not there, not a folder, or not ours to enter.
    pub(super) fn open(path: &Path, marker: Option<&str>) -> io::Result<Arc<Self>> {
        let (presence, mut seen) = Self::begin(path, marker)?;
        let presence = Arc::new(presence);
        let looked_at = Arc::downgrade(&presence);
        thread::Builder::new().name("root".to_owned()).spawn(move || {
            while let Some(presence) = looked_at.upgrade() {
                presence.look(&mut seen);
                drop(presence);
                thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(presence)
    }

    fn begin(path: &Path, marker: Option<&str>) -> io::Result<(Self, Seen)> {
        let root = Root::open(path)?;
        let seen = Seen { place: Place::of(&root)?, former: Vec::new(), barred: None };
        let is_absent = lacks_store(&root, marker);
        let presence = Self {
            root: ArcSwap::from_pointee(root),
            path: path.to_owned(),
            marker: marker.map(str::to_owned),
            is_absent: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
        };
        if let Ok(is_absent) = is_absent {
            presence.note(is_absent);
        }
        Ok((presence, seen))
    }

    pub(super) fn root(&self) -> Root {
        Root::clone(&self.root.load())
    }

    pub(super) fn is_absent(&self) -> bool {
        self.is_absent.load(Ordering::Relaxed)
    }

    /// The store said that it no longer knows the root: it is opened anew, if it can be.
    pub(super) fn suspect(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// Looks at the path once, and not at what is open: that may hang while something else is mounted there.
    fn look(&self, seen: &mut Seen) {
        seen.former.retain(|root| !root.is_last());
        let Ok(found) = Root::open(&self.path) else { return };
        let Ok(place) = Place::of(&found) else { return };
        let is_other = place != seen.place || self.is_stale.swap(false, Ordering::Relaxed);
        // Once it was there, it may become empty.
        if !is_other && self.marker.is_none() && !self.is_absent() {
            return;
        }
        let path = self.path.display();
        if is_other && is_barred(&found) {
            if seen.barred.replace(place) != Some(place) {
                tracing::error!(
                    root = %path,
                    "another folder or mount is at `root`, and this edge is confined to the one that it began with: \
                     restart it; with `root_marker` set, it follows by itself what is mounted there"
                );
            }
            return;
        }
        let Ok(is_absent) = lacks_store(&found, self.marker.as_deref()) else { return };
        if is_other && !is_absent {
            if place != seen.place {
                tracing::info!(root = %path, "another folder or mount is at `root`: opened anew");
            }
            seen.former.push(self.root());
            seen.place = place;
            self.root.store(Arc::new(found));
        }
        self.note(is_absent);
    }

    /// Takes in what was seen; says it once.
    fn note(&self, is_absent: bool) {
        if self.is_absent.swap(is_absent, Ordering::Relaxed) == is_absent {
            return;
        }
        let root = self.path.display();
        match (&self.marker, is_absent) {
            (_, false) => tracing::info!(%root, "the store is there"),
            (Some(marker), true) => tracing::error!(
                %root, marker,
                "`root` lacks `root_marker`: degraded, and no file is said to be missing; mount the store there, or \
                 make the marker in it"
            ),
            (None, true) => tracing::error!(
                %root,
                "`root` has nothing in it, as where a mount is missing: degraded, and no file is said to be missing; mount \
                 the store there, or, if it is rightly empty, set `root_marker` and make that file in it"
            ),
        }
    }
}

impl Place {
    fn of(root: &Root) -> io::Result<Self> {
        // What it is does not change: nobody has to be asked anew.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(root, c"", flags, StatxFlags::INO | StatxFlags::MNT_ID)?;
        Ok(Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            mount: found.stx_mnt_id,
        })
    }
}

/// `None` where it cannot be told. Blocks.
pub(crate) fn is_absent(root: &Path, marker: Option<&str>) -> Option<bool> {
    lacks_store(&Root::open(root).ok()?, marker).ok()
}

fn lacks_store(root: &Root, marker: Option<&str>) -> io::Result<bool> {
    if let Some(marker) = marker {
        return match statat(root, marker, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(false),
            Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error.into()),
        };
    }
    for entry in Dir::new(list(root)?)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether this process is confined to other folders: its user may read this one, and it may not.
fn is_barred(root: &Root) -> bool {
    let may_its_user = accessat(root, ".", Access::READ_OK, AtFlags::EACCESS).is_ok();
    may_its_user && matches!(list(root), Err(Errno::ACCESS))
}

fn list(root: &Root) -> Result<OwnedFd, Errno> {
    openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_empty_folder_is_no_store_unless_it_is_marked() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!((is_absent(root, None), is_absent(root, Some(".store"))), (Some(true), Some(true)));
        fs::write(root.join("a"), "").unwrap();
        assert_eq!((is_absent(root, None), is_absent(root, Some(".store"))), (Some(false), Some(true)));
        fs::remove_file(root.join("a")).unwrap();
        fs::write(root.join(".store"), "").unwrap();
        assert_eq!((is_absent(root, None), is_absent(root, Some(".store"))), (Some(false), Some(false)));
        // What is no folder at all is another's to tell.
        assert_eq!(is_absent(&root.join("none"), None), None);
    }

    #[test]
    fn what_comes_to_the_path_is_opened_anew_once_it_is_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, file) in [("root", "a"), ("next", "b"), ("marked", ".store")] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join(file), "").unwrap();
        }
        let has = |presence: &Presence, name: &str| statat(presence.root(), name, AtFlags::empty()).is_ok();
        let (presence, mut seen) = Presence::begin(&path("root"), None).unwrap();
        let held = presence.root();
        presence.look(&mut seen);
        assert!(presence.root().is_same(&held), "nothing has changed");
        // As where what was mounted is taken away.
        fs::rename(path("root"), path("old")).unwrap();
        presence.look(&mut seen);
        assert!(!presence.is_absent(), "nothing can be told");
        fs::create_dir(path("root")).unwrap();
        presence.look(&mut seen);
        assert!(presence.is_absent() && presence.root().is_same(&held));
        fs::rename(path("next"), path("root")).unwrap();
        presence.look(&mut seen);
        assert!(!presence.is_absent() && has(&presence, "b"));
        assert_eq!(seen.former.len(), 1, "it is in use here");
        drop(held);
        fs::remove_file(path("root/b")).unwrap();
        presence.look(&mut seen);
        assert!(!presence.is_absent() && seen.former.is_empty(), "once it was there, it may become empty");
        let (presence, mut seen) = Presence::begin(&path("root"), Some(".store")).unwrap();
        assert!(presence.is_absent());
        fs::rename(path("marked"), path("root")).unwrap();
        presence.look(&mut seen);
        assert!(!presence.is_absent() && has(&presence, ".store"));
    }

    #[test]
    fn a_root_that_the_store_does_not_know_any_more_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let (presence, mut seen) = Presence::begin(folder.path(), None).unwrap();
        let held = presence.root();
        presence.suspect();
        presence.look(&mut seen);
        let opened = presence.root();
        assert!(!opened.is_same(&held));
        presence.look(&mut seen);
        assert!(presence.root().is_same(&opened), "once");
    }
}
