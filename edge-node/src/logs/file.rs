//! A file that lines are appended to: whole or not at all, and opened anew when it was rotated away. For the time of an
//! upgrade two processes append to it, one at a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// What is no regular file (a pipe, a terminal) cannot be cut, and is nobody's alone.
    is_regular: bool,
}

impl LogFile {
    /// Opens or makes the file; what it holds stays. A line that an earlier process left unfinished is ended.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).read(true).append(true).open(path).or_else(|_| {
            // A pipe or a device may be writable only.
            File::options().append(true).open(path)
        })?;
        let is_regular = file.metadata()?.is_file();
        let mut file = Self { path: path.to_owned(), file, is_regular };
        if is_regular {
            file.alone(Self::end_line)?;
        }
        Ok(file)
    }

    fn end_line(&mut self, length: u64) -> io::Result<()> {
        let mut last = [b'\n'];
        if length > 0 {
            self.file.seek(SeekFrom::Start(length - 1))?;
            self.file.read_exact(&mut last)?;
        }
        if last == *b"\n" { Ok(()) } else { self.file.write_all(b"\n") }
    }

    /// Does something to a regular file of so many bytes while no other process of ours does.
    fn alone(&mut self, act: impl FnOnce(&mut Self, u64) -> io::Result<()>) -> io::Result<()> {
        self.file.lock()?;
        let length = self.file.metadata().map(|meta| meta.len());
        let done = length.and_then(|length| act(self, length));
        self.file.unlock()?;
        done
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
        if !self.is_regular {
            return self.file.write_all(lines);
        }
        self.alone(|this, whole| {
            this.file.write_all(lines).inspect_err(|_| {
                // Where this fails too, the next process ends the line.
                let _ = this.file.set_len(whole);
            })
        })
    }

    /// To the disk.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.is_regular { self.file.sync_data() } else { Ok(()) }
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
    fn two_processes_append_whole_lines_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines = |name: &str| format!("{name}{}\n", name.repeat(20_000)).repeat(20);
        let writers = ["a", "b"].map(|name| {
            let (mut log, lines) = (LogFile::open(&path).unwrap(), lines(name));
            std::thread::spawn(move || (0..20).for_each(|_| log.append(lines.as_bytes()).unwrap()))
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 800);
        assert!(
            text.lines()
                .all(|line| line.len() == 20_001 && line.bytes().all(|byte| byte == line.as_bytes()[0]))
        );
    }

    #[test]
    fn a_full_device_is_an_error() {
        let mut log = LogFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(log.append(b"x\n").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
}
