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
            if let Some(reservation) = self.try_reserve(bytes) {
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

    fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        // Objects that this may be the last to hold are dropped after the lock: their end takes it again.
        let mut spared = Vec::new();
        let mut victims = Vec::new();
        let reserved = {
            let mut queues = self.lock();
            while queues.held + bytes > self.capacity {
                match queues.evict_one(&mut spared) {
                    Some(victim) => victims.push(victim),
                    None => break,
                }
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
        reserved.then(|| Reservation { index: Arc::clone(self), bytes })
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
    /// Frees one unit. `None` after a full turn in which everything was pinned.
    fn evict_one(&mut self, spared: &mut Vec<Arc<Object>>) -> Option<(Arc<Object>, Option<u32>)> {
        // A unit is looked at once a use it has, at most eight times, then it goes unless it is pinned.
        let turns = (self.small.units.len() + self.main.units.len()) * 9;
        for _ in 0..turns {
            // The small queue is a tenth: what is used once passes through it and does not disturb the main one.
            let from_small =
                self.small.bytes * 10 > self.small.bytes + self.main.bytes || self.main.units.is_empty();
            let queue = if from_small { &mut self.small } else { &mut self.main };
            let Some(unit) = queue.pop() else { continue };
            let Some(object) = unit.object.upgrade() else {
                self.dead = self.dead.saturating_sub(1);
                continue;
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
                continue;
            }
            if !object.begin_eviction(unit.window) {
                // Somebody is inside it.
                self.main.push(unit);
                spared.push(object);
                continue;
            }
            self.held -= unit.bytes;
            self.evictions += 1;
            if from_small {
                self.remember(unit.fingerprint);
            }
            return Some((object, unit.window));
        }
        None
    }

    /// Drops dead units once they outnumber the living, so that what dies without pressure leaves nothing behind.
    fn bury(&mut self) {
        let units = self.small.units.len() + self.main.units.len();
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
mod tests {
    use super::super::body::Body;
    use super::super::object::{Origin, whole_bytes};
    use super::*;
    use crate::uring::Version;

    const VERSION: Version = Version { device: (0, 0), inode: 1, size: 0, modified: (0, 0), changed: (0, 0) };

    /// What a small file of one byte costs.
    const COST: u64 = whole_bytes(1);

    /// A small file that is in the cache.
    fn insert(index: &Arc<Index>, name: u64) -> Arc<Object> {
        let body = Body::new(b"x", None).unwrap();
        let index_of_it = Arc::clone(index);
        let origin =
            Origin { version: VERSION, index: index_of_it, fingerprint: name, on_evicted: Box::new(|_| {}) };
        let object = Object::whole(origin, body);
        let reservation = index.try_reserve(COST).expect("something can be evicted");
        reservation.commit(&object, None, object.fingerprint(None));
        object
    }

    #[test]
    fn what_is_held_is_what_lives_and_never_more_than_fits() {
        let index = Arc::new(Index::new(50 * COST));
        let mut kept: Vec<Arc<Object>> = (0..200).map(|name| insert(&index, name)).collect();
        assert_eq!(index.usage().held_bytes, 50 * COST);
        assert_eq!(index.usage().evictions, 150);
        kept.retain(|object| !object.is_evicted());
        assert_eq!(kept.len(), 50);
        kept.truncate(20);
        assert_eq!(
            index.usage().held_bytes,
            20 * COST,
            "what was dropped is released, what was evicted not twice"
        );
    }

    #[test]
    fn one_pass_over_many_files_leaves_those_in_use() {
        let index = Arc::new(Index::new(100 * COST));
        let hot: Vec<_> = (0..40).map(|name| insert(&index, name)).collect();
        for _ in 0..3 {
            hot.iter().for_each(|object| object.touch(None));
        }
        for name in 1000..3000 {
            // The request that brings a file uses it once.
            insert(&index, name).touch(None);
        }
        let evicted = hot.iter().filter(|object| object.is_evicted()).count();
        assert_eq!(evicted, 0, "of 40 files in use");
    }

    /// Requests by Zipf's law for four times what fits, beside a cache that knows everything's popularity.
    #[test]
    fn the_hit_rate_is_within_five_points_of_an_ideal_one() {
        const FILES: usize = 4000;
        const ROOM: usize = FILES / 4;
        for exponent in [0.7, 0.9, 1.1] {
            let weights: Vec<f64> = (1..=FILES).map(|rank| (rank as f64).powf(-exponent)).collect();
            let all: f64 = weights.iter().sum();
            let ideal = weights[..ROOM].iter().sum::<f64>() / all;
            let sums: Vec<f64> = weights
                .iter()
                .scan(0.0, |sum, weight| {
                    *sum += weight / all;
                    Some(*sum)
                })
                .collect();
            let index = Arc::new(Index::new(ROOM as u64 * COST));
            let mut cached: Vec<Option<Arc<Object>>> = vec![None; FILES];
            let (mut state, mut hits, mut asked) = (0x9E37_79B9_7F4A_7C15_u64, 0, 0);
            for turn in 0..300_000 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let drawn = (state >> 11) as f64 / (1u64 << 53) as f64;
                let file = sums.partition_point(|sum| *sum < drawn).min(FILES - 1);
                let is_hit = cached[file].as_ref().is_some_and(|object| !object.is_evicted());
                if !is_hit {
                    cached[file] = Some(insert(&index, file as u64));
                }
                cached[file].as_ref().unwrap().touch(None);
                // The first third fills the cache.
                if turn >= 100_000 {
                    asked += 1;
                    hits += usize::from(is_hit);
                }
            }
            let rate = hits as f64 / f64::from(asked);
            assert!(rate >= ideal - 0.05, "exponent {exponent}: {rate:.3}, and {ideal:.3} at best");
        }
    }

    #[test]
    fn what_dies_without_pressure_leaves_nothing_queued() {
        let index = Arc::new(Index::new(1 << 40));
        for name in 0..20_000 {
            drop(insert(&index, name));
        }
        let queues = index.lock();
        assert_eq!(queues.held, 0);
        assert!(queues.small.units.len() + queues.main.units.len() <= 2048);
    }
}
