//! A store that hangs, fails, is slow or lies: a folder mirrored read-only by a FUSE filesystem of this process, and
//! ruled while it is mounted.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use sluice_loadtest::faulty_store::{Errno, FaultyStore};
//!
//! let store = FaultyStore::mount("files".as_ref(), "mounted".as_ref())?;
//! store.hold_reads("stuck/");
//! store.fail_reads("bad/", Errno::EIO);
//! // Somebody reads files beneath `mounted`, and hangs in those of `stuck` …
//! assert_eq!(store.held(), 1);
//! store.release();
//! # Ok(()) }
//! ```
//!
//! Nothing is cached on the way: attributes and names are asked anew each time, as `AT_STATX_FORCE_SYNC` asks an NFS
//! server. A file opened with `O_DIRECT` is read past the page cache, and what arrives here of a read are requests of
//! up to 1 MiB (`fs.fuse.max_pages_limit`), one after the other, each with a thread of the reader's in it; with
//! [`Manner::asynchronous`] all at once and with none, as from an NFS client. Without `O_DIRECT` the kernel reads ahead,
//! 128 KiB a request.
//!
//! It knows nothing of what reads it.

mod counters;
mod mirror;
mod rules;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fuser::{BackgroundSession, Config, MountOption, Session};
use rustix::mount::UnmountFlags;

pub use fuser::Errno;
pub use rules::{Asked, Which};

use mirror::Mirror;
use rules::{Call, Fault, Rules};

const DEVICE: &str = "/dev/fuse";
/// Where the kernel lists connections, if that is mounted.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// Threads that take requests from the kernel. Those that are held or delayed leave them.
const THREADS: usize = 2;

/// How the filesystem is mounted. Neither [`Manner::direct`] nor [`Manner::asynchronous`], reads that end before the
/// file's size are made up for by the kernel: it goes on through its page cache, whose pages it fills with zeros, and
/// gives them out if the file's attributes are asked for meanwhile (Linux 6.18, `generic_file_read_iter`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Files are read past the page cache, however they are opened (`FOPEN_DIRECT_IO`). A read that brings some of what
    /// was asked for, being shortened or having failed after its first MiB, brings wrong bytes for right ones to who
    /// reads by io_uring, unless it is [`Manner::asynchronous`] too: the kernel then asks for the rest from where it
    /// began the first time (Linux 6.18; `fuse_direct_IO` does not move the position that io_uring goes on from).
    pub direct: bool,
    /// Opens with `O_DIRECT` are refused, as by filesystems that have no such thing.
    pub refuses_direct: bool,
    /// Reads with `O_DIRECT` hold no thread of the reader's while they are under way (`FUSE_ASYNC_DIO`).
    pub asynchronous: bool,
}

/// A mounted mirror. Dropping it lets go of all that is held, fails what is under way, and unmounts.
pub struct FaultyStore {
    rules: Arc<Rules>,
    changes: Arc<RwLock<()>>,
    mounted_at: PathBuf,
    /// The kernel's file that ends the connection, whatever is stuck in it.
    abort: PathBuf,
    session: Option<BackgroundSession>,
    clock: Option<JoinHandle<()>>,
}

impl FaultyStore {
    /// Mirrors `source` at `mount`, both folders.
    ///
    /// # Errors
    /// There is no FUSE here, or this user may not mount.
    pub fn mount(source: &Path, mount: &Path) -> anyhow::Result<Self> {
        Self::mount_in(Manner::default(), source, mount)
    }

    /// As [`FaultyStore::mount`], with some ways of its own.
    ///
    /// # Errors
    /// As [`FaultyStore::mount`].
    pub fn mount_in(manner: Manner, source: &Path, mount: &Path) -> anyhow::Result<Self> {
        ensure!(
            Path::new(DEVICE).exists(),
            "{DEVICE} is not there; a store that hangs needs FUSE: load it (modprobe fuse), and start containers with \
             --device {DEVICE} --cap-add SYS_ADMIN"
        );
        let (rules, changes) = (Arc::new(Rules::default()), Arc::default());
        let mirror = Mirror::new(source, manner, Arc::clone(&rules), Arc::clone(&changes))
            .with_context(|| format!("cannot open {}", source.display()))?;
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::RO, MountOption::FSName("sluice-faulty-store".to_owned()), MountOption::NoExec];
        config.n_threads = Some(THREADS);
        let session = Session::new(mirror, mount, &config).and_then(Session::spawn).with_context(|| {
            format!(
                "cannot mount a FUSE filesystem at {}; it takes root, or fusermount3 (deploy/needs.sh test)",
                mount.display()
            )
        })?;
        let device = rustix::fs::stat(mount).context("the mounted folder does not answer")?.st_dev;
        let clock = thread::Builder::new().name("store-clock".to_owned()).spawn({
            let rules = Arc::clone(&rules);
            move || rules.run_clock()
        })?;
        Ok(Self {
            rules,
            changes,
            mounted_at: mount.to_owned(),
            abort: Path::new(CONNECTIONS).join(rustix::fs::minor(device).to_string()).join("abort"),
            session: Some(session),
            clock: Some(clock),
        })
    }

    /// Holds reads from now on, until [`FaultyStore::release`].
    pub fn hold_reads(&self, which: impl Into<Which>) {
        self.rules.hold(Call::Read, which.into());
    }

    /// Holds opening of files: their names have been looked up by then.
    pub fn hold_opens(&self, which: impl Into<Which>) {
        self.rules.hold(Call::Open, which.into());
    }

    /// Holds looking up of names, which comes before opening.
    pub fn hold_lookups(&self, which: impl Into<Which>) {
        self.rules.hold(Call::Lookup, which.into());
    }

    /// Holds asking for attributes of what is known already: of an open file, or of the root.
    pub fn hold_attributes(&self, which: impl Into<Which>) {
        self.rules.hold(Call::Attributes, which.into());
    }

    /// Holds everything: the server has gone.
    pub fn hold_all(&self) {
        for call in Call::ALL {
            self.rules.hold(call, Which::all());
        }
    }

    /// Requests that are held now.
    pub fn held(&self) -> usize {
        self.rules.held(&Which::all())
    }

    /// Of those, the ones that are about these.
    pub fn held_of(&self, which: impl Into<Which>) -> usize {
        self.rules.held(&which.into())
    }

    /// Answers one of those that are held, at random; what is asked later is still held. Says whether there was one.
    pub fn release_one(&self) -> bool {
        self.rules.release_one()
    }

    /// Answers all that are held, and holds nothing any more.
    pub fn release(&self) {
        self.rules.release();
    }

    /// Reads take so long for each MiB, however many there are at a time: a store far away. Zero ends it.
    pub fn delay(&self, per_mib: Duration) {
        self.rules.delay(per_mib);
    }

    /// Reads fail, until [`FaultyStore::mend`].
    pub fn fail_reads(&self, which: impl Into<Which>, errno: Errno) {
        self.rules.spoil(Call::Read, which.into(), Fault::Error(errno), usize::MAX);
    }

    /// So many reads fail, and those after them do not.
    pub fn fail_next_reads(&self, times: usize, which: impl Into<Which>, errno: Errno) {
        self.rules.spoil(Call::Read, which.into(), Fault::Error(errno), times);
    }

    /// Opening fails.
    pub fn fail_opens(&self, which: impl Into<Which>, errno: Errno) {
        self.rules.spoil(Call::Open, which.into(), Fault::Error(errno), usize::MAX);
    }

    /// Looking up of names fails.
    pub fn fail_lookups(&self, which: impl Into<Which>, errno: Errno) {
        self.rules.spoil(Call::Lookup, which.into(), Fault::Error(errno), usize::MAX);
    }

    /// Asking for attributes of what is open fails.
    pub fn fail_attributes(&self, which: impl Into<Which>, errno: Errno) {
        self.rules.spoil(Call::Attributes, which.into(), Fault::Error(errno), usize::MAX);
    }

    /// So many reads bring no more than `bytes`, as if the file ended there. Where the mount is not [`Manner::direct`],
    /// the kernel asks for the rest itself, through the page cache; it is not to be shortened again there, for what is
    /// short in the page cache is filled up with zeros (FUSE allows short answers at a file's end only).
    pub fn shorten_next_reads(&self, times: usize, which: impl Into<Which>, bytes: usize) {
        self.rules.spoil(Call::Read, which.into(), Fault::Short(bytes), times);
    }

    /// Ends all failures.
    pub fn mend(&self) {
        self.rules.mend();
    }

    /// READ requests for a file, by its path beneath the root.
    pub fn reads(&self, path: &str) -> u64 {
        self.rules.counts(path).reads
    }

    /// Bytes of a file that were read.
    pub fn bytes_read(&self, path: &str) -> u64 {
        self.rules.counts(path).bytes
    }

    /// How often a file was opened.
    pub fn opens(&self, path: &str) -> u64 {
        self.rules.counts(path).opens
    }

    /// The highest number of reads of a file at the same time.
    pub fn most_reads_at_once(&self, path: &str) -> u64 {
        self.rules.counts(path).most_reads_at_once
    }

    /// The highest number of reads at the same time, of all files.
    pub fn most_reads_at_once_of_all(&self) -> u64 {
        self.rules.counts_of_all().most_reads_at_once
    }

    /// READ requests, of all files.
    pub fn reads_of_all(&self) -> u64 {
        self.rules.counts_of_all().reads
    }

    /// Changes the source, so that no request is answered meanwhile: whoever reads the mirror sees the file before it
    /// or after it, and never in between. Requests may come before and after.
    pub fn change<T>(&self, change: impl FnOnce() -> T) -> T {
        let _alone = self.changes.write().expect("nothing panics under this lock");
        change()
    }

    /// Unmounts even where files are open.
    fn unmount(&self) -> anyhow::Result<()> {
        match rustix::mount::unmount(&self.mounted_at, UnmountFlags::DETACH) {
            Err(rustix::io::Errno::PERM) => {}
            unmounted => return unmounted.context("unmounting"),
        }
        let status = Command::new("fusermount3").arg("-uz").arg(&self.mounted_at).status()?;
        if !status.success() {
            bail!("fusermount3 -uz {}: {status}", self.mounted_at.display());
        }
        Ok(())
    }
}

impl Drop for FaultyStore {
    /// The connection is ended first, by the kernel: a program whose threads are stuck in it could not be killed.
    fn drop(&mut self) {
        let aborted = fs::write(&self.abort, "1");
        // Where that is not to be had, all that is held and comes later is answered with an error.
        self.rules.end();
        let _ = self.unmount();
        if let Some(clock) = self.clock.take() {
            let _ = clock.join();
        }
        match self.session.take() {
            Some(session) if aborted.is_ok() => drop(session.join()),
            // It ends when whoever has files open there lets go of them.
            session => std::mem::forget(session),
        }
    }
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").field("mounted_at", &self.mounted_at).finish_non_exhaustive()
    }
}

/// An errno of ours, as FUSE wants it.
fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_i32)
}

#[cfg(test)]
mod tests;
