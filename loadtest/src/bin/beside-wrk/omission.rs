//! wrk adds to what it measured what it thinks it has missed (`stats_correct`): where an answer took several times as long as
//! answers do on the mean, as many more that would have waited behind it. The same is done here to what the load test
//! measured, which adds nothing to it: then both say the same of the same server.

use std::collections::BTreeMap;
use std::time::Duration;

/// Microseconds, and how many there were.
pub(crate) type Times = BTreeMap<u64, u64>;

/// `expected` are the seconds between two answers of a connection.
pub(crate) fn corrected(times: &[(u64, u64)], expected: f64) -> Times {
    let expected = Duration::try_from_secs_f64(expected).unwrap_or_default().as_micros();
    let expected = u64::try_from(expected).unwrap_or(u64::MAX).max(1);
    let mut all: Times = times.iter().copied().collect();
    for (micros, count) in times {
        let mut missed = micros.saturating_sub(expected);
        while missed > expected {
            *all.entry(missed).or_default() += count;
            missed -= expected;
        }
    }
    all
}

/// The time that this part do not exceed, in seconds; no number where there are none.
pub(crate) fn quantile(times: &Times, part: f64) -> f64 {
    let wanted = part * times.values().sum::<u64>() as f64;
    let mut seen = 0.0;
    let found = times.iter().find(|(_, count)| {
        seen += **count as f64;
        seen >= wanted
    });
    found.map_or(f64::NAN, |(micros, _)| *micros as f64 / 1e6)
}

/// In seconds; no number where there are none.
pub(crate) fn mean(times: &Times) -> f64 {
    let (sum, count) = times.iter().fold((0.0, 0.0), |(sum, all), (micros, count)| {
        (sum + *micros as f64 * *count as f64, all + *count as f64)
    });
    sum / count / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_stands_for_those_behind_it() {
        // As wrk does it: 3500 µs where 1000 µs are usual stand for 2500 and 1500 too, and 1900 for nothing more.
        let all = corrected(&[(900, 10), (1900, 2), (3500, 1)], 0.001);
        assert_eq!(all, Times::from([(900, 10), (1500, 1), (1900, 2), (2500, 1), (3500, 1)]));
        assert!((quantile(&all, 0.5) - 0.0009).abs() < 1e-12 && (quantile(&all, 1.0) - 0.0035).abs() < 1e-12);
        assert!(quantile(&Times::new(), 0.5).is_nan() && mean(&Times::new()).is_nan());
        assert!((mean(&Times::from([(900, 3), (1500, 1)])) - 0.00105).abs() < 1e-12);
    }
}
