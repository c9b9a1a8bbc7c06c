//! What workers count, laid into intervals. Pure: seconds come from the caller.

use super::intervals::Cut;
use super::live::Live;
use crate::summary::{Interval, Stretch};
use crate::tally::Tally;

#[derive(Debug)]
pub(super) struct Recorder {
    /// Those to come, the present one first.
    cuts: std::collections::VecDeque<Cut>,
    /// When the present interval really began.
    from: f64,
    now: Tally,
    intervals: Vec<Interval>,
    warm_up: Tally,
    /// All but the warm-up.
    all: Tally,
    measured_seconds: f64,
    /// Since it was shown last.
    live: Live,
}

/// What a run comes to.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) intervals: Vec<Interval>,
    pub(super) warm_up: Tally,
    /// All but the warm-up.
    pub(super) all: Tally,
    pub(super) measured_seconds: f64,
}

impl Recorder {
    pub(super) fn new(cuts: Vec<Cut>) -> Self {
        Self {
            cuts: cuts.into(),
            from: 0.0,
            now: Tally::default(),
            intervals: Vec::new(),
            warm_up: Tally::default(),
            all: Tally::default(),
            measured_seconds: 0.0,
            live: Live::default(),
        }
    }

    /// The present interval; none after the last.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.cuts.front().copied()
    }

    /// Takes what was counted in the present interval.
    pub(super) fn take(&mut self, tally: &Tally) {
        self.now.add(tally);
        self.live.take(tally);
    }

    /// Closes the intervals that are over.
    pub(super) fn advance(&mut self, seconds: f64) {
        while let Some(cut) = self.cut().filter(|cut| seconds >= cut.to) {
            self.close(cut, seconds);
        }
    }

    /// Closes the present interval early, and all that is to come but the last stretch.
    pub(super) fn interrupt(&mut self, seconds: f64) {
        if let Some(cut) = self.cut() {
            self.close(cut, seconds);
        }
        self.cuts.retain(|cut| cut.stretch == Stretch::Drain);
    }

    fn close(&mut self, cut: Cut, seconds: f64) {
        let tally = std::mem::take(&mut self.now);
        let length = seconds - self.from;
        self.intervals.push(Interval::of(cut.stretch, self.from, length, &tally));
        if cut.stretch == Stretch::Measured {
            self.measured_seconds += length;
        }
        match cut.stretch {
            Stretch::WarmUp => self.warm_up.add(&tally),
            Stretch::Measured | Stretch::Drain => self.all.add(&tally),
        }
        self.from = seconds;
        self.cuts.pop_front();
    }

    pub(super) fn others_saw(&mut self, live: &Live) {
        self.live.add(live);
    }

    /// What is new since this was asked last.
    pub(super) fn live(&mut self, seconds: f64, under_way: u64) -> Live {
        let live = std::mem::take(&mut self.live);
        Live { seconds, under_way: live.under_way + under_way, ..live }
    }

    /// All that was recorded. `rest` came after the last look.
    pub(super) fn finish(mut self, rest: impl IntoIterator<Item = Tally>, seconds: f64) -> Record {
        rest.into_iter().for_each(|tally| self.now.add(&tally));
        match self.cut() {
            Some(cut) => self.close(cut, seconds.max(self.from)),
            None => self.all.add(&self.now),
        }
        let Self { intervals, warm_up, all, measured_seconds, .. } = self;
        Record { intervals, warm_up, all, measured_seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(count: u64) -> Tally {
        Tally { ended: count, bytes: count * 10, ..Tally::default() }
    }

    fn recorder() -> Recorder {
        let stretches = [Stretch::WarmUp, Stretch::Measured, Stretch::Measured, Stretch::Drain];
        let cuts = stretches.iter().enumerate();
        let cuts = cuts.map(|(at, stretch)| Cut { stretch: *stretch, from: at as f64, to: at as f64 + 1.0 });
        Recorder::new(cuts.collect())
    }

    #[test]
    fn what_is_counted_belongs_to_the_interval_in_which_it_came() {
        let mut recorder = recorder();
        for (second, count) in [(0.9, 1), (1.01, 2), (1.5, 4), (2.0, 8), (3.0, 16), (3.2, 32)] {
            recorder.take(&ended(count));
            recorder.advance(second);
        }
        let Record { intervals, warm_up, all, measured_seconds } = recorder.finish([ended(64)], 3.3);
        let counts: Vec<u64> = intervals.iter().map(|interval| interval.ended).collect();
        assert_eq!(counts, [3, 12, 16, 96]);
        assert_eq!((warm_up.ended, all.ended, all.bytes), (3, 124, 1240));
        assert!((measured_seconds - 1.99).abs() < 1e-9, "{measured_seconds}");
        assert!((intervals[3].seconds - 0.3).abs() < 1e-9);
    }

    #[test]
    fn a_run_that_is_interrupted_has_measured_up_to_then() {
        let mut recorder = recorder();
        recorder.advance(1.0);
        recorder.take(&ended(5));
        recorder.interrupt(1.5);
        let record = recorder.finish([ended(1)], 1.6);
        let stretches: Vec<_> = record.intervals.iter().map(|interval| interval.stretch).collect();
        assert_eq!(stretches, [Stretch::WarmUp, Stretch::Measured, Stretch::Drain]);
        assert!((record.measured_seconds - 0.5).abs() < 1e-9);
        assert_eq!(record.all.ended, 6);
    }
}
