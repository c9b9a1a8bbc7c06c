//! Makes the files that a scenario asks for, so that there is something to be asked for.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
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

/// Of what is read to see whether a file is there already.
const BLOCK_BYTES: u64 = 4096;

/// Makes those that are not there already; says how many, and their bytes.
pub(crate) fn make(scenario: &Scenario, root: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for (name, content) in scenario.files.generated() {
        let path = root.join(&name);
        if is_made(&path, &content) {
            continue;
        }
        write(&path, &content).with_context(|| format!("cannot make {}", path.display()))?;
        count += 1;
        bytes += content.size();
    }
    Ok((count, bytes))
}

/// As far as its size tells, its first and last blocks, and some between: one that is there with another content would be held
/// against the server.
fn is_made(path: &Path, content: &Content) -> bool {
    let size = content.size();
    let Ok(file) = File::open(path) else { return false };
    if !file.metadata().is_ok_and(|found| found.is_file() && found.len() == size) {
        return false;
    }
    let length = BLOCK_BYTES.min(size);
    let last = size - length;
    let mut starts = vec![0, last / 4, last / 2, last / 4 * 3, last];
    starts.dedup();
    starts.into_iter().all(|start| {
        let mut block = Vec::new();
        let is_read = (&file).seek(SeekFrom::Start(start)).is_ok()
            && (&file).take(length).read_to_end(&mut block).is_ok_and(|count| count as u64 == length);
        is_read && content.check(start, &block).is_ok()
    })
}

/// Under another name first: whoever serves the folder sees it whole or not at all.
fn write(path: &Path, content: &Content) -> anyhow::Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    let unfinished = path.with_extension("unfinished");
    content.write(&unfinished)?;
    Ok(fs::rename(&unfinished, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_with_another_content_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[files]]\nname = \"a.bin\"\nsize = 100_000\n[[files]]\nname = \"b.bin\"\nsize = 1\n\
                    [[files]]\nname = \"c.bin\"\nsize = 0\n";
        let source = Source { path: "scenario.toml".into(), text: text.to_owned() };
        let scenario = Scenario::of(&source, &Overrides::default()).unwrap();
        let made = || make(&scenario, folder.path()).unwrap().0;
        assert_eq!((made(), made()), (3, 0));
        let path = folder.path().join("a.bin");
        let right = fs::read(&path).unwrap();
        for wrong in [0, 50_000, 99_999] {
            let mut bytes = right.clone();
            bytes[wrong] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert_eq!(made(), 1, "byte {wrong}");
            assert!(fs::read(&path).unwrap() == right, "byte {wrong}");
        }
        fs::write(&path, &right[1..]).unwrap();
        assert_eq!((made(), made()), (1, 0));
    }
}
