//! What the program says: the one place that writes to standard output.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context;

pub(crate) fn section(title: &str) -> anyhow::Result<()> {
    say(&format!("\n{title}"))
}

/// A claim that held, and what was measured.
pub(crate) fn passed(claim: &str, measured: &str) -> anyhow::Result<()> {
    say(&format!("  ok  {claim}: {measured}"))
}

/// The claim that did not hold.
pub(crate) fn failed(fault: &anyhow::Error) -> anyhow::Result<()> {
    say(&format!("\nFAILED: {fault:#}"))
}

/// The last lines of a log, if it is there.
pub(crate) fn tail(log: &Path, lines: usize) -> anyhow::Result<()> {
    let Ok(text) = fs::read_to_string(log) else { return Ok(()) };
    let all: Vec<&str> = text.lines().collect();
    let last = all[all.len().saturating_sub(lines)..].join("\n");
    say(&format!("\nThe end of {}:\n{last}", log.display()))
}

/// Whom a process runs as, in words.
pub(crate) fn user_of(pid: u32) -> anyhow::Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
    let line = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(name));
        found.map(|values| values.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let (user, capabilities) = (line("Uid:").unwrap_or_default(), line("CapEff:").unwrap_or_default());
    anyhow::ensure!(user != "0" && capabilities.trim_matches('0').is_empty(), "it has privileges: {status}");
    Ok(format!("user {user}, no capabilities"))
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
