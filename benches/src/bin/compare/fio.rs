//! fio: what a filesystem can give, to whoever asks it well.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::machine;

/// Its name in reports, beside servers'.
pub(crate) const NAME: &str = "fio";

/// Reads a whole file past the page cache, so many MiB at a time, on the servers' core. Gives bytes a second.
///
/// # Errors
/// There is no fio, or it failed.
pub(crate) fn read(file: &Path, depth: u32) -> anyhow::Result<f64> {
    let output = machine::on_servers_core("fio")
        .args(["--name=read", "--rw=read", "--bs=1M", "--direct=1", "--ioengine=io_uring", "--readonly"])
        .args([&format!("--iodepth={depth}"), "--output-format=json"])
        .arg(format!("--filename={}", file.display()))
        .output()
        .context("cannot run fio")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "fio failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).with_context(|| format!("fio said: {text}"))?;
    let rate = report["jobs"][0]["read"]["bw_bytes"].as_f64();
    rate.filter(|rate| *rate > 0.0).with_context(|| format!("fio read nothing: {text}"))
}
