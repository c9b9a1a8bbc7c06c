//! What the numbers were taken on: cores, versions, and what the kernel tells of a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};
use sluice_loadtest::host::Host;
use sluice_loadtest::tool;

use crate::nginx;

/// The core that what is measured runs on.
const SERVER_CORE: usize = 0;
/// The core of everything else: wrk, our own clients, the store.
const CLIENT_CORE: usize = 1;
/// Prints Python's own version and those of what the Python server is made of.
const PACKAGES: &str = "import importlib.metadata as m, platform; print('Python', platform.python_version(), \
    *(f'{n} {m.version(n)}' for n in ('fastapi', 'python-jose', 'uvicorn', 'uvloop', 'httptools')))";
/// Units a second of the times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that user space meets.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    #[serde(flatten)]
    pub(crate) host: Host,
    /// What was run, each as it tells its own version. Earlier results have fewer.
    #[serde(flatten)]
    programs: BTreeMap<String, String>,
}

impl Machine {
    pub(crate) fn here(edge: &Path, coordinator: &Path) -> anyhow::Result<Self> {
        let nginx = nginx::program();
        let programs: [(&str, &Path, &[&str]); 8] = [
            ("edge", edge, &["--version"]),
            ("coordinator", coordinator, &["--version"]),
            ("nginx", &nginx, &["-v"]),
            ("wrk", Path::new("wrk"), &["-v"]),
            ("h2load", Path::new("h2load"), &["--version"]),
            ("fio", Path::new("fio"), &["--version"]),
            ("openssl", Path::new("openssl"), &["version"]),
            ("python", &tool::python_of("compare")?, &["-c", PACKAGES]),
        ];
        let said =
            programs.map(|(name, program, arguments)| Ok((name.to_owned(), first_line(program, arguments)?)));
        Ok(Self {
            host: Host { cores: cores(), ..Host::here() },
            programs: said.into_iter().collect::<anyhow::Result<_>>()?,
        })
    }

    /// In one line.
    pub(crate) fn shown(&self) -> String {
        let programs = self.programs.values().map(String::as_str);
        programs.fold(self.host.shown(), |shown, program| shown + "; " + program)
    }
}

/// Cores that this process was given.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    // Asked once: [`keep_off_the_servers_core`] leaves one.
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Keeps this program, all its threads to come and what it starts to the clients' core, where there are two.
pub(crate) fn keep_off_the_servers_core() -> anyhow::Result<()> {
    if cores() > 1 {
        let mut cores = CpuSet::new();
        cores.set(CLIENT_CORE);
        sched_setaffinity(None, &cores).context("cannot choose a core")?;
    }
    Ok(())
}

/// A command that runs on the core of what is measured.
pub(crate) fn on_servers_core(program: &str) -> Command {
    if cores() == 1 {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &SERVER_CORE.to_string(), program]);
    command
}

/// Raises the limit on descriptors, for this program and those it starts, as far as it goes.
///
/// # Errors
/// That is not far enough.
pub(crate) fn raise_open_files(needed: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map(|maximum| maximum.max(needed));
    // Beyond the maximum only as root.
    if setrlimit(Resource::Nofile, Rlimit { current: raised, maximum: raised }).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    let has = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(has >= needed, "the limit on open files is {has}; raise it to {needed} (ulimit -n)");
    Ok(())
}

/// Seconds that a process has run, in user space and in the kernel, its ended and living threads included
/// (proc(5): `utime` and `stime`).
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    ensure!(fields.len() > 12, "too few fields in {path}");
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// Seconds of processor time that programs have used that this one ran and waited for.
pub(crate) fn children_cpu_time() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    ensure!(fields.len() > 14, "too few fields in /proc/self/stat");
    Ok((fields[13].parse::<f64>()? + fields[14].parse::<f64>()?) / TICKS_PER_SECOND)
}

/// Seconds that all cores have run anything, or were taken away by whoever runs this machine (proc(5), `/proc/stat`).
pub(crate) fn busy_time() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line =
        stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no cpu in /proc/stat")?;
    let ticks = line.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    ensure!(ticks.len() >= 8, "too few fields in /proc/stat");
    let idle = ticks[3] + ticks[4];
    Ok((ticks[..8].iter().sum::<f64>() - idle) / TICKS_PER_SECOND)
}

/// What a process holds now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holdings {
    pub(crate) resident_bytes: f64,
    /// Those that the kernel runs for it included.
    pub(crate) threads: f64,
}

pub(crate) fn holdings(pid: u32) -> anyhow::Result<Holdings> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let number = |name: &str| -> anyhow::Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let line = line.with_context(|| format!("no {name} in {path}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok(Holdings { resident_bytes: number("VmRSS:")? * 1024.0, threads: number("Threads:")? })
}

/// The first line that a program prints of its version, whether it fails after that or not (wrk does).
fn first_line(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split(" Copyright").next().unwrap_or(line).trim().to_owned())
}
