//! What a machine's threads have learned of files: size, ETag, hash. They stay what they are from the first answer on,
//! whichever edge it came from and whoever asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fault::Fault;
use crate::scenario::FileNumber;

/// Locks that files are spread over, so that threads seldom meet: a download takes one two or three times.
const SHARDS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) size: u64,
    pub(super) etag: Arc<str>,
    /// Of the first whole download, where its content is to be constant.
    pub(super) sha256: Option<[u8; 32]>,
}

#[derive(Debug)]
pub(crate) struct KnownFiles([Mutex<HashMap<FileNumber, Known>>; SHARDS]);

impl KnownFiles {
    pub(super) fn of(&self, file: FileNumber) -> Option<Known> {
        self.shard(file).get(&file).cloned()
    }

    /// What was learned first stays.
    ///
    /// # Errors
    /// This is something else.
    pub(super) fn learn(&self, file: FileNumber, size: u64, etag: &str) -> Result<(), Fault> {
        let mut files = self.shard(file);
        let known = files.entry(file).or_insert_with(|| Known { size, etag: etag.into(), sha256: None });
        if *known.etag != *etag {
            return Err(Fault::Etag { before: known.etag.to_string(), after: etag.to_owned() });
        }
        if known.size != size {
            return Err(Fault::Length { expected: known.size, found: size });
        }
        Ok(())
    }

    /// The hash that a file's content has: this one, if it is the first.
    pub(super) fn hash(&self, file: FileNumber, found: [u8; 32]) -> [u8; 32] {
        self.shard(file).get_mut(&file).map_or(found, |known| *known.sha256.get_or_insert(found))
    }

    fn shard(&self, file: FileNumber) -> MutexGuard<'_, HashMap<FileNumber, Known>> {
        self.0[file as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for KnownFiles {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}
