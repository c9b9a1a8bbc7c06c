//! How much memory there is to take a share of.

use std::fs;
use std::path::Path;

/// The memory this process may use: its control group's limit, or the machine's.
pub(super) fn available_memory() -> u64 {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group =
        groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/');
    // A limit holds for all below it.
    let limits = Path::new("/sys/fs/cgroup").join(group);
    let limits = limits.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    let group =
        limits.filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok().and_then(number)).min();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        number(line.replace("kB", "")).map(|kib| kib * 1024)
    });
    match (group, machine) {
        (Some(group), Some(machine)) => group.min(machine),
        (one, other) => one.or(other).unwrap_or(1 << 30),
    }
}
