//! Two reports side by side: ratios, with the intervals in which they lie.

mod bootstrap;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::arguments::{Compare, Output};
use crate::histogram::{Times, shown};
use crate::report;
use crate::summary::{Interval, Stretch, Summary};
use bootstrap::Ratio;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Figure {
    DownloadsPerSecond,
    BytesPerSecond,
    /// The latency that this part does not exceed.
    Latency(f64),
}

const FIGURES: [(&str, Figure); 7] = [
    ("downloads/s", Figure::DownloadsPerSecond),
    ("bytes/s", Figure::BytesPerSecond),
    ("p50 latency", Figure::Latency(0.5)),
    ("p90 latency", Figure::Latency(0.9)),
    ("p99 latency", Figure::Latency(0.99)),
    ("p99.9 latency", Figure::Latency(0.999)),
    ("max latency", Figure::Latency(1.0)),
];

/// Fewer downloads that are slower than a quantile are a matter of luck, and so is where they lie among the draws.
const SLOWER_MIN: f64 = 10.0;

#[derive(Debug, Serialize)]
struct Comparison {
    figures: Vec<Row>,
    failed_parts: [f64; 2],
    /// What makes the two hard to compare.
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    before: Option<f64>,
    after: Option<f64>,
    #[serde(flatten)]
    ratio: Option<Ratio>,
}

pub(crate) fn command(arguments: &Compare) -> anyhow::Result<()> {
    let (before, after) = (load(&arguments.before)?, load(&arguments.after)?);
    let comparison = compare(&before, &after);
    let text = match arguments.output {
        Output::Text => comparison.text(),
        Output::Json => serde_json::to_string_pretty(&comparison)? + "\n",
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

fn load(path: &Path) -> anyhow::Result<Summary> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Summary::parse(&text).with_context(|| format!("cannot use {}", path.display()))
}

fn compare(before: &Summary, after: &Summary) -> Comparison {
    let (one, other) = (measured(before), measured(after));
    let figures = FIGURES.iter().map(|(name, figure)| {
        let value = |run: &[Interval]| Some(figure.of(run)).filter(|value| value.is_finite());
        let varies = figure.is_well_seen(&one) && figure.is_well_seen(&other);
        let ratio = Ratio::of(&one, &other, varies, |intervals| figure.of(intervals.iter().copied()));
        Row { name, before: value(&one), after: value(&other), ratio }
    });
    Comparison {
        figures: figures.collect(),
        failed_parts: [before.figures.failed_part, after.figures.failed_part],
        remarks: remarks(before, after, one.len().min(other.len())),
    }
}

/// What was measured. What ended as the run drained, or was given up, is the last one's: the slowest are among it.
fn measured(summary: &Summary) -> Vec<Interval> {
    let measured = summary.intervals.iter().filter(|interval| interval.stretch == Stretch::Measured);
    let mut measured: Vec<Interval> = measured.cloned().collect();
    let rest = summary.tally.latency.without(&latency(&measured));
    if let Some(last) = measured.last_mut() {
        last.latency.add(&rest);
    }
    measured
}

fn latency<'i>(intervals: impl IntoIterator<Item = &'i Interval>) -> Times {
    let mut all = Times::default();
    intervals.into_iter().for_each(|interval| all.add(&interval.latency));
    all
}

fn remarks(before: &Summary, after: &Summary, intervals: usize) -> Vec<String> {
    let mut remarks = Vec::new();
    if (&before.scenario, &before.said) != (&after.scenario, &after.said) {
        remarks.push("the two runs had different scenarios".to_owned());
    }
    for (name, summary) in [("first", before), ("second", after)] {
        if summary.figures.generator_was_the_limit {
            remarks.push(format!("the generator was the limit of the {name} run"));
        }
        if summary.wrong() > 0 {
            remarks.push(format!("{} answers of the {name} run were wrong", summary.wrong()));
        }
    }
    if intervals < bootstrap::INTERVALS_MIN {
        remarks.push("the runs are too short for intervals of confidence".to_owned());
    }
    remarks
}

impl Figure {
    fn of<'i>(self, intervals: impl IntoIterator<Item = &'i Interval, IntoIter: Clone>) -> f64 {
        let intervals = intervals.into_iter();
        let seconds: f64 = intervals.clone().map(|interval| interval.seconds).sum();
        match self {
            Self::DownloadsPerSecond => {
                intervals.map(|interval| interval.ended).sum::<u64>() as f64 / seconds
            }
            Self::BytesPerSecond => intervals.map(|interval| interval.bytes).sum::<u64>() as f64 / seconds,
            Self::Latency(part) => latency(intervals).quantile(part),
        }
    }

    /// Whether enough downloads are slower than a quantile to show how it varies; than the maximum, none is.
    fn is_well_seen(self, run: &[Interval]) -> bool {
        match self {
            Self::DownloadsPerSecond | Self::BytesPerSecond => true,
            Self::Latency(part) => latency(run).count() as f64 >= (SLOWER_MIN / (1.0 - part)).round(),
        }
    }

    fn shown(self, value: Option<f64>) -> String {
        match (self, value) {
            (_, None) => "–".to_owned(),
            (Self::DownloadsPerSecond, Some(rate)) => report::rate_of(rate),
            (Self::BytesPerSecond, Some(bytes)) => report::bytes_per_second(bytes),
            (Self::Latency(_), Some(seconds)) => shown(seconds),
        }
    }
}

impl Comparison {
    fn text(&self) -> String {
        let mut text = format!("{:15}{:>14}{:>14}   ratio\n", "", "first", "second");
        for (row, (_, figure)) in self.figures.iter().zip(FIGURES) {
            let _ = write!(
                text,
                "{:15}{:>14}{:>14}",
                row.name,
                figure.shown(row.before),
                figure.shown(row.after)
            );
            let _ = match &row.ratio {
                Some(Ratio { ratio, interval: Some([low, high]) }) => {
                    writeln!(text, "   {ratio:.3}  (95 %: {low:.3} to {high:.3})")
                }
                Some(Ratio { ratio, interval: None }) => writeln!(text, "   {ratio:.3}  (95 %: –)"),
                None => writeln!(text, "   –"),
            };
        }
        let [before, after] = self.failed_parts.map(|part| format!("{:.3} %", part * 100.0));
        let _ = writeln!(text, "{:15}{before:>14}{after:>14}", "failed");
        text +=
            "\nIntervals say how far the seconds of one run vary, not how far one run is from the next.\n";
        for remark in &self.remarks {
            let _ = writeln!(text, "NOTE: {remark}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    #[test]
    fn a_quantile_has_an_interval_where_ten_are_slower() {
        let run = |count| {
            let tally = Tally { latency: Times::of_pairs([(1000, count)]), ..Tally::default() };
            [Interval::of(Stretch::Measured, 0.0, 1.0, &tally)]
        };
        for (part, least) in [(0.5, 20), (0.9, 100), (0.99, 1000), (0.999, 10_000)] {
            assert!(Figure::Latency(part).is_well_seen(&run(least)), "{part}");
            assert!(!Figure::Latency(part).is_well_seen(&run(least - 1)), "{part}");
        }
        assert!(!Figure::Latency(1.0).is_well_seen(&run(1 << 40)));
        assert!(Figure::DownloadsPerSecond.is_well_seen(&run(1)));
    }
}
