//! What operators changed: a line each, with the name of the token that it was done with.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use serde::Serialize;

use crate::admin_api::AdminName;

/// Where changes are noted: in the log always, and in a file of its own where there is one.
pub(crate) struct Audit(Option<Mutex<File>>);

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    by: &'a str,
    action: &'a str,
    subject: &'a str,
    done: bool,
}

impl Audit {
    /// # Errors
    /// The file cannot be made or written.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        Ok(Self(path.map(open).transpose()?.map(Mutex::new)))
    }

    /// Notes a change, made or refused.
    pub(crate) fn note(&self, by: &AdminName, action: &str, subject: &str, done: bool) {
        tracing::warn!(by = by.0.as_ref(), action, subject, done, "audit");
        let Some(file) = &self.0 else { return };
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line =
            serde_json::to_vec(&Line { time, by: &by.0, action, subject, done }).expect("texts serialize");
        line.push(b'\n');
        let mut file = file.lock().expect("nothing panics while writing");
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            tracing::error!(%error, "the audit file cannot be written");
        }
    }
}
