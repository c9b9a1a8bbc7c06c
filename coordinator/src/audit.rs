//! What operators changed: in the log, and in a file of its own where there is one, with the name of the token that
//! it was done with. A change that the file cannot take is not made.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::Serialize;
use sluice_shared::blocking;

use crate::admin_api::AdminName;

/// Where changes are noted.
pub(crate) struct Audit(Option<Mutex<Lines>>);

/// The file, a line of JSON each.
struct Lines {
    file: File,
    /// Whether the last write ended amid a line.
    torn: bool,
}

/// Why a change is not begun.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed, because the audit file cannot be written: {0}")]
pub(crate) struct AuditError(io::Error);

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    by: &'a str,
    action: &'a str,
    subject: &'a str,
    /// Null where it begins; then whether it was made or refused.
    done: Option<bool>,
}

/// A change as it is made. In memory of its own: what speaks with etcd is large.
pub(crate) type Change<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// What is changed, and by whom.
struct Deed {
    audit: Arc<Audit>,
    by: AdminName,
    action: &'static str,
    subject: String,
}

/// A change that was noted and is not made yet.
#[must_use = "a change that began has an end"]
struct Begun(Deed);

impl Audit {
    /// # Errors
    /// The file cannot be made or opened.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = path.map(open).transpose()?;
        Ok(Self(file.map(|file| Mutex::new(Lines { file, torn: false }))))
    }

    /// Makes a change between its two notes, and not at all where the first cannot be written. It is made to its end
    /// also where the caller goes away.
    ///
    /// # Errors
    /// The change's, or that it cannot be noted.
    pub(crate) async fn around<T, E>(
        self: &Arc<Self>,
        by: AdminName,
        action: &'static str,
        subject: String,
        change: Change<T, E>,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<AuditError> + Send + 'static,
    {
        let deed = Deed { audit: Arc::clone(self), by, action, subject };
        blocking::to_its_end(async {
            let begun = blocking::run(|| deed.begin()).await?;
            let changed = change.await;
            let is_done = changed.is_ok();
            blocking::run(move || begun.end(is_done)).await;
            changed
        })
        .await
    }
}

impl Deed {
    /// Notes in the file what is about to be changed; on disk before this returns. Blocks.
    ///
    /// # Errors
    /// The file cannot be written: the change must not be made.
    fn begin(self) -> Result<Begun, AuditError> {
        match self.write(None) {
            Ok(()) => Ok(Begun(self)),
            Err(error) => {
                let (by, action, subject) = (&*self.by.0, self.action, &self.subject);
                tracing::error!(by, action, subject, %error, "audit file not written, change refused");
                Err(AuditError(error))
            }
        }
    }

    fn write(&self, done: Option<bool>) -> io::Result<()> {
        let Some(lines) = &self.audit.0 else { return Ok(()) };
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let line = Line { time, by: &self.by.0, action: self.action, subject: &self.subject, done };
        let line = serde_json::to_string(&line).expect("texts serialize");
        lines.lock().expect("nothing panics while writing").push(&line)
    }
}

impl Begun {
    /// Notes how the change ended. Where the file takes no more, it has at least the beginning. Blocks.
    fn end(self, done: bool) {
        let Self(deed) = self;
        let (by, action, subject) = (&*deed.by.0, deed.action, &deed.subject);
        tracing::warn!(by, action, subject, done, "audit");
        if let Err(error) = deed.write(Some(done)) {
            tracing::error!(%error, "the audit file lacks how the change ended");
        }
    }
}

impl Lines {
    fn push(&mut self, line: &str) -> io::Result<()> {
        // What was left of a line by a full disk stays a line of its own.
        let start = if self.torn { "\n" } else { "" };
        self.torn = true;
        self.file.write_all(format!("{start}{line}\n").as_bytes())?;
        self.torn = false;
        match self.file.sync_data() {
            // A pipe or a terminal has nothing to sync.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addition(audit: Audit) -> Deed {
        let (audit, by) = (Arc::new(audit), AdminName("ann".into()));
        Deed { audit, by, action: "clients.add", subject: "AK1".to_owned() }
    }

    #[test]
    fn a_change_is_noted_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let begun = addition(Audit::open(Some(&path)).unwrap()).begin().unwrap();
        let lines = || -> Vec<serde_json::Value> {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        assert_eq!(lines().len(), 1);
        assert!(lines()[0]["done"].is_null());
        begun.end(true);
        assert_eq!(lines()[1]["done"], true);
        assert_eq!((&lines()[1]["by"], &lines()[1]["subject"]), (&"ann".into(), &"AK1".into()));
    }

    #[test]
    fn a_full_disk_refuses_changes() {
        let refused = addition(Audit::open(Some(Path::new("/dev/full"))).unwrap()).begin().err().unwrap();
        assert!(refused.to_string().starts_with("nothing was changed"), "{refused}");
        assert!(addition(Audit::open(None).unwrap()).begin().is_ok());
    }

    #[test]
    fn a_torn_line_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"time").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let mut lines = Lines { file, torn: true };
        lines.push("{}").unwrap();
        lines.push("{}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"time\n{}\n{}\n");
    }
}
