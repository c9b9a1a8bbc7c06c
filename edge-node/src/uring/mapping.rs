//! A file's bytes in shared memory: a memfd or a file of a tmpfs, mapped window by window for as long as a READ fills it.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::ReadTarget;

/// Shared memory as long as the file it caches, in pages. It begins as one hole.
#[derive(Debug)]
pub(crate) struct WindowFile {
    memory: OwnedFd,
}

impl WindowFile {
    /// # Errors
    /// Out of descriptors or memory.
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let memory = rustix::fs::memfd_create(c"sluice-window", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, bytes)?;
        Ok(Self { memory })
    }

    /// As [`Self::new`], without a name in a folder on a tmpfs.
    ///
    /// # Errors
    /// The folder's filesystem has no room, or no files without names.
    pub(crate) fn new_in(folder: &OwnedFd, bytes: u64) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let memory = rustix::fs::openat(folder, c".", flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ftruncate(&memory, bytes)?;
        Ok(Self { memory })
    }

    /// Writes a range that nothing was ever written to.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn write(&self, offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        let mut at = offset;
        while !bytes.is_empty() {
            let count = rustix::io::pwrite(&self.memory, bytes, at)?;
            at += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Copies a range that was written.
    ///
    /// # Errors
    /// It does not end within the memory.
    pub(crate) fn read(&self, offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        while !bytes.is_empty() {
            let count = rustix::io::pread(&self.memory, &mut *bytes, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += count as u64;
            bytes = &mut bytes[count..];
        }
        Ok(())
    }

    /// Takes memory for a range that is to be written.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.memory, FallocateFlags::KEEP_SIZE, offset, bytes)?)
    }

    /// Frees the memory of a range. Pages that sockets still hold stay what they were.
    pub(crate) fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.memory, flags, offset, bytes)?)
    }

    /// Maps a range (whole pages) for a READ to fill.
    ///
    /// # Errors
    /// Out of memory or mappings.
    pub(crate) fn map(self: &Arc<Self>, offset: u64, bytes: usize) -> io::Result<MappedWindow> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; it is wrapped and unmapped below.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, prot, flags, &self.memory, offset) }?;
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at zero");
        Ok(MappedWindow { start, bytes, _file: Arc::clone(self) })
    }
}

impl AsFd for WindowFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// A mapping that ends when this is dropped.
pub(crate) struct MappedWindow {
    start: NonNull<u8>,
    bytes: usize,
    _file: Arc<WindowFile>,
}

impl Drop for MappedWindow {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, unmapped once, and no reference into it was ever given out.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the mapping is owned and stays where it is when the value moves. Other mappings of the same pages belong
// to no one: a window has one fill at a time, and readers see it by `sendfile` only after it is published.
unsafe impl ReadTarget for MappedWindow {
    fn address(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn len(&self) -> usize {
        self.bytes
    }
}
