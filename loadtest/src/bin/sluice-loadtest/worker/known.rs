//! What a thread has learned of files: size, ETag, hash. They stay what they are from the first answer on, whichever
//! edge it came from.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::scenario::FileNumber;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) size: u64,
    pub(super) etag: Box<str>,
    /// Of the first whole download, where its content is to be constant.
    pub(super) sha256: Option<[u8; 32]>,
}

#[derive(Debug, Default)]
pub(super) struct KnownFiles(RefCell<HashMap<FileNumber, Known>>);

impl KnownFiles {
    pub(super) fn of(&self, file: FileNumber) -> Option<Known> {
        self.0.borrow().get(&file).cloned()
    }

    /// What was learned first stays.
    pub(super) fn learn(&self, file: FileNumber, known: Known) {
        self.0.borrow_mut().entry(file).or_insert(known);
    }

    /// The hash that a file's content has: this one, if it is the first.
    pub(super) fn hash(&self, file: FileNumber, found: [u8; 32]) -> [u8; 32] {
        let mut files = self.0.borrow_mut();
        files.get_mut(&file).map_or(found, |known| *known.sha256.get_or_insert(found))
    }
}
