//! What criterion has measured, as one table and one JSON: each bench with its median, what it is as a multiple of what
//! stands beside it, and what limits it. It measures nothing.

mod criterion;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;
use serde::Serialize;
use sluice_benches::known::{self, DIFFERENCES};
use sluice_loadtest::host::Host;

use criterion::Estimate;

/// Summarises what `cargo bench` has measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where criterion keeps its results.
    #[arg(long, value_name = "FOLDER")]
    criterion: PathBuf,
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    out: PathBuf,
    /// Leaves out what is older, in seconds since 1970: results of benches that are no more.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    since: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    host: Host,
    benches: BTreeMap<String, Row>,
}

#[derive(Debug, Default, Serialize)]
struct Row {
    median_ns: f64,
    /// Of the median, 95 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ns: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<String>,
    /// This time over that.
    #[serde(skip_serializing_if = "Option::is_none")]
    times_beside: Option<f64>,
    limit: &'static str,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let estimates = criterion::read(&arguments.criterion, arguments.since)?;
    ensure!(!estimates.is_empty(), "no results in {}", arguments.criterion.display());
    let unknown: Vec<&String> = estimates.keys().filter(|name| known::of(name).is_none()).collect();
    let summary = Summary { host: Host::here(), benches: rows(&estimates) };
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&arguments.out, serde_json::to_string_pretty(&summary)? + "\n")?;
    let mut out = io::stdout().lock();
    write!(out, "{}", table(&summary))?;
    if unknown.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "\nNot entered in benches/src/known.rs with what limits them: {unknown:?}")?;
    Ok(ExitCode::FAILURE)
}

fn rows(estimates: &BTreeMap<String, Estimate>) -> BTreeMap<String, Row> {
    let measured = estimates.iter().filter_map(|(name, estimate)| {
        let known = known::of(name)?;
        let other = known.beside.as_ref().and_then(|beside| estimates.get(beside));
        let row = Row {
            median_ns: estimate.median_ns,
            interval_ns: Some(estimate.interval_ns),
            bytes_per_second: estimate.bytes.map(|bytes| bytes / estimate.median_ns * 1e9),
            times_beside: other.map(|other| estimate.median_ns / other.median_ns),
            beside: other.and(known.beside),
            limit: known.limit,
        };
        Some((name.clone(), row))
    });
    let differences = DIFFERENCES.iter().filter_map(|difference| {
        let median_ns =
            estimates.get(difference.of)?.median_ns - estimates.get(difference.without)?.median_ns;
        let row = Row { median_ns, limit: difference.limit, ..Row::default() };
        Some((difference.name.to_owned(), row))
    });
    measured.chain(differences).collect()
}

fn table(summary: &Summary) -> String {
    let mut text = format!("{}\n\n", summary.host.shown());
    text += "| bench | median | bytes/s | × beside | beside | limited by |\n| --- | ---: | ---: | ---: | --- | --- |\n";
    for (name, row) in &summary.benches {
        let rate = row.bytes_per_second.map_or(String::new(), |rate| format!("{:.2} GB/s", rate / 1e9));
        let ratio = row.times_beside.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let beside = row.beside.as_deref().unwrap_or_default();
        text +=
            &format!("| {name} | {} | {rate} | {ratio} | {beside} | {} |\n", shown(row.median_ns), row.limit);
    }
    text
}

/// Three digits and a unit.
fn shown(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds.abs() {
        less if less < 1e3 => (nanoseconds, "ns"),
        less if less < 1e6 => (nanoseconds / 1e3, "µs"),
        less if less < 1e9 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    let decimals = match value.abs() {
        less if less < 10.0 => 2,
        less if less < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_beside_others_and_say_their_limit() {
        let estimate = |median_ns| Estimate { median_ns, interval_ns: [median_ns; 2], bytes: Some(1000.0) };
        let names = [
            ("open/sluice", 900.0),
            ("open/josekit", 3600.0),
            ("open/sluice-without-claims", 700.0),
            ("edge/send/1KiB", 30.0),
            ("edge/bare/1KiB", 20.0),
        ];
        let estimates = names.into_iter().map(|(name, median)| (name.to_owned(), estimate(median))).collect();
        let rows = rows(&estimates);
        assert_eq!(rows["open/sluice"].times_beside, Some(0.25));
        assert_eq!(rows["edge/send/1KiB"].times_beside, Some(1.5));
        assert_eq!(rows["claims/minted"].median_ns, 200.0);
        let table = table(&Summary { host: Host::default(), benches: rows });
        assert!(
            table.contains("| open/sluice | 900 ns | 1.11 GB/s | 0.25 | open/josekit | AES-GCM"),
            "{table}"
        );
    }

    #[test]
    fn times_are_written_for_readers() {
        for (nanoseconds, text) in [(1.234, "1.23 ns"), (12_345.0, "12.3 µs"), (123_456_789.0, "123 ms")] {
            assert_eq!(shown(nanoseconds), text);
        }
    }
}
