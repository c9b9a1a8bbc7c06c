//! `check`: has the program whose configuration it is look at it and at what is around, and shows what it found. The
//! program itself knows best what it needs; nothing of that is repeated here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::ValueEnum;
use sluice_shared::findings::{Findings, Level};

use crate::fault::Fault;
use crate::plain::{plain, plain_json};
use crate::{Format, output};

#[derive(clap::Args)]
pub(crate) struct Check {
    /// The configuration, TOML; a coordinator's or an edge's.
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    config: PathBuf,
    /// Whose configuration it is; without this, its keys tell.
    #[arg(long, value_enum)]
    program: Option<Program>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    Coordinator,
    Edge,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "sluice-coordinator",
            Self::Edge => "sluice-edge",
        }
    }

    /// By a key that only one of them has. Faults of the file are for the program to tell.
    fn of(text: &str) -> Option<Self> {
        let has = |name: &str| {
            let is_it = |line: &str| line.split('=').next().is_some_and(|key| key.trim() == name);
            text.lines().filter(|line| line.contains('=')).any(is_it)
        };
        if has("public_url") || has("admin_token_file") {
            Some(Self::Coordinator)
        } else {
            has("root").then_some(Self::Edge)
        }
    }
}

impl Check {
    pub(crate) fn run(self, format: Format) -> Result<ExitCode, Fault> {
        let program = match self.program {
            Some(program) => program,
            None => {
                let text = fs::read_to_string(&self.config)
                    .map_err(|error| Fault::Configuration(self.config.clone(), error))?;
                Program::of(&text).ok_or_else(|| Fault::WhichProgram(self.config.clone()))?
            }
        };
        let findings = ask(program, &self.config)?;
        let text = match format {
            Format::Json => plain_json(&findings.to_json()),
            Format::Table => table(&findings),
        };
        output::print(&text).map_err(Fault::Output)?;
        Ok(ExitCode::from(findings.worst().exit_code()))
    }
}

/// The program beside this one, where there is one; else as the shell would find it.
fn place(program: Program) -> PathBuf {
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join(program.name())));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| program.name().into())
}

fn ask(program: Program, config: &Path) -> Result<Findings, Fault> {
    let path = place(program);
    let fault = |cause: String| Fault::Program { program: path.display().to_string(), cause };
    let mut command = Command::new(&path);
    command.args(["--check", "--findings", "--config"]).arg(config).stdin(Stdio::null());
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| fault(error.to_string()))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        fault(format!("it does not tell what it found ({}); is it of this version?", output.status))
    })
}

fn table(findings: &Findings) -> String {
    let mut text = String::new();
    for finding in &findings.findings {
        let what = plain(&finding.what);
        text += &format!("{:<4}  {what:<18}  {}\n", finding.level.name(), plain(&finding.found));
        if let Some(remedy) = &finding.remedy {
            text += &format!("{:<4}  {:<18}  → {}\n", "", "", plain(remedy));
        }
    }
    let count = |level| findings.findings.iter().filter(|finding| finding.level == level).count();
    let (good, warnings, failures) = (count(Level::Ok), count(Level::Warn), count(Level::Fail));
    text + &format!("{good} good, {warnings} warnings, {failures} failures\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_known_by_its_keys() {
        let table = [
            ("id = \"c\"\npublic_url = \"http://c\"\n", Some(Program::Coordinator)),
            ("id = \"e\"\nroot=\"/mnt\"\n", Some(Program::Edge)),
            ("# root = \"/mnt\"\nid = \"e\"\n", None),
            ("root", None),
        ];
        for (text, expected) in table {
            assert_eq!(Program::of(text), expected, "{text}");
        }
    }
}
