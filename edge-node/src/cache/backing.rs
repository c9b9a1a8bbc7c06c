//! Where windows' memory comes from: memfds, or files on a tmpfs with huge pages, the operator's or our own; and how
//! large windows are there.
//!
//! Punching part of a huge page zeroes it in place, bytes already given to sockets included. So wherever huge pages
//! may back a window, it is one whole, aligned.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::uring::WindowFile;

/// One window, where pages are small: large enough that a read of it keeps a store busy, small enough that many fit.
const WINDOW_BYTES: u64 = 1 << 20;
/// One window, where pages may be huge: one of them.
const HUGE_WINDOW_BYTES: u64 = 2 << 20;
/// The smallest cache, in windows: for a few transfers to move in.
const WINDOWS_MIN: u64 = 16;
/// A smaller cache has room for too few huge windows: small ones serve it better.
const HUGE_CAPACITY_MIN: u64 = 64 * HUGE_WINDOW_BYTES;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Why a cache cannot be kept as configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackingError {
    #[error("`cache.dir` cannot be used: {0}: {1}")]
    Folder(PathBuf, io::Error),
    #[error("`cache.dir` is on no tmpfs: {0}; mount one there (mount -t tmpfs -o huge=within_size,size=…)")]
    NotTmpfs(PathBuf),
    #[error("`cache.dir` holds {has} bytes, less than `cache.size` ({wanted}): mount it with a larger size=")]
    FolderTooSmall { has: u64, wanted: u64 },
    #[error("`cache.size` comes to {has} bytes; at least {wanted} are needed")]
    TooSmall { has: u64, wanted: u64 },
}

pub(crate) struct Backing {
    folder: Option<Folder>,
    memfds_are_huge: bool,
}

struct Folder {
    fd: OwnedFd,
    is_huge: bool,
}

/// The windows of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) window_bytes: u64,
    /// A window may hold a huge page, however little of it is content.
    pub(super) is_huge: bool,
}

impl Backing {
    /// Judges the folder, and the kernel's settings as they are now: an edge has to be restarted after changing them.
    /// Without a folder, a tmpfs of the edge's own is tried for a cache of 128 MiB and more, which takes a privilege
    /// (`CAP_SYS_ADMIN`).
    ///
    /// # Errors
    /// See [`BackingError`]; each names what to change.
    pub(crate) fn open(folder: Option<&Path>, capacity: u64) -> Result<Self, BackingError> {
        let folder = match folder {
            Some(path) => Some(Folder::open(path, capacity)?),
            None if capacity >= HUGE_CAPACITY_MIN => Folder::mount().ok(),
            None => None,
        };
        let backing = Self { folder, memfds_are_huge: memfds_are_huge() };
        let wanted = WINDOWS_MIN * backing.window_bytes_max();
        if capacity < wanted {
            return Err(BackingError::TooSmall { has: capacity, wanted });
        }
        Ok(backing)
    }

    /// Where files are made, where it is no memfds.
    pub(crate) fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.folder.as_ref().map(|folder| folder.fd.as_fd())
    }

    pub(crate) fn window_bytes_max(&self) -> u64 {
        let is_huge = self.memfds_are_huge || self.folder.as_ref().is_some_and(|folder| folder.is_huge);
        if is_huge { HUGE_WINDOW_BYTES } else { WINDOW_BYTES }
    }

    /// Whether many small things may share one memfd and be punched out of it one by one.
    pub(super) fn may_be_shared(&self) -> bool {
        !self.memfds_are_huge
    }

    /// Memory for a file of `size` bytes. It begins as one hole.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(super) fn make(&self, size: u64) -> io::Result<(WindowFile, Layout)> {
        // What is smaller than a huge page would take a whole one.
        let folder = self.folder.as_ref().filter(|folder| !folder.is_huge || size >= HUGE_WINDOW_BYTES);
        let is_huge = folder.map_or(self.memfds_are_huge, |folder| folder.is_huge);
        let window_bytes = if is_huge { HUGE_WINDOW_BYTES } else { WINDOW_BYTES };
        let bytes = size.next_multiple_of(window_bytes);
        let memory = match folder {
            Some(folder) => WindowFile::new_in(&folder.fd, bytes)?,
            None => WindowFile::new(bytes)?,
        };
        Ok((memory, Layout { window_bytes, is_huge }))
    }
}

impl Folder {
    fn open(path: &Path, capacity: u64) -> Result<Self, BackingError> {
        let fault = |error: rustix::io::Errno| BackingError::Folder(path.to_owned(), error.into());
        let fd = rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.map_err(fault)?;
        if rustix::fs::fstatfs(&fd).map_err(fault)?.f_type != TMPFS_MAGIC {
            return Err(BackingError::NotTmpfs(path.to_owned()));
        }
        let space = rustix::fs::fstatvfs(&fd).map_err(fault)?;
        // A tmpfs without a size of its own says 0.
        let has = space.f_blocks * space.f_frsize;
        if has != 0 && has < capacity {
            return Err(BackingError::FolderTooSmall { has, wanted: capacity });
        }
        // That files can be made there is found out now.
        WindowFile::new_in(&fd, WINDOW_BYTES)
            .map_err(|error| BackingError::Folder(path.to_owned(), error))?;
        let device = rustix::fs::fstat(&fd).map_err(fault)?.st_dev;
        Ok(Self { fd, is_huge: is_mounted_huge(device) })
    }

    /// A tmpfs that is mounted nowhere, with huge pages and out of swap's reach; it goes with the process.
    fn mount() -> io::Result<Self> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (option, value) in [("huge", "always"), ("size", "0"), ("nr_inodes", "0"), ("mode", "0700")] {
            fsconfig_set_string(&context, option, value)?;
        }
        // Linux 6.4.
        let _ = fsconfig_set_flag(&context, "noswap");
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let fd = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        WindowFile::new_in(&fd, WINDOW_BYTES)?;
        Ok(Self { fd, is_huge: true })
    }
}

/// Whether the filesystem of a device was mounted to use huge pages.
fn is_mounted_huge(device: u64) -> bool {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device));
    let options = mount.and_then(|line| line.split(' ').next_back()).unwrap_or_default();
    let huge = options.split(',').find_map(|option| option.strip_prefix("huge="));
    huge.is_some_and(|huge| matches!(huge, "always" | "within_size" | "advise"))
}

/// Whether the kernel may back memfds with huge pages.
fn memfds_are_huge() -> bool {
    const FOLDER: &str = "/sys/kernel/mm/transparent_hugepage";
    let setting = |folder: &Path| fs::read_to_string(folder.join("shmem_enabled")).unwrap_or_default();
    // `advise` needs an madvise that we never make; `inherit` follows the setting for all sizes.
    let is_on =
        |setting: String| ["[always]", "[within_size]", "[force]"].iter().any(|on| setting.contains(on));
    // Each size has one of its own, since Linux 6.11.
    let mut sizes = fs::read_dir(FOLDER).into_iter().flatten().flatten().map(|entry| entry.path());
    is_on(setting(Path::new(FOLDER))) || sizes.any(|size| is_on(setting(&size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_tmpfs_is_refused() {
        let fault = Backing::open(Some(Path::new("/proc")), 64 << 20).map(|_| ()).unwrap_err().to_string();
        assert!(fault.contains("is on no tmpfs"), "{fault}");
        let fault = Backing::open(Some(Path::new("/nowhere")), 64 << 20).map(|_| ()).unwrap_err().to_string();
        assert!(fault.contains("/nowhere"), "{fault}");
        let fault = Backing::open(None, 1 << 20).map(|_| ()).unwrap_err().to_string();
        assert!(fault.contains("`cache.size` comes to 1048576 bytes"), "{fault}");
    }

    #[test]
    fn windows_are_whole_huge_pages_wherever_there_may_be_any() {
        let fd = || rustix::fs::openat(CWD, "/dev/shm", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let small = Layout { window_bytes: 1 << 20, is_huge: false };
        let huge = Layout { window_bytes: 2 << 20, is_huge: true };
        let table = [
            // folder with huge pages, memfds with huge pages, size, expected
            (None, false, 100 << 10, small),
            (None, false, 100 << 20, small),
            (None, true, 100 << 10, huge),
            (Some(false), false, 100 << 20, small),
            (Some(true), false, 100 << 10, small),
            (Some(true), false, 2 << 20, huge),
        ];
        for (folder, memfds_are_huge, size, expected) in table {
            let folder = folder.map(|is_huge| Folder { fd: fd(), is_huge });
            let (_, layout) = Backing { folder, memfds_are_huge }.make(size).unwrap();
            assert_eq!(layout, expected, "{size}");
        }
    }
}
