//! READ: bytes of a store's file into memory that the operation owns.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use io_uring::opcode;

use super::{StoreFd, submit};

/// What `O_DIRECT` asks of offsets, lengths and addresses, at most: a page.
pub(crate) const ALIGNMENT: usize = 4096;

/// Memory that a READ may fill.
///
/// # Safety
/// `address()..address()+len()` must be writable memory that this value owns alone, that does not move with the
/// value, and that lives as long as it.
pub(crate) unsafe trait ReadTarget: Unpin + 'static {
    fn address(&mut self) -> *mut u8;
    /// Bytes that may be written, a multiple of [`ALIGNMENT`].
    fn len(&self) -> usize;
}

/// Reads from `offset` (a multiple of [`ALIGNMENT`]) until `wanted` bytes have come or the file ends; gives the
/// target back and how many came. The last page may be asked for beyond `wanted`, as `O_DIRECT` needs whole ones.
///
/// # Errors
/// The kernel's, with the target.
pub(crate) async fn read<T: ReadTarget>(
    file: &Arc<StoreFd>,
    mut target: T,
    offset: u64,
    wanted: usize,
) -> (io::Result<usize>, T) {
    assert!(wanted <= target.len() && target.len().is_multiple_of(ALIGNMENT), "the target holds whole pages");
    let asked = wanted.next_multiple_of(ALIGNMENT);
    let mut filled = 0;
    while filled < wanted {
        let length = u32::try_from(asked - filled).unwrap_or(1 << 30);
        let address = target.address().wrapping_add(filled);
        let entry = opcode::Read::new(file.raw(), address, length).offset(offset + filled as u64).build();
        // SAFETY: `asked` is within the target, which the operation owns until it completes, as it does the file.
        let reading = unsafe { submit(entry, (target, Arc::clone(file))) };
        let (result, (returned, _file)) = reading.await;
        target = returned;
        match result {
            Ok(0) => break,
            Ok(count) => filled += count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A read that stopped inside a page was short, and `O_DIRECT` cannot go on from there: the file's end.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !filled.is_multiple_of(ALIGNMENT) => {
                break;
            }
            Err(error) => return (Err(error), target),
        }
    }
    (Ok(filled.min(wanted)), target)
}

/// Page-aligned heap memory.
pub(crate) struct AlignedBuffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory alone, as a `Box<[u8]>` does.
unsafe impl Send for AlignedBuffer {}
// SAFETY: shared, it only gives out shared slices.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// At least `length` zeroed bytes, in whole pages, at least one.
    pub(crate) fn zeroed(length: usize) -> Self {
        let length = length.max(1).next_multiple_of(ALIGNMENT);
        let layout = Layout::from_size_align(length, ALIGNMENT).expect("a length below isize::MAX");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the memory is ours, initialised (zeroed, then read into) and shared only through `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: the allocation is owned, writable and stays where it is when the value moves.
unsafe impl ReadTarget for AlignedBuffer {
    fn address(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn len(&self) -> usize {
        self.layout.size()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::uring::{OpenRules, Root, open, run_on_ring, statx};

    #[test]
    fn whole_files_and_tails_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..70_001u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        fs::write(folder.path().join("a"), &content).unwrap();
        let root = Root::open(folder.path()).unwrap();
        for direct in [false, true] {
            let (closer, _closed) = tokio::sync::mpsc::unbounded_channel();
            let root = root.clone();
            let content = content.clone();
            run_on_ring(async move {
                let rules = OpenRules { follow_symlinks: false, direct };
                // Some filesystems have no O_DIRECT; then there is nothing to see here.
                let Ok(file) = open(root, "a", rules, closer).await else {
                    return assert!(direct);
                };
                let file = Arc::new(file);
                assert_eq!(statx(Arc::clone(&file)).await.unwrap().version.size, 70_001);
                for (offset, wanted) in [(0, 70_001), (8192, 61_809), (65_536, 4465), (0, 1), (69_632, 369)] {
                    let (result, buffer) = read(&file, AlignedBuffer::zeroed(wanted), offset, wanted).await;
                    assert_eq!(result.unwrap(), wanted);
                    let from = usize::try_from(offset).unwrap();
                    assert_eq!(&buffer.as_slice()[..wanted], &content[from..from + wanted]);
                }
                let (result, _) = read(&file, AlignedBuffer::zeroed(100_000), 0, 100_000).await;
                assert_eq!(result.unwrap(), 70_001, "the end of the file ends the read");
            });
        }
    }
}
