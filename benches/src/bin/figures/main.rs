//! Holds the figures in the documents against the results under `benches/results/`, or writes them anew.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_benches::figures::Figures;

/// Checks the figures of the documents; exit status 1 where one is not what was measured, or cannot be mended.
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
    let figures = Figures::load(&repository)?;
    let mut findings = figures.check(&repository)?;
    let mut out = io::stdout().lock();
    if write {
        for (document, text) in &findings.mended {
            fs::write(repository.join(document), text)?;
            writeln!(out, "written: {}", document.display())?;
        }
        // What is left is of the words, and takes a writer.
        findings = figures.check(&repository)?;
    }
    for fault in &findings.faults {
        writeln!(out, "{fault}")?;
    }
    Ok(if findings.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
