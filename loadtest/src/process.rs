//! One program of a cluster: started, its output kept in a file, ended by its own process id and no other way.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::{env, io};

use anyhow::{Context, bail, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::hosts::Host;
use crate::wait::wait_until;

/// A program with its configuration; it may be running or not.
#[derive(Debug)]
pub struct Process {
    name: String,
    binary: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    run_as: RunAs,
    host: Host,
    environment: Vec<(OsString, OsString)>,
    /// It is in a process group of its own, which a terminal sends no signals.
    is_apart_from_terminal: bool,
    child: Option<Child>,
}

/// What a program runs as, where that is not the caller itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunAs {
    /// This user and group, which takes root's rights; its files must be theirs to read.
    pub user: Option<u32>,
    /// With no more descriptors than these.
    pub descriptors_max: Option<u64>,
}

impl Process {
    /// A program that is not started yet. Its output goes to `log`, every start's after the one before.
    pub fn new(name: &str, binary: PathBuf, config: PathBuf, log: PathBuf) -> Self {
        Self::with_arguments(name, binary, vec!["--config".into(), config.into()], log)
    }

    /// The same of a program that is none of ours, and takes these arguments.
    pub fn with_arguments(name: &str, binary: PathBuf, arguments: Vec<OsString>, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            binary,
            arguments,
            log,
            run_as: RunAs::default(),
            host: Host::local(),
            environment: Vec::new(),
            is_apart_from_terminal: false,
            child: None,
        }
    }

    /// Has it run as something else than the caller.
    pub fn run_as(mut self, run_as: RunAs) -> Self {
        self.run_as = run_as;
        self
    }

    /// Has it run on a host.
    pub(crate) fn on(mut self, host: &Host) -> Self {
        self.host = host.clone();
        self
    }

    /// Has it see these variables too.
    pub(crate) fn environment(mut self, variables: Vec<(OsString, OsString)>) -> Self {
        self.environment = variables;
        self
    }

    /// Has it get no signals from a terminal, from the next start on.
    pub(crate) fn part_from_terminal(&mut self) {
        self.is_apart_from_terminal = true;
    }

    /// Starts it, or starts it again. Configuration variables of the caller's own environment are kept from it.
    ///
    /// # Errors
    /// It runs already, or the system will not run it.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running()? {
            bail!("{} runs already", self.name);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = self.command();
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLUICE_")) {
            command.env_remove(name);
        }
        if let Some(id) = self.run_as.user {
            command.uid(id).gid(id);
        }
        if self.is_apart_from_terminal {
            command.process_group(0);
        }
        let child = command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts another one beside it, which has its place from then on; gives the one that ran.
    ///
    /// # Errors
    /// The system will not run it.
    pub fn start_beside(&mut self) -> anyhow::Result<Self> {
        let before = Self {
            name: self.name.clone(),
            binary: self.binary.clone(),
            arguments: self.arguments.clone(),
            log: self.log.clone(),
            run_as: self.run_as,
            environment: self.environment.clone(),
            host: self.host.clone(),
            is_apart_from_terminal: self.is_apart_from_terminal,
            child: self.child.take(),
        };
        self.start()?;
        Ok(before)
    }

    /// The program, by way of what becomes it on another host, or with fewer descriptors.
    fn command(&self) -> Command {
        let limit = |most: u64| ["prlimit".to_owned(), format!("--nofile={most}:{most}")];
        let limit = self.run_as.descriptors_max.map(limit);
        let mut words = self.host.entry().into_iter().chain(limit.into_iter().flatten());
        let Some(first) = words.next() else { return Command::new(&self.binary) };
        let mut command = Command::new(first);
        command.args(words).arg(&self.binary);
        command
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id while it runs, and until its end was noticed.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// # Errors
    /// The system does not tell.
    pub fn is_running(&mut self) -> io::Result<bool> {
        match &mut self.child {
            None => Ok(false),
            Some(child) => Ok(child.try_wait()?.is_none()),
        }
    }

    /// Everything it has written so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        let bytes = match fs::read(&self.log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.with_context(|| format!("cannot read {}", self.log.display()))?,
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// It does not run, or cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.wait().map(drop)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // Asked first: a child whose end was noticed has no process id any more that would be ours.
        if !self.is_running()? {
            bail!("{} does not run", self.name);
        }
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.with_context(|| format!("{} has no process id", self.name))?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for its end, whoever asked for it.
    ///
    /// # Errors
    /// It was never started, or does not end in time.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let mut ended = None;
        wait_until(&format!("{} ends", self.name), || {
            ended = child.try_wait()?;
            Ok(ended.is_some())
        })?;
        self.child = None;
        ended.context("the program ended")
    }

    /// The end of the log, for messages.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 20;
        let log = self.log().unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only where it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A program of this workspace, built into the folder that the running program came from.
///
/// # Errors
/// It is not there.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let folder = profile_folder()?;
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not built; run: {}", path.display(), build_command(&folder));
    Ok(path)
}

/// What builds into a profile's folder.
fn build_command(folder: &Path) -> &'static str {
    let is_release = folder.file_name().is_some_and(|name| name == "release");
    if is_release { "cargo build --release --workspace --bins" } else { "cargo build --workspace --bins" }
}

/// `target/PROFILE`, where the running program (`target/PROFILE/program`, or `target/PROFILE/deps/test-HASH`) is from.
///
/// # Errors
/// The running program does not know where it is.
pub fn profile_folder() -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("the running program has no path")?;
    let folder = own.parent().context("a program lies in a folder")?;
    let profile = match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().context("deps lies in the profile's folder")?,
        _ => folder,
    };
    Ok(profile.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_built_where_it_is_looked_for() {
        for (folder, is_release) in
            [("target/release", true), ("target/debug", false), ("release/debug", false)]
        {
            assert_eq!(build_command(Path::new(folder)).contains("--release"), is_release, "{folder}");
        }
    }
}
