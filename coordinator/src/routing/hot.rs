//! Hot files: how many edges share a file, by how often it is asked for.
//!
//! Rates are estimated by a count-min sketch (Cormode, Muthukrishnan, 2005) of sliding counts: memory that does not
//! grow, and an estimate that is never too low. One that is too high costs a second copy of a cold file in a cache. How
//! many owners a file has is remembered for those that are hot, so that a rate that sways about a threshold does not
//! move them to and fro. Each coordinator knows the calls it answers itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::window::{SlidingCount, Tick};

/// The most edges that share a file.
pub const FAN_OUT_MAX: u32 = 64;
const LEVEL_MAX: u64 = FAN_OUT_MAX.ilog2() as u64;

/// Two rows of 256 KiB. A cold file is taken for a hot one where it shares both its places with hot ones: with 500 of
/// them, two files in ten thousand.
const ROW_BITS: u32 = 15;
const ROWS: usize = 2;

/// Files that are hot at a time, and more would have to be: each is asked for a thousand times a second.
const SETS_BITS: u32 = 8;
const SET_WAYS: usize = 8;

/// How long a file has been below half of what made it spread, before it has fewer owners again.
const COOLING: u64 = 60;

/// The rates of files and how far they are spread. Shared by all threads; nothing here waits or allocates.
#[derive(Debug)]
pub struct HotFiles {
    /// Requests a second that one edge takes of one file, before others share it.
    rate_per_edge: f64,
    rows: [Box<[SlidingCount]>; ROWS],
    /// What is remembered of hot files: [`Spread`], as words.
    sets: Box<[[AtomicU64; SET_WAYS]]>,
}

/// A hot file that is remembered. Two that share a tag and a set share their owners' number, which harms neither.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    tag: u64,
    /// It has 2^level owners; 0 is no file at all.
    level: u64,
    /// The last second in which it needed more than half of them.
    needed: u64,
}

const TAG_BITS: u32 = 32;
const LEVEL_BITS: u32 = 3;
const NEEDED_MAX: u64 = (1 << (64 - TAG_BITS - LEVEL_BITS)) - 1;

impl Spread {
    fn of(word: u64) -> Self {
        Self {
            tag: word >> (64 - TAG_BITS),
            level: (word >> (64 - TAG_BITS - LEVEL_BITS)) & ((1 << LEVEL_BITS) - 1),
            needed: word & NEEDED_MAX,
        }
    }

    fn word(self) -> u64 {
        self.tag << (64 - TAG_BITS) | self.level << (64 - TAG_BITS - LEVEL_BITS) | self.needed & NEEDED_MAX
    }

    /// What becomes of it at a rate that asks for `wanted` levels, and for `kept` at half the threshold.
    fn next(self, wanted: u64, kept: u64, second: u64) -> Self {
        if wanted >= self.level {
            return Self { level: wanted, needed: second, ..self };
        }
        if kept >= self.level {
            return Self { needed: second, ..self };
        }
        if second.saturating_sub(self.needed) >= COOLING {
            return Self { level: self.level - 1, needed: second, ..self };
        }
        self
    }
}

impl HotFiles {
    pub fn new(rate_per_edge: f64) -> Self {
        let row = || (0..1 << ROW_BITS).map(|_| SlidingCount::default()).collect();
        let sets = (0..1 << SETS_BITS).map(|_| Default::default()).collect();
        Self { rate_per_edge, rows: [row(), row()], sets }
    }

    /// Counts a request for a file, by its start's key, and says how many edges share it: a power of two.
    pub fn observe(&self, key: u64, now: Duration) -> u32 {
        let tick = Tick::from(now);
        for cell in self.cells(key) {
            cell.add(tick);
        }
        let rate = self.rate_at(key, tick);
        let second = now.as_secs() & NEEDED_MAX;
        let (wanted, kept) = (self.level(rate), self.level(2.0 * rate));
        let set = self.set(key);
        let known = set.iter().find(|word| is_of(word.load(Ordering::Relaxed), key));
        let Some(word) = known else {
            if wanted > 0 {
                remember(set, Spread { tag: key >> (64 - TAG_BITS), level: wanted, needed: second });
            }
            return 1 << wanted;
        };
        let before = word.load(Ordering::Relaxed);
        let after = Spread::of(before).next(wanted, kept, second);
        if after.word() != before {
            // Where another thread was first, its word is as good.
            let _ = word.compare_exchange(before, after.word(), Ordering::Relaxed, Ordering::Relaxed);
        }
        1 << after.level
    }

    /// How many edges share a file now; counts nothing.
    pub fn fan_out(&self, key: u64, now: Duration) -> u32 {
        let words = self.set(key).iter().map(|word| word.load(Ordering::Relaxed));
        let known = words.filter(|word| is_of(*word, key)).map(|word| Spread::of(word).level).max();
        1 << known.unwrap_or_default().max(self.level(self.rate(key, now)))
    }

    /// Requests for a file in the last second; never too low.
    pub fn rate(&self, key: u64, now: Duration) -> f64 {
        self.rate_at(key, now.into())
    }

    fn rate_at(&self, key: u64, tick: Tick) -> f64 {
        self.cells(key).map(|cell| cell.value(tick)).into_iter().fold(f64::INFINITY, f64::min)
    }

    fn level(&self, rate: f64) -> u64 {
        let mut level = 0;
        while rate > self.rate_per_edge * f64::from(1_u32 << level) && level < LEVEL_MAX {
            level += 1;
        }
        level
    }

    /// A key is a hash: each part of its bits is as good as another hash.
    fn cells(&self, key: u64) -> [&SlidingCount; ROWS] {
        let cell = |row: usize, bits: u64| {
            let at = usize::try_from(bits & ((1 << ROW_BITS) - 1)).expect("fifteen bits");
            &self.rows[row][at]
        };
        [cell(0, key), cell(1, key >> ROW_BITS)]
    }

    fn set(&self, key: u64) -> &[AtomicU64; SET_WAYS] {
        let at = (key >> (64 - TAG_BITS - SETS_BITS)) & ((1 << SETS_BITS) - 1);
        &self.sets[usize::try_from(at).expect("eight bits")]
    }
}

fn is_of(word: u64, key: u64) -> bool {
    let spread = Spread::of(word);
    spread.level > 0 && spread.tag == key >> (64 - TAG_BITS)
}

/// Takes a free word, or that of the file which was hot longest ago. Where another thread is first, the file is
/// remembered at its next request.
fn remember(set: &[AtomicU64; SET_WAYS], spread: Spread) {
    let age = |word: u64| {
        let known = Spread::of(word);
        if known.level == 0 { u64::MAX } else { spread.needed.saturating_sub(known.needed) }
    };
    let oldest = set.iter().max_by_key(|word| age(word.load(Ordering::Relaxed)));
    if let Some(word) = oldest {
        let before = word.load(Ordering::Relaxed);
        let _ = word.compare_exchange(before, spread.word(), Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::ring::place;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Asks for a file evenly, from one second to another; gives the last fan-out.
    fn ask(hot: &HotFiles, file: &str, rate: u32, from: f64, to: f64) -> u32 {
        let place = place(file.as_bytes());
        let count = ((to - from) * f64::from(rate)).round();
        let mut fan_out = 1;
        let mut asked = 0.0;
        while asked < count {
            fan_out = hot.observe(place, at(from + asked / f64::from(rate)));
            assert!(fan_out == hot.fan_out(place, at(from + asked / f64::from(rate))));
            asked += 1.0;
        }
        fan_out
    }

    #[test]
    fn a_file_has_as_many_owners_as_its_rate_needs() {
        let table = [(50, 1), (90, 1), (150, 2), (350, 4), (450, 8), (1000, 16), (20_000, 64)];
        for (rate, expected) in table {
            let hot = HotFiles::new(100.0);
            assert_eq!(ask(&hot, "a", rate, 0.0, 3.0), expected, "{rate}/s");
            assert_eq!(hot.fan_out(place(b"cold"), at(3.0)), 1);
        }
    }

    #[test]
    fn a_rate_that_sways_moves_nobody() {
        let hot = HotFiles::new(100.0);
        assert_eq!(ask(&hot, "a", 500, 0.0, 2.0), 8);
        for round in 0..40 {
            let from = 2.0 + f64::from(round) * 10.0;
            assert_eq!(ask(&hot, "a", 220, from, from + 8.0), 8, "above half of what needs eight");
            assert_eq!(ask(&hot, "a", 60, from + 8.0, from + 10.0), 8, "for a moment");
        }
    }

    #[test]
    fn a_file_that_cools_is_drawn_together_minute_by_minute() {
        let hot = HotFiles::new(100.0);
        assert_eq!(ask(&hot, "a", 500, 0.0, 2.0), 8);
        let table = [(60.0, 8), (66.0, 4), (120.0, 4), (128.0, 2), (190.0, 1)];
        let mut from = 2.0;
        for (to, expected) in table {
            assert_eq!(ask(&hot, "a", 20, from, to), expected, "until {to}");
            from = to;
        }
        let spread = hot.sets.iter().flatten().map(|word| Spread::of(word.load(Ordering::Relaxed)));
        assert!(spread.filter(|spread| spread.level > 0).count() == 0, "its place is free");
    }

    #[test]
    fn millions_of_cold_files_are_not_taken_for_hot_ones() {
        let hot = HotFiles::new(1000.0);
        let mut spread = 0;
        for n in 0..400_000_u64 {
            let place = place(&n.to_le_bytes());
            spread += u32::from(hot.observe(place, at(n as f64 / 100_000.0)) > 1);
        }
        assert_eq!(spread, 0);
    }

    #[test]
    fn more_hot_files_than_can_be_remembered_are_spread_all_the_same() {
        let hot = HotFiles::new(10.0);
        let set_of = |n: u64| (place(&n.to_le_bytes()) >> 24) & 0xff;
        let crowd: Vec<u64> = (0..100_000).filter(|n| set_of(*n) == 7).take(3 * SET_WAYS).collect();
        assert_eq!(crowd.len(), 3 * SET_WAYS);
        for round in 0..90 {
            for n in &crowd {
                let fan_out = hot.observe(place(&n.to_le_bytes()), at(f64::from(round) / 30.0));
                assert!(round < 30 || fan_out == 4, "{fan_out} in round {round}");
            }
        }
    }

    #[test]
    fn words_hold_what_is_put_in() {
        for (tag, level, needed) in [(0, 0, 0), (u64::from(u32::MAX), 6, NEEDED_MAX), (7, 1, 86_400)] {
            let spread = Spread { tag, level, needed };
            assert_eq!(Spread::of(spread.word()), spread);
        }
    }
}
