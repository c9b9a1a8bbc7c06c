//! What a worker is to begin, and when: pure, and equal for equal seeds. It knows no clock and no socket.

use std::f64::consts::PI;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1};

use crate::number::whole;
use crate::scenario::{Curve, FileNumber, Kind, Scenario, Times, Wanted};

/// Which part of a run is a worker's: one of all workers of all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Counted from 0.
    pub(crate) index: u32,
    pub(crate) of: u32,
}

impl Share {
    /// A sequence of its own for each worker of each seed.
    fn random(self, seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed ^ u64::from(self.index).wrapping_mul(PI.to_bits()))
    }
}

/// When a worker's downloads begin in an open loop, from the run's start on. Without end where the rate has none.
#[derive(Debug)]
pub(crate) struct Arrivals {
    rate: Curve,
    times: Times,
    of: f64,
    random: StdRng,
    /// Arrivals of all workers before the next one of this; a whole number where they are constant.
    next: f64,
}

impl Arrivals {
    pub(crate) fn new(rate: Curve, times: Times, seed: u64, share: Share) -> Self {
        let mut arrivals = Self {
            rate,
            times,
            of: f64::from(share.of),
            random: share.random(!seed),
            next: f64::from(share.index),
        };
        if times == Times::Poisson {
            arrivals.next = arrivals.gap();
        }
        arrivals
    }

    /// Between two of this worker's, counted in arrivals of all. Sums of independent Poisson processes are one.
    fn gap(&mut self) -> f64 {
        match self.times {
            Times::Constant => self.of,
            Times::Poisson => {
                let unit: f64 = Exp1.sample(&mut self.random);
                unit * self.of
            }
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let time = self.rate.reaches(self.next)?;
        self.next += self.gap();
        Duration::try_from_secs_f64(time).ok()
    }
}

/// One download.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Task {
    pub(crate) file: FileNumber,
    pub(crate) user: u32,
    pub(crate) wanted: Wanted,
    /// Where a range lies, or a client breaks off: 0 to 1, without 1.
    place: f64,
}

impl Task {
    /// The part of a file of this size that is asked for.
    pub(crate) fn range(&self, size: u64) -> Range<u64> {
        if self.wanted.kind != Kind::Range {
            return 0..size;
        }
        let length = self.wanted.bytes.min(size);
        let start = scaled(size - length, self.place);
        start..start + length
    }

    /// Where a client breaks off, if it does: never before the first byte of a file that has one.
    pub(crate) fn breaks_off(&self, size: u64) -> Option<u64> {
        let breaks = matches!(self.wanted.kind, Kind::Resume | Kind::Renew | Kind::Abort);
        breaks.then(|| scaled(size, self.wanted.after.unwrap_or(self.place)).clamp(size.min(1), size))
    }
}

fn scaled(size: u64, part: f64) -> u64 {
    whole(size as f64 * part).min(size)
}

/// A worker's downloads, one after the other.
#[derive(Debug)]
pub(crate) struct Tasks<'s> {
    scenario: &'s Scenario,
    random: StdRng,
    share: Share,
    /// Users in turn: no two workers have the same one at the same time, where there are enough.
    begun: u32,
}

impl<'s> Tasks<'s> {
    pub(crate) fn new(scenario: &'s Scenario, share: Share) -> Self {
        Self { scenario, random: share.random(scenario.seed), share, begun: 0 }
    }

    /// A pause between two downloads of a client.
    pub(crate) fn pause(&mut self, mean: Duration, times: Times) -> Duration {
        match times {
            Times::Constant => mean,
            Times::Poisson => {
                let unit: f64 = Exp1.sample(&mut self.random);
                mean.mul_f64(unit)
            }
        }
    }
}

impl Iterator for Tasks<'_> {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        let user = self.begun.wrapping_mul(self.share.of).wrapping_add(self.share.index);
        self.begun = self.begun.wrapping_add(1);
        Some(Task {
            file: self.scenario.files.pick(&mut self.random),
            user: user % self.scenario.client.users,
            wanted: *self.scenario.requests.pick(self.random.random()),
            place: self.random.random(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::{Overrides, Source};

    fn scenario(text: &str) -> Scenario {
        let source = Source { path: "load.toml".into(), text: text.to_owned() };
        Scenario::of(&source, &Overrides::default()).unwrap()
    }

    fn all(rate: &Curve, times: Times, workers: u32, seconds: f64) -> Vec<f64> {
        let of_one = |index| {
            let arrivals = Arrivals::new(rate.clone(), times, 7, Share { index, of: workers });
            arrivals.map(|time| time.as_secs_f64()).take_while(move |time| *time < seconds)
        };
        let mut times: Vec<f64> = (0..workers).flat_map(of_one).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    #[test]
    fn constant_arrivals_are_evenly_apart_however_many_workers_there_are() {
        let rate = Curve::new(100.0, []);
        for workers in [1, 3, 8] {
            let times = all(&rate, Times::Constant, workers, 2.0);
            assert_eq!(times.len(), 200);
            assert!(times.iter().enumerate().all(|(n, time)| (time - n as f64 / 100.0).abs() < 1e-6));
        }
    }

    #[test]
    fn poisson_arrivals_have_their_rate_and_exponential_gaps() {
        for workers in [1, 4] {
            let times = all(&Curve::new(1000.0, []), Times::Poisson, workers, 20.0);
            let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            // Five standard errors of 20,000 gaps; an exponential's deviation is its mean.
            assert!((mean * 1000.0 - 1.0).abs() < 0.036, "{mean}");
            assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{}", variance.sqrt() / mean);
        }
    }

    #[test]
    fn files_are_asked_for_by_zipfs_law_and_weight() {
        let text = "[[files]]\nname = \"a{n}\"\ncount = 100\nsize = 1\nweight = 3.0\nzipf = 1.0\n\
                    [[files]]\nname = \"b{n}\"\ncount = 10\nsize = 1\nzipf = 0.0";
        let scenario = scenario(text);
        let mut counts = vec![0_u32; 110];
        for task in Tasks::new(&scenario, Share { index: 0, of: 1 }).take(100_000) {
            counts[task.file as usize] += 1;
        }
        let harmonic: f64 = (1..=100).map(|rank| 1.0 / f64::from(rank)).sum();
        let close = |count: u32, expected: f64| (f64::from(count) - expected).abs() < 5.0 * expected.sqrt();
        assert!(close(counts[0], 75_000.0 / harmonic), "{counts:?}");
        assert!(close(counts[9], 7_500.0 / harmonic), "{counts:?}");
        assert!(counts[100..].iter().all(|count| close(*count, 2_500.0)), "{counts:?}");
    }

    #[test]
    fn equal_seeds_plan_equal_downloads_and_workers_differ() {
        let text = "[client]\nusers = 1000\n[[files]]\nname = \"a{n}\"\ncount = 1000\nsize = 100";
        let scenario = scenario(text);
        let of = |index| Tasks::new(&scenario, Share { index, of: 2 }).take(50).collect::<Vec<_>>();
        assert_eq!(of(0), of(0));
        assert_ne!(of(0), of(1));
        assert!(of(0).iter().zip(of(1)).all(|(one, other)| one.user != other.user));
    }

    proptest! {
        #[test]
        fn arrivals_never_go_back_and_workers_share_them_out(
            level in 1.0..500.0_f64,
            stages in prop::collection::vec((0.01..2.0_f64, 1.0..500.0_f64), 0..4),
            workers in 1..6_u32,
        ) {
            let rate = Curve::new(level, stages.iter().copied());
            let whole = all(&rate, Times::Constant, 1, 3.0);
            let shared = all(&rate, Times::Constant, workers, 3.0);
            prop_assert_eq!(whole.len(), shared.len());
            prop_assert!(whole.iter().zip(&shared).all(|(one, other)| (one - other).abs() < 1e-6));
            for index in 0..workers {
                let times: Vec<_> = Arrivals::new(rate.clone(), Times::Poisson, 3, Share { index, of: workers })
                    .take(200)
                    .collect();
                prop_assert!(times.is_sorted());
            }
        }

        #[test]
        fn ranges_and_breaks_lie_within_the_file(place in 0.0..1.0_f64, size in 0..u64::MAX, bytes in 1..u64::MAX) {
            let wanted = |kind| Wanted { kind, bytes, after: None, rate: None };
            let range = Task { file: 0, user: 0, wanted: wanted(Kind::Range), place }.range(size);
            prop_assert!(range.start <= range.end && range.end <= size);
            prop_assert_eq!(range.end - range.start, bytes.min(size));
            let task = Task { file: 0, user: 0, wanted: wanted(Kind::Abort), place };
            let stop = task.breaks_off(size).unwrap();
            prop_assert!(stop <= size && (stop > 0 || size == 0));
        }
    }
}
