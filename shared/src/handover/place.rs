//! Where a control socket lies: in a folder that only the program's own user can write to, so that nobody else can put
//! a socket there, and under a name that nothing but a socket is ever taken away from.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::process::geteuid;

use super::HandoverError;

/// Judges the place as far as it exists. Makes nothing.
///
/// # Errors
/// Others may write to the folder, or the name is a file's.
pub fn check_place(path: &Path) -> Result<(), HandoverError> {
    let failed = |source| HandoverError::Io { path: path.to_owned(), source };
    let folder = folder_of(path);
    let found = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != geteuid().as_raw() || mode & 0o022 != 0 {
        return Err(HandoverError::Folder { folder: folder.to_owned(), owner, mode });
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(HandoverError::NoSocket { path: path.to_owned() }),
        Err(error) => Err(failed(error)),
    }
}

/// Judges the place, and makes the folder where it is missing.
///
/// # Errors
/// As [`check_place`]; the folder cannot be made.
pub fn prepare(path: &Path) -> Result<(), HandoverError> {
    match DirBuilder::new().mode(0o700).create(folder_of(path)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(HandoverError::Io { path: path.to_owned(), source }),
    }
    check_place(path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
