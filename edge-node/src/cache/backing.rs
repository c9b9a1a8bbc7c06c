//! Where windows' memory comes from: memfds, or files on a tmpfs with large pages, the operator's or our own; and how
//! large windows are there.
//!
//! Punching part of a page, however large, zeroes it in place, bytes already given to sockets included. So no page may
//! reach from one window into another: a window is as large and as aligned as any page that may back it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::memory::{PAGE_BYTES, Pages, WindowMemory};
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
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

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
    memfds: Pages,
}

struct Folder {
    fd: OwnedFd,
    pages: Pages,
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
        let backing = Self { folder, memfds: pages_of_memfds() };
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
        let is_small = self.memfds == Pages::Small
            && self.folder.as_ref().is_none_or(|folder| folder.pages == Pages::Small);
        if is_small { WINDOW_BYTES } else { HUGE_WINDOW_BYTES }
    }

    /// Whether many small things may share one memfd and be punched out of it one by one.
    pub(super) fn may_be_shared(&self) -> bool {
        self.memfds == Pages::Small
    }

    /// Memory for a file of `size` bytes. It begins as one hole.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(super) fn make(&self, size: u64) -> io::Result<WindowMemory> {
        // What is smaller than a huge page would take a whole one.
        let folder =
            self.folder.as_ref().filter(|folder| folder.pages != Pages::Huge || size >= HUGE_WINDOW_BYTES);
        let pages = folder.map_or(self.memfds, |folder| folder.pages);
        let in_pages = size.next_multiple_of(PAGE_BYTES);
        let (window_bytes, bytes) = match pages {
            Pages::Huge => (HUGE_WINDOW_BYTES, size.next_multiple_of(HUGE_WINDOW_BYTES)),
            Pages::Fitting if in_pages >= HUGE_WINDOW_BYTES => (HUGE_WINDOW_BYTES, in_pages),
            // No page is larger than the file, and so none is larger than half a huge one.
            Pages::Fitting | Pages::Small => (WINDOW_BYTES, in_pages),
        };
        let memory = match folder {
            Some(folder) => WindowFile::new_in(&folder.fd, bytes)?,
            None => WindowFile::new(bytes)?,
        };
        Ok(WindowMemory::new(memory, pages, window_bytes, size))
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
        Ok(Self { fd, pages: pages_of_folder(pages_of_mount(device), &memfds_setting()) })
    }

    /// A tmpfs that is mounted nowhere, with large pages and out of swap's reach; it goes with the process.
    fn mount() -> io::Result<Self> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (option, value) in [("huge", "within_size"), ("size", "0"), ("nr_inodes", "0"), ("mode", "0700")]
        {
            fsconfig_set_string(&context, option, value)?;
        }
        // Linux 6.4.
        let _ = fsconfig_set_flag(&context, "noswap");
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let fd = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        WindowFile::new_in(&fd, WINDOW_BYTES)?;
        Ok(Self { fd, pages: pages_of_folder(Pages::Fitting, &memfds_setting()) })
    }
}

/// What files on the filesystem of a device are backed with, by how it was mounted.
fn pages_of_mount(device: u64) -> Pages {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device));
    let options = mount.and_then(|line| line.split(' ').next_back()).unwrap_or_default();
    match options.split(',').find_map(|option| option.strip_prefix("huge=")) {
        Some("within_size") => Pages::Fitting,
        Some("always" | "advise") => Pages::Huge,
        _ => Pages::Small,
    }
}

/// What files in a folder are backed with, by its mount and the setting for memfds: `force` overrides all mounts.
fn pages_of_folder(of_mount: Pages, memfds_setting: &str) -> Pages {
    if memfds_setting.contains("[force]") { Pages::Huge } else { of_mount }
}

fn memfds_setting() -> String {
    setting_in(Path::new(HUGE_PAGES))
}

fn setting_in(folder: &Path) -> String {
    fs::read_to_string(folder.join("shmem_enabled")).unwrap_or_default()
}

/// What the kernel may back memfds with.
fn pages_of_memfds() -> Pages {
    // `advise` needs an madvise that we never make; `inherit` follows the setting for all sizes.
    let is_on =
        |setting: String| ["[always]", "[within_size]", "[force]"].iter().any(|on| setting.contains(on));
    // Each size has one of its own, since Linux 6.11.
    let mut sizes = fs::read_dir(HUGE_PAGES).into_iter().flatten().flatten().map(|entry| entry.path());
    let are_huge = is_on(memfds_setting()) || sizes.any(|size| is_on(setting_in(&size)));
    if are_huge { Pages::Huge } else { Pages::Small }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::ops::Range;

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

    /// What a socket was given stays what it was when its window is let go of, and the memory that is held is what is
    /// counted: neither would be so if a page reached from one window into another.
    #[test]
    fn windows_hold_what_is_counted_and_go_one_by_one() {
        let backing = match Folder::mount() {
            Ok(folder) => Backing { folder: Some(folder), memfds: Pages::Small },
            // Without the right to mount, as most edges are.
            Err(_) => Backing { folder: None, memfds: pages_of_memfds() },
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for size in [70_001, 262_144, 1 << 20, 1_500_000, (2 << 20) - 4096, (2 << 20) - 1, 2 << 20, 5_000_001]
        {
            let memory = backing.make(size).unwrap();
            let count = u32::try_from(size.div_ceil(memory.window_bytes())).unwrap();
            let held = |windows: Range<u32>| windows.map(|window| memory.held_bytes(window)).sum::<u64>();
            let holds = |bytes| {
                let blocks = rustix::fs::fstat(memory.file()).unwrap().st_blocks;
                assert_eq!(u64::try_from(blocks).unwrap() * 512, bytes, "{size}");
            };
            let mut sockets = Vec::new();
            for (window, byte) in (0..count).zip(1..) {
                let offset = memory.offset(window);
                let bytes = usize::try_from(memory.content_bytes(window)).unwrap();
                drop(memory.map(window).unwrap());
                memory.file().write(offset, &vec![byte; bytes]).unwrap();
                holds(held(0..window + 1));
                let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                sender.set_nonblocking(true).unwrap();
                let mut at = offset;
                let sent = rustix::fs::sendfile(&sender, memory.file(), Some(&mut at), bytes).unwrap();
                sockets.push((listener.accept().unwrap().0, sent));
            }
            for ((window, byte), (mut receiver, sent)) in (0..).zip(1..).zip(sockets) {
                memory.punch(window);
                holds(held(window + 1..count));
                let mut received = Vec::new();
                receiver.read_to_end(&mut received).unwrap();
                assert!(received == vec![byte; sent], "window {window} of {size}");
            }
        }
    }

    #[test]
    fn a_kernel_that_forces_huge_pages_asks_no_mount() {
        let table = [
            ("always within_size advise [never] deny force", Pages::Small, Pages::Small),
            ("always within_size advise [never] deny force", Pages::Fitting, Pages::Fitting),
            ("[always] within_size advise never deny force", Pages::Small, Pages::Small),
            ("always within_size advise never deny [force]", Pages::Small, Pages::Huge),
            ("always within_size advise never deny [force]", Pages::Fitting, Pages::Huge),
            ("", Pages::Fitting, Pages::Fitting),
        ];
        for (setting, of_mount, expected) in table {
            assert_eq!(pages_of_folder(of_mount, setting), expected, "{setting}");
        }
    }

    #[test]
    fn windows_are_as_large_as_any_page_that_may_back_them() {
        let fd = || rustix::fs::openat(CWD, "/dev/shm", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let table = [
            // pages of the folder, if there is one; pages of memfds; size; expected: a window, its pages, and the whole
            (None, Pages::Small, 100_001, (1 << 20, Pages::Small, 102_400)),
            (None, Pages::Small, 100 << 20, (1 << 20, Pages::Small, 100 << 20)),
            (None, Pages::Huge, 100_001, (2 << 20, Pages::Huge, 2 << 20)),
            (Some(Pages::Small), Pages::Small, 100 << 20, (1 << 20, Pages::Small, 100 << 20)),
            (Some(Pages::Huge), Pages::Small, 100_001, (1 << 20, Pages::Small, 102_400)),
            (Some(Pages::Huge), Pages::Small, (2 << 20) + 1, (2 << 20, Pages::Huge, 4 << 20)),
            (Some(Pages::Fitting), Pages::Huge, 100_001, (1 << 20, Pages::Fitting, 102_400)),
            (
                Some(Pages::Fitting),
                Pages::Small,
                (2 << 20) - 4096,
                (1 << 20, Pages::Fitting, (2 << 20) - 4096),
            ),
            // Its last byte's page makes it large enough for a huge one.
            (Some(Pages::Fitting), Pages::Small, (2 << 20) - 1, (2 << 20, Pages::Fitting, 2 << 20)),
            (Some(Pages::Fitting), Pages::Small, (2 << 20) + 1, (2 << 20, Pages::Fitting, (2 << 20) + 4096)),
        ];
        for (folder, memfds, size, expected) in table {
            let folder = folder.map(|pages| Folder { fd: fd(), pages });
            let memory = Backing { folder, memfds }.make(size).unwrap();
            let bytes = rustix::fs::fstat(memory.file()).unwrap().st_size;
            assert_eq!((memory.window_bytes(), memory.pages(), bytes), expected, "{size}");
        }
    }
}
