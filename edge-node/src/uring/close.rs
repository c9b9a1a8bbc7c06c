//! Descriptors of the store, and CLOSE: even closing can block (NFS flushes, FUSE waits), so the ring does it.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::{opcode, types};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::sync::{Semaphore, mpsc};

use super::submit;

/// Where descriptors of the store go to be closed.
pub(crate) type Closer = mpsc::UnboundedSender<OwnedFd>;

/// A descriptor of a file in the store. Dropping it hands it to a worker's ring.
#[derive(Debug)]
pub(crate) struct StoreFd {
    fd: ManuallyDrop<OwnedFd>,
    closer: Closer,
    opened_direct: bool,
}

impl StoreFd {
    pub(super) fn from_completion(fd: RawFd, closer: Closer, opened_direct: bool) -> Self {
        // SAFETY: the kernel just gave this descriptor to an OPENAT2 of ours, and it is wrapped once, here.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Self { fd: ManuallyDrop::new(fd), closer, opened_direct }
    }

    /// Reads go through the page cache from now on. It changes the descriptor alone, and asks no store; that it was
    /// opened with `O_DIRECT` stays true.
    ///
    /// # Errors
    /// None that is known of.
    pub(crate) fn leave_direct(&self) -> io::Result<()> {
        let flags = fcntl_getfl(&*self.fd)?;
        Ok(fcntl_setfl(&*self.fd, flags - OFlags::DIRECT)?)
    }

    /// Whether it was opened with `O_DIRECT`.
    pub(crate) fn was_opened_direct(&self) -> bool {
        self.opened_direct
    }

    pub(super) fn raw(&self) -> types::Fd {
        types::Fd(self.fd.as_raw_fd())
    }
}

impl Drop for StoreFd {
    fn drop(&mut self) {
        // SAFETY: `fd` is taken once, here, and `self` is not used after.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        if let Err(unsent) = self.closer.send(fd) {
            // No worker is left: the process is ending and its descriptors with it.
            std::mem::forget(unsent);
        }
    }
}

/// Closes under way at a time, each of which may hold a thread of the kernel's.
pub(crate) const CLOSES_MAX: usize = 64;

/// Closes what is sent, for ever. Each CLOSE is on its own: a stuck one holds up none that follow, before there are
/// [`CLOSES_MAX`] of them.
pub(crate) async fn close_all(mut descriptors: mpsc::UnboundedReceiver<OwnedFd>) {
    let places = Arc::new(Semaphore::new(CLOSES_MAX));
    while let Some(fd) = descriptors.recv().await {
        let place = Arc::clone(&places).acquire_owned().await;
        let entry = opcode::Close::new(types::Fd(fd.into_raw_fd())).build();
        // SAFETY: CLOSE takes no address; the descriptor was owned and is given up to it.
        let closing = unsafe { submit(entry, ()) };
        tokio_uring::spawn(async move {
            // The descriptor is gone whatever CLOSE says.
            let _ = closing.await;
            drop(place);
        });
    }
}
