//! How many instructions each part takes (`sluice_benches::subjects`), counted by callgrind: equal on a busy machine and an
//! idle one, so that two commits can be compared. Time says what a cache miss costs; this does not. callgrind shows
//! programs a processor of its own, without the widest vectors: counts of ciphers are those of such a one.
//!
//! Each is done some times and three times as often; half the difference is the count, without what preparing it takes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use sluice_benches::known::DIFFERENCES;
use sluice_benches::subjects::{self, Subject};
use sluice_loadtest::host::Host;

/// Counts of one program differ by less: random identifiers are written with branches.
const MORE_MAX: f64 = 1.03;

/// Counts the instructions of the parts of a download's way, by callgrind.
#[derive(Debug, Parser)]
struct Arguments {
    /// An earlier run's JSON; exit status 1 where a part takes over 3 % more than there.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    #[arg(long, value_name = "FILE", default_value = "target/instructions.json")]
    out: PathBuf,
    /// Only those whose names begin so.
    #[arg(long, default_value = "")]
    only: String,
    /// Counts nothing, but does this one: what callgrind is called for.
    #[arg(long, hide = true, num_args = 2, value_names = ["NAME", "TIMES"])]
    run: Vec<String>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    host: Host,
    valgrind: String,
    /// Instructions of doing it once.
    instructions: BTreeMap<String, f64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let [name, times] = &arguments.run[..] {
        run(name, times.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let base = arguments.base.as_deref().map(read).transpose()?;
    let mut instructions = BTreeMap::new();
    for subject in subjects::all().filter(|subject| subject.name.starts_with(&arguments.only)) {
        instructions.insert(subject.name.to_owned(), count(subject)?);
    }
    for difference in DIFFERENCES {
        if let (Some(of), Some(without)) =
            (instructions.get(difference.of), instructions.get(difference.without))
        {
            instructions.insert(difference.name.to_owned(), of - without);
        }
    }
    let valgrind = Command::new("valgrind").arg("--version").output()?.stdout;
    let valgrind = String::from_utf8_lossy(&valgrind).trim().to_owned();
    let counts = Counts { host: Host::here(), valgrind, instructions };
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&arguments.out, serde_json::to_string_pretty(&counts)? + "\n")?;
    let is_held = print(&counts, base.as_ref())?;
    Ok(if is_held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> anyhow::Result<Counts> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no counts", path.display()))
}

fn run(name: &str, times: u32) -> anyhow::Result<()> {
    let subject = subjects::find(name).with_context(|| format!("no part is called {name}"))?;
    let mut operation = (subject.make)();
    (0..times).for_each(|_| operation());
    Ok(())
}

fn count(subject: &Subject) -> anyhow::Result<f64> {
    let (few, many) = (subject.counted, subject.counted * 3);
    let difference = collected(subject.name, many)? - collected(subject.name, few)?;
    Ok(difference / f64::from(many - few))
}

/// All instructions of a process that does it so often.
fn collected(name: &str, times: u32) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--run", name, &times.to_string()])
        .output()
        .context("cannot run valgrind; deploy/needs.sh instructions installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.with_context(|| format!("callgrind counted nothing: {said}"))?;
    Ok(number.trim().parse()?)
}

/// A row for each; whether none takes more than it did.
fn print(counts: &Counts, base: Option<&Counts>) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}; {}\n", counts.host.shown(), counts.valgrind)?;
    writeln!(
        out,
        "| part | instructions | × beside | before | × before |\n| --- | ---: | ---: | ---: | ---: |"
    )?;
    let mut is_held = true;
    for (name, count) in &counts.instructions {
        let beside = subjects::find(name).and_then(|subject| counts.instructions.get(subject.beside?));
        let before = base.and_then(|base| base.instructions.get(name)).copied();
        let ratio = before.map(|before| count / before);
        let has_grown = ratio.is_some_and(|ratio| ratio > MORE_MAX);
        is_held &= !has_grown;
        let cell = |number: Option<f64>, decimals: usize| {
            number.map_or(String::new(), |number| format!("{number:.decimals$}"))
        };
        writeln!(
            out,
            "| {name} | {count:.0} | {} | {} | {}{} |",
            cell(beside.map(|beside| count / beside), 2),
            cell(before, 0),
            cell(ratio, 3),
            if has_grown { " **more**" } else { "" }
        )?;
    }
    Ok(is_held)
}
