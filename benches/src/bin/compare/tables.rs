//! Markdown: a short table a scenario for readers, and one of everything for whoever measured.

use std::fmt::Write as _;

use crate::report::{Intervals, Measures, Report, Row, Section};
use crate::server::Kind;

/// One column of a short table; each case is a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    pub(crate) server: &'static str,
    pub(crate) value: Value,
    pub(crate) style: Style,
}

pub(crate) const fn column(heading: &'static str, server: Kind, value: Value, style: Style) -> Column {
    Column { heading, server: server.name(), value, style }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    /// What that server measured.
    Median(&'static str),
    /// The edge's divided by that server's.
    EdgeRatio(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// 1.234 → 1.23
    Ratio,
    /// 0.931 → 93 %
    Share,
    /// 12345.6 → 12,346
    Count,
}

impl Style {
    fn write(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.2}"),
            Self::Share => format!("{:.0} %", value * 100.0),
            Self::Count => grouped(&format!("{value:.0}")),
        }
    }
}

/// The short tables, for a README.
pub(crate) fn short(report: &Report) -> String {
    let mut text = String::new();
    for section in &report.scenarios {
        let columns = section.scenario.columns();
        let headings: Vec<&str> = columns.iter().map(|column| column.heading).collect();
        let _ = write!(text, "{}\n\n{}", section.scenario.title(), head("case", &headings));
        let mut cases: Vec<&str> = section.rows.iter().map(|row| row.case.as_str()).collect();
        cases.dedup();
        for case in cases {
            let cells: Vec<String> = columns.iter().map(|column| column.cell(section, case)).collect();
            let _ = writeln!(text, "| {case} | {} |", cells.join(" | "));
        }
        text.push('\n');
    }
    text
}

impl Column {
    fn cell(&self, section: &Section, case: &str) -> String {
        let row = section.rows.iter().find(|row| row.case == case && row.server == self.server);
        let value = row.and_then(|row| match self.value {
            Value::Median(name) => row.median.value(name),
            Value::EdgeRatio(name) => row.edge_ratios.value(name),
        });
        value.map_or_else(String::new, |value| self.style.write(value))
    }
}

/// Every median and ratio, and what came of the goals.
pub(crate) fn full(report: &Report) -> String {
    let Report { machine, rounds, seconds, .. } = report;
    let mut text = format!(
        "{}; medians of {rounds} rounds of {seconds} s, one core each for servers and clients; in brackets what they lie \
         between at 95 %, where there were six rounds or more\n",
        machine.shown(),
    );
    for section in &report.scenarios {
        let _ = write!(text, "\n## {}\n\n{}", section.scenario, everything(section));
        let (disturbed, measured) = section.disturbed();
        if disturbed > 0 {
            let _ = writeln!(text, "\nOthers used the cores in {disturbed} of {measured} measurements.");
        }
        if !section.goals.is_empty() {
            let _ = write!(text, "\n{}", head("goal", &["wanted", "measured", ""]));
        }
        for goal in &section.goals {
            let measured =
                goal.measured.map_or_else(|| "nothing".to_owned(), |value| sure(value, goal.interval));
            let met = if goal.met { "met" } else { "**missed**" };
            let _ = writeln!(text, "| {} | {} | {measured} | {met} |", goal.what, goal.wanted);
        }
    }
    text
}

fn everything(section: &Section) -> String {
    let names = |of: fn(&Row) -> &Measures| {
        let names = section.rows.iter().flat_map(|row| of(row).names().map(str::to_owned));
        names.collect::<std::collections::BTreeSet<String>>().into_iter().collect::<Vec<_>>()
    };
    let medians = names(|row| &row.median);
    // A ratio of ratios says nothing.
    let ratios = ["requests_per_second", "cpu_seconds_per_100k_requests", "cpu_seconds_per_gb"];
    let ratios =
        ratios.map(str::to_owned).into_iter().filter(|name| names(|row| &row.edge_ratios).contains(name));
    let ratios: Vec<String> = ratios.collect();
    let headings = medians.iter().cloned().chain(ratios.iter().map(|name| format!("edge × {name}")));
    let headings: Vec<String> = headings.map(|name| name.replace('_', " ")).collect();
    let mut text = head("case | server", &headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in &section.rows {
        let cell = |measures: &Measures, intervals: &Intervals, name: &str| {
            measures.value(name).map_or_else(String::new, |value| sure(value, intervals.of_name(name)))
        };
        let cells = medians.iter().map(|name| cell(&row.median, &row.median_intervals, name));
        let cells =
            cells.chain(ratios.iter().map(|name| cell(&row.edge_ratios, &row.edge_ratio_intervals, name)));
        let _ =
            writeln!(text, "| {} | {} | {} |", row.case, row.server, cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// Heading and rule; numbers are set to the right.
fn head(first: &str, headings: &[&str]) -> String {
    let names = first.split(" | ").map(|_| "---").collect::<Vec<_>>().join(" | ");
    let rules = vec!["---:"; headings.len()].join(" | ");
    format!("| {first} | {} |\n| {names} | {rules} |\n", headings.join(" | "))
}

/// A value, with what it lies between.
fn sure(value: f64, interval: Option<[f64; 2]>) -> String {
    let bounds = interval.map(|bounds| bounds.map(significant).join(" to "));
    bounds.map_or_else(|| significant(value), |bounds| format!("{} ({bounds})", significant(value)))
}

/// Three digits, or all before the point.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    grouped(&format!("{value:.decimals$}"))
}

/// Commas between thousands.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.find('.').map_or((number, ""), |at| number.split_at(at));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Rows;
    use crate::scenario::Scenario;
    use crate::server::Kind;

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!(Style::Ratio.write(1.234), "1.23");
        assert_eq!(Style::Share.write(0.931), "93 %");
        assert_eq!(Style::Count.write(1_234_567.8), "1,234,568");
        let table = [(0.0, "0"), (0.1234, "0.123"), (12.34, "12.3"), (1234.5, "1,234"), (-1234.5, "-1,234")];
        for (value, expected) in table {
            assert_eq!(significant(value), expected);
        }
    }

    #[test]
    fn a_table_has_a_row_a_case_and_leaves_out_what_is_missing() {
        let mut rows = Rows::default();
        let rate = |rate| Measures::default().with("requests_per_second", rate);
        rows.add("1KiB", Kind::Nginx.name(), rate(1000.0));
        rows.add("1KiB", Kind::Edge.name(), rate(2500.0));
        let section = rows.conclude(Scenario::Warm);
        let column =
            |server: Kind, value| Column { heading: "", server: server.name(), value, style: Style::Ratio };
        let cell = |column: Column| column.cell(&section, "1KiB");
        assert_eq!(cell(column(Kind::Nginx, Value::EdgeRatio("requests_per_second"))), "2.50");
        assert_eq!(cell(column(Kind::Edge, Value::Median("requests_per_second"))), "2500.00");
        assert_eq!(cell(column(Kind::NginxCache, Value::Median("requests_per_second"))), "");
        assert!(everything(&section).contains("| 1KiB | nginx | 1,000 | 2.50 |"), "{}", everything(&section));
        assert_eq!(sure(1.5, Some([1.25, 12.0])), "1.50 (1.25 to 12.0)");
    }
}
