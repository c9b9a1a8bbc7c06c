//! The machine that a generator runs on, as its report tells.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Of the generator.
    pub(crate) version: String,
}

impl Machine {
    /// This one. What it does not tell stays empty.
    pub(crate) fn here() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let first = |text: String, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
            line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = first(text("/proc/meminfo"), "MemTotal");
        let kibibytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            name: text("/proc/sys/kernel/hostname").trim().to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            processor: first(text("/proc/cpuinfo"), "model name"),
            memory_bytes: kibibytes * 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What the kernel says of a thread of this process, in seconds since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ThreadTimes {
    pub(crate) busy: f64,
    /// Ready to go on, and no core was free.
    pub(crate) waiting: f64,
}

impl ThreadTimes {
    /// Nothing for a thread that is gone.
    pub(crate) fn of(thread: i32) -> Self {
        let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let mut seconds = || numbers.next().unwrap_or_default() as f64 / 1e9;
        Self { busy: seconds(), waiting: seconds() }
    }
}

/// Time of all cores of the machine, in the kernel's ticks: busy, and in all.
pub(crate) fn core_ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what guests use is in user.
    let all = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// Processor time of this process, in seconds.
pub(crate) fn process_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory that this process has held, in bytes.
pub(crate) fn memory_peak_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).collect();
    let peak = fields.get("VmHWM").map(|value| value.trim().trim_end_matches(" kB"));
    peak.and_then(|kibibytes| kibibytes.parse::<u64>().ok()).unwrap_or_default() * 1024
}
