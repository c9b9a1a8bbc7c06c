//! h2load: the client that asks over HTTP/2, for one link.

use std::fs;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::machine;
use crate::server::{Front, Links, Server};
use crate::wrk::Seen;

/// Streams of a connection at a time.
const STREAMS: u32 = 8;

pub(crate) fn run(server: &Server, links: &Links, connections: u32, seconds: u64) -> anyhow::Result<Seen> {
    let targets = fs::read_to_string(&links.path)?;
    let target = targets.lines().next().context("a link")?;
    let before = machine::children_cpu_time()?;
    let mut command = Command::new("h2load");
    command
        .args(["-t1", &format!("-c{connections}"), &format!("-m{STREAMS}"), &format!("-D{seconds}")])
        .arg(format!("{}{target}", server.url_of(Front::H2)?));
    let output = command.output().context("cannot run h2load")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("h2load failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    ensure!(text.contains("Application protocol: h2"), "h2load spoke something else: {text}");
    let seen = parse(&text, seconds).with_context(|| format!("h2load said: {text}"))?;
    ensure!(seen.bytes >= seen.requests * links.least_bytes as f64, "h2load got too few bytes: {text}");
    Ok(Seen { cpu_seconds: machine::children_cpu_time()? - before, ..seen })
}

/// What it prints at its end. It ends with requests under way, whose bytes are counted and which are not.
fn parse(text: &str, seconds: u64) -> anyhow::Result<Seen> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned());
    let number = |list: &str, what: &str| -> anyhow::Result<f64> {
        let found = list.split(',').find_map(|part| part.trim().strip_suffix(what));
        Ok(found.with_context(|| what.to_owned())?.trim().parse()?)
    };
    let (requests, codes) = (line("requests: ")?, line("status codes: ")?);
    // "traffic: 1.2MB (1234) total, …, 1.1MB (1200) data"
    let data = line("traffic: ")?.split(',').find(|part| part.ends_with(" data")).context("data")?;
    let bytes = data.split(['(', ')']).nth(1).context("bytes")?.parse()?;
    // Codes are counted as they come, before their bodies.
    let done = number(requests, "succeeded")?;
    let failed = number(requests, "failed")? + number(requests, "timeout")?;
    let others = ["3xx", "4xx", "5xx"].iter().map(|code| number(codes, code)).sum::<anyhow::Result<f64>>()?;
    let seconds = seconds as f64;
    Ok(Seen { requests: done, seconds, bytes, p99_ms: f64::NAN, errors: failed + others, cpu_seconds: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_prints_is_read() {
        let text = "finished in 2.00s, 5.00 req/s, 1.2KB/s\n\
            requests: 12 total, 13 started, 11 done, 10 succeeded, 1 failed, 0 errored, 2 timeout\n\
            status codes: 12 2xx, 0 3xx, 1 4xx, 0 5xx\n\
            traffic: 2.4KB (2468) total, 100B (100) headers (space savings 50.00%), 2.3KB (2345) data\n";
        let seen = parse(text, 2).unwrap();
        assert_eq!((seen.requests, seen.seconds, seen.bytes, seen.errors), (10.0, 2.0, 2345.0, 4.0));
        assert!(parse("nothing", 2).is_err());
    }
}
