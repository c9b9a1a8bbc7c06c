//! What operators write into etcd, a record a name, and every coordinator knows: followed, changed by comparing, put
//! back where etcd lost it.
//!
//! Of two records of one name the later stands, wherever it comes from and in whatever order; that etcd has none says
//! nothing. So an etcd that was put back to an earlier state brings nothing back into use, and one that came back empty
//! gets everything from whoever knows it. What takes a record back is another one that says so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::cluster::{Freshness, SkippedRecord};
use crate::etcd::{Contents, Created, Etcd, EtcdError, Mirror, MirrorRules, Replaced};
use crate::revocations::Instant;

mod roll;

use roll::{Lack, Roll};

/// Records that etcd lost are put back so many at a time; what is left is looked at anew then.
const WRITTEN_AT_ONCE: usize = 64;
/// After a write, or one that etcd did not take.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Records grow old without anybody saying so.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the records of one ledger are, and who is told of them.
pub trait LedgerForm: Send + Sync + 'static {
    type Record: Clone + PartialEq + Send + Sync + 'static;
    /// Why a value is no record. It may be shown: it holds no secret.
    type Fault: std::error::Error + Send + Sync + 'static;

    /// Under which the records are; ends with a slash.
    const PREFIX: &'static str;
    const RULES: MirrorRules;

    /// Reads what is kept as `name`, whose key in full is `path`.
    ///
    /// # Errors
    /// It is no record of that name, or none that this program understands.
    fn read(&self, name: &str, path: &str, value: &[u8]) -> Result<Self::Record, Self::Fault>;

    fn write(&self, path: &str, record: &Self::Record) -> Vec<u8>;

    /// Whether a value would be written as it is, by what it is sealed with.
    fn is_sealed_anew(&self, _value: &[u8]) -> bool {
        true
    }

    /// When it was said: of two records the later stands.
    fn set(record: &Self::Record) -> Instant;

    /// Whether it only takes back what an earlier one said. Such a one is kept for long, against older lists that turn
    /// up again, and not for ever.
    fn is_void(record: &Self::Record) -> bool;

    /// Told of every later state, before whoever changed it hears that it is done. It must not wait.
    fn take(&self, known: &BTreeMap<Arc<str>, Self::Record>);
}

/// Why a record is not changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nothing was changed.
    #[error(transparent)]
    Etcd(EtcdError),
    #[error("etcd did not confirm the change, which may have been made; look before you repeat it: {0}")]
    Unsure(EtcdError),
    #[error("somebody else changed it at the same time; look again, and repeat what is still wanted")]
    Changed,
    #[error("its record would be longer than the {0} bytes that are taken")]
    TooLarge(usize),
    #[error("there are {0} of them, and no more are taken")]
    TooMany(usize),
}

impl LedgerError {
    /// Of a write, silence says nothing.
    fn of_write(error: EtcdError) -> Self {
        match error {
            EtcdError::Silent(_) | EtcdError::Away(_) => Self::Unsure(error),
            refused => Self::Etcd(refused),
        }
    }
}

/// What there is under a name that is about to be changed.
pub enum Found<'r, F: LedgerForm> {
    Nothing,
    Record(&'r F::Record),
    /// A value that is no record here; a newer program may know better.
    Unreadable(F::Fault),
}

/// What came of sealing records anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct SealedAnew {
    /// So many were, by this call.
    pub sealed: usize,
    /// So many are to be done by the next call: there were too many, or they were changed at the same time.
    pub left: usize,
    /// So many were as they should be.
    pub good: usize,
    /// What cannot be read here, and so not be sealed.
    pub unreadable: Vec<String>,
}

impl SealedAnew {
    /// What came of two places together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.sealed += other.sealed;
        self.left += other.left;
        self.good += other.good;
        self.unreadable.extend(other.unreadable);
        self
    }
}

/// The records under one prefix, kept in step with etcd until this is dropped.
pub struct Ledger<F: LedgerForm> {
    book: Arc<Book<F>>,
    mirror: Mirror,
    task: AbortHandle,
}

/// What the task and those who change records share.
struct Book<F: LedgerForm> {
    etcd: Etcd,
    form: F,
    roll: Mutex<Roll<F>>,
    is_known: AtomicBool,
}

impl<F: LedgerForm> Ledger<F> {
    /// Follows the records from now on. Within a runtime.
    pub fn follow(etcd: &Etcd, form: F) -> Self {
        let mirror = Mirror::start(etcd.clone(), F::PREFIX, F::RULES);
        let roll = Mutex::new(Roll::default());
        let book = Arc::new(Book { etcd: etcd.clone(), form, roll, is_known: AtomicBool::new(false) });
        let task = tokio::spawn(Arc::clone(&book).keep(mirror.watch())).abort_handle();
        Self { book, mirror, task }
    }

    pub fn form(&self) -> &F {
        &self.book.form
    }

    /// Whether there ever was a list. Until then absence means nothing.
    pub fn is_known(&self) -> bool {
        self.book.is_known.load(Ordering::Acquire)
    }

    pub fn freshness(&self) -> Freshness {
        self.mirror.freshness()
    }

    /// What etcd has there and is no record, and why.
    pub fn skipped(&self) -> Vec<SkippedRecord> {
        self.book.roll().skipped()
    }

    /// Replaces a record by what `edit` makes of it, to be set at the time that it is given. What is written holds here
    /// when this returns.
    ///
    /// # Errors
    /// What `edit` says; etcd does not answer; somebody else was faster, and nothing is changed.
    pub async fn change<E: From<LedgerError>>(
        &self,
        name: &str,
        edit: impl FnOnce(Found<'_, F>, Instant) -> Result<F::Record, E>,
    ) -> Result<(), E> {
        let book = &self.book;
        let (key, path) = book.place(name);
        let there = book.etcd.get(&key).await.map_err(LedgerError::Etcd)?;
        let read = there.as_ref().map(|entry| book.form.read(name, &path, &entry.value));
        let (known, count) = book.roll().look_up(name);
        let is_new = there.is_none() && known.is_none();
        let sets = [known.as_ref(), read.as_ref().and_then(|read| read.as_ref().ok())];
        let last = sets.into_iter().flatten().map(F::set).max();
        let now = Instant::now().max(last.map_or(Instant(0), |last| Instant(last.0 + 1)));
        let latest = match (read, known) {
            // What is known here is later than what an etcd has that was put back to an earlier state.
            (Some(Ok(read)), Some(known)) if F::set(&known) > F::set(&read) => Some(Ok(known)),
            (Some(read), _) => Some(read),
            (None, known) => known.map(Ok),
        };
        let record = match latest {
            None => edit(Found::Nothing, now)?,
            Some(Ok(record)) => edit(Found::Record(&record), now)?,
            Some(Err(fault)) => edit(Found::Unreadable(fault), now)?,
        };
        let value = book.form.write(&path, &record);
        if value.len() > F::RULES.value_bytes_max {
            return Err(LedgerError::TooLarge(F::RULES.value_bytes_max).into());
        }
        if is_new && count >= F::RULES.keys_max {
            return Err(LedgerError::TooMany(count).into());
        }
        let found = there.map(|entry| entry.mod_revision);
        if !book.put(&key, found, &value).await.map_err(LedgerError::of_write)? {
            return Err(LedgerError::Changed.into());
        }
        book.know(name, record);
        Ok(())
    }
}

impl<F: LedgerForm> Ledger<F> {
    /// Seals what etcd has with the key that seals now, `count_max` records at most. What they say stays as it is.
    ///
    /// # Errors
    /// etcd does not answer; what was sealed until then is.
    pub async fn seal_anew(&self, count_max: usize) -> Result<SealedAnew, LedgerError> {
        let book = &self.book;
        // Not what is mirrored: who has just changed something asks about that.
        let listed = book.etcd.list(F::PREFIX, F::RULES).await.map_err(LedgerError::Etcd)?;
        let mut came = SealedAnew::default();
        for (name, entry) in &listed {
            let (key, path) = book.place(name);
            let Ok(record) = book.form.read(name, &path, &entry.value) else {
                came.unreadable.push(key);
                continue;
            };
            if book.form.is_sealed_anew(&entry.value) {
                came.good += 1;
                continue;
            }
            let is_written = came.sealed < count_max && {
                let value = book.form.write(&path, &record);
                book.put(&key, Some(entry.mod_revision), &value).await.map_err(LedgerError::of_write)?
            };
            if is_written {
                came.sealed += 1;
            } else {
                came.left += 1;
            }
        }
        Ok(came)
    }
}

impl<F: LedgerForm> Drop for Ledger<F> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<F: LedgerForm> fmt::Debug for Ledger<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("prefix", &F::PREFIX).finish_non_exhaustive()
    }
}

impl<F: LedgerForm> Book<F> {
    /// Until the mirror is gone.
    async fn keep(self: Arc<Self>, mut mirror: watch::Receiver<Arc<Contents>>) {
        let mut has_complained = false;
        loop {
            let contents = mirror.borrow_and_update().clone();
            let lacking = self.take(contents);
            let again = if lacking.is_empty() { LOOK_EVERY } else { AGAIN_AFTER };
            match self.make_good(lacking).await {
                Ok(()) => has_complained = false,
                Err(error) if !has_complained => {
                    has_complained = true;
                    tracing::warn!(prefix = F::PREFIX, %error, "etcd does not take what it lost");
                }
                Err(_) => {}
            }
            let is_over = tokio::select! {
                changed = mirror.changed() => changed.is_err(),
                () = tokio::time::sleep(again) => false,
            };
            if is_over {
                return;
            }
        }
    }

    /// Takes in what etcd has; gives what it should have otherwise.
    fn take(&self, contents: Arc<Contents>) -> Vec<Lack<F::Record>> {
        let mut roll = self.roll();
        let is_listed = contents.is_known;
        let read = |name: &str, value: &[u8]| self.form.read(name, &self.place(name).1, value);
        if roll.take(contents, Instant::now(), read) {
            self.form.take(roll.known());
        }
        if is_listed {
            self.is_known.store(true, Ordering::Release);
        }
        roll.lacking(Instant::now(), WRITTEN_AT_ONCE)
    }

    async fn make_good(&self, lacking: Vec<Lack<F::Record>>) -> Result<(), EtcdError> {
        for lack in lacking {
            match lack {
                Lack::Record { name, record, found } => {
                    let (key, path) = self.place(&name);
                    // Where somebody else was faster, the mirror tells what came of it.
                    if self.put(&key, found, &self.form.write(&path, &record)).await? {
                        tracing::warn!(key, "etcd lost a record, or its last state; put back");
                    }
                }
                Lack::Removal { name, found } => {
                    self.etcd.remove_unchanged(&self.place(&name).0, found).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes what has not changed since the revision that was `found`; tells whether it did.
    async fn put(&self, key: &str, found: Option<i64>, value: &[u8]) -> Result<bool, EtcdError> {
        Ok(match found {
            None => matches!(self.etcd.create(key, value).await?, Created::Created(_)),
            Some(revision) => {
                matches!(self.etcd.replace(key, revision, value).await?, Replaced::Replaced(_))
            }
        })
    }

    fn know(&self, name: &str, record: F::Record) {
        let mut roll = self.roll();
        if roll.know(name, record) {
            self.form.take(roll.known());
        }
    }

    /// A record's key, and that in full.
    fn place(&self, name: &str) -> (String, String) {
        let key = format!("{}{name}", F::PREFIX);
        let path = self.etcd.path(&key);
        (key, path)
    }

    fn roll(&self) -> MutexGuard<'_, Roll<F>> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
