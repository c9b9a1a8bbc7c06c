//! The content cache of the process: what the edge serves from, so that the store can go away.
//!
//! Small files are kept whole in ordinary memory, larger ones in windows of shared memory that `sendfile` sends from.
//! It knows versions and bytes; it knows no paths, no HTTP and no sockets.

mod fill;
mod index;
mod object;
mod window;

use std::io;
use std::sync::Arc;

pub(crate) use fill::FillError;
use index::Index;
pub(crate) use object::{Object, OnEvicted};

use crate::metrics::Counter;
use crate::store::{Store, Verdict};
use crate::uring::{AlignedBuffer, StoreFd, Version, read, statx};

/// Files up to this size are kept whole: one SEND with their head is cheaper than a `sendfile` (measured up to here).
pub(crate) const WHOLE_BYTES_MAX: u64 = 64 * 1024;
/// The smallest cache: windows for a few transfers to move in.
pub(crate) const CACHE_WINDOWS_MIN: u64 = 16;

/// What the cache counts, for the metrics.
#[derive(Default)]
pub(crate) struct CacheCounters {
    pub(crate) fills: Counter,
    pub(crate) fill_failures: Counter,
}

pub(crate) struct Cache {
    index: Arc<Index>,
    store: Arc<Store>,
    window_bytes: u64,
    pub(crate) counters: CacheCounters,
}

/// The content of a file as it was loaded, and its room in the cache.
pub(crate) struct LoadedWhole {
    body: Box<[u8]>,
    reservation: index::Reservation,
}

impl Cache {
    /// `capacity` in bytes, at least [`CACHE_WINDOWS_MIN`] windows.
    pub(crate) fn new(capacity: u64, window_bytes: u64, store: Arc<Store>) -> Self {
        Self {
            index: Arc::new(Index::new(capacity)),
            store,
            window_bytes,
            counters: CacheCounters::default(),
        }
    }

    /// Windows a transfer may have under way ahead of the one it sends, where `transfers` are cold at a time: never
    /// so many that they would evict each other's.
    pub(crate) fn read_ahead(&self, transfers: u64) -> u32 {
        let fair = self.index.capacity() / self.window_bytes / (2 * transfers.max(1));
        u32::try_from(fair.clamp(1, 4)).expect("at most 4")
    }

    /// Bytes held now, the most it holds, and units evicted since the start.
    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        let (held, evictions) = self.index.usage();
        (held, self.index.capacity(), evictions)
    }

    /// Reads a small file whole. `Ok(None)` where it turned out to be another version meanwhile.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn load_whole(
        &self,
        file: &Arc<StoreFd>,
        version: &Version,
    ) -> io::Result<Option<LoadedWhole>> {
        let length = usize::try_from(version.size).expect("a small file fits memory");
        let reservation = self.index.reserve(object::whole_bytes(length)).await;
        let (read, buffer) = read(file, AlignedBuffer::zeroed(length), 0, length).await;
        let after = statx(Arc::clone(file)).await;
        match Store::judge(version, length, &read, &after) {
            Verdict::Same => {}
            Verdict::Another => return Ok(None),
            Verdict::Failed(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
        self.counters.fills.add(1);
        let body = buffer.as_slice()[..length].into();
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
        let object = Object::whole(version, body, Arc::clone(&self.index), fingerprint, on_evicted);
        reservation.commit(&object, None, object.fingerprint(None));
        object
    }

    /// Takes a large file in, with all its windows absent.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub(crate) fn insert_windowed(
        &self,
        version: Version,
        fingerprint: u64,
        file: Arc<StoreFd>,
        on_evicted: OnEvicted,
    ) -> io::Result<Arc<Object>> {
        Object::windowed_from(
            version,
            file,
            self.window_bytes,
            Arc::clone(&self.index),
            fingerprint,
            on_evicted,
        )
    }
}
