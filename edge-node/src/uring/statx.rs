//! STATX of an open descriptor, always asking the server (`AT_STATX_FORCE_SYNC`): attributes out of an NFS client's
//! cache confirm nothing.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use io_uring::{opcode, types};

use super::{Root, Stable, StoreFd, submit};

/// Which bytes a path stands for. Two equal versions are the same bytes, but for a writer that rewrites in place
/// within one tick of the file's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
}

impl Version {
    /// The modification time; one before 1970 reads as 1970.
    pub(crate) fn modified_time(&self) -> SystemTime {
        let (secs, nanos) = self.modified;
        u64::try_from(secs).map_or(UNIX_EPOCH, |secs| UNIX_EPOCH + Duration::new(secs, nanos))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    /// A folder, device, FIFO or socket: nothing that is served.
    Other,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FileStat {
    pub(crate) kind: FileKind,
    pub(crate) version: Version,
}

/// Asks the store for a descriptor's attributes, now.
///
/// # Errors
/// The kernel's: `ESTALE` where an NFS server no longer knows the file, `EIO`.
pub(crate) async fn statx(file: Arc<StoreFd>) -> io::Result<FileStat> {
    let stat = ask(file.raw(), file).await?;
    let kind = match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => FileKind::Regular,
        _ => FileKind::Other,
    };
    let version = Version {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        size: stat.stx_size,
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    };
    Ok(FileStat { kind, version })
}

/// Asks the store for its root's attributes, to see whether it answers.
///
/// # Errors
/// The kernel's.
pub(crate) async fn statx_root(root: &Root) -> io::Result<()> {
    ask(root.raw(), root.clone()).await.map(drop)
}

/// `open` keeps the descriptor open.
async fn ask<F: Unpin + 'static>(fd: types::Fd, open: F) -> io::Result<libc::statx> {
    let owned = (Stable::new(MaybeUninit::<libc::statx>::zeroed()), open);
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC;
    let entry = opcode::Statx::new(fd, c"".as_ptr(), owned.0.address().cast())
        .flags(flags)
        .mask(libc::STATX_BASIC_STATS)
        .build();
    // SAFETY: the buffer stays where it is in `owned`, which also keeps the file open; the path is static.
    let asking = unsafe { submit(entry, owned) };
    let (result, owned) = asking.await;
    result?;
    // SAFETY: all-zero bytes are a `statx`, and the kernel has written over them.
    Ok(unsafe { owned.0.get().assume_init() })
}
