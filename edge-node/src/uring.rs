//! Safe facade over the ring's own operations, one file each, over tokio-uring's one-shot operations.
//!
//! Every way to the store is here: [`open`], [`statx`], [`read`], [`close`]. All carry `IOSQE_ASYNC`, so that the
//! kernel hands them to its own threads at once: a worker's thread is never inside the filesystem.
//!
//! What an operation uses (descriptors, buffers, paths) is owned by the operation. A future that is dropped leaves
//! it with tokio-uring until the kernel is done. The runtime itself must never be dropped with operations in flight:
//! the process ends by `exit`.

#![allow(
    unsafe_code,
    reason = "the ring's operations and memory mappings are the one place for it"
)]

mod close;
mod mapping;
mod open;
mod read;
mod statx;

use std::io;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, Probe, cqueue, opcode};
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

pub(crate) use close::{Closer, StoreFd, close_all};
pub(crate) use mapping::WindowFile;
pub(crate) use open::{OpenRules, Root, open};
pub(crate) use read::{AlignedBuffer, ReadTarget, read};
pub(crate) use statx::{FileKind, FileStat, Version, statx};

/// Submission queue entries of a worker's ring. Completions are drained at every turn of the loop; the kernel keeps
/// any overflow.
const RING_ENTRIES: u32 = 512;

/// Why this machine cannot run an edge.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    #[error(
        "io_uring is forbidden here ({0}); allow it: sysctl kernel.io_uring_disabled=0, and in containers a seccomp \
         profile that permits io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Forbidden(io::Error),
    #[error("this kernel has no io_uring ({0}); Sluice's edge needs Linux 5.15 or newer")]
    Missing(io::Error),
    #[error("this kernel's io_uring lacks {0}; Sluice's edge needs Linux 5.15 or newer")]
    Operation(&'static str),
    #[error("cannot set up io_uring: {0}; raise the memlock and open-files limits")]
    Setup(io::Error),
}

impl From<io::Error> for RingError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden(error),
            Some(libc::ENOSYS) => Self::Missing(error),
            _ => Self::Setup(error),
        }
    }
}

/// Checks at start that the kernel lets this process use every operation it will need.
///
/// # Errors
/// What is missing, with the remedy.
pub(crate) fn check() -> Result<(), RingError> {
    let ring = IoUring::new(4)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        ("OPENAT2", opcode::OpenAt2::CODE),
        ("STATX", opcode::Statx::CODE),
        ("READ", opcode::Read::CODE),
        ("CLOSE", opcode::Close::CODE),
    ];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(RingError::Operation(name)),
        None => Ok(()),
    }
}

/// A worker's runtime: tokio's reactor for its sockets, a ring for the store. Call on the worker's own thread.
///
/// `store_threads` is how many operations the kernel may have in the filesystem at a time for this worker.
///
/// # Errors
/// As [`check`].
pub(crate) fn runtime(store_threads: u32) -> Result<tokio_uring::Runtime, RingError> {
    let runtime = tokio_uring::Runtime::new(
        tokio_uring::builder().entries(RING_ENTRIES).uring_builder(
            // Completions are picked up when the loop turns, not by interrupting it (Linux 5.19, 6.0).
            tokio_uring::uring_builder()
                .setup_coop_taskrun()
                .setup_taskrun_flag()
                .setup_single_issuer(),
        ),
    )
    .or_else(|_| tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES)))?;
    limit_store_threads(store_threads)?;
    Ok(runtime)
}

/// The kernel's default is four threads a core for regular files: that many stuck reads would stop all others. The
/// limit belongs to the task, and tokio-uring's ring is out of reach, so a second ring of the same task sets it; it
/// is kept, for the limit goes with the last ring.
fn limit_store_threads(store_threads: u32) -> io::Result<()> {
    let ring = IoUring::new(2)?;
    ring.submitter()
        .register_iowq_max_workers(&mut [store_threads, store_threads])?;
    std::mem::forget(ring);
    Ok(())
}

/// What an operation gives back when it completes: what it owned, and the kernel's result.
struct Complete<D>(std::marker::PhantomData<D>);

impl<D> OneshotOutputTransform for Complete<D> {
    type Output = (io::Result<u32>, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, cqe: cqueue::Entry) -> Self::Output {
        let result = u32::try_from(cqe.result()).map_err(|_| io::Error::from_raw_os_error(-cqe.result()));
        (result, data)
    }
}

/// Submits one operation with `IOSQE_ASYNC`.
///
/// # Safety
/// Every address in `entry` must point into memory that `owned` keeps, where it stays when `owned` is moved, and
/// nothing else may touch it before completion; every descriptor in `entry` must be kept open by `owned`.
unsafe fn submit<D: Unpin + 'static>(entry: Entry, owned: D) -> impl Future<Output = (io::Result<u32>, D)> {
    UnsubmittedOneshot::new(
        owned,
        Complete(std::marker::PhantomData),
        entry.flags(Flags::ASYNC),
    )
    .submit()
}

#[cfg(test)]
pub(crate) fn run_on_ring<F: Future>(future: F) -> F::Output {
    let runtime = runtime(16).unwrap();
    let output = runtime.block_on(future);
    // As in the program: a ring is never dropped.
    std::mem::forget(runtime);
    output
}
