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
    reason = "the ring's operations, memory mappings, one ioctl and the kernel's TLS are the one place for it"
)]

mod close;
pub(crate) mod kernel_tls;
mod mapping;
mod open;
mod read;
mod statx;
mod unacknowledged;

use std::io;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, Probe, cqueue, opcode};
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

pub(crate) use close::{CLOSES_MAX, Closer, StoreFd, close_all};
pub(crate) use mapping::{MappedWindow, WindowFile};
pub(crate) use open::{OpenRules, Root, open};
pub(crate) use read::{AlignedBuffer, ReadTarget, read};
pub(crate) use statx::{FileKind, FileStat, Version, statx, statx_root};
pub(crate) use unacknowledged::unacknowledged;

/// Submission queue entries of a worker's ring: one, so that every push submits the one before, see [`submit`].
const SUBMISSION_ENTRIES: u32 = 1;
/// Completions that wait to be picked up; the kernel keeps any overflow.
const COMPLETION_ENTRIES: u32 = 4096;

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
    let ring = |setup: &io_uring::Builder| {
        tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSION_ENTRIES).uring_builder(setup))
    };
    let mut plain = tokio_uring::uring_builder();
    plain.setup_cqsize(COMPLETION_ENTRIES);
    // Completions are picked up when the loop turns, not by interrupting it (Linux 5.19, 6.0).
    let mut cooperative = plain.clone();
    cooperative.setup_coop_taskrun().setup_taskrun_flag().setup_single_issuer();
    let runtime = ring(&cooperative).or_else(|_| ring(&plain))?;
    limit_store_threads(store_threads)?;
    Ok(runtime)
}

/// The kernel's default is four threads a core for regular files: that many stuck reads would stop all others. The
/// limit belongs to the task, and tokio-uring's ring is out of reach, so a second ring of the same task sets it; it
/// is kept, for the limit goes with the last ring.
fn limit_store_threads(store_threads: u32) -> io::Result<()> {
    let ring = IoUring::new(2)?;
    ring.submitter().register_iowq_max_workers(&mut [store_threads, store_threads])?;
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

/// Submits one operation with `IOSQE_ASYNC`, at once.
///
/// tokio-uring hands its queue to the kernel only when the loop parks, which a busy worker does not do for seconds
/// (measured: cold requests waited 3 to 6 s behind 600 hot connections). A push on a full queue submits what is in it:
/// with one entry, a NOP pushed behind an operation sends the operation off. It costs a microsecond an operation.
///
/// # Safety
/// Every address in `entry` must point into memory that `owned` keeps, where it stays when `owned` is moved, and
/// nothing else may touch it before completion; every descriptor in `entry` must be kept open by `owned`.
unsafe fn submit<D: Unpin + 'static>(entry: Entry, owned: D) -> impl Future<Output = (io::Result<u32>, D)> {
    let complete = Complete(std::marker::PhantomData);
    let under_way = UnsubmittedOneshot::new(owned, complete, entry.flags(Flags::ASYNC)).submit();
    let push = UnsubmittedOneshot::new((), Complete(std::marker::PhantomData), opcode::Nop::new().build());
    drop(push.submit());
    under_way
}

/// A value at an address that stays: what operations point into. Unlike a `Box`, moving it claims nothing about who
/// else points there.
struct Stable<T>(std::ptr::NonNull<T>);

impl<T> Stable<T> {
    fn new(value: T) -> Self {
        Self(std::ptr::NonNull::from(Box::leak(Box::new(value))))
    }

    fn address(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// The value; not while an operation that writes to it is under way.
    fn get(&self) -> &T {
        // SAFETY: leaked above, freed in `drop` only; writers have completed, as the caller sees to.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Stable<T> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak`, and dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) fn run_on_ring<F: Future>(future: F) -> F::Output {
    let runtime = runtime(16).unwrap();
    let output = runtime.block_on(future);
    // As in the program: a ring is never dropped.
    std::mem::forget(runtime);
    output
}
