//! What was asked of the store: counts of calls, of bytes, and of reads at the same time.

use std::collections::HashMap;

/// Counts of one file, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) reads: u64,
    pub(super) bytes: u64,
    pub(super) opens: u64,
    pub(super) most_reads_at_once: u64,
    reads_now: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    by_path: HashMap<String, Counts>,
    all: Counts,
}

impl Counters {
    pub(super) fn of(&self, path: &str) -> Counts {
        self.by_path.get(path).copied().unwrap_or_default()
    }

    pub(super) fn of_all(&self) -> Counts {
        self.all
    }

    pub(super) fn open(&mut self, path: &str) {
        self.both(path, |counts| counts.opens += 1);
    }

    /// A read has come. Whatever becomes of it, [`Counters::read_is_over`] follows.
    pub(super) fn read(&mut self, path: &str) {
        self.both(path, |counts| {
            counts.reads += 1;
            counts.reads_now += 1;
            counts.most_reads_at_once = counts.most_reads_at_once.max(counts.reads_now);
        });
    }

    pub(super) fn read_is_over(&mut self, path: &str) {
        self.both(path, |counts| counts.reads_now -= 1);
    }

    pub(super) fn brought(&mut self, path: &str, bytes: usize) {
        self.both(path, |counts| counts.bytes += bytes as u64);
    }

    fn both(&mut self, path: &str, count: impl Fn(&mut Counts)) {
        count(&mut self.all);
        match self.by_path.get_mut(path) {
            Some(counts) => count(counts),
            None => count(self.by_path.entry(path.to_owned()).or_default()),
        }
    }
}
