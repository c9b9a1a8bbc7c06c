//! How often something happened in the last second: a count in one atomic word, for threads that share it.
//!
//! Loads and rates are made of it. It is linear: the counts of many add up to the count of all, whenever they are
//! read. A count that is forgotten at each report would not be: edges are asked at moments of their own, and one just
//! before its report would seem to have a second's work more than one just after.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The word: which second, what was counted in the one before, and in this one.
const COUNT_BITS: u32 = 22;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Seconds come round after twelve days.
const SECOND_MAX: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// A moment as windows see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    second: u64,
    /// The part of the second that has passed, 0 to 1.
    passed: f64,
}

impl From<Duration> for Tick {
    fn from(now: Duration) -> Self {
        Self { second: now.as_secs() & SECOND_MAX, passed: f64::from(now.subsec_nanos()) / 1e9 }
    }
}

/// What happened in the second before now, as far as whole seconds tell: all of this one, and of the last one the
/// part that is not over. At most four million.
#[derive(Debug, Default)]
pub struct SlidingCount(AtomicU64);

/// A word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Counts {
    second: u64,
    before: u64,
    current: u64,
}

impl Counts {
    fn of(word: u64) -> Self {
        Self {
            second: word >> (2 * COUNT_BITS),
            before: (word >> COUNT_BITS) & COUNT_MAX,
            current: word & COUNT_MAX,
        }
    }

    fn word(self) -> u64 {
        self.second << (2 * COUNT_BITS)
            | self.before.min(COUNT_MAX) << COUNT_BITS
            | self.current.min(COUNT_MAX)
    }

    /// The same at another moment.
    fn at(self, tick: Tick) -> Self {
        match tick.second.wrapping_sub(self.second) & SECOND_MAX {
            0 => self,
            1 => Self { second: tick.second, before: self.current, current: 0 },
            // Another thread looked at its clock a little later.
            SECOND_MAX => self,
            _ => Self { second: tick.second, before: 0, current: 0 },
        }
    }

    fn value(self, tick: Tick) -> f64 {
        let passed = if self.second == tick.second { tick.passed } else { 0.0 };
        self.current as f64 + self.before as f64 * (1.0 - passed)
    }
}

impl SlidingCount {
    /// Counts one more.
    pub fn add(&self, tick: Tick) {
        let more = |word| {
            let counts = Counts::of(word).at(tick);
            Some(Counts { current: counts.current + 1, ..counts }.word())
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// How many there were in the last second.
    pub fn value(&self, tick: Tick) -> f64 {
        Counts::of(self.0.load(Ordering::Relaxed)).at(tick).value(tick)
    }

    /// Makes this the count of all of `parts`.
    pub fn set_sum<'c>(&self, parts: impl Iterator<Item = &'c Self>, tick: Tick) {
        let none = Counts { second: tick.second, before: 0, current: 0 };
        let sum = parts.fold(none, |sum, part| {
            let part = Counts::of(part.0.load(Ordering::Relaxed)).at(tick);
            Counts { before: sum.before + part.before, current: sum.current + part.current, ..sum }
        });
        self.0.store(sum.word(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(seconds: f64) -> Tick {
        Duration::from_secs_f64(seconds).into()
    }

    #[test]
    fn a_steady_rate_is_seen_as_it_is() {
        let count = SlidingCount::default();
        for step in 0..5000 {
            let now = tick(f64::from(step) / 1000.0);
            count.add(now);
            if step > 1000 {
                assert!((count.value(now) - 1000.0).abs() <= 2.0, "{step}: {}", count.value(now));
            }
        }
    }

    #[test]
    fn what_was_counted_fades_within_two_seconds() {
        let count = SlidingCount::default();
        for _ in 0..100 {
            count.add(tick(5.2));
        }
        let table =
            [(5.2, 100.0), (5.9, 100.0), (6.0, 100.0), (6.25, 75.0), (6.5, 50.0), (7.0, 0.0), (90.0, 0.0)];
        for (seconds, expected) in table {
            assert!((count.value(tick(seconds)) - expected).abs() < 1e-6, "{seconds}");
        }
    }

    #[test]
    fn a_clock_that_is_a_little_behind_loses_nothing() {
        let count = SlidingCount::default();
        count.add(tick(3.001));
        count.add(tick(2.999));
        assert_eq!(count.value(tick(3.001)), 2.0);
        assert_eq!(count.value(tick(2.999)), 2.0);
    }

    #[test]
    fn seconds_that_come_round_and_counts_that_run_over_do_no_harm() {
        let count = SlidingCount::default();
        let round = (SECOND_MAX + 1) as f64;
        count.add(tick(round - 0.5));
        assert_eq!(count.value(tick(round)), 1.0);
        let full = SlidingCount(AtomicU64::new(Counts { second: 7, before: 3, current: COUNT_MAX }.word()));
        full.add(tick(7.5));
        assert_eq!(Counts::of(full.0.into_inner()), Counts { second: 7, before: 3, current: COUNT_MAX });
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let (parts, whole) = ([SlidingCount::default(), SlidingCount::default()], SlidingCount::default());
        let sum = SlidingCount::default();
        for step in 0..300_u32 {
            let now = tick(f64::from(step) * 0.01);
            parts[usize::from(step % 3 == 0)].add(now);
            whole.add(now);
            let added: f64 = parts.iter().map(|part| part.value(now)).sum();
            assert!((added - whole.value(now)).abs() < 1e-9);
        }
        for seconds in [2.99, 3.5, 3.999, 4.5] {
            sum.set_sum(parts.iter(), tick(2.99));
            assert!((sum.value(tick(seconds)) - whole.value(tick(seconds))).abs() < 1e-9, "{seconds}");
        }
    }
}
