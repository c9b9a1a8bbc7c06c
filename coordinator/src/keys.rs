//! The keys of tokens and tickets, from files or from etcd, and what is told of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sluice_shared::etcd::{Election, Etcd};
use sluice_shared::followed::Asked;
use sluice_shared::keys::rotation::RotationRules;
use sluice_shared::keys::{EtcdKeys, KeyFile, KeyFileError, KeyId, KeyKeeper, KeyPlace, KeyRing};
use sluice_shared::revocations::{Instant, RevocationBook};
use tokio::task::JoinHandle;

use crate::config::KeySource;
use crate::metrics;

/// Tokens that this coordinator mints with one key, at most. All coordinators together stay below the 2^32 that random
/// IVs allow (NIST SP 800-38D §8.3) as long as there are no more than 32 of them.
const TOKENS_MAX: u64 = 1 << 27;
/// How long the coordinator that exchanges keys keeps the office after it died.
const OFFICE_TTL: Duration = Duration::from_secs(10);

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error(
        "keys.path and keys.ticket_path have a key in common; tickets need keys that no edge has: remove {0}"
    )]
    SharedKey(PathBuf),
}

/// Both kinds of keys.
pub(crate) struct Keys {
    pub(crate) tokens: Arc<ArcSwap<KeyRing>>,
    pub(crate) tickets: Arc<ArcSwap<KeyRing>>,
    pub(crate) kept: Kept,
    /// Tokens minted, whatever the key.
    pub(crate) minted: Arc<AtomicU64>,
}

/// Where they are kept.
pub(crate) enum Kept {
    Files { files: [Arc<KeyFile>; 2], book: Arc<RevocationBook> },
    Etcd { tokens: Arc<KeyKeeper>, tickets: Arc<KeyKeeper>, uses: Arc<Uses>, office: Mutex<Option<Office>> },
}

/// What exchanges keys in etcd.
pub(crate) struct Office {
    election: Arc<Election>,
    tasks: [JoinHandle<()>; 2],
}

/// How many tokens the current key has minted here.
pub(crate) struct Uses {
    minted: Arc<AtomicU64>,
    /// The key, and what had been minted before it.
    of: Mutex<(Option<KeyId>, u64)>,
}

impl Uses {
    pub(crate) fn count(&self, key: &KeyId) -> u64 {
        let minted = self.minted.load(Ordering::Relaxed);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.0.as_ref() != Some(key) {
            *of = (Some(key.clone()), minted);
        }
        minted - of.1
    }
}

/// Checks the files that are there. Makes nothing.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn check(source: &KeySource) -> Result<(), KeysError> {
    let KeySource::Files { keys, tickets } = source else { return Ok(()) };
    // What cannot even be looked for is reported by the attempt to read it.
    let is_there = |path: &Path| !matches!(path.try_exists(), Ok(false));
    for file in [keys, tickets] {
        if is_there(file) {
            KeyFile::load(file)?;
        }
    }
    Ok(())
}

impl Keys {
    /// Within a runtime. `outlives`: how long what is sealed may be opened.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn start(
        source: &KeySource,
        etcd: Option<&Etcd>,
        id: &str,
        outlives: Duration,
        book: &Arc<RevocationBook>,
    ) -> Result<Self, KeysError> {
        let minted = Arc::<AtomicU64>::default();
        match source {
            KeySource::Files { keys, tickets } => {
                let files = [KeyFile::load_or_create(keys)?, KeyFile::load_or_create(tickets)?];
                let [tokens, ticket_keys] = [Arc::clone(files[0].ring()), Arc::clone(files[1].ring())];
                if tokens.load().shares_a_key_with(&ticket_keys.load()) {
                    return Err(KeysError::SharedKey(tickets.clone()));
                }
                files.iter().for_each(|file| file.bar(&book.load()));
                let kept = Kept::Files { files, book: Arc::clone(book) };
                Ok(Self { tokens, tickets: ticket_keys, kept, minted })
            }
            KeySource::Etcd { cluster_key, coordinator_key, rotate_every, propagation } => {
                let etcd = etcd.expect("a configuration with keys in etcd has etcd's settings");
                let rules =
                    RotationRules { rotate_every: *rotate_every, propagation: *propagation, outlives };
                let keeper = |place, sealing: &_| {
                    let keys = EtcdKeys::follow(etcd, place, Clone::clone(sealing), Arc::clone(book));
                    KeyKeeper::new(etcd.clone(), Clone::clone(sealing), keys, Arc::clone(book), rules)
                };
                let tokens = keeper(KeyPlace::Tokens, cluster_key);
                let tickets = keeper(KeyPlace::Tickets, coordinator_key);
                let uses = Arc::new(Uses { minted: Arc::clone(&minted), of: Mutex::default() });
                let election = Arc::new(Election::stand(etcd.clone(), "keys", id, OFFICE_TTL));
                let worn = Arc::clone(&uses);
                let tasks = [
                    tokio::spawn(
                        Arc::clone(&tokens)
                            .keep(Arc::clone(&election), move |key| worn.count(key) >= TOKENS_MAX),
                    ),
                    tokio::spawn(Arc::clone(&tickets).keep(Arc::clone(&election), |_| false)),
                ];
                let office = Mutex::new(Some(Office { election, tasks }));
                Ok(Self {
                    tokens: Arc::clone(tokens.keys().ring()),
                    tickets: Arc::clone(tickets.keys().ring()),
                    kept: Kept::Etcd { tokens, tickets, uses, office },
                    minted,
                })
            }
        }
    }

    /// Rereads files when they change, and when asked.
    pub(crate) fn follow_files(&self, asked: &Asked) {
        if let Kept::Files { files, book } = &self.kept {
            for file in files {
                tokio::spawn(Arc::clone(file).follow(asked.clone(), Arc::clone(book)));
            }
        }
    }

    /// Why nothing can be minted.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let is_there = |ring: &ArcSwap<KeyRing>| ring.load().minting().is_some();
        if is_there(&self.tokens) && is_there(&self.tickets) {
            return None;
        }
        let reason = match &self.kept {
            Kept::Files { .. } => None,
            Kept::Etcd { tokens, tickets, .. } => tokens.keys().missing().or(tickets.keys().missing()),
        };
        Some(reason.unwrap_or("no key to mint with"))
    }

    pub(crate) fn gather(&self) {
        let Kept::Etcd { tokens, uses, .. } = &self.kept else { return };
        let known = tokens.good();
        if let Some(current) = known.current() {
            let since = current.current_since.unwrap_or(current.created);
            let age = Duration::from_millis(Instant::now().0.saturating_sub(since.0));
            metrics::keys(age, uses.count(&current.id));
        }
    }

    /// Gives the office up, where this coordinator has it; in five seconds at most.
    pub(crate) async fn leave(&self) {
        let Kept::Etcd { office, .. } = &self.kept else { return };
        let office = office.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Office { election, tasks }) = office else { return };
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        if let Some(election) = Arc::into_inner(election) {
            election.withdraw().await;
        }
    }
}
