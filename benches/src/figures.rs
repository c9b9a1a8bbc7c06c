//! Figures in documents, and the results that they come from. `benches/figures.toml` has sentences and rows of tables as the
//! documents have them, with a place for each number that says where in which JSON under `benches/results/` it is:
//!
//! ```text
//! [[passages]]
//! in = "README.md"
//! from = "2026-11-26-mint.json"
//! text = "come at {mint|redirect|sluice-coordinator|median|requests_per_second;k} a second a core"
//! ```
//!
//! A passage is found in its document by its words, whatever white space is between them and whatever the numbers are: so it
//! can be held against the result, and the numbers written anew.

mod passage;
mod results;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use passage::Passage;
use results::Results;

/// `benches/figures.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    passages: Vec<RawPassage>,
    #[serde(default)]
    covered: Vec<Covered>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPassage {
    #[serde(rename = "in")]
    document: PathBuf,
    from: String,
    text: String,
}

/// Lines of a document that have no figures but those of passages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Covered {
    #[serde(rename = "in")]
    document: PathBuf,
    /// The heading that they stand under, up to the next one of its depth; the whole document if not said.
    under: Option<String>,
    /// Numbers that are no results: versions, settings, sizes.
    #[serde(default)]
    given: Vec<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong, each in a sentence.
    pub faults: Vec<String>,
    /// Documents as they should be, where they are not.
    pub mended: BTreeMap<PathBuf, String>,
}

impl Figures {
    /// # Errors
    /// The file cannot be read or is none.
    pub fn load(repository: &Path) -> anyhow::Result<Self> {
        let path = repository.join("benches/figures.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{}", path.display()))
    }

    /// Holds the documents against the results.
    ///
    /// # Errors
    /// A document or a result cannot be read, or a place in a passage names nothing.
    pub fn check(&self, repository: &Path) -> anyhow::Result<Findings> {
        let results = Results::new(repository.join("benches/results"));
        let mut findings = Findings::default();
        let mut found: BTreeMap<&Path, Vec<Range<usize>>> = BTreeMap::new();
        let mut documents = self.documents(repository)?;
        for raw in &self.passages {
            let passage =
                Passage::parse(&raw.text).with_context(|| format!("in the passage {:?}", raw.text))?;
            let text = &documents[raw.document.as_path()];
            let numbers = passage.numbers(|path| results.value(&raw.from, path));
            let numbers = numbers.with_context(|| format!("{}: {:?}", raw.from, raw.text))?;
            let Some(at) = passage.find(text) else {
                let document = raw.document.display();
                findings
                    .faults
                    .push(format!("{document} has no such passage: {:?}", passage.written(&numbers)));
                continue;
            };
            found.entry(&raw.document).or_default().push(at.whole.clone());
            // From the last on, so that those before stay where they are; all of one length, mostly.
            for (place, number) in at.numbers.iter().zip(&numbers).rev() {
                let has = &text[place.clone()];
                if has != number {
                    let line = text[..place.start].lines().count();
                    findings.faults.push(format!(
                        "{}:{line} has {has}, {} {number}",
                        raw.document.display(),
                        raw.from
                    ));
                }
            }
            let mended = at.with(text, &numbers);
            if mended != *text {
                findings.mended.insert(raw.document.clone(), mended.clone());
                // Places that were found before this one may have moved.
                found.remove(raw.document.as_path());
                documents.insert(&raw.document, mended);
            }
        }
        if findings.faults.is_empty() {
            for covered in &self.covered {
                let text = &documents[covered.document.as_path()];
                let found = found.get(covered.document.as_path()).map_or(&[][..], Vec::as_slice);
                findings.faults.extend(covered.uncovered(text, found)?);
            }
        }
        Ok(findings)
    }

    fn documents(&self, repository: &Path) -> anyhow::Result<BTreeMap<&Path, String>> {
        let names = self.passages.iter().map(|passage| passage.document.as_path());
        let names = names.chain(self.covered.iter().map(|covered| covered.document.as_path()));
        names
            .map(|name| {
                let read = fs::read_to_string(repository.join(name));
                Ok((name, read.with_context(|| format!("cannot read {}", name.display()))?))
            })
            .collect()
    }
}

impl Covered {
    /// A sentence for each number that looks like a result, and is in no passage.
    fn uncovered(&self, text: &str, found: &[Range<usize>]) -> anyhow::Result<Vec<String>> {
        let lines = self.lines(text)?;
        let is_found = |at: usize| found.iter().any(|range| range.contains(&at));
        let mut faults = Vec::new();
        for number in passage::numbers_in(text).filter(|number| lines.contains(&number.start)) {
            let written = &text[number.clone()];
            let looks_measured = written.contains(['.', ',']) || text[number.end..].starts_with(" %");
            if looks_measured && !is_found(number.start) && !self.given.iter().any(|given| given == written) {
                let line = text[..number.start].lines().count();
                faults.push(format!("{}:{line} has {written}, of no result", self.document.display()));
            }
        }
        Ok(faults)
    }

    fn lines(&self, text: &str) -> anyhow::Result<Range<usize>> {
        let Some(heading) = &self.under else { return Ok(0..text.len()) };
        let Some(start) = text.find(&format!("\n{heading}\n")) else {
            bail!("{} has no heading {heading:?}", self.document.display())
        };
        let start = start + 1 + heading.len();
        let next = format!("\n{} ", heading.split(' ').next().unwrap_or_default());
        Ok(start..text[start..].find(&next).map_or(text.len(), |end| start + end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(document: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("benches/results")).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "benches/results/a.json",
            r#"{"host": {"date": "2026-11-26"}, "rate": 106539.9, "share": 0.802}"#,
        );
        write(
            "benches/figures.toml",
            "[[passages]]\nin = \"A.md\"\nfrom = \"a.json\"\ntext = \"come at {rate;k} a second: {share;.2} of it\"\n\
             [[covered]]\nin = \"A.md\"\nunder = \"## Speed\"\ngiven = [\"6.18\"]\n",
        );
        write("A.md", document);
        folder
    }

    fn check(document: &str) -> Findings {
        let folder = repository(document);
        Figures::load(folder.path()).unwrap().check(folder.path()).unwrap()
    }

    #[test]
    fn a_document_that_says_what_was_measured_is_left_as_it_is() {
        let findings =
            check("0.7\n## Speed\nLinux 6.18. They come at\n107,000 a second: 0.80 of it.\n## Next\n0.9");
        assert!(findings.faults.is_empty() && findings.mended.is_empty(), "{findings:?}");
    }

    #[test]
    fn another_number_is_told_and_mended() {
        let findings = check("\n## Speed\nThey come at 99,000 a second: 0.8 of it.\n");
        assert_eq!(findings.faults, ["A.md:3 has 0.8, a.json 0.80", "A.md:3 has 99,000, a.json 107,000"]);
        let mended = &findings.mended[Path::new("A.md")];
        assert_eq!(mended, "\n## Speed\nThey come at 107,000 a second: 0.80 of it.\n");
    }

    #[test]
    fn a_number_of_no_result_and_a_passage_that_is_gone_are_told() {
        let findings = check("\n## Speed\ncome at 107,000 a second: 0.80 of it, and 3.5 beside it.");
        assert_eq!(findings.faults, ["A.md:3 has 3.5, of no result"]);
        let findings = check("\n## Speed\n");
        assert!(findings.faults[0].contains("no such passage"), "{findings:?}");
    }
}
