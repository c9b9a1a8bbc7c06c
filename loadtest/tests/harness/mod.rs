//! `sluice-loadtest` as its users run it: its arguments, what it says, the report that it writes.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

pub mod liar;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// One use of the program, with a folder of its own.
pub struct Harness {
    pub folder: TempDir,
    pub command: Command,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    /// `report.json`, if it was written.
    pub report: Value,
    pub page: String,
}

impl Harness {
    /// `words` are its arguments, `{}` in them its own folder.
    pub fn new(words: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-loadtest"));
        let own = folder.path().to_str().unwrap();
        command.args(words.iter().map(|word| word.replace("{}", own))).current_dir(folder.path());
        Self { folder, command }
    }

    /// A run, quiet, with a report.
    pub fn run(words: &[&str]) -> Self {
        Self::new(&[&["run", "--quiet", "--report", "{}/report"], words].concat())
    }

    /// With a scenario.
    pub fn scenario(mut self, text: &str) -> Self {
        let path = self.write("scenario.toml", text);
        self.command.arg("--scenario").arg(path);
        self
    }

    pub fn argument(mut self, word: &str) -> Self {
        self.command.arg(word);
        self
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A file that only its owner can read.
    pub fn write_secret(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// To its end.
    pub fn end(mut self) -> Ended {
        let output = self.command.stdin(Stdio::null()).output().unwrap();
        Ended::of(&output, self.folder.path())
    }

    /// In the background; what it says on standard output comes line by line.
    pub fn start(mut self) -> Running {
        let output = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = output.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out, folder: self.folder }
    }
}

impl Ended {
    fn of(output: &Output, folder: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(folder.join("report").join(name)).unwrap_or_default();
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            report: serde_json::from_str(&read("report.json")).unwrap_or_default(),
            page: read("report.html"),
        }
    }

    /// It ended well, and nothing failed; gives the report.
    pub fn well(self) -> Value {
        let Self { code, out, err, report, .. } = self;
        assert_eq!(code, Some(0), "{out}\n{err}");
        assert_eq!(
            report["tally"]["failed"], 0,
            "{}\n{}",
            report["tally"]["failures"], report["tally"]["faults"]
        );
        assert!(report["tally"]["ended"].as_u64().unwrap() > 0, "{out}");
        report
    }

    /// How many downloads failed for this reason.
    pub fn failures(&self, reason: &str) -> u64 {
        let tally = &self.report["tally"];
        assert!(tally.is_object(), "{}\n{}", self.out, self.err);
        tally["failures"][reason].as_u64().unwrap_or(0)
    }
}

/// A quantile of a histogram of a report, in seconds.
pub fn quantile(times: &Value, part: f64) -> f64 {
    let pair = |pair: &Value| (pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap());
    let pairs: Vec<(u64, u64)> = times.as_array().unwrap().iter().map(pair).collect();
    let wanted = part * pairs.iter().map(|(_, count)| count).sum::<u64>() as f64;
    let mut seen = 0.0;
    let found = pairs.iter().find(|(_, count)| {
        seen += *count as f64;
        seen >= wanted
    });
    found.map(|(micros, _)| *micros as f64 / 1e6).unwrap()
}

/// The same command at a terminal of its own, whose text comes on standard output.
pub fn at_terminal(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    // Whoever runs the tests may ignore the signal of a terminal that is closed.
    let line = format!("exec env --default-signal=HUP {}", words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal
}

/// Programs that have this variable from whoever started them.
pub fn programs_with(name: &str, value: &str) -> Vec<String> {
    let variable = format!("{name}={value}");
    let has = |path: &Path| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes())
    };
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let found = processes.filter(|path| has(path));
    found.map(|path| fs::read_to_string(path.join("comm")).unwrap_or_default()).collect()
}

pub struct Running {
    pub child: Child,
    out: BufReader<std::process::ChildStdout>,
    folder: TempDir,
}

impl Running {
    /// The next line of JSON for which this holds.
    pub fn wait_for(&mut self, mut is_wanted: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).unwrap() == 0 {
                let mut said = String::new();
                std::io::Read::read_to_string(self.child.stderr.as_mut().unwrap(), &mut said).unwrap();
                panic!("it ended before that: {said}");
            }
            let value: Value = serde_json::from_str(&line).unwrap();
            if is_wanted(&value) {
                return value;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// To it and what it has started, as a terminal does, where it leads a process group.
    pub fn signal_group(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process_group(self.pid(), signal).unwrap();
    }

    /// The most memory that it has held so far (`VmHWM`).
    pub fn memory_peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub fn end(mut self) -> Ended {
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut out).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let ended = Ended::of(&output, self.folder.path());
        Ended { out, ..ended }
    }
}
