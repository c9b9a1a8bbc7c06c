//! One version of one file, as far as it is cached: a small body whole, or the windows of a larger one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::body::Body;
use super::fill::Fill;
use super::index::Index;
use super::memory::{PAGE_BYTES, WindowMemory};
use super::window::{Frequency, Window};
use tokio::sync::OwnedSemaphorePermit;

use crate::uring::{StoreFd, Version, WindowFile};

pub(crate) struct Object {
    origin: Origin,
    content: Content,
    /// The store has, or may have, another version by now: nothing more is filled.
    superseded: AtomicBool,
    /// Sent from since it was last passed over by whoever looks for one to let go of.
    used: AtomicBool,
}

/// Told when a whole body is evicted, to let go of the object.
pub(crate) type OnEvicted = Box<dyn Fn(&Object) + Send + Sync>;

enum Content {
    Whole(Whole),
    Windowed(Windowed),
}

/// A small file's content.
struct Whole {
    body: Body,
    frequency: Frequency,
    /// The index counts it. Whoever clears this releases the bytes, once: an eviction, or the object's end.
    counted: AtomicBool,
}

/// The cached windows of a large file, and what fills them.
pub(super) struct Windowed {
    pub(super) memory: WindowMemory,
    pub(super) store: Arc<StoreFd>,
    /// To hold two descriptors.
    _permit: OwnedSemaphorePermit,
    /// Made as they are first used: a file may be far larger than what is ever read of it.
    chunks: Box<[OnceLock<Box<WindowChunk>>]>,
    fills: Mutex<HashMap<u32, Fill>>,
}

/// Windows are made so many at a time.
const CHUNK_WINDOWS: usize = 512;

type WindowChunk = [Window; CHUNK_WINDOWS];

/// A window that is present and stays so until this is dropped.
pub(crate) struct Pin<'o>(&'o Window);

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.0.unpin();
    }
}

/// The pin that a window is published with, for those who wait for its fill.
pub(super) struct FillPin {
    object: Arc<Object>,
    window: u32,
}

impl FillPin {
    /// Wraps a pin that was taken already.
    pub(super) fn new(object: &Arc<Object>, window: u32) -> Self {
        Self { object: Arc::clone(object), window }
    }
}

impl Drop for FillPin {
    fn drop(&mut self) {
        self.object.windowed().window(self.window).unpin();
    }
}

/// A version, and what is done with it in the cache.
pub(super) struct Origin {
    pub(super) version: Version,
    pub(super) index: Arc<Index>,
    /// Names the file in the index's memory of what was evicted.
    pub(super) fingerprint: u64,
    pub(super) on_evicted: OnEvicted,
}

impl Object {
    fn new(origin: Origin, content: Content) -> Arc<Self> {
        // Used from the start: somebody waits for it, and must not find it passed over before the transfer begins.
        Arc::new(Self { origin, content, superseded: AtomicBool::new(false), used: AtomicBool::new(true) })
    }

    pub(super) fn whole(origin: Origin, body: Body) -> Arc<Self> {
        let whole = Whole { body, frequency: Frequency::default(), counted: AtomicBool::new(true) };
        Self::new(origin, Content::Whole(whole))
    }

    pub(super) fn windowed_from(
        origin: Origin,
        store: Arc<StoreFd>,
        permit: OwnedSemaphorePermit,
        memory: WindowMemory,
    ) -> Arc<Self> {
        let size = origin.version.size;
        let count = size.div_ceil(memory.window_bytes());
        let windowed = Windowed {
            memory,
            store,
            _permit: permit,
            chunks: (0..count.div_ceil(CHUNK_WINDOWS as u64)).map(|_| OnceLock::new()).collect(),
            fills: Mutex::default(),
        };
        Self::new(origin, Content::Windowed(windowed))
    }

    pub(crate) fn version(&self) -> &Version {
        &self.origin.version
    }

    /// The whole content of a small file.
    pub(crate) fn body(&self) -> Option<&Body> {
        match &self.content {
            Content::Whole(whole) => Some(&whole.body),
            Content::Windowed(_) => None,
        }
    }

    /// The memory that windows are sent from.
    pub(crate) fn memory(&self) -> &WindowFile {
        self.windowed().memory.file()
    }

    pub(crate) fn window_bytes(&self) -> u64 {
        self.windowed().memory.window_bytes()
    }

    /// The window that holds a place of the file.
    pub(crate) fn window_at(&self, offset: u64) -> u32 {
        self.windowed().memory.window_at(offset)
    }

    /// Notes that a transfer uses a unit, once a transfer.
    pub(crate) fn touch(&self, window: Option<u32>) {
        self.frequency(window).touch();
    }

    pub(crate) fn is_present(&self, window: u32) -> bool {
        self.windowed().window(window).is_present()
    }

    /// Pins a window that is present.
    pub(crate) fn pin(&self, window: u32) -> Option<Pin<'_>> {
        let window = self.windowed().window(window);
        // Lazily: a `Pin` that was never taken must not be dropped.
        window.pin().then(|| Pin(window))
    }

    pub(super) fn windowed(&self) -> &Windowed {
        match &self.content {
            Content::Windowed(windowed) => windowed,
            Content::Whole(_) => unreachable!("windows are asked only of what has them"),
        }
    }

    /// Notes that a large file is in use.
    pub(crate) fn mark_used(&self) {
        // Written only once between two looks, so that what is hot is shared unchanged between cores.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// A small file's content that the index no longer counts.
    pub(crate) fn is_evicted(&self) -> bool {
        matches!(&self.content, Content::Whole(whole) if !whole.counted.load(Ordering::Relaxed))
    }

    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    /// Names the file, whatever its version.
    pub(super) fn file_hash(&self) -> u64 {
        self.origin.fingerprint
    }

    pub(super) fn fingerprint(&self, window: Option<u32>) -> u64 {
        let place = window.map_or(0, |window| u64::from(window) + 1);
        self.origin.fingerprint ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    pub(super) fn frequency(&self, window: Option<u32>) -> &Frequency {
        match (&self.content, window) {
            (Content::Whole(whole), _) => &whole.frequency,
            (Content::Windowed(windowed), Some(window)) => windowed.window(window).frequency(),
            (Content::Windowed(_), None) => unreachable!("a large file is evicted window by window"),
        }
    }

    /// First half of an eviction, under the index's lock: nobody can use the unit from here on.
    /// `false` where somebody is inside it.
    pub(super) fn begin_eviction(&self, window: Option<u32>) -> bool {
        match (&self.content, window) {
            (Content::Whole(whole), _) => {
                let counted = whole.counted.swap(false, Ordering::Relaxed);
                assert!(counted, "a unit is evicted once");
                true
            }
            (Content::Windowed(windowed), Some(window)) => windowed.window(window).begin_evict(),
            (Content::Windowed(_), None) => unreachable!("a large file is evicted window by window"),
        }
    }

    /// Second half, outside the lock: the memory goes.
    pub(super) fn finish_eviction(&self, window: Option<u32>) {
        match window {
            None => (self.origin.on_evicted)(self),
            Some(window) => {
                let windowed = self.windowed();
                windowed.memory.punch(window);
                windowed.window(window).evicted();
            }
        }
    }
}

impl Windowed {
    pub(super) fn window(&self, window: u32) -> &Window {
        let chunk = &self.chunks[window as usize / CHUNK_WINDOWS];
        let chunk = chunk.get_or_init(|| Box::new(std::array::from_fn(|_| Window::default())));
        &chunk[window as usize % CHUNK_WINDOWS]
    }

    pub(super) fn fills(&self) -> MutexGuard<'_, HashMap<u32, Fill>> {
        self.fills.lock().expect("nothing panics under this lock")
    }

    /// What the index counts of it: bytes, and units.
    fn present(&self) -> (u64, usize) {
        let chunks = self.chunks.iter().zip((0u32..).step_by(CHUNK_WINDOWS));
        let windows = chunks.filter_map(|(chunk, first)| Some(chunk.get()?.iter().zip(first..))).flatten();
        let present = windows.filter(|(window, _)| window.is_present());
        present.fold((0, 0), |(bytes, units), (_, at)| (bytes + self.memory.held_bytes(at), units + 1))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let held: (u64, usize) = match &self.content {
            Content::Whole(whole) if whole.counted.load(Ordering::Relaxed) => {
                (whole_bytes(whole.body.len()), 1)
            }
            Content::Whole(_) => (0, 0),
            Content::Windowed(windowed) => windowed.present(),
        };
        if let (1.., units) = held {
            self.origin.index.release(held.0, units);
        }
    }
}

/// What a small file costs: its bytes, and what is kept beside them (names, header fields, map entries; measured at
/// 700 to 900 bytes with one worker).
pub(super) const fn whole_bytes(body: usize) -> u64 {
    // Whole pages, as shared memory has them.
    (body as u64).next_multiple_of(PAGE_BYTES) + 1024
}
