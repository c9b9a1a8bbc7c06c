//! A server under measurement: its process, its processor time, and whether it does what it is measured for.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{io, thread};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sluice_loadtest::client::{self, Answer};
use sluice_loadtest::ports::Port;
use sluice_loadtest::{Content, wait_until};

use crate::machine;
use crate::report::Size;

/// The core that servers run on.
const CORE: &str = "0";

/// Makes the target (path and query) that a server will accept for a file.
pub(crate) type Sign = Box<dyn Fn(&str) -> anyhow::Result<String>>;

pub(crate) struct Server {
    pub(crate) name: &'static str,
    child: Child,
    port: Port,
    sign: Sign,
    /// Whether the work is done by a child of the process that was started.
    has_worker: bool,
    log: PathBuf,
}

impl Server {
    /// Starts `command` on the servers' core, its output going to `log`.
    pub(crate) fn start(
        name: &'static str,
        command: &[&str],
        port: Port,
        sign: Sign,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let output = File::create(&log)?;
        let pinned = ["taskset", "-c", CORE];
        let line: Vec<&str> = match machine::cores() {
            1 => command.to_vec(),
            _ => pinned.iter().chain(command).copied().collect(),
        };
        let child = Command::new(line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run {}", line.join(" ")))?;
        Ok(Self { name, child, port, sign, has_worker: false, log })
    }

    /// Says that the work is done by the only child of the process that was started.
    pub(crate) fn with_worker(mut self) -> Self {
        self.has_worker = true;
        self
    }

    pub(crate) fn url(&self, file: &str) -> anyhow::Result<String> {
        Ok(format!("{}{}", self.port.url(), (self.sign)(file)?))
    }

    pub(crate) fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string())
    }

    pub(crate) fn wait_until_it_serves(&mut self, size: Size) -> anyhow::Result<()> {
        let url = self.url(size.name)?;
        let what = format!("{} serves {}", self.name, size.name);
        let waited = wait_until(&what, || {
            ensure!(self.is_running()?, "{} has ended", self.name);
            Ok(client::get_here(&url).is_ok_and(|answer| answer.status() == 200))
        });
        waited.with_context(|| format!("{} said:\n{}", self.name, self.log()))
    }

    /// It must give the right bytes for a good link, and none for a bad one: a server that skips its checks would
    /// be measured at something else.
    pub(crate) fn check(&mut self, size: Size) -> anyhow::Result<()> {
        let url = self.url(size.name)?;
        let answer = client::get_here(&url)?;
        let told = |answer: &Answer| format!("{}: {} for {}", self.name, answer.status(), size.name);
        ensure!(answer.status() == 200, "{}", told(&answer));
        Content::new(size.name, size.bytes).check_whole(&answer.body).with_context(|| told(&answer))?;
        for field in ["etag", "last-modified", "accept-ranges", "content-type", "content-disposition"] {
            answer.field(field).with_context(|| told(&answer))?;
        }
        // A character in the middle of the proof, not at its end, where spare bits could hide the change.
        let at = url.len() - 10;
        let other = if url.as_bytes()[at] == b'A' { "B" } else { "A" };
        let forged = format!("{}{other}{}", &url[..at], &url[at + 1..]);
        let answer = client::get_here(&forged)?;
        ensure!((400..500).contains(&answer.status()), "{} although the link is forged", told(&answer));
        Ok(())
    }

    /// Seconds of processor time that the serving process has used, its threads included.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<f64> {
        let started = self.child.id();
        let serving = if self.has_worker { only_child(started)? } else { started };
        machine::cpu_time(serving)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx's master stops its worker when it is asked, not when it is killed.
        let pid = Pid::from_child(&self.child);
        let asked = self.child.try_wait().is_ok_and(|ended| ended.is_none())
            && kill_process(pid, Signal::TERM).is_ok();
        for _ in 0..30 {
            if !asked || self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn only_child(pid: u32) -> anyhow::Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mut children = children.split_whitespace();
    let child = children.next().with_context(|| format!("process {pid} has no worker"))?;
    ensure!(children.next().is_none(), "process {pid} has several workers");
    child.parse().context("a process id is a number")
}
