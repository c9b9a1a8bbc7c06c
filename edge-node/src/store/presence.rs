//! Whether the store is there at all. Where a mount is missing, its empty folder is found in its place, and every file in
//! it would be 404 for good: clients, caches and whoever follows a link take that for an answer.
//!
//! The rule: with `root_marker`, the store is there where the root has that file. Without it, where the root has
//! anything. What cannot be told (the store hangs, or may not be listed) changes nothing: health is another matter.
//!
//! It looks from a thread of its own, for looking may block as long as the store likes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::uring::Root;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The root, and whether it is the store's.
pub(super) struct Presence {
    path: PathBuf,
    marker: Option<String>,
    /// Opened anew when a store appears: a mount covers the folder that was open.
    root: ArcSwap<Root>,
    is_absent: AtomicBool,
}

impl Presence {
    /// Opens the root, and looks on for as long as the store may come or go.
    ///
    /// # Errors
    /// It is not there, not a folder, or not ours to enter.
    pub(super) fn open(path: &Path, marker: Option<&str>) -> io::Result<Arc<Self>> {
        let presence = Arc::new(Self {
            root: ArcSwap::from_pointee(Root::open(path)?),
            path: path.to_owned(),
            marker: marker.map(str::to_owned),
            is_absent: AtomicBool::new(false),
        });
        presence.note(is_absent(path, marker));
        if presence.is_absent() || presence.marker.is_some() {
            let looking = Arc::clone(&presence);
            thread::Builder::new().name("root".to_owned()).spawn(move || looking.keep_looking())?;
        }
        Ok(presence)
    }

    pub(super) fn root(&self) -> Root {
        Root::clone(&self.root.load())
    }

    pub(super) fn is_absent(&self) -> bool {
        self.is_absent.load(Ordering::Relaxed)
    }

    /// Until nothing more is to be seen.
    fn keep_looking(&self) {
        while self.is_absent() || self.marker.is_some() {
            thread::sleep(LOOK_EVERY);
            let is_absent = is_absent(&self.path, self.marker.as_deref());
            if is_absent == Some(false) && self.is_absent() {
                match Root::open(&self.path) {
                    Ok(root) => self.root.store(Arc::new(root)),
                    Err(_) => continue,
                }
            }
            self.note(is_absent);
        }
    }

    /// Takes in what was seen; says it once.
    fn note(&self, is_absent: Option<bool>) {
        let Some(is_absent) = is_absent else { return };
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

/// `None` where it cannot be told. Blocks.
pub(crate) fn is_absent(root: &Path, marker: Option<&str>) -> Option<bool> {
    match marker {
        Some(marker) => match fs::symlink_metadata(root.join(marker)) {
            Ok(_) => Some(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(true),
            Err(_) => None,
        },
        None => match fs::read_dir(root).ok()?.next() {
            None => Some(true),
            Some(Ok(_)) => Some(false),
            Some(Err(_)) => None,
        },
    }
}

#[cfg(test)]
mod tests {
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
}
