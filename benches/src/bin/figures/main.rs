//! Holds the figures in the documents against the results under `benches/results/`, or writes them anew.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_benches::figures::Figures;

/// Checks the figures of the documents; exit status 1 where one is not what was measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// Writes what was measured into the documents.
    #[arg(long)]
    write: bool,
    /// The checkout.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    repository: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { write, repository } = Arguments::parse();
    let findings = Figures::load(&repository)?.check(&repository)?;
    let mut out = io::stdout().lock();
    for fault in &findings.faults {
        writeln!(out, "{fault}")?;
    }
    if write {
        for (document, text) in &findings.mended {
            fs::write(repository.join(document), text)?;
            writeln!(out, "written: {}", document.display())?;
        }
    }
    Ok(if findings.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
