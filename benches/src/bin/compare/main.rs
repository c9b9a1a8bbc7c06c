//! One edge beside nginx, on one core each: warm files, storage that hangs, clients that stall or idle, cold files, and
//! more small files than fit. One coordinator beside bare hyper and the Python server that it replaces: redirections.
//!
//! Each round measures every server once, in another order; what is reported are medians, and medians of the
//! ratios within a round, so that a machine that slows down between rounds does not show as a difference.

mod bare_hyper;
mod coordinator;
mod crowd;
mod edge;
mod fio;
mod h2load;
mod lab;
mod machine;
mod meter;
mod nginx;
mod python;
mod report;
mod scenario;
mod server;
mod signed;
mod tables;
mod wrk;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use sluice_loadtest::interrupts::Interrupts;
use sluice_loadtest::process;

use crate::lab::Lab;
use crate::machine::Machine;
use crate::report::Report;
use crate::scenario::{Choice, Scenario, Selection};

/// Compares an edge with nginx, both checking signed links, in these scenarios:
///
///   warm     files in memory, 1 KiB to 64 MiB
///   stuck    hot files, and cold ones, beside downloads that hang in the store
///   stalled  hot files beside clients that never read
///   idle     memory of kept connections
///   cold     one large file out of a slow store, beside fio; a thousand clients for one file
///   misses   a hundred thousand small files, a tenth of which fits the edge's cache
///   tls      files over TLS and over HTTP/2, 16 KiB and 64 MiB
///   mint     a coordinator's answers with tokens, beside bare hyper and a Python server
///   page     what a coordinator's status page costs it over fifty edges
///
/// Stores that hang or are slow are FUSE filesystems, which take root, or fusermount3. Where other programs use the
/// cores, measurements are repeated; `others busy` says how much they did.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Rounds; every server is measured once in each. From six on, results say what they lie between at 95 %.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of one measurement of a rate; a fifth of it, at least one, goes before as a warm-up.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Only this scenario, or one case of it, as in warm/16KiB; may be repeated.
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Choice>,
    /// The edge's program; the one built beside this one if not said.
    #[arg(long, value_name = "FILE")]
    path_to_edge: Option<PathBuf>,
    /// The coordinator's program; the one built beside this one if not said.
    #[arg(long, value_name = "FILE")]
    path_to_coordinator: Option<PathBuf>,
    /// Where the JSON goes; the same as Markdown goes beside it, with the machine and all versions in both.
    #[arg(long, value_name = "FILE", default_value = "target/compare.json")]
    out: PathBuf,
    /// Measures nothing: prints short tables of an earlier run's JSON.
    #[arg(long, value_name = "FILE")]
    tables: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(path) = &arguments.tables {
        write!(io::stdout().lock(), "{}", tables::short(&read(path)?)).context("printing")?;
        return Ok(ExitCode::SUCCESS);
    }
    // Whoever is interrupted stops before the next measurement, and takes servers, mounts and folders away.
    let mut interrupts = Interrupts::listen()?;
    let compared = compare(arguments);
    match interrupts.take() {
        // As a shell tells of a program that a signal has ended.
        Some(signal) => Ok(ExitCode::from(128 + u8::try_from(signal)?)),
        None => compared.map(|()| ExitCode::SUCCESS),
    }
}

fn compare(arguments: Arguments) -> anyhow::Result<()> {
    ensure!(arguments.rounds > 0 && arguments.seconds > 0, "--rounds and --seconds must be 1 or more");
    let program = |given: Option<PathBuf>, name| given.map_or_else(|| process::binary(name), Ok);
    let edge = program(arguments.path_to_edge, "sluice-edge")?;
    let coordinator = program(arguments.path_to_coordinator, "sluice-coordinator")?;
    machine::keep_off_the_servers_core()?;
    let machine = Machine::here(&edge, &coordinator)?;
    let selection = Selection(arguments.only);
    let chosen = Scenario::ALL.into_iter().filter(|scenario| selection.has(*scenario));
    machine::raise_open_files(chosen.map(Scenario::open_files).max().unwrap_or_default())?;
    let lab = Lab::new(edge, coordinator, arguments.rounds, arguments.seconds, selection)?;

    let (rounds, seconds) = (lab.rounds, lab.seconds);
    let mut report = Report { machine, rounds, seconds, scenarios: Vec::new() };
    let began = Instant::now();
    let mut failed = Ok(());
    for scenario in Scenario::ALL.into_iter().filter(|scenario| lab.selection.has(*scenario)) {
        writeln!(io::stderr().lock(), "{scenario}, after {} s", began.elapsed().as_secs())?;
        match scenario.run(&lab).with_context(|| format!("{scenario} failed")) {
            Ok(section) => report.scenarios.push(section),
            // What was measured before is worth keeping.
            Err(error) => {
                failed = Err(error);
                break;
            }
        }
    }
    let mut out = io::stdout().lock();
    let tables = tables::full(&report);
    writeln!(out, "\n{tables}")?;
    write_json(&arguments.out, &report)?;
    let beside = arguments.out.with_extension("md");
    fs::write(&beside, tables).with_context(|| format!("cannot write {}", beside.display()))?;
    writeln!(out, "Written to {}, after {} s", arguments.out.display(), began.elapsed().as_secs())?;
    failed
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no comparison", path.display()))
}

fn write_json(path: &Path, report: &Report) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(report)?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}
