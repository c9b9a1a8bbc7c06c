//! wrk, and what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::compared::Seen;
use crate::{CLIENT_CORE, Task};

/// Prints what was counted as one line of numbers; `os.clock` is the processor time of the process.
const SCRIPT: &str = r#"
function init()
    io.write(string.format("began %.6f\n", os.clock()))
end

function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("counted %d %d %d %d %d %d %.6f %.3f\n", summary.requests, summary.duration, failed,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), os.clock(), latency.mean))
end
"#;

pub(crate) struct Wrk {
    script: PathBuf,
}

impl Wrk {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let script = folder.join("count.lua");
        fs::write(&script, SCRIPT)?;
        Ok(Self { script })
    }

    pub(crate) fn run(&self, task: &Task) -> anyhow::Result<Seen> {
        let Task { url, connections, seconds, .. } = task;
        let output = Command::new("taskset")
            .args(["-c", CLIENT_CORE, "wrk", "-t1"])
            .args([format!("-c{connections}"), format!("-d{seconds}s")])
            .arg("-s")
            .arg(&self.script)
            .arg(url)
            .output()
            .context("cannot run wrk; deploy/needs.sh compare installs it")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        parse(&text).with_context(|| format!("wrk said: {text}"))
    }
}

fn parse(text: &str) -> anyhow::Result<Seen> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let began: f64 = line("began ").context("wrk did not begin")?.parse()?;
    let counted = line("counted ").context("wrk did not count")?;
    let numbers = counted.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [requests, micros, failed, p50, p90, p99, ended, mean] = numbers[..] else {
        bail!("wrk counted otherwise")
    };
    ensure!(requests > 0.0 && failed == 0.0, "{failed} of {requests} requests failed");
    Ok(Seen {
        rate: requests / micros * 1e6,
        p50: p50 / 1e6,
        p90: p90 / 1e6,
        p99: p99 / 1e6,
        cpu: (ended - began) / requests,
        mean: mean / 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read() {
        let seen =
            parse("began 0.25\nRunning 1s test\ncounted 1000 2000000 0 1500 2000 9000 1.250000 1600.5\n")
                .unwrap();
        assert!((seen.rate - 500.0).abs() < 1e-9 && (seen.p99 - 0.009).abs() < 1e-9);
        assert!((seen.cpu - 0.001).abs() < 1e-9 && (seen.mean - 0.001_600_5).abs() < 1e-12);
        assert!(parse("began 0.25\ncounted 1000 2000000 1 1500 2000 9000 1.25 1600.5\n").is_err());
        assert!(parse("began 0.25\n").is_err());
    }
}
