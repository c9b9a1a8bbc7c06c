//! The file: opened by one process, and again after a failure; read, and changed as a whole. Blocks; knows nothing of
//! threads or batches.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    AccessGuard, Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use sluice_shared::token::random_id;

use super::tables::{BORNE, REDEMPTIONS, REVOKED, Tables};

/// Ids are short: this is a million links and more.
const CACHE_BYTES: usize = 64 << 20;
/// What the tables look like. Another number is another program's.
const FORMAT: &str = "1";

/// `format` and `id`.
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

/// Why a state file cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("cannot open or make the state file {path}: {source}; its folder must exist and be writable")]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "the state file {path} is open in another process; each coordinator with embedded state needs its own"
    )]
    InUse { path: PathBuf },
    #[error("the state file {path} cannot be used: {source}; restore it, or move it away to start with none")]
    Unusable { path: PathBuf, source: redb::Error },
    #[error(
        "the state file {path} has format {format}, and this program writes {FORMAT}; use the program that made it"
    )]
    Format { path: PathBuf, format: String },
    #[error(
        "the state file {path} is another than it was; put the one back that this process began with, or restart it"
    )]
    Replaced { path: PathBuf },
    #[error(
        "cannot start the thread that writes the state file: {0}; raise the limit on processes (ulimit -u)"
    )]
    Thread(io::Error),
}

/// An open file.
pub(super) struct Store {
    path: PathBuf,
    id: String,
    /// `None` while it is opened anew, and once it is closed.
    database: RwLock<Option<Database>>,
    is_closed: AtomicBool,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let (database, id) = open_database(path, true)?;
        let database = RwLock::new(Some(database));
        Ok(Self { path: path.to_owned(), id, database, is_closed: AtomicBool::new(false) })
    }

    /// Closes the file and opens it again: after a failure, the database refuses everything until then.
    pub(super) fn reopen(&self) -> Result<(), EmbeddedError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // First closed, for the lock on the file.
        *database = None;
        if self.is_closed() {
            return Ok(());
        }
        let (opened, id) = open_database(&self.path, false)?;
        if id != self.id {
            return Err(EmbeddedError::Replaced { path: self.path.clone() });
        }
        *database = Some(opened);
        Ok(())
    }

    /// Closes the file for good, once nobody is in it: another process opens it.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The random name of the file.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn revoked(&self) -> Result<HashSet<String>, EmbeddedError> {
        let read = || {
            self.with(|database| {
                let revoked = database.begin_read()?.open_table(REVOKED)?;
                let ids = revoked.iter()?.map(|entry| Ok(entry?.0.value().to_owned()));
                ids.collect::<Result<_, redb::Error>>()
            })
        };
        read().map_err(|source| unusable(&self.path, source))
    }

    /// The latest times ahead of the clock that clients' calls bore, in milliseconds.
    pub(super) fn borne(&self) -> Result<HashMap<String, u64>, EmbeddedError> {
        let read = || {
            self.with(|database| {
                let borne = database.begin_read()?.open_table(BORNE)?;
                let entry = |entry: Result<(AccessGuard<'_, &str>, AccessGuard<'_, u64>), _>| {
                    let (client, time_ms) = entry?;
                    Ok((client.value().to_owned(), time_ms.value()))
                };
                borne.iter()?.map(entry).collect::<Result<_, redb::Error>>()
            })
        };
        read().map_err(|source| unusable(&self.path, source))
    }

    pub(super) fn has_redeemed(&self, link: &str, who: u128) -> Result<bool, redb::Error> {
        self.with(|database| {
            let redemptions = database.begin_read()?.open_table(REDEMPTIONS)?;
            Ok(redemptions.get((link, who))?.is_some())
        })
    }

    /// Changes the tables, all or nothing; what it returns is on disk.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        self.with(|database| change_tables(database, change))
    }

    fn with<T>(&self, ask: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        ask(database.as_ref().ok_or(redb::Error::DatabaseClosed)?)
    }
}

/// The database in a file, and its id.
fn open_database(path: &Path, may_be_new: bool) -> Result<(Database, String), EmbeddedError> {
    let failed = |source| EmbeddedError::Open { path: path.to_owned(), source };
    // Who took which link, from where: for nobody but its owner.
    let file = OpenOptions::new().read(true).write(true).create(may_be_new).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    let is_new = file.metadata().map_err(failed)?.len() == 0;
    let backend = FileBackend::new(file);
    let opened =
        backend.and_then(|backend| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend));
    let database = match opened {
        Ok(database) => database,
        Err(DatabaseError::DatabaseAlreadyOpen) => {
            return Err(EmbeddedError::InUse { path: path.to_owned() });
        }
        Err(error) => return Err(unusable(path, error.into())),
    };
    let (format, id) = name(&database).map_err(|source| unusable(path, source))?;
    if format != FORMAT {
        return Err(EmbeddedError::Format { path: path.to_owned(), format });
    }
    if is_new {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The name of the file is as durable as what is in it.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok((database, id))
}

/// Gives a new file its format, id and tables; the format and id of any file.
fn name(database: &Database) -> Result<(String, String), redb::Error> {
    let written = database.begin_write()?;
    let format = meta(&written, "format", || FORMAT.to_owned())?;
    let id = meta(&written, "id", random_id)?;
    if format == FORMAT {
        Tables::open(&written)?;
        written.commit()?;
    }
    Ok((format, id))
}

fn meta(written: &WriteTransaction, name: &str, new: impl FnOnce() -> String) -> Result<String, redb::Error> {
    let mut meta = written.open_table(META)?;
    let known = meta.get(name)?.map(|value| value.value().to_owned());
    if let Some(known) = known {
        return Ok(known);
    }
    let value = new();
    meta.insert(name, value.as_str())?;
    Ok(value)
}

fn change_tables<T>(
    database: &Database,
    change: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    let written = database.begin_write()?;
    let changed = change(&mut Tables::open(&written)?)?;
    written.commit()?;
    Ok(changed)
}

fn unusable(path: &Path, source: redb::Error) -> EmbeddedError {
    EmbeddedError::Unusable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_format_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let set_format = |database: &Database, format: &str| {
            let written = database.begin_write().unwrap();
            written.open_table(META).unwrap().insert("format", format).unwrap();
            written.commit().unwrap();
        };
        set_format(&Database::create(&path).unwrap(), "2");
        let error = Store::open(&path).err().unwrap();
        assert!(matches!(&error, EmbeddedError::Format { format, .. } if format == "2"), "{error}");
    }

    #[test]
    fn another_file_in_its_place_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("state.redb"), folder.path().join("other.redb"));
        let store = Store::open(&path).unwrap();
        drop(Store::open(&other).unwrap());
        std::fs::remove_file(&path).unwrap();
        let error = store.reopen().unwrap_err();
        assert!(matches!(&error, EmbeddedError::Open { .. }), "no new one is made: {error}");
        std::fs::rename(other, path).unwrap();
        let error = store.reopen().unwrap_err();
        assert!(matches!(&error, EmbeddedError::Replaced { .. }), "{error}");
        assert!(matches!(store.has_redeemed("l", 1), Err(redb::Error::DatabaseClosed)));
    }
}
