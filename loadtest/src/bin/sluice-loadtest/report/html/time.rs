//! What happened when: rates, bytes and latencies over the run, and the same as a table.

use std::fmt::Write as _;

use super::latency::seconds_axis;
use crate::histogram::shown;
use crate::report::chart::{Axis, Line, Mark, Plot};
use crate::report::scale::Scale;
use crate::report::{bytes_of, plain, rate_of};
use crate::summary::{Interval, Stretch, Summary};

/// Shorter stretches, such as the end of draining, have no rate worth showing.
const SECONDS_MIN: f64 = 0.2;

/// A run's stretches that are long enough to show.
struct Course<'s> {
    summary: &'s Summary,
    intervals: Vec<&'s Interval>,
    time: Scale,
}

pub(super) fn add(page: &mut String, summary: &Summary) {
    page.push_str("<h2>Over time</h2>\n");
    let intervals: Vec<&Interval> =
        summary.intervals.iter().filter(|interval| interval.seconds > SECONDS_MIN).collect();
    let Some(last) = intervals.last() else {
        page.push_str("<p>The run was too short to be divided.</p>\n");
        return;
    };
    let time = Scale::between(0.0, last.from + last.seconds);
    let course = Course { summary, intervals, time };
    for plot in [course.downloads(), course.bytes(), course.latencies()] {
        page.push_str(&plot.svg());
    }
    table_over_time(page, &course.intervals);
}

impl Course<'_> {
    fn downloads(&self) -> Plot<'static> {
        let rate = |interval: &Interval, count: u64| count as f64 / interval.seconds;
        let both = [
            ("ended", self.values(|interval| rate(interval, interval.ended))),
            ("failed", self.values(|interval| rate(interval, interval.failed))),
        ];
        let scale = Scale::linear(both.iter().flat_map(|(_, values)| values.iter().map(|(_, value)| *value)));
        let ticks = scale.ticks().into_iter().map(|tick| (scale.place(tick), rate_of(tick)));
        let description = "Downloads that ended well, and that failed, in each stretch of the run. What is shaded is \
                           not measured; dotted lines are what was done to the cluster.";
        Plot {
            id: "throughput",
            title: "Throughput over time",
            description,
            y: Axis { label: "downloads a second".to_owned(), ticks: ticks.collect() },
            lines: lines(&both, &scale),
            ..self.plot()
        }
    }

    fn bytes(&self) -> Plot<'static> {
        let values = self.values(|interval| interval.bytes as f64 / interval.seconds);
        let scale = Scale::linear(values.iter().map(|(_, value)| *value));
        let ticks = scale.ticks().into_iter().map(|tick| (scale.place(tick), bytes_of(tick)));
        Plot {
            id: "bytes",
            title: "Bytes over time",
            description: "Bytes of files that came in each stretch of the run.",
            y: Axis { label: "bytes a second".to_owned(), ticks: ticks.collect() },
            lines: lines(&[("bytes", values)], &scale),
            ..self.plot()
        }
    }

    fn latencies(&self) -> Plot<'static> {
        let of = |part: f64| self.values(|interval| interval.latency.quantile(part));
        let all = [("p50", of(0.5)), ("p99", of(0.99)), ("longest", of(1.0))];
        let values: Vec<f64> =
            all.iter().flat_map(|(_, values)| values.iter().map(|(_, value)| *value)).collect();
        let scale = Scale::logarithmic(values);
        Plot {
            id: "latencies",
            title: "Latency over time",
            description: "Latencies of the downloads that ended in each stretch of the run.",
            y: seconds_axis(&scale),
            lines: lines(&all, &scale),
            ..self.plot()
        }
    }

    /// Values at their places in time, where there are any.
    fn values(&self, of: impl Fn(&Interval) -> f64) -> Vec<(f64, f64)> {
        let middle = |interval: &Interval| self.time.place(interval.from + interval.seconds / 2.0);
        let all = self.intervals.iter().map(|interval| (middle(interval), of(interval)));
        all.filter(|(_, value)| value.is_finite()).collect()
    }

    /// What all plots over time have in common.
    fn plot(&self) -> Plot<'static> {
        let ticks = self
            .time
            .ticks()
            .into_iter()
            .map(|tick| (self.time.place(tick), format!("{}", (tick * 1000.0).round() / 1000.0)));
        let events = self.summary.faults.iter();
        let mark = |(at, what): &(f64, String)| Mark {
            place: self.time.place(*at),
            text: format!("{at:.1} s: {}", plain(what)),
        };
        Plot {
            id: "",
            title: "",
            description: "",
            x: Axis { label: "seconds since the start".to_owned(), ticks: ticks.collect() },
            y: Axis { label: String::new(), ticks: Vec::new() },
            lines: Vec::new(),
            shaded: shaded(&self.intervals, &self.time),
            marks: events.map(mark).collect(),
        }
    }
}

/// Named values, each with its place in time.
type Named = (&'static str, Vec<(f64, f64)>);

fn lines(named: &[Named], scale: &Scale) -> Vec<Line> {
    let line = |(name, values): &Named| Line {
        name: (*name).to_owned(),
        points: values.iter().map(|(place, value)| (*place, scale.place(*value))).collect(),
    };
    named.iter().map(line).collect()
}

/// Stretches that are not measured, as parts of the width.
fn shaded(intervals: &[&Interval], time: &Scale) -> Vec<(f64, f64)> {
    let besides = intervals.iter().filter(|interval| interval.stretch != Stretch::Measured);
    besides
        .map(|interval| (time.place(interval.from), time.place(interval.from + interval.seconds)))
        .collect()
}

fn table_over_time(page: &mut String, intervals: &[&Interval]) {
    page.push_str(
        "<details><summary>The same as a table</summary><div class=\"wide\"><table>\n<tr><th scope=\"col\">from</th>\
         <th scope=\"col\">begun</th><th scope=\"col\">ended</th><th scope=\"col\">failed</th><th scope=\"col\">bytes\
         </th><th scope=\"col\">p50</th><th scope=\"col\">p99</th><th scope=\"col\">longest</th></tr>\n",
    );
    for interval in intervals {
        let latency = |part: f64| shown(interval.latency.quantile(part));
        let stretch = match interval.stretch {
            Stretch::WarmUp => " (warm-up)",
            Stretch::Measured => "",
            Stretch::Drain => " (draining)",
        };
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{:.1} s{stretch}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td></tr>",
            interval.from,
            interval.begun,
            interval.ended,
            interval.failed,
            bytes_of(interval.bytes as f64),
            latency(0.5),
            latency(0.99),
            latency(1.0)
        );
    }
    page.push_str("</table></div></details>\n");
}
