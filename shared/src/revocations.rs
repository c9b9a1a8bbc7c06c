//! What is not served any more though a token says so: links, users, clients, files, token keys, and whatever is under a
//! prefix.
//!
//! The list only grows. Of two marks on one target the later one stands, wherever it comes from and in whatever order;
//! that nobody mentions a target says nothing. To lift a mark is to set another, whose end has passed.

mod book;
mod etcd;
mod mark;
mod marks;
mod target;

pub use book::{BarError, BookError, RevocationBook};
pub use etcd::EtcdMarks;
pub use mark::{Instant, Mark};
use marks::Marks;
pub use target::{Kind, Target, TargetFault};

/// All marks of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// By kind.
    marks: [Marks; Kind::ALL.len()],
}

/// What a token or a transfer is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub file: &'a str,
    pub link: Option<&'a str>,
    pub user: Option<&'a str>,
    pub client: Option<&'a str>,
}

/// A mark that holds for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barred {
    /// The first kind that does.
    pub by: Kind,
    /// Whether transfers under way end too.
    pub cut: bool,
}

impl Revocations {
    /// Takes a mark in; says whether that changed anything.
    pub fn merge(&mut self, target: &Target, mark: Mark) -> bool {
        let marks = &mut self.marks[target.kind() as usize];
        if marks.get(target.value()).is_some_and(|known| !mark.supersedes(known)) {
            return false;
        }
        marks.insert(target.value(), mark);
        true
    }

    /// Whether something is in force that holds for a subject. Neither locks nor allocates.
    pub fn bar(&self, subject: &Subject<'_>, now: Instant) -> Option<Barred> {
        let mut barred: Option<Barred> = None;
        let mut add = |by, mark: &Mark| {
            let known = barred.get_or_insert(Barred { by, cut: false });
            known.cut |= mark.cut;
        };
        let named = [
            (Kind::Link, subject.link),
            (Kind::User, subject.user),
            (Kind::Client, subject.client),
            (Kind::File, Some(subject.file)),
        ];
        for (kind, value) in named {
            if let Some(mark) = value.and_then(|value| self.in_force(kind, value, now)) {
                add(kind, mark);
            }
        }
        if !self.marks[Kind::Prefix as usize].is_empty() {
            for prefix in prefixes_of(subject.file) {
                if let Some(mark) = self.in_force(Kind::Prefix, prefix, now) {
                    add(Kind::Prefix, mark);
                }
            }
        }
        barred
    }

    /// Whether tokens under a key are refused, whatever they say.
    pub fn is_key_revoked(&self, key_id: &str, now: Instant) -> bool {
        self.in_force(Kind::Key, key_id, now).is_some()
    }

    /// Whether transfers under way end too whose tokens were under a key.
    pub fn is_key_cut(&self, key_id: &str, now: Instant) -> bool {
        self.in_force(Kind::Key, key_id, now).is_some_and(|mark| mark.cut)
    }

    /// Whether what is cached of a file must not be kept.
    pub fn is_file_barred(&self, file: &str, now: Instant) -> bool {
        self.bar(&Subject { file, link: None, user: None, client: None }, now).is_some()
    }

    /// Drops what ended long ago.
    pub fn forget(&mut self, now: Instant) {
        for kind in Kind::ALL {
            self.marks[kind as usize].forget(kind, now);
        }
    }

    /// What is said of a target, in force or not.
    pub fn mark_on(&self, target: &Target) -> Option<&Mark> {
        self.marks[target.kind() as usize].get(target.value())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Target, Mark)> {
        Kind::ALL.into_iter().flat_map(|kind| {
            let marks = self.marks[kind as usize].iter();
            // What was taken in was a target once.
            marks.filter_map(move |(value, mark)| Some((Target::new(kind, value).ok()?, *mark)))
        })
    }

    pub fn len(&self) -> usize {
        self.marks.iter().map(Marks::len).sum()
    }

    /// How many there are of a kind, in force or not.
    pub fn count(&self, kind: Kind) -> usize {
        self.marks[kind as usize].len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn in_force(&self, kind: Kind, value: &str, now: Instant) -> Option<&Mark> {
        let marks = &self.marks[kind as usize];
        // Most of the time there are none of a kind: nothing is hashed, then.
        if marks.is_empty() {
            return None;
        }
        marks.get(value).filter(|mark| mark.is_in_force(now))
    }
}

/// Every prefix that holds a file id, by [`FileId::is_under`](crate::file_id::FileId::is_under).
fn prefixes_of(file: &str) -> impl Iterator<Item = &str> {
    let folders = file.match_indices('/').flat_map(|(at, _)| [&file[..at], &file[..=at]]);
    ["", file].into_iter().chain(folders)
}

#[cfg(test)]
mod tests;
