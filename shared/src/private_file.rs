//! Files that hold secrets: read only where nobody else can, written whole or not at all.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Larger files are none of ours, but for the few that say so.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a private file is not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    #[error("does not exist")]
    Missing,
    #[error("can be read by others (mode {mode:04o}); run: chmod 600 {path}")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("is not UTF-8 text of at most {0} bytes")]
    Text(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a file that only its owner can.
///
/// # Errors
/// It is missing, exposed, no text, or cannot be read.
pub fn read(path: &Path) -> Result<Zeroizing<String>, PrivateFileError> {
    read_at_most(path, FILE_BYTES_MAX)
}

/// As [`read`], with a limit of its own.
///
/// # Errors
/// As [`read`].
pub fn read_at_most(path: &Path, bytes_max: u64) -> Result<Zeroizing<String>, PrivateFileError> {
    let opened = fs::File::open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PrivateFileError::Missing),
        other => other?,
    };
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(PrivateFileError::Text(bytes_max));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| PrivateFileError::Text(bytes_max))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a file that appears whole or not at all, readable by its owner only; an existing one is left alone.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is one; the folder cannot be written.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    written(path, text)?.persist_noclobber(path).map(drop).map_err(|error| error.error)
}

/// Replaces a file, as [`write_new`] makes one.
///
/// # Errors
/// The folder cannot be written.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    written(path, text)?.persist(path).map_err(|error| error.error)?;
    // The rename itself survives a loss of power only with its folder.
    fs::File::open(folder_of(path))?.sync_all()
}

fn written(path: &Path, text: &str) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(matches!(read(&path), Err(PrivateFileError::Missing)));
        write_new(&path, "one").unwrap();
        assert_eq!(write_new(&path, "two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path).unwrap().as_str(), "one\n");
        replace(&path, "three\n").unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "three\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn exposed_and_foreign_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_new(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("0640") && message.contains("chmod 600"), "{message}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"\xff").unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::Text(_))));
    }
}
