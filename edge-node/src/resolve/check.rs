//! One check of one file: open beneath the root, ask its attributes, and take in what is new.
//!
//! Its place among the store's operations ends with it. The file's hash is waited for without one ([`Found::settled`]):
//! to look for that takes a place as well, and those who had theirs and waited would keep each other from it.

use std::io;
use std::sync::Arc;

use super::file::File;
use super::files::Files;
use super::sidecar::{self, Look};
use crate::cache::{FillError, Object, OnEvicted, WHOLE_BYTES_MAX};
use crate::store::Slot;
use crate::uring::FileKind;

/// The largest file that is served: what the tables of its windows are made for.
const FILE_BYTES_MAX: u64 = 16 << 40;
/// A file that changes while it is read is tried again this often.
const CHANGES_MAX: usize = 3;

/// Why a file cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("no such file")]
    NotFound,
    #[error("not a regular file")]
    NotRegular,
    #[error("larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the store denies reading it")]
    Denied,
    #[error("the store failed: {}", io::Error::from_raw_os_error(*.0))]
    Storage(i32),
    #[error("the file keeps changing while it is read")]
    Changing,
    #[error("the store did not answer in time")]
    Timeout,
}

impl ResolveError {
    /// The store has answered, and there is nothing to serve: an older version is not served either.
    pub(super) fn is_about_the_file(self) -> bool {
        matches!(self, Self::NotFound | Self::NotRegular | Self::TooLarge | Self::Denied)
    }
}

impl From<FillError> for ResolveError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Superseded => Self::Changing,
            FillError::Storage(errno) => Self::Storage(errno),
            FillError::Timeout => Self::Timeout,
        }
    }
}

impl From<io::Error> for ResolveError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            // ELOOP and EXDEV: a link that is not followed, or leads outside.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV | libc::ENAMETOOLONG) => {
                Self::NotFound
            }
            Some(libc::ENXIO | libc::EISDIR | libc::ENODEV) => Self::NotRegular,
            Some(libc::EACCES | libc::EPERM) => Self::Denied,
            errno => Self::Storage(errno.unwrap_or(libc::EIO)),
        }
    }
}

/// What a check has found.
pub(super) struct Found {
    object: Arc<Object>,
    /// For a new version's hash.
    look: Option<Look>,
}

impl Found {
    /// The version, once its hash is known, or has been waited for long enough.
    pub(super) async fn settled(self) -> Arc<Object> {
        if let Some(look) = self.look {
            look.ended().await;
        }
        self.object
    }
}

/// Finds the file's version now: the object already known if it is still the one, else a new one.
pub(super) async fn run_check(
    files: &Arc<Files>,
    file: &Arc<File>,
    mut slot: Slot,
    requester: u64,
) -> Result<Found, ResolveError> {
    let patience = files.config().storage_timeout;
    // Whoever asked is gone by then; asking on behalf of nobody would only lengthen the queue.
    let granted = tokio::time::timeout(patience, slot.granted()).await;
    granted.map_err(|_| ResolveError::Timeout)?;
    for _ in 0..CHANGES_MAX {
        slot.begin();
        let (opened, stat) = files.store.open(&file.path).await?;
        slot.rest();
        let version = stat.version;
        if stat.kind != FileKind::Regular {
            return Err(ResolveError::NotRegular);
        }
        if version.size > FILE_BYTES_MAX {
            return Err(ResolveError::TooLarge);
        }
        if let Some((current, _)) = file.current()
            && *current.version() == version
            && !current.is_superseded()
        {
            // What is known is served meanwhile.
            let _ = sidecar::look(files, file, version, requester);
            return Ok(Found { object: current, look: None });
        }
        let look = sidecar::look(files, file, version, requester);
        let on_evicted = on_evicted(files, file);
        if version.size > WHOLE_BYTES_MAX {
            let permit = files.permit_to_open().await.ok_or(ResolveError::Storage(libc::EMFILE))?;
            // In memory before it is waited for: opening the file again would cost more.
            let object =
                files.cache.insert_windowed(version, file.fingerprint, opened, permit, on_evicted)?;
            return Ok(Found { object, look });
        }
        if let Some(loaded) = files.cache.load_whole(&opened, &version, patience, &slot).await? {
            let object = files.cache.insert_whole(version, file.fingerprint, loaded, on_evicted);
            return Ok(Found { object, look });
        }
    }
    Err(ResolveError::Changing)
}

/// The cache evicts a small file whole: the file goes with it.
fn on_evicted(files: &Arc<Files>, file: &Arc<File>) -> OnEvicted {
    let (files, file) = (Arc::downgrade(files), Arc::downgrade(file));
    Box::new(move |object| {
        if let (Some(files), Some(file)) = (files.upgrade(), file.upgrade()) {
            files.evict(&file, object);
        }
    })
}
