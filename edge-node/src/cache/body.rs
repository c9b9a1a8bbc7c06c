//! The content of a small file, kept where it is cheapest to send from.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::PAGE_BYTES;
use crate::uring::WindowFile;

/// Bodies up to this size go out in one SEND with their head, copied; from here on `sendfile`, which does not copy, is
/// cheaper though it is a second call (16 KiB: see the table in the README).
const COPIED_BYTES_MAX: usize = 8 * 1024;
/// Room that is never used up: a terabyte a second fills it in two months.
const ARENA_BYTES: u64 = 1 << 62;

pub(crate) enum Body {
    Memory(Box<[u8]>),
    Shared(Extent),
}

impl Body {
    /// Keeps a copy of `content`, in shared memory where that pays and there is an arena.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(content: &[u8], arena: Option<&Arc<Arena>>) -> io::Result<Self> {
        match arena {
            Some(arena) if content.len() > COPIED_BYTES_MAX => Arena::keep(arena, content).map(Self::Shared),
            _ => Ok(Self::Memory(content.into())),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Shared(extent) => extent.length,
        }
    }
}

/// Shared memory for many small bodies: one sparse memfd in which places are given out once and never again, so that
/// what a socket still holds is never written over, and there is no free list to keep.
///
/// Not where shared memory may be backed by huge pages: punching part of one zeroes it in place.
pub(super) struct Arena {
    memory: WindowFile,
    next: AtomicU64,
}

impl Arena {
    /// # Errors
    /// Out of descriptors.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { memory: WindowFile::new(ARENA_BYTES)?, next: AtomicU64::new(0) })
    }

    /// # Errors
    /// Out of memory.
    fn keep(arena: &Arc<Self>, content: &[u8]) -> io::Result<Extent> {
        let bytes = (content.len() as u64).next_multiple_of(PAGE_BYTES);
        let offset = arena.next.fetch_add(bytes, Ordering::Relaxed);
        let extent = Extent { arena: Arc::clone(arena), offset, length: content.len() };
        arena.memory.write(offset, content)?;
        Ok(extent)
    }
}

/// One place in the arena, with a body; its memory is freed when it is dropped.
pub(crate) struct Extent {
    arena: Arc<Arena>,
    offset: u64,
    length: usize,
}

impl Extent {
    pub(crate) fn memory(&self) -> &WindowFile {
        &self.arena.memory
    }

    /// Where in the memory it lies.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.length as u64
    }

    /// A copy with a text before it.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn behind(&self, text: &[u8]) -> io::Result<Self> {
        let mut content = vec![0; text.len() + self.length];
        let (before, body) = content.split_at_mut(text.len());
        before.copy_from_slice(text);
        self.memory().read(self.offset, body)?;
        Arena::keep(&self.arena, &content)
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let bytes = (self.length as u64).next_multiple_of(PAGE_BYTES);
        let punched = self.arena.memory.punch(self.offset, bytes);
        punched.expect("shared memory takes holes");
    }
}
