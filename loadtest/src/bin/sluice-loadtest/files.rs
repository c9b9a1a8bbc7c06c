//! Makes the files that a scenario asks for, so that there is something to be asked for.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use sluice_loadtest::Content;

use crate::arguments::Files;
use crate::report;
use crate::scenario::{Overrides, Scenario, Source};

pub(crate) fn command(arguments: &Files) -> anyhow::Result<()> {
    let source = Source::load(arguments.scenario.as_deref())?;
    let scenario = Scenario::of(&source, &Overrides::default())?;
    let (count, bytes) = make(&scenario, &arguments.root)?;
    let bytes = report::bytes_of(bytes as f64);
    writeln!(io::stdout().lock(), "{count} files of {bytes} made in {}", arguments.root.display())?;
    Ok(())
}

/// Makes those that are not there in their size already; says how many, and their bytes.
pub(crate) fn make(scenario: &Scenario, root: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for (name, content) in scenario.files.generated() {
        let path = root.join(&name);
        if fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == content.size()) {
            continue;
        }
        write(&path, &content).with_context(|| format!("cannot make {}", path.display()))?;
        count += 1;
        bytes += content.size();
    }
    Ok((count, bytes))
}

/// Under another name first: whoever serves the folder sees it whole or not at all.
fn write(path: &Path, content: &Content) -> anyhow::Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    let unfinished = path.with_extension("unfinished");
    content.write(&unfinished)?;
    Ok(fs::rename(&unfinished, path)?)
}
