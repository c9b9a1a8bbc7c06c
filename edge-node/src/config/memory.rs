//! How much memory there is to take a share of.

use std::fs;
use std::path::Path;

/// The memory this process may use: its control group's limit, or the machine's.
pub(super) fn available_memory() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = limit_of_group(&groups, Path::new("/sys/fs/cgroup"));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        number(&line.replace("kB", "")).map(|kib| kib * 1024)
    });
    match (group, machine) {
        (Some(group), Some(machine)) => group.min(machine),
        (one, other) => one.or(other).unwrap_or(1 << 30),
    }
}

/// The least limit of the groups in a process's list of them, and of those above, of either version of control groups.
fn limit_of_group(groups: &str, mounts: &Path) -> Option<u64> {
    // ID:CONTROLLERS:PATH; version 2 has no controllers there.
    let limits = groups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, group) = line.split_once(':')?;
        let group = group.trim_start_matches('/');
        if controllers.is_empty() {
            least(mounts, group, "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            // Without a limit it is a number that is more than any machine has.
            least(&mounts.join("memory"), group, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    limits.min()
}

/// A limit holds for all below it.
fn least(mount: &Path, group: &str, file: &str) -> Option<u64> {
    let group = mount.join(group);
    let folders = group.ancestors().take_while(|folder| folder.starts_with(mount));
    folders.filter_map(|folder| number(&fs::read_to_string(folder.join(file)).ok()?)).min()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_a_group_and_those_above_it_holds() {
        let mounts = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "5000\n"),
            ("memory.max", "9000\n"),
            ("memory/c/d/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/c/memory.limit_in_bytes", "7000\n"),
            ("memory/memory.limit_in_bytes", "8000\n"),
            ("cpu/c/memory.limit_in_bytes", "1\n"),
        ] {
            let path = mounts.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let table = [
            ("0::/a/b", Some(5000)),
            ("0::/", Some(9000)),
            ("5:cpu:/c\n4:memory:/c/d\n", Some(7000)),
            // As in a container that sees its own group alone.
            ("4:hugetlb,memory:/docker/e\n0::/none", Some(8000)),
            ("4:memory:/c/d\n0::/a", Some(5000)),
            ("5:cpu:/c", None),
            ("", None),
        ];
        for (groups, expected) in table {
            assert_eq!(limit_of_group(groups, mounts.path()), expected, "{groups}");
        }
    }
}
