//! The content cache of the process: what the edge serves from, so that the store can go away.
//!
//! Small files are kept whole ([`body`] says where), larger ones in windows of shared memory that `sendfile` sends from.
//! It knows versions and bytes; it knows no paths, no HTTP and no sockets.

mod backing;
mod body;
mod fill;
mod index;
mod memory;
mod object;
mod window;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use backing::Backing;
use body::Arena;
pub(crate) use body::{Body, Extent};
pub(crate) use fill::FillError;
use index::Index;
use object::Origin;
pub(crate) use object::{Object, OnEvicted, Pin};

use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::Counter;
use crate::store::{Slot, Store, Verdict};
use crate::uring::{AlignedBuffer, StoreFd, Version, statx};

/// Files up to this size are kept whole: they need neither windows nor descriptors of their own.
pub(crate) const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// What the cache counts, for the metrics.
#[derive(Default)]
pub(crate) struct CacheCounters {
    pub(crate) fills: Counter,
    pub(crate) fill_failures: Counter,
}

pub(crate) struct Cache {
    index: Arc<Index>,
    store: Arc<Store>,
    backing: Backing,
    arena: Option<Arc<Arena>>,
    /// Windows are being sent to so many, on all workers.
    transfers: AtomicU64,
    pub(crate) counters: CacheCounters,
}

/// The content of a file as it was loaded, and its room in the cache.
pub(crate) struct LoadedWhole {
    body: Body,
    reservation: index::Reservation,
}

/// What the cache holds, and has done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) held_bytes: u64,
    pub(crate) capacity_bytes: u64,
    /// Units evicted since the start.
    pub(crate) evictions: u64,
}

/// A transfer of windows under way.
pub(crate) struct Transfer(Arc<Cache>);

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.transfers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cache {
    /// `capacity` in bytes, of what `backing` has.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn new(capacity: u64, backing: Backing, store: Arc<Store>) -> io::Result<Self> {
        let arena = if backing.may_be_shared() { Some(Arc::new(Arena::new()?)) } else { None };
        Ok(Self {
            index: Arc::new(Index::new(capacity)),
            store,
            backing,
            arena,
            transfers: AtomicU64::new(0),
            counters: CacheCounters::default(),
        })
    }

    /// Windows a transfer may have under way ahead of the one it sends: never so many that transfers would evict each
    /// other's.
    pub(crate) fn read_ahead(&self) -> u32 {
        let transfers = self.transfers.load(Ordering::Relaxed).max(1);
        let fair = self.index.capacity() / self.backing.window_bytes_max() / (2 * transfers);
        u32::try_from(fair.clamp(1, 4)).expect("at most 4")
    }

    /// Counts a transfer of windows, until the guard is dropped.
    pub(crate) fn transfer(self: &Arc<Self>) -> Transfer {
        self.transfers.fetch_add(1, Ordering::Relaxed);
        Transfer(Arc::clone(self))
    }

    /// Whether memory is short: somebody waits for room, and nothing can be evicted.
    pub(crate) fn is_short(&self) -> bool {
        self.index.is_short()
    }

    pub(crate) fn usage(&self) -> Usage {
        self.index.usage()
    }

    /// Reads a small file whole, in the caller's place among the store's operations. `Ok(None)` where it turned out to
    /// be another version meanwhile.
    ///
    /// # Errors
    /// The store's; no room within `patience`.
    pub(crate) async fn load_whole(
        &self,
        file: &Arc<StoreFd>,
        version: &Version,
        patience: Duration,
        slot: &Slot,
    ) -> Result<Option<LoadedWhole>, FillError> {
        let length = usize::try_from(version.size).expect("a small file fits memory");
        let room = self.index.reserve(object::whole_bytes(length));
        let reservation = tokio::time::timeout(patience, room).await.map_err(|_| FillError::Timeout)?;
        slot.begin();
        let (read, buffer) = self.store.read(file, AlignedBuffer::zeroed(length), 0, length).await;
        let after = statx(Arc::clone(file)).await;
        match Verdict::of(version, length, &read, &after) {
            Verdict::Same => {}
            Verdict::Another => return Ok(None),
            Verdict::Failed(errno) => return Err(FillError::Storage(errno)),
        }
        self.counters.fills.add(1);
        let body = Body::new(&buffer.as_slice()[..length], self.arena.as_ref());
        let body = body.map_err(|error| FillError::Storage(error.raw_os_error().unwrap_or(libc::ENOMEM)))?;
        Ok(Some(LoadedWhole { body, reservation }))
    }

    /// Takes a loaded small file in.
    pub(crate) fn insert_whole(
        &self,
        version: Version,
        fingerprint: u64,
        loaded: LoadedWhole,
        on_evicted: OnEvicted,
    ) -> Arc<Object> {
        let LoadedWhole { body, reservation } = loaded;
        let object = Object::whole(self.origin(version, fingerprint, on_evicted), body);
        reservation.commit(&object, None, object.fingerprint(None));
        object
    }

    /// Takes a large file in, with all its windows absent. The permit is given back when the last of it is gone.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(crate) fn insert_windowed(
        &self,
        version: Version,
        fingerprint: u64,
        file: Arc<StoreFd>,
        permit: OwnedSemaphorePermit,
        on_evicted: OnEvicted,
    ) -> io::Result<Arc<Object>> {
        let memory = self.backing.make(version.size)?;
        Ok(Object::windowed_from(self.origin(version, fingerprint, on_evicted), file, permit, memory))
    }

    fn origin(&self, version: Version, fingerprint: u64, on_evicted: OnEvicted) -> Origin {
        Origin { version, index: Arc::clone(&self.index), fingerprint, on_evicted }
    }
}
