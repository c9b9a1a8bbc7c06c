//! A file that lines are appended to: whole or not at all, and opened anew when it was rotated away.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes that are known to be lines; of what is no regular file (a pipe, a terminal) nothing is known.
    whole: Option<u64>,
}

impl LogFile {
    /// Opens or makes the file; what it holds stays. A line that an earlier process left unfinished is ended.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(path).or_else(|_| {
            // A pipe or a device may be writable only.
            File::options().append(true).open(path)
        })?;
        let meta = file.metadata()?;
        let mut whole = meta.is_file().then_some(meta.len());
        if let Some(length @ 1..) = whole {
            let mut last = [0];
            file.seek(SeekFrom::Start(length - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                whole = Some(length + 1);
            }
        }
        Ok(Self { path: path.to_owned(), file, whole })
    }

    /// Opens the file under its name again: the old one may have another by now.
    ///
    /// # Errors
    /// As [`LogFile::open`]; the old file stays.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// Appends lines. After a failure nothing of them is left in the file, so that they can be tried again.
    ///
    /// # Errors
    /// The file took not all of them.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines);
        if let Some(whole) = &mut self.whole {
            match written {
                Ok(()) => *whole += lines.len() as u64,
                Err(_) => self.file.set_len(*whole)?,
            }
        }
        written
    }

    /// To the disk.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.whole {
            Some(_) => self.file.sync_data(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_is_ended_and_a_rotated_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
        std::fs::write(&path, "whole\ncut").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        log.append(b"next\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ncut\nnext\n");
        std::fs::rename(&path, &rotated).unwrap();
        log.append(b"to the old\n").unwrap();
        log.reopen().unwrap();
        log.append(b"to the new\n").unwrap();
        assert!(std::fs::read_to_string(&rotated).unwrap().ends_with("next\nto the old\n"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "to the new\n");
    }

    #[test]
    fn a_full_device_is_an_error() {
        let mut log = LogFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(log.append(b"x\n").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
}
