//! What a program comes with when it is installed, made by the program itself: manual pages and completions for shells,
//! from what it takes, and a list of its metrics.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

use crate::telemetry::metric::{self, Metric};

/// Not an option that anybody is shown: `make build` gives it, alone and first.
const OPTION: &str = "--papers";

/// Writes the papers of a program and ends it, where it is asked to; else it does nothing.
///
/// # Errors
/// A file cannot be written.
pub fn write_if_asked(command: Command, metrics: &[Metric]) -> io::Result<bool> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(OPTION)) {
        return Ok(false);
    }
    let folder = arguments.next().map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("--papers takes a folder"))?;
    if !metrics.is_empty() {
        write_metrics(command.get_name(), metrics, &folder)?;
    }
    write(command, &folder)?;
    Ok(true)
}

/// `man1/NAME.1` and one for each command beneath; `bash/NAME`, `zsh/_NAME`, `fish/NAME.fish`.
fn write(mut command: Command, folder: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    for (shell, place) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let place = folder.join(place);
        fs::create_dir_all(&place)?;
        let made = clap_complete::generate_to(shell, &mut command, &name, &place)?;
        // What bash looks for is the program's name alone.
        if shell == Shell::Bash {
            fs::rename(made, place.join(&name))?;
        }
    }
    let pages = folder.join("man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(command, pages)
}

/// `metrics/NAME.md`: the program's part of `deploy/METRICS.md`.
fn write_metrics(name: &str, metrics: &[Metric], folder: &Path) -> io::Result<()> {
    let place = folder.join("metrics");
    fs::create_dir_all(&place)?;
    fs::write(place.join(format!("{name}.md")), metric::list(name, metrics))
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completion() {
        let folder = tempfile::tempdir().unwrap();
        let command = Command::new("tool")
            .about("Does it")
            .subcommand(Command::new("part").about("Does a part").arg(Arg::new("how").long("how")));
        write(command, folder.path()).unwrap();
        for (file, expected) in [
            ("man1/tool.1", "Does it"),
            ("man1/tool-part.1", "how"),
            ("bash/tool", "--how"),
            ("zsh/_tool", "--how"),
            ("fish/tool.fish", "-l how"),
        ] {
            let text = fs::read_to_string(folder.path().join(file)).unwrap();
            assert!(text.contains(expected), "{file}: {text}");
        }
    }
}
