//! criterion's own files: `…/new/benchmark.json` says what was measured, `…/new/estimates.json` what came of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Deserialize;

/// What came of one bench.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimate {
    pub(crate) median_ns: f64,
    pub(crate) interval_ns: [f64; 2],
    /// Of an iteration, where bytes are what it is about.
    pub(crate) bytes: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<BTreeMap<String, f64>>,
}

#[derive(Debug, Deserialize)]
struct Estimates {
    median: Median,
}

#[derive(Debug, Deserialize)]
struct Median {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Debug, Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// All results beneath a folder, by name, that were written since then.
///
/// # Errors
/// Files that cannot be read, or are not criterion's.
pub(crate) fn read(folder: &Path, since: u64) -> anyhow::Result<BTreeMap<String, Estimate>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.ends_with("new") {
                let (name, estimate, written) = result(&path)?;
                if written >= UNIX_EPOCH + Duration::from_secs(since) {
                    found.insert(name, estimate);
                }
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

fn result(folder: &Path) -> anyhow::Result<(String, Estimate, std::time::SystemTime)> {
    let path = folder.join("estimates.json");
    let text =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let benchmark: Benchmark = serde_json::from_str(&text(&folder.join("benchmark.json"))?)?;
    let Estimates { median } = serde_json::from_str(&text(&path)?)?;
    let Interval { lower_bound, upper_bound } = median.confidence_interval;
    let bytes = benchmark.throughput.and_then(|throughput| throughput.get("Bytes").copied());
    let estimate =
        Estimate { median_ns: median.point_estimate, interval_ns: [lower_bound, upper_bound], bytes };
    Ok((benchmark.full_id, estimate, fs::metadata(path)?.modified()?))
}
