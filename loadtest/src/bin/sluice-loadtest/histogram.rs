//! Times, counted by their size: three digits of each are kept, from a microsecond to days. Two can be added, and they
//! are written as pairs of a time and a count, so that what is read back is what was measured.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::number::whole;

const DIGITS: u8 = 3;
/// A year: more than any download takes, and a foreign file cannot make a histogram of any size.
const MICROS_MAX: u64 = 1 << 45;

/// Microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are allowed"))
    }
}

impl Times {
    pub(crate) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.record_micros(micros, 1);
    }

    fn record_micros(&mut self, micros: u64, count: u64) {
        let recorded = self.0.record_n(micros.min(MICROS_MAX), count);
        recorded.expect("it grows with what is recorded");
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for step in other.0.iter_recorded() {
            self.record_micros(step.value_iterated_to(), step.count_at_value());
        }
    }

    /// What is left of these without others, which are among them.
    pub(crate) fn without(&self, others: &Self) -> Self {
        let mut left: BTreeMap<u64, u64> = self.pairs().collect();
        for (micros, count) in others.pairs() {
            // A foreign file may say that there are others.
            left.entry(micros).and_modify(|own| *own = own.saturating_sub(count));
        }
        Self::of_pairs(left.into_iter().filter(|(_, count)| *count > 0))
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that this part of all do not exceed, in seconds; no number where there are none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        if self.is_empty() { f64::NAN } else { self.0.value_at_quantile(part) as f64 / 1e6 }
    }

    /// In seconds; no number where there are none.
    pub(crate) fn mean(&self) -> f64 {
        if self.is_empty() { f64::NAN } else { self.0.mean() / 1e6 }
    }

    /// Pairs of a time in microseconds and how many there were.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    pub(crate) fn of_pairs(pairs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut times = Self::default();
        pairs.into_iter().for_each(|(micros, count)| times.record_micros(micros, count));
        times
    }
}

impl PartialEq for Times {
    fn eq(&self, other: &Self) -> bool {
        self.pairs().eq(other.pairs())
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.pairs())
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs: Vec<(u64, u64)> = Vec::deserialize(deserializer)?;
        if pairs.iter().any(|(micros, count)| *micros > MICROS_MAX || *count > MICROS_MAX) {
            return Err(D::Error::custom("a time or count that no run has"));
        }
        Ok(Self::of_pairs(pairs))
    }
}

/// Seconds as people read them: three digits and a unit.
pub(crate) fn shown(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "–".to_owned();
    }
    let (number, unit) = match seconds {
        seconds if seconds < 0.000_999_5 => (seconds * 1e6, "µs"),
        seconds if seconds < 0.999_5 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    let digits = match whole(number) {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_sums_are_the_same_in_any_order(
            one in prop::collection::vec(0..1_u64 << 40, 0..50),
            other in prop::collection::vec(0..1_u64 << 20, 0..50),
        ) {
            let of = |values: &[u64]| Times::of_pairs(values.iter().map(|value| (*value, 1)));
            let text = serde_json::to_string(&of(&one)).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Times>(&text).unwrap(), &of(&one));
            let (mut forth, mut back) = (of(&one), of(&other));
            forth.add(&of(&other));
            back.add(&of(&one));
            prop_assert_eq!(&forth, &back);
            prop_assert_eq!(&forth.without(&of(&other)), &of(&one));
            prop_assert!(of(&one).without(&forth).is_empty());
            prop_assert_eq!(forth, of(&[one, other].concat()));
        }
    }

    #[test]
    fn quantiles_keep_three_digits() {
        let times = Times::of_pairs((1..=10_000).map(|micros| (micros * 10, 1)));
        for (part, seconds) in [(0.5, 0.05), (0.99, 0.099), (1.0, 0.1)] {
            assert!((times.quantile(part) / seconds - 1.0).abs() < 1e-3);
        }
        assert!(Times::default().quantile(0.5).is_nan());
    }

    #[test]
    fn times_are_shown_with_three_digits() {
        for (seconds, text) in
            [(0.000_012_34, "12.3 µs"), (0.0005, "500 µs"), (0.001, "1.00 ms"), (2.5, "2.50 s")]
        {
            assert_eq!(shown(seconds), text);
        }
        assert_eq!(shown(f64::NAN), "–");
    }
}
