//! Intervals of confidence by the moving-block bootstrap (Künsch 1989): a run's intervals are drawn again and again, in
//! blocks, for neighbours are alike; the ratios that come of it show how far chance goes. Nothing is assumed of how
//! latencies are spread. Pure, and equal for equal reports.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use crate::summary::Interval;

/// Fewer say nothing of how they vary.
pub(super) const INTERVALS_MIN: usize = 8;
/// Enough for the ends of a 95 % interval to stand still in their second digit.
const DRAWS: usize = 1000;
const SEED: u64 = 1;

/// The second run's figure over the first one's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) ratio: f64,
    /// Where it lies with 95 % confidence; none where the runs are too short for it.
    pub(super) interval: Option<[f64; 2]>,
}

impl Ratio {
    /// None where one of the figures is nothing. `varies`: chance is to be seen in the draws.
    pub(super) fn of(
        before: &[Interval],
        after: &[Interval],
        varies: bool,
        figure: impl Fn(&[&Interval]) -> f64,
    ) -> Option<Self> {
        let all = |run: &[Interval]| figure(&run.iter().collect::<Vec<_>>());
        let ratio = all(after) / all(before);
        if !(ratio.is_finite() && ratio > 0.0) {
            return None;
        }
        if !varies || before.len().min(after.len()) < INTERVALS_MIN {
            return Some(Self { ratio, interval: None });
        }
        let mut random = StdRng::seed_from_u64(SEED);
        let mut ratios: Vec<f64> = (0..DRAWS)
            .map(|_| figure(&drawn(after, &mut random)) / figure(&drawn(before, &mut random)))
            .filter(|ratio| ratio.is_finite())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let at = |per_thousand: usize| ratios.get(ratios.len() * per_thousand / 1000).copied();
        let interval = at(25).zip(at(974)).map(|(low, high)| [low, high]);
        Some(Self { ratio, interval })
    }
}

/// As many intervals again, in blocks of neighbours.
fn drawn<'i>(intervals: &'i [Interval], random: &mut StdRng) -> Vec<&'i Interval> {
    let count = intervals.len();
    // The cube root is the usual length where nothing is known of how long things last.
    let block = (1..count).find(|length| length.pow(3) >= count).unwrap_or(1);
    let mut drawn = Vec::with_capacity(count + block);
    while drawn.len() < count {
        let from = random.random_range(0..=count - block);
        drawn.extend(&intervals[from..from + block]);
    }
    drawn.truncate(count);
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::histogram::Times;
    use crate::summary::Stretch;

    /// A run whose seconds have these counts.
    fn run(counts: impl IntoIterator<Item = u64>) -> Vec<Interval> {
        let interval = |ended| Interval {
            stretch: Stretch::Measured,
            from: 0.0,
            seconds: 1.0,
            begun: ended,
            ended,
            failed: 0,
            bytes: 0,
            latency: Times::of_pairs([(1000, ended)]),
            servers: BTreeMap::new(),
        };
        counts.into_iter().map(interval).collect()
    }

    fn ratio(before: &[Interval], after: &[Interval]) -> Option<Ratio> {
        let figure =
            |intervals: &[&Interval]| intervals.iter().map(|interval| interval.ended).sum::<u64>() as f64;
        Ratio::of(before, after, true, figure)
    }

    #[test]
    fn a_run_beside_itself_has_a_ratio_of_one() {
        let steady = run([100; 20]);
        assert_eq!(ratio(&steady, &steady), Some(Ratio { ratio: 1.0, interval: Some([1.0, 1.0]) }));
        let short = run([100; 3]);
        assert_eq!(ratio(&short, &short), Some(Ratio { ratio: 1.0, interval: None }));
        assert_eq!(ratio(&steady, &run([0; 20])), None);
    }

    #[test]
    fn intervals_hold_the_truth_nineteen_times_of_twenty() {
        let mut random = StdRng::seed_from_u64(5);
        let mut holds = 0;
        for _ in 0..40 {
            let mut noisy = |mean: u64| {
                run((0..60).map(|_| mean + random.random_range(0..=mean / 5)).collect::<Vec<_>>())
            };
            let (before, after) = (noisy(1000), noisy(1200));
            let Some([low, high]) = ratio(&before, &after).and_then(|ratio| ratio.interval) else { panic!() };
            assert!(high - low < 0.1, "{low} {high}");
            holds += u32::from((low..=high).contains(&1.2));
        }
        // 38 of 40 on the mean; fewer than 32 would be one chance in a thousand, and the method is a little narrow.
        assert!(holds >= 32, "{holds} of 40");
    }
}
