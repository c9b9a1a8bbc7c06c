//! The windows of one file in shared memory: where each lies, what it holds, and how it comes and goes.

use std::io;
use std::sync::Arc;

use crate::uring::{MappedWindow, WindowFile};

pub(super) const PAGE_BYTES: u64 = 4096;

/// What the kernel backs shared memory with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    Small,
    /// As large as the file has room for (`huge=within_size`): huge ones; since Linux 6.14 smaller large ones as well,
    /// where memory is asked for before it is touched.
    Fitting,
    /// Huge ones, however little of them is content.
    Huge,
}

pub(super) struct WindowMemory {
    file: Arc<WindowFile>,
    pages: Pages,
    window_bytes: u64,
    size: u64,
}

impl WindowMemory {
    /// Of a file of `size` bytes.
    pub(super) fn new(file: WindowFile, pages: Pages, window_bytes: u64, size: u64) -> Self {
        Self { file: Arc::new(file), pages, window_bytes, size }
    }

    pub(super) fn file(&self) -> &WindowFile {
        &self.file
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// The window that holds a place of the file.
    pub(super) fn window_at(&self, offset: u64) -> u32 {
        u32::try_from(offset / self.window_bytes).expect("4 PiB of windows are more than a file has")
    }

    /// Where a window begins.
    pub(super) fn offset(&self, window: u32) -> u64 {
        u64::from(window) * self.window_bytes
    }

    /// The file's bytes in one window: all but the last are full.
    pub(super) fn content_bytes(&self, window: u32) -> u64 {
        (self.size - self.offset(window)).min(self.window_bytes)
    }

    /// The memory one window holds when it is filled: its pages, or the huge page they may all be in.
    pub(super) fn held_bytes(&self, window: u32) -> u64 {
        match self.pages {
            Pages::Huge => self.window_bytes,
            Pages::Small | Pages::Fitting => self.mapped_bytes(window),
        }
    }

    /// Maps the memory a READ fills one window's content into: whole pages.
    ///
    /// # Errors
    /// Out of memory or mappings.
    pub(super) fn map(&self, window: u32) -> io::Result<MappedWindow> {
        let (offset, bytes) = (self.offset(window), self.mapped_bytes(window));
        if self.pages == Pages::Fitting {
            // At once, for memory that comes as it is touched comes in small pages.
            self.file.allocate(offset, bytes)?;
        }
        self.file.map(offset, usize::try_from(bytes).expect("a window fits memory"))
    }

    /// Frees the memory of one window.
    pub(super) fn punch(&self, window: u32) {
        let punched = self.file.punch(self.offset(window), self.window_bytes);
        // Nothing can refuse a hole in our own memory; were it refused, the window must not be filled again.
        punched.expect("shared memory takes holes");
    }

    /// One window's content, in whole pages.
    fn mapped_bytes(&self, window: u32) -> u64 {
        self.content_bytes(window).next_multiple_of(PAGE_BYTES)
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> Pages {
        self.pages
    }
}
