//! The state of one window, in one word: what it holds, and how many senders are inside it.
//!
//! `Absent → Filling → Present → Evicting → Absent`. A window is published whole and never written again: between
//! two contents lies a punched hole. Pins keep it from being evicted; they are taken and dropped without a lock.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

const STATE: u32 = 3 << 30;
const ABSENT: u32 = 0;
const FILLING: u32 = 1 << 30;
const PRESENT: u32 = 2 << 30;
const EVICTING: u32 = 3 << 30;

/// S3-FIFO counts to 3; to 7 the hit rate under Zipf's law is half a point higher.
const FREQUENCY_MAX: u8 = 7;

#[derive(Debug, Default)]
pub(super) struct Window {
    word: AtomicU32,
    frequency: Frequency,
}

impl Window {
    /// Pins the window if it is present. Every success is paired with one `unpin`.
    pub(super) fn pin(&self) -> bool {
        if self.word.load(Ordering::Relaxed) & STATE != PRESENT {
            return false;
        }
        // Optimistic: an evictor wants exactly `PRESENT` with no pin, so this one either comes first or sees it.
        if self.word.fetch_add(1, Ordering::Acquire) & STATE == PRESENT {
            return true;
        }
        self.unpin();
        false
    }

    pub(super) fn unpin(&self) {
        let before = self.word.fetch_sub(1, Ordering::Release);
        debug_assert!(before & !STATE > 0, "unpinned more often than pinned");
    }

    /// Takes an absent window to be filled; whoever gets `true` fills it.
    pub(super) fn begin_fill(&self) -> bool {
        self.change(ABSENT, FILLING)
    }

    /// Filled whole. The window comes out pinned once, for the fill.
    pub(super) fn publish(&self) {
        self.word.fetch_add(1, Ordering::Relaxed);
        let published = self.change(FILLING, PRESENT);
        assert!(published, "only a window that is being filled is published");
    }

    /// Not filled; its memory has been punched.
    pub(super) fn abandon(&self) {
        let abandoned = self.change(FILLING, ABSENT);
        assert!(abandoned, "only a window that is being filled is abandoned");
    }

    /// Takes a present window that nobody is inside of; whoever gets `true` punches it and calls `evicted`.
    pub(super) fn begin_evict(&self) -> bool {
        self.word.compare_exchange(PRESENT, EVICTING, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Punched.
    pub(super) fn evicted(&self) {
        self.frequency.reset();
        let evicted = self.change(EVICTING, ABSENT);
        assert!(evicted, "only a window that is being evicted ends evicted");
    }

    pub(super) fn is_present(&self) -> bool {
        self.word.load(Ordering::Relaxed) & STATE == PRESENT
    }

    pub(super) fn frequency(&self) -> &Frequency {
        &self.frequency
    }

    /// Changes the state and leaves the pins: a passing optimistic pin may come and go meanwhile.
    fn change(&self, from: u32, to: u32) -> bool {
        let update = |word: u32| (word & STATE == from).then_some(word & !STATE | to);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, update).is_ok()
    }
}

/// How often a unit of the cache was used since it came, up to 7.
#[derive(Debug, Default)]
pub(super) struct Frequency(AtomicU8);

impl Frequency {
    /// Written only until it is full, so that what is hot is shared unchanged between cores.
    pub(super) fn touch(&self) {
        let count = self.0.load(Ordering::Relaxed);
        if count < FREQUENCY_MAX {
            self.0.store(count + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn decrease(&self) {
        self.0.store(self.count().saturating_sub(1), Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_goes_round_its_states_and_no_other_way() {
        let window = Window::default();
        assert!(!window.pin() && !window.begin_evict());
        assert!(window.begin_fill() && !window.begin_fill() && !window.pin());
        window.abandon();
        assert!(window.begin_fill());
        window.publish();
        assert!(!window.begin_evict(), "the fill's own pin holds it");
        assert!(window.pin());
        window.unpin();
        window.unpin();
        assert!(window.begin_evict() && !window.pin() && !window.begin_fill());
        window.evicted();
        assert!(!window.is_present() && window.begin_fill());
    }

    #[test]
    fn pins_and_evictions_of_many_threads_never_meet() {
        use std::sync::atomic::{AtomicBool, AtomicU64};
        let window = Window::default();
        // What the window "holds": zero while it is being evicted.
        let content = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if window.pin() {
                            assert_ne!(content.load(Ordering::Relaxed), 0, "pinned means filled");
                            window.unpin();
                        }
                    }
                });
            }
            for round in 1..20_000u64 {
                assert!(window.begin_fill());
                content.store(round, Ordering::Relaxed);
                window.publish();
                window.unpin();
                while !window.begin_evict() {
                    std::hint::spin_loop();
                }
                content.store(0, Ordering::Relaxed);
                window.evicted();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
