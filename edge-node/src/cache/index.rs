//! What the cache holds, in bytes, and what goes when it is full: S3-FIFO (Yang et al., SOSP 2023).
//!
//! Touched when something comes or goes, never on a hit: hits only raise a unit's own counter. No kept library fits:
//! those that evict this well take a lock or write a shared queue on each hit, and know no pins.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Usage;
use super::object::Object;

/// One thing that can be evicted: a whole small body, or one window of a large file.
pub(super) struct Unit {
    pub(super) object: Weak<Object>,
    /// The window, or `None` for a whole body.
    pub(super) window: Option<u32>,
    pub(super) bytes: u64,
    /// Names the unit across its comings and goings.
    pub(super) fingerprint: u64,
}

pub(super) struct Index {
    capacity: u64,
    queues: Mutex<Queues>,
    /// Something was released: whoever waits for room may try again.
    released: Notify,
    /// How many have waited for room for a while.
    starving: AtomicUsize,
}

/// So many units are looked at in one hold of the lock: some ten microseconds.
const LOOKED_AT_MAX: usize = 256;
/// A unit is passed over once a use it has, at most eight times, then it goes unless it is pinned.
const TURNS_MAX: usize = 9;
/// From then on, who waits for room is starving.
const STARVING_AFTER: Duration = Duration::from_millis(500);

/// Counts one that is starving, until dropped.
struct Starving<'i>(&'i Index);

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.0.starving.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Queues {
    /// Bytes reserved or held.
    held: u64,
    small: Queue,
    main: Queue,
    /// Units whose object is gone: they wait in the queues to be passed over.
    dead: usize,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64, foldhash::fast::FixedState>,
    evictions: u64,
}

#[derive(Default)]
struct Queue {
    units: VecDeque<Unit>,
    bytes: u64,
}

impl Queue {
    fn push(&mut self, unit: Unit) {
        self.bytes += unit.bytes;
        self.units.push_back(unit);
    }

    fn pop(&mut self) -> Option<Unit> {
        let unit = self.units.pop_front()?;
        self.bytes -= unit.bytes;
        Some(unit)
    }
}

/// A search for room under way.
#[derive(Default)]
struct Walk {
    looked_at: usize,
    /// All that there was when it began, once a turn.
    most: Option<usize>,
}

/// There is no room: whether that is the walk's end, or it can go on.
struct IsOver(bool);

/// Room for something that is on its way. Dropped unused, it is given back.
pub(super) struct Reservation {
    index: Arc<Index>,
    bytes: u64,
}

impl Reservation {
    /// The reserved thing has come: it can be evicted from now on.
    pub(super) fn commit(mut self, object: &Arc<Object>, window: Option<u32>, fingerprint: u64) {
        let unit = Unit { object: Arc::downgrade(object), window, bytes: self.bytes, fingerprint };
        self.bytes = 0;
        let mut queues = self.index.lock();
        if queues.ghost_set.contains(&fingerprint) {
            queues.main.push(unit);
        } else {
            queues.small.push(unit);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.index.release(self.bytes, 0);
        }
    }
}

impl Index {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, queues: Mutex::default(), released: Notify::new(), starving: AtomicUsize::new(0) }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether somebody waits in vain for room: all that is held is being sent, or read.
    pub(super) fn is_short(&self) -> bool {
        self.starving.load(Ordering::Relaxed) > 0
    }

    pub(super) fn usage(&self) -> Usage {
        let queues = self.lock();
        Usage { held_bytes: queues.held, capacity_bytes: self.capacity, evictions: queues.evictions }
    }

    /// Waits until there is room, evicting what has to go. More than the capacity never fits and is never asked for.
    pub(super) async fn reserve(self: &Arc<Self>, bytes: u64) -> Reservation {
        assert!(bytes <= self.capacity, "a unit is smaller than the cache");
        let began = Instant::now();
        let mut starving = None;
        loop {
            // Armed before the try, so that no release in between is missed.
            let released = self.released.notified();
            if let Some(reservation) = self.make_room(bytes).await {
                return reservation;
            }
            if starving.is_none() && began.elapsed() >= STARVING_AFTER {
                self.starving.fetch_add(1, Ordering::Relaxed);
                starving = Some(Starving(self));
            }
            // Pins are dropped without a word (that path takes no lock): look again soon in any case.
            let _ = tokio::time::timeout(Duration::from_millis(20), released).await;
        }
    }

    /// Looks for room a few units at a time, and lets others go on in between. `None` after all turns, in which nothing
    /// was free to go.
    async fn make_room(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut walk = Walk::default();
        loop {
            match self.try_reserve(bytes, &mut walk) {
                Err(IsOver(true)) => return None,
                Err(IsOver(false)) => tokio::task::yield_now().await,
                Ok(reservation) => return Some(reservation),
            }
        }
    }

    /// Goes on with a walk, as far as one hold of the lock goes.
    fn try_reserve(self: &Arc<Self>, bytes: u64, walk: &mut Walk) -> Result<Reservation, IsOver> {
        // Objects that this may be the last to hold are dropped after the lock: their end takes it again.
        let mut spared = Vec::new();
        let mut victims = Vec::new();
        let mut left = LOOKED_AT_MAX;
        let reserved = {
            let mut queues = self.lock();
            let most = *walk.most.get_or_insert(queues.units() * TURNS_MAX);
            while queues.held + bytes > self.capacity && left > 0 && walk.looked_at < most {
                left -= 1;
                walk.looked_at += 1;
                victims.extend(queues.pass_one(&mut spared));
            }
            let fits = queues.held + bytes <= self.capacity;
            if fits {
                queues.held += bytes;
            }
            fits
        };
        for (object, window) in victims {
            object.finish_eviction(window);
        }
        drop(spared);
        match reserved {
            true => Ok(Reservation { index: Arc::clone(self), bytes }),
            false => Err(IsOver(left > 0)),
        }
    }

    /// Bytes that were given back, or went with the object that held them as `units`.
    pub(super) fn release(&self, bytes: u64, units: usize) {
        let mut queues = self.lock();
        queues.held -= bytes;
        queues.dead += units;
        queues.bury();
        drop(queues);
        self.released.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("nothing panics under this lock")
    }
}

impl Queues {
    fn units(&self) -> usize {
        self.small.units.len() + self.main.units.len()
    }

    /// Looks at the unit whose turn it is, and gives it back if it goes. Where it stopped, the next look goes on.
    fn pass_one(&mut self, spared: &mut Vec<Arc<Object>>) -> Option<(Arc<Object>, Option<u32>)> {
        // The small queue is a tenth: what is used once passes through it and does not disturb the main one.
        let from_small =
            self.small.bytes * 10 > self.small.bytes + self.main.bytes || self.main.units.is_empty();
        let unit = if from_small { self.small.pop()? } else { self.main.pop()? };
        let Some(object) = unit.object.upgrade() else {
            self.dead = self.dead.saturating_sub(1);
            return None;
        };
        let frequency = object.frequency(unit.window);
        // The transfer that brought a unit counts too: only a second one promotes it.
        if frequency.count() > u8::from(from_small) {
            if from_small {
                frequency.reset();
            } else {
                frequency.decrease();
            }
            self.main.push(unit);
            spared.push(object);
            return None;
        }
        if !object.begin_eviction(unit.window) {
            // Somebody is inside it.
            self.main.push(unit);
            spared.push(object);
            return None;
        }
        self.held -= unit.bytes;
        self.evictions += 1;
        if from_small {
            self.remember(unit.fingerprint);
        }
        Some((object, unit.window))
    }

    /// Drops dead units once they outnumber the living, so that what dies without pressure leaves nothing behind.
    fn bury(&mut self) {
        let units = self.units();
        if self.dead < 1024 || self.dead * 2 < units {
            return;
        }
        for queue in [&mut self.small, &mut self.main] {
            queue.units.retain(|unit| unit.object.strong_count() > 0);
            queue.bytes = queue.units.iter().map(|unit| unit.bytes).sum();
        }
        self.dead = 0;
    }

    /// Keeps the names of a quarter as many units as the main queue has: with all of them (the paper's choice) a unit that
    /// is asked for twice in long comes back to stay, and the hit rate under Zipf's law is 2 to 3 points lower.
    fn remember(&mut self, fingerprint: u64) {
        if self.ghost_set.insert(fingerprint) {
            self.ghosts.push_back(fingerprint);
        }
        while self.ghosts.len() > (self.main.units.len() / 4).max(64) {
            let Some(oldest) = self.ghosts.pop_front() else {
                break;
            };
            self.ghost_set.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
