//! A metric as it is described, once: for `/metrics`, and for the list of all of them.

use std::fmt::Write as _;

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// How a metric's values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up, from the program's start.
    Counter,
    /// Up and down.
    Gauge,
    /// Counts by upper bounds, and a sum.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric's values are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Of things that the description names.
    Number,
    Seconds,
    /// Seconds since 1970: a time, and no span.
    UnixTime,
    Bytes,
    /// 0 to 1.
    Ratio,
    /// 1 where it is so, else 0.
    Truth,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Seconds => "seconds",
            Self::UnixTime => "Unix time",
            Self::Bytes => "bytes",
            Self::Ratio => "0 to 1",
            Self::Truth => "1 or 0",
        }
    }
}

/// A label, and what its values can be: never what a caller or a file chose.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    pub name: &'static str,
    pub values: Values,
}

/// What a label's values can be.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// These.
    Listed(fn() -> Vec<String>),
    /// Ids of edges.
    Edges,
}

/// A label with so many values as there are edges.
pub const EDGE: Label = Label { name: "edge", values: Values::Edges };

impl Label {
    pub const fn listed(name: &'static str, values: fn() -> Vec<String>) -> Self {
        Self { name, values: Values::Listed(values) }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// A sentence: what it counts or shows, and when it is not there.
    pub meaning: &'static str,
    pub labels: &'static [Label],
}

impl Metric {
    pub const fn counter(name: &'static str, unit: Unit, meaning: &'static str) -> Self {
        Self { name, kind: Kind::Counter, unit, meaning, labels: &[] }
    }

    pub const fn gauge(name: &'static str, unit: Unit, meaning: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, unit, meaning, labels: &[] }
    }

    pub const fn histogram(name: &'static str, unit: Unit, meaning: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, unit, meaning, labels: &[] }
    }

    #[must_use]
    pub const fn by(self, labels: &'static [Label]) -> Self {
        Self { labels, ..self }
    }

    /// Tells the recorder what the metric means; after it was installed.
    fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.meaning),
            Kind::Gauge => describe_gauge!(self.name, self.meaning),
            Kind::Histogram => describe_histogram!(self.name, self.meaning),
        }
    }

    /// Its row of the list.
    fn row(&self) -> String {
        let label = |label: &Label| {
            let values = match label.values {
                Values::Listed(values) => {
                    values().iter().map(|value| format!("`{value}`")).collect::<Vec<_>>()
                }
                Values::Edges => vec!["ids of edges".to_owned()],
            };
            format!("`{}`: {}", label.name, values.join(", "))
        };
        let labels = self.labels.iter().map(label).collect::<Vec<_>>().join("; ");
        let (kind, unit) = (self.kind.as_str(), self.unit.as_str());
        format!("| `{}` | {kind} | {unit} | {labels} | {} |", self.name, self.meaning)
    }
}

/// Tells the recorder what metrics mean; after it was installed.
pub fn describe(metrics: &[Metric]) {
    metrics.iter().for_each(Metric::describe);
}

/// A program's part of the list, Markdown.
pub(crate) fn list(program: &str, metrics: &[Metric]) -> String {
    let mut text = format!("## `{program}`\n\n| metric | type | unit | labels | meaning |\n");
    text.push_str("| --- | --- | --- | --- | --- |\n");
    for metric in metrics {
        let _ = writeln!(text, "{}", metric.row());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_all_there_is() {
        let label = Label::listed("reason", || vec!["a".to_owned(), "b".to_owned()]);
        const LABELS: &[Label] = &[EDGE];
        let metric = Metric::counter("sluice_x_total", Unit::Number, "Of x.");
        assert_eq!(
            metric.by(LABELS).row(),
            "| `sluice_x_total` | counter | number | `edge`: ids of edges | Of x. |"
        );
        let labels: &'static [Label] = Box::leak(Box::new([label]));
        let metric = Metric::gauge("sluice_y_ratio", Unit::Ratio, "Of y.").by(labels);
        assert_eq!(metric.row(), "| `sluice_y_ratio` | gauge | 0 to 1 | `reason`: `a`, `b` | Of y. |");
    }
}
