//! Which files are asked for: groups with a pattern of names, or manifests with a hash for each; how popular each is, and
//! what it should hold.

use std::fs;
use std::ops::Range;
use std::sync::Arc;

use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, Zipf};
use sluice_loadtest::Content;
use sluice_shared::config::{self, ConfigError};
use sluice_shared::file_id::FileId;
use toml::Spanned;

use super::Source;
use super::fractions::Fractions;
use super::raw::{RawContent, RawFiles, Sizes};
use crate::number::whole;

/// Stands for a file's number in its group's names.
const NUMBER: &str = "{n}";
/// Zipf's law falls off faster than any measurement of downloads did long before this.
const ZIPF_MAX: f64 = 10.0;

/// A file of all groups, counted from 0.
pub(crate) type FileNumber = u32;

/// Not empty.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    groups: Vec<Group>,
    fractions: Fractions,
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    names: Names,
    /// Of all files.
    numbers: Range<FileNumber>,
    /// Exponent of Zipf's law; 0: all are equally popular.
    zipf: f64,
    content: GroupContent,
}

#[derive(Debug, Clone)]
enum Names {
    Pattern(String),
    Listed(Arc<[Listed]>),
}

/// A line of a manifest.
#[derive(Debug)]
struct Listed {
    name: String,
    sha256: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupContent {
    Generated { least: u64, most: u64 },
    Constant,
    Listed,
}

/// What a file is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Every byte follows from name and offset.
    Generated(Content),
    /// Every whole download has the hash of the first one, and the same size.
    Constant,
    /// Every whole download has this hash.
    Sha256([u8; 32]),
}

impl Files {
    pub(super) fn of(source: &Source, raw: &[Spanned<RawFiles>]) -> Result<Self, ConfigError> {
        if raw.is_empty() {
            return Err(ConfigError::missing(&source.path, "[[files]]"));
        }
        let weights: Vec<_> = raw.iter().map(|raw| raw.get_ref().weight.clone()).collect();
        let fractions = Fractions::of(source, &weights)?;
        let mut groups = Vec::new();
        let mut first = 0;
        for raw in raw {
            let group = Group::of(source, raw, first)?;
            first = group.numbers.end;
            groups.push(group);
        }
        Ok(Self { groups, fractions })
    }

    pub(crate) fn count(&self) -> u32 {
        self.groups.last().map_or(0, |group| group.numbers.end)
    }

    /// One at random, by weight and popularity.
    pub(crate) fn pick(&self, random: &mut impl Rng) -> FileNumber {
        self.groups[self.fractions.pick(random.random())].pick(random)
    }

    pub(crate) fn group(&self, number: FileNumber) -> &Group {
        let at = self.groups.partition_point(|group| group.numbers.end <= number);
        &self.groups[at.min(self.groups.len() - 1)]
    }

    pub(crate) fn name(&self, number: FileNumber) -> String {
        self.group(number).name(number)
    }

    /// Those whose content can be made.
    pub(crate) fn generated(&self) -> impl Iterator<Item = (String, Content)> {
        (0..self.count()).filter_map(|number| {
            let group = self.group(number);
            match group.checked(number) {
                Checked::Generated(content) => Some((group.name(number), content)),
                _ => None,
            }
        })
    }
}

impl Group {
    fn of(source: &Source, spanned: &Spanned<RawFiles>, first: FileNumber) -> Result<Self, ConfigError> {
        let raw = spanned.get_ref();
        let zipf = raw.zipf.as_ref().map_or(0.0, |zipf| *zipf.get_ref());
        if let Some(key) = &raw.zipf
            && !(0.0..=ZIPF_MAX).contains(&zipf)
        {
            return Err(source.fault(key, format!("is an exponent from 0.0 (all alike) to {ZIPF_MAX}")));
        }
        let (names, count, content) = match (&raw.name, &raw.manifest) {
            (Some(name), None) => pattern(source, raw, name)?,
            (None, Some(manifest)) => {
                let wrong = [raw.count.as_ref().map(Spanned::span), raw.size.as_ref().map(Spanned::span)];
                if let Some(span) = wrong.into_iter().flatten().next() {
                    let fault = "is not for files of a manifest, which lists them";
                    return Err(ConfigError::at(&source.path, &source.text, span.start, fault));
                }
                let listed = listed(source, manifest)?;
                let count = u32::try_from(listed.len()).unwrap_or(u32::MAX);
                (Names::Listed(listed.into()), count, GroupContent::Listed)
            }
            _ => return Err(source.fault(spanned, "[[files]] has either `name` or `manifest`")),
        };
        let end = first.checked_add(count).ok_or_else(|| source.fault(spanned, "makes too many files"))?;
        Ok(Self { names, numbers: first..end, zipf, content })
    }

    fn pick(&self, random: &mut impl Rng) -> FileNumber {
        let count = self.numbers.end - self.numbers.start;
        if self.zipf == 0.0 {
            return random.random_range(self.numbers.clone());
        }
        let zipf =
            Zipf::new(f64::from(count), self.zipf).expect("the exponent is 0 to 10, the count 1 at least");
        // Ranks begin with 1.
        let rank = u32::try_from(whole(zipf.sample(random))).unwrap_or(1).clamp(1, count);
        self.numbers.start + rank - 1
    }

    /// The name of a file of this group.
    pub(crate) fn name(&self, number: FileNumber) -> String {
        let own = number - self.numbers.start;
        match &self.names {
            Names::Pattern(pattern) => pattern.replace(NUMBER, &own.to_string()),
            Names::Listed(listed) => listed[own as usize].name.clone(),
        }
    }

    /// What a file of this group is compared with.
    pub(crate) fn checked(&self, number: FileNumber) -> Checked {
        match (self.content, &self.names) {
            (GroupContent::Generated { least, most }, _) => {
                let name = self.name(number);
                let size = size_between(&name, least, most);
                Checked::Generated(Content::new(&name, size))
            }
            (GroupContent::Listed, Names::Listed(listed)) => {
                Checked::Sha256(listed[(number - self.numbers.start) as usize].sha256)
            }
            _ => Checked::Constant,
        }
    }
}

/// Sizes of which there are as many from 1 to 2 KiB as from 1 to 2 MiB; each follows from its file's name.
fn size_between(name: &str, least: u64, most: u64) -> u64 {
    if least == most {
        return least;
    }
    let bits = Content::new(name, 8).bytes(0..8).try_into().map(u64::from_le_bytes).unwrap_or_default();
    let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    let size = (least.max(1) as f64) * (most as f64 / least.max(1) as f64).powf(unit);
    whole(size.round()).clamp(least, most)
}

fn pattern(
    source: &Source,
    raw: &RawFiles,
    name: &Spanned<String>,
) -> Result<(Names, u32, GroupContent), ConfigError> {
    let count = super::at_least_one(source, raw.count.as_ref(), 1)?;
    let text = name.get_ref();
    if count > 1 && !text.contains(NUMBER) {
        return Err(source.fault(name, "has to hold {n}, which stands for the file's number"));
    }
    let longest = text.replace(NUMBER, &count.to_string());
    FileId::parse(longest.as_str()).map_err(|fault| source.fault(name, format!("is no file id: {fault}")))?;
    let content = raw.content.as_ref().map_or(RawContent::Generated, |content| *content.get_ref());
    let content = match (content, &raw.size) {
        (RawContent::Constant, None) => GroupContent::Constant,
        (RawContent::Constant, Some(key)) => {
            return Err(source.fault(key, "is for generated content only"));
        }
        (RawContent::Generated, None) => {
            return Err(source.fault(name, "has generated content, whose `size` is missing"));
        }
        (RawContent::Generated, Some(key)) => match key.get_ref() {
            Sizes::One(size) => GroupContent::Generated { least: size.0, most: size.0 },
            Sizes::Between([least, most]) if least.0 > most.0 => {
                return Err(source.fault(key, "is the least size first, then the most"));
            }
            Sizes::Between([least, most]) => GroupContent::Generated { least: least.0, most: most.0 },
        },
    };
    Ok((Names::Pattern(text.clone()), count, content))
}

/// Reads what `sha256sum` writes: a hash, blanks, a name.
fn listed(source: &Source, manifest: &Spanned<String>) -> Result<Vec<Listed>, ConfigError> {
    let path = config::resolve(&source.path, manifest.get_ref().as_ref());
    let fault = |fault: String| source.fault(manifest, format!("names {}: {fault}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
    let mut listed = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let parsed = parse_line(line).ok_or_else(|| {
            fault(format!(
                "line {} is no SHA-256 in 64 hex digits and a file id, as sha256sum writes them",
                at + 1
            ))
        })?;
        listed.push(parsed);
    }
    if listed.is_empty() {
        return Err(fault("it lists no file".to_owned()));
    }
    Ok(listed)
}

fn parse_line(line: &str) -> Option<Listed> {
    let (hex, name) = line.split_once([' ', '\t'])?;
    let name = name.trim_start_matches([' ', '\t', '*']).trim_start_matches("./");
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut sha256 = [0; 32];
    for (byte, pair) in sha256.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    FileId::parse(name).ok()?;
    Some(Listed { name: name.to_owned(), sha256 })
}
