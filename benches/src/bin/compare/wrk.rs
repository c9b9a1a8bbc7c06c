//! wrk: the client that asks, with one link or many of one list.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::lab::Load;
use crate::server::Server;

/// Takes the file of targets, a seed, and 0; or a file of whole requests, anything, and the length of each: they are sent
/// as they are, in turn, from the first again after the last. The seed of targets: above 0 they are asked at random, at 0 in turn, below only the first one, which
/// costs wrk no script a request. Prints the processor time that wrk had
/// used when it began to ask, and at the end what it counted, as lines of numbers; `status` counts answers above 399.
const SCRIPT: &str = r#"
local requests, seed, at = {}, 0, 0
local file, bytes

function init(args)
    bytes = tonumber(args[3])
    if bytes > 0 then
        file = io.open(args[1], "rb")
        file:setvbuf("full", 1048576)
        io.write(string.format("began %.6f\n", os.clock()))
        return
    end
    for target in io.lines(args[1]) do
        requests[#requests + 1] = wrk.format("GET", target)
    end
    seed = tonumber(args[2])
    math.randomseed(seed)
    if seed < 0 then
        wrk.path = io.lines(args[1])()
        request = nil
    end
    io.write(string.format("began %.6f\n", os.clock()))
end

function request()
    if file then
        local whole = file:read(bytes)
        if not whole then
            file:seek("set")
            whole = file:read(bytes)
        end
        return whole
    end
    if seed > 0 then
        return requests[math.random(#requests)]
    end
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("counted %d %d %d %d %d %d %d %d %d %.6f\n",
        summary.requests, summary.duration, summary.bytes, latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout, os.clock()))
end
"#;

pub(crate) struct Wrk {
    script: PathBuf,
}

/// In which order links are asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// The first one only.
    First,
    InTurn,
    /// Any, each time; the same seed gives the same order again. Not 0.
    AtRandom(u32),
}

/// What wrk saw in one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) bytes: f64,
    /// Milliseconds from request to the answer's last byte; no number where there was no answer.
    pub(crate) p99_ms: f64,
    pub(crate) errors: f64,
    /// wrk's own processor time.
    pub(crate) cpu_seconds: f64,
}

impl Wrk {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let script = folder.join("ask.lua");
        fs::write(&script, SCRIPT)?;
        Ok(Self { script })
    }

    pub(crate) fn run(&self, server: &Server, load: &Load<'_>, seconds: u64) -> anyhow::Result<Seen> {
        let Load { links, connections, order, front } = load;
        let seed = match order {
            Order::First => -1,
            Order::InTurn => 0,
            Order::AtRandom(seed) => i64::from(*seed),
        };
        let mut command = Command::new("wrk");
        command
            .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "30s", "-s"])
            .arg(&self.script)
            .arg(server.url_of(*front)?)
            .arg("--")
            .arg(&links.path)
            .arg(seed.to_string())
            .arg(links.signed.as_ref().map_or(0, |signed| signed.bytes).to_string());
        let output = command.output().context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
        let seen = Seen::parse(&text).with_context(|| format!("wrk said: {text}"))?;
        // Redirects are no errors to wrk, but they are short.
        let least = (seen.requests - seen.errors) * links.least_bytes as f64;
        ensure!(seen.bytes >= least, "wrk got {} bytes where files alone are {least}: {text}", seen.bytes);
        Ok(seen)
    }
}

impl Seen {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let began: f64 = line("began ").context("wrk did not begin")?.parse()?;
        let counted = line("counted ").context("wrk did not count")?;
        let numbers = counted.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [requests, micros, bytes, p99_micros, errors @ .., ended] = numbers.as_slice() else {
            bail!("wrk counted too little");
        };
        ensure!(errors.len() == 5, "wrk counted something else");
        Ok(Self {
            requests: *requests,
            seconds: micros / 1e6,
            bytes: *bytes,
            p99_ms: if *requests > 0.0 { p99_micros / 1e3 } else { f64::NAN },
            errors: errors.iter().sum(),
            cpu_seconds: ended - began,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read() {
        let text = "began 0.25\nRunning 1s test\ncounted 10 2000000 5000 1500 0 1 0 2 0 1.750000\n";
        let seen = Seen::parse(text).unwrap();
        assert_eq!((seen.requests, seen.seconds, seen.bytes), (10.0, 2.0, 5000.0));
        assert_eq!((seen.p99_ms, seen.errors, seen.cpu_seconds), (1.5, 3.0, 1.5));
        let silent = Seen::parse("began 0.1\ncounted 0 2000000 0 0 0 0 0 0 64 0.2\n").unwrap();
        assert!(silent.requests == 0.0 && silent.p99_ms.is_nan(), "no answer has no latency");
        assert!(Seen::parse("began 0.1\n").is_err());
    }
}
