//! wrk: the client that asks. A run in which it saw one error is no measurement.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::machine;
use crate::report::Size;

/// The core that wrk runs on.
const CORE: &str = "1";

/// Prints what wrk counted as one line of numbers. `status` counts answers above 399.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("counted %d %d %d %d %d %d %d %d %d\n",
        summary.requests, summary.duration, summary.bytes, latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"#;

pub(crate) struct Wrk {
    script: PathBuf,
}

/// What wrk saw in one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) bytes: f64,
    /// Milliseconds from request to the answer's last byte.
    pub(crate) p99_ms: f64,
}

impl Wrk {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let script = folder.join("report.lua");
        fs::write(&script, SCRIPT)?;
        Ok(Self { script })
    }

    pub(crate) fn run(&self, url: &str, size: Size, seconds: u64) -> anyhow::Result<Seen> {
        let mut command = match machine::cores() {
            1 => Command::new("wrk"),
            _ => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", CORE, "wrk"]);
                pinned
            }
        };
        command
            .arg("-t1")
            .arg(format!("-c{}", size.connections))
            .arg(format!("-d{seconds}s"))
            .args(["--timeout", "30s", "-s"])
            .arg(&self.script)
            .arg(url);
        let output = command.output().context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("counted "));
        let Some(line) = line.filter(|_| output.status.success()) else {
            bail!("wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        };
        let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [requests, micros, bytes, p99_micros, errors @ ..] = numbers.as_slice() else {
            bail!("wrk counted too little: {line}");
        };
        ensure!(
            errors.iter().all(|count| *count == 0.0),
            "wrk saw errors, so this is no measurement: {text}"
        );
        ensure!(*requests > 0.0, "wrk got no answer: {text}");
        // Redirects are no errors to wrk, but they are short.
        let least = requests * size.bytes as f64;
        ensure!(*bytes >= least, "wrk got {bytes} bytes where files alone are {least}: {text}");
        Ok(Seen { requests: *requests, seconds: micros / 1e6, bytes: *bytes, p99_ms: p99_micros / 1e3 })
    }
}
