//! The load test, and what it reports.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sluice_loadtest::process;

use crate::compared::Seen;
use crate::{CLIENT_CORE, Task, omission};

/// Its files go into `folder`.
pub(crate) fn run(task: &Task, folder: &Path) -> anyhow::Result<Seen> {
    let Task { url, size, connections, seconds } = task;
    let scenario = folder.join("scenario.toml");
    let text = format!(
        "duration = \"{seconds}s\"\nwarm_up = \"0s\"\nload.clients = {connections}\n\
         [[files]]\nname = \"a.bin\"\nsize = {size}\n"
    );
    fs::write(&scenario, text)?;
    let report = folder.join("report");
    let output = Command::new("taskset")
        .args(["-c", CLIENT_CORE])
        .arg(process::binary("sluice-loadtest")?)
        .args(["run", "--quiet", "--threads", "1", "--url", url])
        .arg("--scenario")
        .arg(&scenario)
        .arg("--report")
        .arg(&report)
        .output()
        .context("cannot run the load test")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load test failed: {said}");
    let report: Value = serde_json::from_str(&fs::read_to_string(report.join("report.json"))?)?;
    ensure!(report["tally"]["failed"] == 0, "downloads failed: {}", report["tally"]["failures"]);
    let number = |value: &Value| value.as_f64().context("the report lacks a figure");
    let (figures, generator) = (&report["figures"], &report["generators"][0]["generator"]);
    let rate = number(&figures["downloads_per_second"])?;
    let times: Vec<(u64, u64)> = serde_json::from_value(report["tally"]["latency"].clone())?;
    let seen_by_wrk = omission::corrected(&times, f64::from(*connections) / rate);
    let quantile = |part| omission::quantile(&seen_by_wrk, part);
    Ok(Seen {
        rate,
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        cpu: number(&generator["cpu_seconds"])? / (rate * number(&generator["seconds"])?),
        mean: omission::mean(&seen_by_wrk),
    })
}
