//! Grant → OpenFile: which version of which file, with its header fields ready made.
//!
//! Each worker keeps its own entries, path → (version, fields); an entry is used without asking anybody for as long as
//! the file was confirmed within `revalidate`. Confirming is done once for the whole process ([`mod@file`]). With the
//! store away, entries go on being used for `stale_limit` since they were last confirmed.

mod check;
mod file;
mod files;
mod sidecar;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::authorize::{Grant, Terms};
use crate::cache::{FillError, Object};
use crate::head::FileFields;
pub(crate) use check::ResolveError;
pub(crate) use file::File;
pub(crate) use files::{Files, FilesConfig};
pub(crate) use sidecar::Digest;

/// A file that is ready to be answered from.
pub(crate) struct OpenFile {
    pub(crate) entry: Rc<Entry>,
    /// The token's name to save as.
    pub(crate) save_as: Option<String>,
    pub(crate) terms: Terms,
}

impl OpenFile {
    fn new(entry: Rc<Entry>, grant: &Grant<'_>) -> Self {
        Self { entry, save_as: grant.save_as.as_deref().map(str::to_owned), terms: grant.terms }
    }
}

/// One worker's view of one version of a file.
pub(crate) struct Entry {
    pub(crate) object: Arc<Object>,
    pub(crate) fields: FileFields,
    file: Arc<File>,
    generation: u64,
}

impl Entry {
    /// A fill failed. If it found another version, the file is asked for before it is served again; a store that
    /// fails or hangs says nothing against the version that is cached.
    pub(crate) fn blame(&self, error: FillError) {
        if error == FillError::Superseded {
            self.file.distrust(self.generation);
        }
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

    /// Whether what is not cached had better be asked of another edge.
    pub(crate) fn is_store_degraded(&self) -> bool {
        self.files.store.health().is_degraded
    }

    /// Whether there is a version of the file that may be served, if need be without hearing from the store.
    pub(crate) fn has_servable(&self, file_id: &str) -> bool {
        self.files.has_servable(file_id)
    }

    /// The granted file, where it was confirmed lately. Once in half of `revalidate` a request sets a check going, and
    /// does not wait for it.
    pub(crate) fn resolve_now(&self, grant: &Grant<'_>, now: Instant) -> Option<OpenFile> {
        let entry = self.ready(grant.file_id.as_str(), grant.terms.requester, now)?;
        Some(OpenFile::new(entry, grant))
    }

    /// Finds or opens the granted file, by `until` at the latest.
    ///
    /// # Errors
    /// No such file; the store failed or did not answer in time.
    pub(crate) async fn resolve(
        &self,
        grant: &Grant<'_>,
        now: Instant,
        until: Instant,
    ) -> Result<OpenFile, ResolveError> {
        if let Some(file) = self.resolve_now(grant, now) {
            return Ok(file);
        }
        let entry = self.refresh(grant.file_id.as_str(), grant.terms.requester, until).await?;
        Ok(OpenFile::new(entry, grant))
    }

    /// The entry, if it may be served as it is.
    fn ready(&self, file_id: &str, requester: u64, now: Instant) -> Option<Rc<Entry>> {
        let entry = Rc::clone(self.entries.borrow().get(file_id)?);
        let (now, config) = (self.files.ms_at(now), self.files.config());
        if !entry.file.is_servable(now, config) || entry.generation != entry.file.generation() {
            return None;
        }
        if entry.file.is_due(now, config) {
            self.files.check(&entry.file, requester);
        }
        Some(entry)
    }

    /// Confirms or opens the file, then makes the entry anew.
    async fn refresh(
        &self,
        file_id: &str,
        requester: u64,
        until: Instant,
    ) -> Result<Rc<Entry>, ResolveError> {
        loop {
            let file = self.files.file(file_id);
            let (now, config) = (self.files.now_ms(), self.files.config());
            if file.is_servable(now, config)
                && let Some((object, generation)) = file.current()
            {
                return Ok(self.insert(&file, object, generation));
            }
            // Forgotten by another worker since it was found.
            let Some(mut check) = self.files.check(&file, requester) else { continue };
            let left = until.saturating_duration_since(Instant::now());
            let patience = file.patience(now, config).unwrap_or(left).min(left);
            match tokio::time::timeout(patience, check.wait_for(Option::is_some)).await {
                Ok(ended) => match ended.ok().and_then(|ended| ended.clone()) {
                    Some(Ok(object)) => return Ok(self.insert(&file, object, file.generation())),
                    Some(Err(_)) if file.is_servable(self.files.now_ms(), config) => {}
                    Some(Err(error)) => return Err(error),
                    // The check's task is gone: a worker is ending.
                    None => return Err(ResolveError::Timeout),
                },
                Err(_) if Instant::now() >= until => return Err(ResolveError::Timeout),
                // Patience is over: an older version is served, or there is none and the wait goes on.
                Err(_) => {}
            }
        }
    }

    /// Makes an entry; kept only if it is of the file's current version, so that it is told of when that goes.
    fn insert(&self, file: &Arc<File>, object: Arc<Object>, generation: u64) -> Rc<Entry> {
        let version = object.version();
        let digest = file.digest_of(version);
        let fields = FileFields::new(file.name(), version, digest.as_ref(), &self.files.config().fields);
        let is_current = file.current().is_some_and(|(current, _)| Arc::ptr_eq(&current, &object));
        let entry = Rc::new(Entry { object, fields, file: Arc::clone(file), generation });
        if is_current {
            self.entries.borrow_mut().insert(file.id.clone(), Rc::clone(&entry));
        }
        entry
    }

    /// Drops the entries of files that the process has let go of, as it is told of them.
    pub(crate) async fn follow_forgotten(&self, mut forgotten: mpsc::UnboundedReceiver<Arc<File>>) {
        while let Some(file) = forgotten.recv().await {
            let mut entries = self.entries.borrow_mut();
            if entries.get(&file.id).is_some_and(|entry| entry.generation != entry.file.generation()) {
                entries.remove(&file.id);
            }
        }
    }
}
