//! What figures were taken on, and with.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A machine, the program's source and the compiler, as far as each can be told; empty where it cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// RFC 3339, UTC.
    pub date: String,
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    #[serde(default)]
    pub rustc: String,
    /// Of git, with `+` behind it where files have changed since.
    #[serde(default)]
    pub commit: String,
}

impl Host {
    pub fn here() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let changed = if said("git", &["status", "--porcelain", "-uno"]).is_empty() { "" } else { "+" };
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpu: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["rev-parse", "--short=12", "HEAD"]) + changed,
        }
    }

    /// In one line.
    pub fn shown(&self) -> String {
        let Self { date, cpu, cores, kernel, rustc, commit } = self;
        format!("{date}; {cpu} ({cores} cores), Linux {kernel}; {rustc}; commit {commit}")
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
