//! Grant → OpenFile: which version of which file, with its header fields ready made.
//!
//! Each worker keeps its own entries, path → (version, fields); an entry is used without asking anybody for as long as
//! the file was confirmed within `revalidate`. Confirming is done once for the whole process ([`file`]). With the
//! store away, entries go on being used for `stale_limit` since they were last confirmed.

mod check;
mod file;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::authorize::Grant;
use crate::cache::Object;
use crate::head::FileFields;
pub(crate) use check::ResolveError;
use file::File;
pub(crate) use file::{Files, FilesConfig};

/// How long a request waits for a revalidation that is late, where there is an older confirmed version to serve.
const PATIENCE: Duration = Duration::from_millis(100);
/// A file that changes while it is read is tried again this often.
const CHANGES_MAX: usize = 3;

/// A file that is ready to be answered from.
pub(crate) struct OpenFile {
    pub(crate) entry: Rc<Entry>,
    /// The token's name to save as.
    pub(crate) save_as: Option<String>,
}

/// One worker's view of one version of a file.
pub(crate) struct Entry {
    pub(crate) object: Arc<Object>,
    pub(crate) fields: FileFields,
    file: Arc<File>,
    generation: u64,
}

impl Entry {
    /// A fill found another version: the file is asked again before it is served again.
    pub(crate) fn distrust(&self) {
        self.file.distrust();
    }
}

/// One worker's entries.
pub(crate) struct Resolver {
    files: Arc<Files>,
    entries: RefCell<HashMap<Box<str>, Rc<Entry>, foldhash::fast::RandomState>>,
}

impl Resolver {
    pub(crate) fn new(files: Arc<Files>) -> Self {
        Self { files, entries: RefCell::default() }
    }

    /// Finds or opens the granted file. While it is fresh this takes no lock, asks nobody and waits for nothing.
    ///
    /// # Errors
    /// No such file; the store failed or did not answer in time.
    pub(crate) async fn resolve(&self, grant: &Grant<'_>) -> Result<OpenFile, ResolveError> {
        let file_id = grant.file_id.as_str();
        let entry = match self.ready(file_id) {
            Some(entry) => entry,
            None => self.refresh(file_id).await?,
        };
        Ok(OpenFile { entry, save_as: grant.save_as.as_deref().map(str::to_owned) })
    }

    /// The entry, if it may be served as it is.
    fn ready(&self, file_id: &str) -> Option<Rc<Entry>> {
        let entry = Rc::clone(self.entries.borrow().get(file_id)?);
        let now = self.files.now_ms();
        let servable =
            entry.generation == entry.file.generation() && entry.file.is_servable(now, &self.files);
        if !servable {
            return None;
        }
        if entry.file.is_due(now, &self.files) {
            self.files.check(&entry.file);
        }
        Some(entry)
    }

    /// Confirms or opens the file, then makes the entry anew.
    async fn refresh(&self, file_id: &str) -> Result<Rc<Entry>, ResolveError> {
        let file = self.files.file(file_id);
        for _ in 0..CHANGES_MAX {
            let now = self.files.now_ms();
            if file.is_servable(now, &self.files)
                && let Some((object, generation)) = file.current()
            {
                return Ok(self.insert(file_id, &file, object, generation));
            }
            let mut check = self.files.check(&file);
            let patience = file.patience(now, &self.files);
            match tokio::time::timeout(patience, check.wait_for(Option::is_some)).await {
                Ok(Ok(ended)) => match *ended {
                    Some(Ok(())) | None => {}
                    Some(Err(error)) if !file.is_servable(self.files.now_ms(), &self.files) => {
                        return Err(error);
                    }
                    Some(Err(_)) => {}
                },
                Ok(Err(_)) => return Err(ResolveError::Timeout),
                Err(_) if file.is_servable(self.files.now_ms(), &self.files) => {}
                Err(_) => return Err(ResolveError::Timeout),
            }
        }
        Err(ResolveError::Changing)
    }

    fn insert(&self, file_id: &str, file: &Arc<File>, object: Arc<Object>, generation: u64) -> Rc<Entry> {
        let fields = FileFields::new(file.name(), object.version(), self.files.config().etag);
        let entry = Rc::new(Entry { object, fields, file: Arc::clone(file), generation });
        self.entries.borrow_mut().insert(file_id.into(), Rc::clone(&entry));
        entry
    }

    /// Drops the entries of files that the process has let go of, as it is told of them.
    pub(crate) async fn follow_forgotten(&self, mut forgotten: mpsc::UnboundedReceiver<Arc<File>>) {
        while let Some(file) = forgotten.recv().await {
            let mut entries = self.entries.borrow_mut();
            if entries.get(file.id()).is_some_and(|entry| entry.generation != entry.file.generation()) {
                entries.remove(file.id());
            }
        }
    }
}
