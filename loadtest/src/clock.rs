//! A wall clock that tests move by hours in a moment, for programs that are started under it: libfaketime answers
//! them with the system's time and an offset that a file holds. What they measure waiting by goes on as it is.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use anyhow::{Context as _, ensure};

/// Where Debian and its relatives have the library for programs of several threads.
fn library() -> PathBuf {
    format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", env::consts::ARCH).into()
}

/// A clock that is ahead of the system's, or shows its time.
#[derive(Debug)]
pub struct Clock {
    /// `+SECONDS`.
    file: PathBuf,
    ahead: Mutex<Duration>,
}

impl Clock {
    /// One that shows the system's time, kept in `file`.
    pub(crate) fn start(file: PathBuf) -> anyhow::Result<Self> {
        let library = library();
        ensure!(library.is_file(), "{} is missing; install the package libfaketime", library.display());
        let clock = Self { file, ahead: Mutex::default() };
        clock.advance(Duration::ZERO)?;
        Ok(clock)
    }

    /// Moves it on, at once for all programs under it.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn advance(&self, by: Duration) -> anyhow::Result<()> {
        self.set(|ahead| ahead + by)
    }

    /// Sets it back to the system's time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn set_right(&self) -> anyhow::Result<()> {
        self.set(|_| Duration::ZERO)
    }

    fn set(&self, change: impl FnOnce(Duration) -> Duration) -> anyhow::Result<()> {
        let mut ahead = self.ahead.lock().expect("nothing panics while it is moved");
        *ahead = change(*ahead);
        let new = self.file.with_extension("new");
        fs::write(&new, format!("+{}\n", ahead.as_secs()))
            .and_then(|()| fs::rename(&new, &self.file))
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(())
    }

    /// What it shows.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + *self.ahead.lock().expect("nothing panics while it is moved")
    }

    /// The environment of a program under it.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), library().into()),
            ("FAKETIME_TIMESTAMP_FILE".into(), self.file.clone().into()),
            // Read at every look at the clock.
            ("FAKETIME_NO_CACHE".into(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ("NO_FAKE_STAT".into(), "1".into()),
        ]
    }
}
