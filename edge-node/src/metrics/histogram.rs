//! A histogram of durations that one worker writes alone, and that a scrape adds up with the others'.

use std::time::Duration;

use sluice_shared::telemetry::metric::Metric;

use super::Counter;

/// Upper bounds of the buckets in microseconds: 50 µs to 10 minutes, about three a decade.
const BOUNDS_MICROS: [u64; 20] = [
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
];

/// One worker's counts; the last bucket has no bound.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS_MICROS.len() + 1],
    sum_micros: Counter,
}

impl Histogram {
    /// Counts one duration. To be called by one thread only.
    pub(crate) fn record_alone(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].add_alone(1);
        self.sum_micros.add_alone(micros);
    }
}

/// Several workers' counts together.
pub(super) struct Sum {
    buckets: [u64; BOUNDS_MICROS.len() + 1],
    sum_micros: u64,
}

pub(super) fn sum<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Sum {
    let mut sum = Sum { buckets: [0; BOUNDS_MICROS.len() + 1], sum_micros: 0 };
    for histogram in histograms {
        for (total, bucket) in sum.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.value();
        }
        sum.sum_micros += histogram.sum_micros.value();
    }
    sum
}

impl Sum {
    /// Appends the histogram in Prometheus' text format.
    pub(super) fn write(&self, metric: &Metric, text: &mut String) {
        let Metric { name, meaning, .. } = metric;
        let seconds = |micros: u64| micros as f64 / 1e6;
        let mut count = 0;
        let bounds = BOUNDS_MICROS.iter().map(|bound| seconds(*bound).to_string()).chain(["+Inf".to_owned()]);
        let mut lines = format!("# HELP {name} {meaning}\n# TYPE {name} histogram\n");
        for (bound, bucket) in bounds.zip(self.buckets) {
            count += bucket;
            lines.push_str(&format!("{name}_bucket{{le=\"{bound}\"}} {count}\n"));
        }
        lines.push_str(&format!("{name}_sum {}\n{name}_count {count}\n\n", seconds(self.sum_micros)));
        text.push_str(&lines);
    }
}

#[cfg(test)]
mod tests {
    use sluice_shared::telemetry::metric::Unit;

    use super::*;

    #[test]
    fn workers_are_added_up_into_cumulative_buckets() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.record_alone(Duration::from_micros(50));
        one.record_alone(Duration::from_micros(51));
        other.record_alone(Duration::from_secs(3600));
        let mut text = String::new();
        let metric = Metric::histogram("x_seconds", Unit::Seconds, "Of x.");
        sum([&one, &other].into_iter()).write(&metric, &mut text);
        for line in [
            "# TYPE x_seconds histogram",
            "x_seconds_bucket{le=\"0.00005\"} 1",
            "x_seconds_bucket{le=\"0.0001\"} 2",
            "x_seconds_bucket{le=\"600\"} 2",
            "x_seconds_bucket{le=\"+Inf\"} 3",
            "x_seconds_sum 3600.000101",
            "x_seconds_count 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in {text}");
        }
    }
}
