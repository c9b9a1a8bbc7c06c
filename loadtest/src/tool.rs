//! Programs that people download with, run as people run them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::process;

/// Runs a program to its end and gives what it wrote to standard output.
///
/// # Errors
/// It is not installed, or does not exit with 0; the message holds what it said.
pub fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[S]) -> anyhow::Result<String> {
    complete(Command::new(program).args(arguments))
}

/// The same of a program with its arguments.
///
/// # Errors
/// As [`run`].
pub fn complete(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output();
    let program = command.get_program().display();
    let output = output.with_context(|| format!("cannot run {program}; deploy/needs.sh test installs it"))?;
    ensure!(
        output.status.success(),
        "{program}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).with_context(|| format!("{program} wrote something that is no text"))
}

/// The Python that has the JOSE libraries to compare with.
///
/// # Errors
/// It was not installed.
pub fn python() -> anyhow::Result<PathBuf> {
    python_of("test")
}

/// The Python that has what one use (of `deploy/needs.sh`) needs.
///
/// # Errors
/// It was not installed.
pub fn python_of(needs: &str) -> anyhow::Result<PathBuf> {
    let target = process::profile_folder()?;
    let target =
        target.parent().map(Path::to_owned).context("a profile's folder lies in the target folder")?;
    let path = target.join(format!("{needs}-venv/bin/python"));
    ensure!(path.exists(), "{} is not there; run: deploy/needs.sh {needs}", path.display());
    Ok(path)
}
